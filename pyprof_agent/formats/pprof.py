"""Profiles to and from pprof protobuf, gzip-compressed as every reader expects.

The schema lives in a descriptor pool of its own. In the default pool it would clash
with other packages that register a different `profile.proto` (pypprof, zprofile), and
generated code would pin the host's protobuf runtime.
"""

from __future__ import annotations

import functools
import gzip
import zlib
from collections.abc import Iterator
from typing import Any

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from pyprof_agent.batches import batches, gently
from pyprof_agent.errors import ProfileError
from pyprof_agent.formats._schema import FILE_DESCRIPTOR
from pyprof_agent.formats.numbering import Numbering, cut
from pyprof_agent.profile import (
    MAPPING,
    Frame,
    Label,
    Profile,
    Sample,
    ValueType,
    rounded,
    unmade,
)
from pyprof_agent.profile_rules import validate, validate_frame

try:
    from _blake2 import blake2b  # as in hashlib, which loads OpenSSL: 3.4 MB
except ImportError:
    from hashlib import blake2b

GZIP_LEVEL = 1
"""On a heap profile of 20,000 stacks level 6 takes 2.5 times as long and makes a file 12 % smaller:
tests/bench/compression.py. No reader minds the size; the host's CPU does."""

_POOL = descriptor_pool.DescriptorPool()
_POOL.AddSerializedFile(FILE_DESCRIPTOR)
_Message: Any = message_factory.GetMessageClass(
    _POOL.FindMessageTypeByName("perftools.profiles.Profile")
)


def encode(profile: Profile) -> bytes:
    """The content of a `.pb.gz` file. Equal rows, in whatever order, give equal bytes.

    Values are rounded to integers here, and rows of zeros left out.

    Raises ProfileError if the profile breaks a rule of the format.
    """
    # As gzip.compress() with no time, but for an object that the collector would track.
    return zlib.compress(encode_raw(profile), GZIP_LEVEL, 31)


def encode_raw(profile: Profile) -> bytes:
    """The protobuf bytes without compression; see `encode`."""
    validate(profile)
    rows = unmade(profile)
    return _Encoder(profile).serialize() if rows is None else rows.encode(profile)


def decode(data: bytes) -> Profile:
    """The profile in `data`: pprof protobuf, compressed or not, of any producer.

    Inlined functions become frames of their own. What a `Profile` does not hold
    (mappings, addresses, columns) is left behind.

    Raises ProfileError if `data` is not a pprof profile.
    """
    if data[:2] == b"\x1f\x8b":
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise ProfileError(f"not a pprof profile: broken gzip data ({error})") from error
    message = _Message()
    try:
        message.ParseFromString(data)
    except (DecodeError, UnicodeDecodeError) as error:
        raise ProfileError(f"not a pprof profile: {error}") from error
    if not message.sample_type:
        raise ProfileError("not a pprof profile: it declares no sample types")
    try:
        return _decoded(message)
    except KeyError as error:
        raise ProfileError(f"not a pprof profile: dangling reference ({error})") from error


@functools.lru_cache(maxsize=1 << 16)
def address(frame: Frame) -> int:
    """A stable, non-zero address for a frame: 63 bits of a hash of what identifies it.

    The same across restarts, workers and hosts. Alloy keys the stacks of its deltas by
    address alone and Perfetto merges by it, so counters from 1 would not do. The chance that
    two of 100,000 frames share an address is 5e-10 (birthday bound, n^2 / 2^64).
    """
    identity = f"{frame.filename}\0{frame.function}\0{frame.first_line}\0{frame.line}"
    digest = blake2b(identity.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return (int.from_bytes(digest, "little") >> 1) or 1


class _Encoder:
    """Interns strings, functions and locations while it fills one message."""

    def __init__(self, profile: Profile) -> None:
        self.message = _Message()  # all but what comes before it on the wire
        self.profile = rounded(profile)
        self.strings: dict[str, int] = {"": 0}
        self.functions: dict[tuple[str, str, int], int] = {}
        self.places = Numbering(address)

    def serialize(self) -> bytes:
        message, profile = self.message, self.profile
        self.place_default_sample_type()
        head = _Message()
        for value_type in profile.sample_types:
            self.value_type(head.sample_type.add(), value_type)
        self.mapping()
        samples = [_serialized(part) for part in self.samples()]
        self.value_type(message.period_type, profile.period_type)
        message.period = profile.period
        message.time_nanos = profile.time_nanos
        message.duration_nanos = profile.duration_nanos
        message.default_sample_type = self.string(profile.default_sample_type)
        message.comment.extend(self.string(comment) for comment in profile.comments)
        message.string_table.extend(self.strings)
        return b"".join([_serialized(head), *samples, _serialized(message)])

    def place_default_sample_type(self) -> None:
        # pprof reads default_sample_type as a string index, speedscope as a sample index:
        # with that string at the position of its column both are right.
        name = self.profile.default_sample_type
        if not name:
            return
        column = self.profile.column(name)
        others = [item.type for item in self.profile.sample_types if item.type != name]
        for index in range(1, column):
            self.string(others[index - 1])
        self.string(name)

    def string(self, text: str) -> int:
        index = self.strings.get(text)
        if index is None:
            # A file name that is not UTF-8 arrives with surrogate escapes, which protobuf
            # and Pyroscope refuse.
            clean = text.encode("utf-8", "backslashreplace").decode()
            index = self.strings.setdefault(clean, len(self.strings))
        return index

    def value_type(self, message: Any, value_type: ValueType) -> None:
        message.type = self.string(value_type.type)
        message.unit = self.string(value_type.unit)

    def mapping(self) -> None:
        self.message.mapping.add(
            id=1,
            filename=self.string(MAPPING),
            has_functions=True,
            has_filenames=True,
            has_line_numbers=True,
        )

    def samples(self) -> Iterator[Any]:
        """Messages with the samples alone, some in each.

        What they are in bytes one after the other is the whole in bytes. To make the bytes of all
        at once would hold the GIL for as long.
        """
        samples, stacks = self.profile.samples, self.stacks()
        # Numbers that tell rows apart and are the same in every process, as hashes of numbers
        # are. To compare the rows themselves would hold the GIL for 20 ms.
        keys = [
            hash((stack, zlib.crc32(repr(labels).encode()) if labels else 0, values))
            for stack, (_, values, labels) in zip(stacks, gently(samples), strict=True)
        ]
        in_order = sorted(range(len(samples)), key=keys.__getitem__)
        for start, stop in batches(0, len(samples)):
            part = _Message()
            for row in in_order[start:stop]:
                _, values, labels = samples[row]
                message = part.sample.add()
                message.location_id.extend(stacks[row])
                message.value.extend(values)
                for label in labels:
                    if label.value != "":  # on the wire that would be the number 0
                        self.label(message.label.add(), label)
            yield part

    def stacks(self) -> list[tuple[int, ...]]:
        """The ids of the locations of each sample's stack; makes the locations."""
        frames = [sample.stack for sample in self.profile.samples]
        numbers = [
            self.places.numbers(frames[start:stop]) for start, stop in batches(0, len(frames))
        ]
        location = self.place_locations().__getitem__
        # Tuples of integers, as the garbage collector does not look into them.
        stacks: list[tuple[int, ...]] = []
        for (start, stop), some in zip(batches(0, len(frames)), numbers, strict=True):
            stacks += cut(tuple(map(location, some)), frames[start:stop])
        return stacks

    def place_locations(self) -> list[int]:
        """Make the locations, in the order of their addresses; their ids by number."""
        places, frames = self.places.keys, self.places.frames
        ids = [0] * len(places)
        in_order = sorted(range(len(places)), key=places.__getitem__)
        for index, number in enumerate(in_order, start=1):
            frame = frames[number]
            validate_frame(frame)
            message = self.message.location.add(id=index, mapping_id=1, address=places[number])
            message.line.add(function_id=self.function(frame), line=frame.line)
            ids[number] = index
        return ids

    def label(self, message: Any, label: Label) -> None:
        message.key = self.string(label.key)
        if isinstance(label.value, str):
            message.str = self.string(label.value)
        else:
            message.num = label.value
            message.num_unit = self.string(label.unit)

    def function(self, frame: Frame) -> int:
        key = (frame.function, frame.filename, frame.first_line)
        index = self.functions.get(key)
        if index is None:
            self.functions[key] = index = len(self.functions) + 1
            # system_name stays empty: where it equals the name, pprof's C++ demangler
            # rewrites names like <module> and <listcomp>.
            self.message.function.add(
                id=index,
                name=self.string(frame.function),
                filename=self.string(frame.filename),
                start_line=frame.first_line,
            )
        return index


def _serialized(message: Any) -> bytes:
    serialized: bytes = message.SerializeToString(deterministic=True)
    return serialized


def _decoded(message: Any) -> Profile:
    strings = dict(enumerate(message.string_table))  # a list would take a negative index
    width = len(message.sample_type)
    for item in message.sample:
        if len(item.value) != width:
            raise ProfileError(
                f"not a pprof profile: a sample has {len(item.value)} values "
                f"for {width} sample types"
            )
    functions = {
        function.id: (strings[function.name], strings[function.filename], function.start_line)
        for function in message.function
    }
    locations = {
        location.id: [Frame(*functions[line.function_id], line.line) for line in location.line]
        or [Frame(f"{location.address:#x}", "", 0, 0)]
        for location in message.location
    }

    def label(item: Any) -> Label:
        if item.str:
            return Label(strings[item.key], strings[item.str])
        return Label(strings[item.key], item.num, strings[item.num_unit])

    def sample(item: Any) -> Sample:
        stack = [frame for index in item.location_id for frame in locations[index]]
        labels = [label(tag) for tag in item.label]
        return Sample(tuple(stack), tuple(item.value), tuple(labels))

    return Profile(
        sample_types=tuple([_value_type(strings, item) for item in message.sample_type]),
        samples=tuple([sample(item) for item in message.sample]),
        period_type=_value_type(strings, message.period_type),
        period=message.period,
        time_nanos=message.time_nanos,
        duration_nanos=message.duration_nanos,
        default_sample_type=strings[message.default_sample_type],
        comments=tuple([strings[index] for index in message.comment]),
    )


def _value_type(strings: Any, message: Any) -> ValueType:
    return ValueType(strings[message.type], strings[message.unit])
