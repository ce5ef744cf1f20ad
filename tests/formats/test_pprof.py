"""The pprof encoder against the rules of the format, read back without protobuf and by Go."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import os
import random
from collections import Counter
from dataclasses import replace
from enum import IntEnum
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyprof_agent import ProfileError
from pyprof_agent.formats.pprof import address, decode, encode, encode_raw
from pyprof_agent.profile import Frame, Label, Profile, Sample, ValueType
from tests.conftest import GoPprof
from tests.support import HEAP_TYPES, LEAF, ROOT_FRAME, heap_profile, run_python

INT64_MAX = 2**63 - 1

# A wire format reader of our own, so that no test believes protobuf or the embedded schema.
# The numbers are those of google/pprof's profile.proto.


class Field(IntEnum):
    """Fields of the message Profile."""

    SAMPLE_TYPE = 1
    SAMPLE = 2
    MAPPING = 3
    LOCATION = 4
    FUNCTION = 5
    STRING_TABLE = 6
    TIME_NANOS = 9
    DURATION_NANOS = 10
    PERIOD_TYPE = 11
    PERIOD = 12
    COMMENT = 13
    DEFAULT_SAMPLE_TYPE = 14
    DOC_URL = 15


class Message:
    """The fields of a serialized message, by number."""

    def __init__(self, data: bytes) -> None:
        self.fields: dict[int, list[int | bytes]] = {}
        at = 0
        while at < len(data):
            key, at = varint(data, at)
            value: int | bytes
            value, at = varint(data, at)
            if key & 7 == 2:
                start, at = at, at + value
                assert at <= len(data)
                value = data[start:at]
            else:
                assert key & 7 == 0
            self.fields.setdefault(key >> 3, []).append(value)

    def chunks(self, field: int) -> list[bytes]:
        """The values of a length-delimited field."""
        found = []
        for value in self.fields.get(field, []):
            assert isinstance(value, bytes)
            found.append(value)
        return found

    def messages(self, field: int) -> list[Message]:
        return [Message(chunk) for chunk in self.chunks(field)]

    def message(self, field: int) -> Message:
        (only,) = self.messages(field)
        return only

    def numbers(self, field: int) -> list[int]:
        """The integers of a field, packed or not, as signed 64-bit ones."""
        found: list[int] = []
        for value in self.fields.get(field, []):
            if isinstance(value, int):
                found.append(value)
            else:
                at = 0
                while at < len(value):
                    number, at = varint(value, at)
                    found.append(number)
        return [number - 2**64 if number > INT64_MAX else number for number in found]

    def number(self, field: int) -> int:
        """The integer of a field; 0 if it is absent."""
        numbers = self.numbers(field)
        assert len(numbers) <= 1
        return numbers[0] if numbers else 0


def varint(data: bytes, at: int) -> tuple[int, int]:
    """The number at a position, and the position after it."""
    number = shift = 0
    while True:
        byte = data[at]
        number |= (byte & 127) << shift
        shift, at = shift + 7, at + 1
        if byte < 128:
            return number, at


def field(number: int, value: int | bytes | str) -> bytes:
    """A field in wire format."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value % 2**64)
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _varint(number: int) -> bytes:
    data = bytearray()
    while number > 127:
        data.append(number & 127 | 128)
        number >>= 7
    return bytes([*data, number])


def written(profile: Profile) -> Message:
    return Message(encode_raw(profile))


def strings(message: Message) -> list[str]:
    return [chunk.decode("utf-8", "strict") for chunk in message.chunks(Field.STRING_TABLE)]


# Profiles of every shape

TEXT = st.text(max_size=5)
FILE_NAMES = st.one_of(
    st.just("/srv/shop/cart.py"),
    st.just(""),
    TEXT,
    # What os.fsdecode makes of names that are not UTF-8, as on a POSIX file system.
    st.binary(max_size=4).map(lambda name: name.decode("utf-8", "surrogateescape")),
)
LINES = st.one_of(st.integers(0, 5), st.integers(0, INT64_MAX))
FRAMES = st.builds(Frame, st.one_of(FILE_NAMES, TEXT).filter(bool), FILE_NAMES, LINES, LINES)
NUMBERS = st.one_of(st.integers(-3, 3), st.integers(-INT64_MAX, INT64_MAX))
LABELS = st.lists(
    st.one_of(
        st.builds(Label, TEXT.filter(bool), st.one_of(FILE_NAMES, TEXT).filter(bool), st.just("")),
        st.builds(Label, TEXT.filter(bool), NUMBERS, st.sampled_from(("", "bytes"))),
    ),
    max_size=3,
    unique_by=lambda label: label.key,
).map(tuple)
NAMES = st.text("abcdefgh_", min_size=1, max_size=3)


@st.composite
def profiles(draw: st.DrawFn) -> Profile:
    """Valid profiles; rows are unique, integers, and not all zero."""
    names = draw(st.lists(NAMES, min_size=1, max_size=4, unique=True))
    frames = draw(st.lists(FRAMES, min_size=1, max_size=6))
    stacks = st.lists(st.sampled_from(frames), max_size=5).map(tuple)
    values = st.tuples(*[NUMBERS] * len(names)).filter(any)
    table = draw(st.dictionaries(st.tuples(stacks, LABELS), values, max_size=6))
    return Profile(
        sample_types=tuple(ValueType(name, draw(NAMES)) for name in names),
        samples=tuple(Sample(stack, row, labels) for (stack, labels), row in table.items()),
        period_type=ValueType(draw(NAMES), draw(NAMES)),
        period=draw(st.integers(0, INT64_MAX)),
        time_nanos=draw(st.integers(1, INT64_MAX)),
        duration_nanos=draw(st.integers(0, INT64_MAX)),
        default_sample_type=draw(st.sampled_from(["", *names])),
        comments=tuple(draw(st.lists(FILE_NAMES, max_size=2))),
    )


def one_row(*labels: Label) -> Profile:
    return heap_profile(Sample((LEAF, ROOT_FRAME), (1, 10, 2, 20), labels))


# Rule 1: strings


def test_the_first_string_is_empty() -> None:
    assert strings(written(heap_profile()))[0] == ""
    assert strings(written(one_row()))[0] == ""


@given(profiles())
def test_every_string_is_utf8_and_every_reference_is_in_the_table(profile: Profile) -> None:
    message = written(profile)
    table = strings(message)
    assert table[0] == ""
    references = [
        *message.numbers(Field.COMMENT),
        message.number(Field.DEFAULT_SAMPLE_TYPE),
        *(item.number(n) for item in message.messages(Field.SAMPLE_TYPE) for n in (1, 2)),
        *(item.number(n) for item in message.messages(Field.FUNCTION) for n in (2, 3, 4)),
        *(item.number(n) for item in message.messages(Field.MAPPING) for n in (5, 6)),
    ]
    assert all(0 <= index < len(table) for index in references)


def test_a_file_name_that_is_not_utf8_is_written_with_escapes() -> None:
    name = os.fsdecode(b"/srv/caf\xe9.py")
    assert not name.isascii(), "this machine decodes file names without surrogate escapes"
    profile = heap_profile(Sample((Frame("shop.add", name, 1, 2),), (1, 1, 1, 1)))
    assert r"/srv/caf\udce9.py" in strings(written(profile))


# Rule 2: ids


@given(profiles())
def test_ids_run_from_one_in_order_and_nothing_dangles(profile: Profile) -> None:
    message = written(profile)
    locations = message.messages(Field.LOCATION)
    functions = message.messages(Field.FUNCTION)
    location_ids = [location.number(1) for location in locations]
    function_ids = [function.number(1) for function in functions]
    assert [mapping.number(1) for mapping in message.messages(Field.MAPPING)] == [1]
    assert location_ids == list(range(1, len(locations) + 1))
    assert function_ids == list(range(1, len(functions) + 1))
    samples = message.messages(Field.SAMPLE)
    assert {index for sample in samples for index in sample.numbers(1)} == set(location_ids)
    assert {location.message(4).number(1) for location in locations} == set(function_ids)
    assert {location.number(2) for location in locations} <= {1}


# Rules 3, 4 and 8: values and sample types


@given(profiles())
def test_every_sample_has_a_value_for_each_sample_type(profile: Profile) -> None:
    message = written(profile)
    width = len(message.messages(Field.SAMPLE_TYPE))
    assert width == len(profile.sample_types)
    assert len(message.messages(Field.SAMPLE)) == len(profile.samples)
    assert {len(sample.numbers(2)) for sample in message.messages(Field.SAMPLE)} <= {width}


def test_sample_types_are_there_without_a_sample() -> None:
    message = written(heap_profile())
    table = strings(message)
    assert message.messages(Field.SAMPLE) == []
    assert [
        (table[item.number(1)], table[item.number(2)])
        for item in message.messages(Field.SAMPLE_TYPE)
    ] == list(HEAP_TYPES)


def test_a_sample_type_with_a_hyphen_is_refused() -> None:
    profile = replace(heap_profile(), sample_types=(ValueType("in-use", "bytes"),))
    with pytest.raises(ProfileError, match="'in-use'"):
        encode(replace(profile, default_sample_type=""))


def test_a_fifth_value_is_refused() -> None:
    five = tuple(ValueType(name, "count") for name in "abcde")
    with pytest.raises(ProfileError, match="at most 4"):
        encode(replace(heap_profile(), sample_types=five, default_sample_type=""))


def test_values_are_rounded_and_rows_of_zeros_left_out() -> None:
    message = written(
        heap_profile(
            Sample((LEAF,), (0.6, 1.4, -0.6, 2**62)), Sample((ROOT_FRAME,), (0.4, 0.0, -0.4, 0))
        )
    )
    (sample,) = message.messages(Field.SAMPLE)
    assert sample.numbers(2) == [1, 1, -1, 2**62]


# Rules 5 and 6: time


def test_the_time_is_set_once() -> None:
    assert written(heap_profile(time_nanos=5)).numbers(Field.TIME_NANOS) == [5]


def test_a_profile_without_time_is_refused() -> None:
    with pytest.raises(ProfileError, match="time_nanos is 0"):
        encode(heap_profile(time_nanos=0))


def test_a_snapshot_has_no_duration_at_all() -> None:
    assert Field.DURATION_NANOS not in written(one_row()).fields


def test_a_window_has_its_duration() -> None:
    profile = replace(one_row(), duration_nanos=30_000_000_000)
    assert written(profile).numbers(Field.DURATION_NANOS) == [30_000_000_000]


# Rule 7: addresses


def test_addresses_never_change() -> None:
    # Literal numbers: a new hash would break the deltas of every scraper once.
    assert address(LEAF) == 0xBDE4E6B8D25200
    assert address(ROOT_FRAME) == 0x47D502F5345FAA65
    locations = written(one_row()).messages(Field.LOCATION)
    assert [location.number(3) for location in locations] == [0xBDE4E6B8D25200, 0x47D502F5345FAA65]


@pytest.mark.parametrize(
    "other",
    [
        LEAF._replace(line=13),
        LEAF._replace(first_line=11),
        LEAF._replace(filename="/srv/shop/cart2.py"),
        LEAF._replace(function="shop.cart.Cart.remove"),
        Frame("shop.cart.Cart.add", "/srv/shop/cart.py", 101, 2),
        Frame("shop.cart.Cart.add", "/srv/shop/cart.py", 1, 12),
    ],
)
def test_frames_that_differ_have_different_addresses(other: Frame) -> None:
    assert address(other) != address(LEAF)


def test_file_names_that_differ_in_bytes_that_are_not_utf8_have_different_addresses() -> None:
    names = ("/srv/\udce9.py", "/srv/\udcea.py", "/srv/?.py", "/srv/\\udce9.py")
    assert len({address(LEAF._replace(filename=name)) for name in names}) == len(names)


@given(FRAMES)
def test_an_address_is_neither_zero_nor_negative_for_a_signed_reader(frame: Frame) -> None:
    assert 0 < address(frame) <= INT64_MAX


@given(profiles())
def test_a_location_is_one_frame_at_one_address(profile: Profile) -> None:
    frames = {frame for sample in profile.samples for frame in sample.stack}
    addresses = [item.number(3) for item in written(profile).messages(Field.LOCATION)]
    assert len(addresses) == len(set(addresses)) == len(frames)


# Rule 9: what is not written


@given(profiles())
def test_no_field_is_written_that_perfetto_does_not_know(profile: Profile) -> None:
    message = written(profile)
    assert Field.DOC_URL not in message.fields
    assert set(message.fields) <= set(Field)


# Rule 10: labels


def test_a_label_is_a_string_or_a_number_with_its_unit() -> None:
    message = written(one_row(Label("thread", "main"), Label("size", 64, "bytes"), Label("id", 7)))
    table = strings(message)
    (sample,) = message.messages(Field.SAMPLE)
    labels = [[item.number(n) for n in (1, 2, 3, 4)] for item in sample.messages(3)]
    assert [
        (table[key], table[text], number, table[unit]) for key, text, number, unit in labels
    ] == [
        ("thread", "main", 0, ""),
        ("size", "", 64, "bytes"),
        ("id", "", 7, ""),
    ]


@pytest.mark.parametrize(
    "labels",
    [
        (Label("a", 1), Label("a", 2)),
        (Label("a", "x"), Label("a", 2)),
        (Label("pprof::x", 1),),
    ],
)
def test_two_values_for_a_key_and_reserved_keys_are_refused(labels: tuple[Label, ...]) -> None:
    with pytest.raises(ProfileError, match=f"'{labels[0].key}'"):
        encode(one_row(*labels))


def test_an_empty_string_label_is_not_read_back_as_a_number() -> None:
    (sample,) = decode(encode(one_row(Label("name", ""), Label("id", 7)))).samples
    assert sample.label("name") in ("", None)
    assert sample.label("id") == 7


# Rules 11 and 13: functions and lines


def test_functions_have_name_file_and_first_line_and_no_system_name() -> None:
    message = written(one_row())
    table = strings(message)
    functions = message.messages(Field.FUNCTION)
    assert [table[item.number(2)] for item in functions] == [LEAF.function, ROOT_FRAME.function]
    assert [table[item.number(4)] for item in functions] == [LEAF.filename, ROOT_FRAME.filename]
    assert [item.number(5) for item in functions] == [10, 1]
    assert all(3 not in item.fields for item in functions)


def test_locations_have_the_line_being_executed() -> None:
    lines = [item.message(4) for item in written(one_row()).messages(Field.LOCATION)]
    assert [(line.number(1), line.number(2)) for line in lines] == [(1, 12), (2, 3)]


def test_two_lines_of_a_function_are_two_locations_of_it() -> None:
    message = written(heap_profile(Sample((LEAF, LEAF._replace(line=13)), (1, 1, 1, 1))))
    assert len(message.messages(Field.FUNCTION)) == 1
    lines = [item.message(4) for item in message.messages(Field.LOCATION)]
    assert [(line.number(1), line.number(2)) for line in lines] == [(1, 12), (1, 13)]


def test_a_stack_is_written_leaf_first() -> None:
    message = written(one_row())
    table = strings(message)
    names = [table[item.number(2)] for item in message.messages(Field.FUNCTION)]
    (sample,) = message.messages(Field.SAMPLE)
    assert [names[index - 1] for index in sample.numbers(1)] == [LEAF.function, ROOT_FRAME.function]


# Rule 12: the mapping


def test_one_mapping_says_that_symbols_are_there_and_names_no_file() -> None:
    message = written(one_row())
    (mapping,) = message.messages(Field.MAPPING)
    assert [mapping.number(flag) for flag in (7, 8, 9)] == [1, 1, 1]
    name = strings(message)[mapping.number(5)]
    assert name
    assert not name.startswith("[")
    assert os.sep not in name
    assert not Path(name).exists()
    assert [item.number(2) for item in message.messages(Field.LOCATION)] == [1, 1]


# Rule 14: the default sample type


@pytest.mark.parametrize(
    ("names", "default", "column"),
    [
        (("samples", "cpu"), "cpu", 1),
        (("alloc_objects", "alloc_space", "inuse_objects", "inuse_space"), "alloc_space", 1),
        (("alloc_objects", "alloc_space", "inuse_objects", "inuse_space"), "inuse_objects", 2),
        (("alloc_objects", "alloc_space", "inuse_objects", "inuse_space"), "inuse_space", 3),
    ],
)
def test_the_default_is_right_as_a_string_index_and_as_a_sample_index(
    names: tuple[str, ...], default: str, column: int
) -> None:
    types = tuple(ValueType(name, "count") for name in names)
    message = written(replace(heap_profile(), sample_types=types, default_sample_type=default))
    index = message.number(Field.DEFAULT_SAMPLE_TYPE)
    assert strings(message)[index] == default
    assert index == column


def test_a_first_column_can_be_the_default_by_name() -> None:
    # Index 0 is the empty string, so that a reader of sample indices cannot be served here.
    message = written(replace(heap_profile(), default_sample_type="alloc_objects"))
    assert strings(message)[message.number(Field.DEFAULT_SAMPLE_TYPE)] == "alloc_objects"


def test_without_a_default_the_field_is_absent() -> None:
    message = written(replace(heap_profile(), default_sample_type=""))
    assert Field.DEFAULT_SAMPLE_TYPE not in message.fields


def test_period_and_comments_are_written() -> None:
    message = written(heap_profile())
    table = strings(message)
    kind = message.message(Field.PERIOD_TYPE)
    assert (table[kind.number(1)], table[kind.number(2)]) == ("space", "bytes")
    assert message.number(Field.PERIOD) == 524288
    assert [table[index] for index in message.numbers(Field.COMMENT)] == ["made by a test"]


# Determinism


def test_a_file_is_gzip_without_time_and_name() -> None:
    data = encode(one_row())
    assert data[:4] == b"\x1f\x8b\x08\x00"
    assert data[4:8] == bytes(4)
    assert gzip.decompress(data) == encode_raw(one_row())


@given(profiles(), st.randoms(use_true_random=False))
def test_rows_in_any_order_give_the_same_bytes(profile: Profile, shuffler: random.Random) -> None:
    samples = list(profile.samples)
    shuffler.shuffle(samples)
    assert encode(replace(profile, samples=tuple(samples))) == encode(profile)


def test_repeated_stacks_in_any_order_give_the_same_bytes() -> None:
    rows = [Sample((LEAF,), (value,) * 4) for value in (1, 2, 3)]
    assert encode(heap_profile(*rows)) == encode(heap_profile(*reversed(rows)))


DIGEST_OF_A_SET = """
import hashlib
from pyprof_agent.formats.pprof import encode
from pyprof_agent.profile import Frame, Label, Sample
from tests.support import heap_profile

frames = [Frame(f"shop.f{n}", f"/srv/shop{n % 3}.py", n, n + 1) for n in range(20)]
samples = {
    Sample(tuple(frames[n:n + 4]), (n + 1, 1, 1, 1), (Label("thread", f"T{n % 2}"),))
    for n in range(20)
}
print(hashlib.sha256(encode(heap_profile(*samples))).hexdigest())
print([sample.values[0] for sample in samples])
"""


def test_processes_with_different_hash_seeds_write_the_same_bytes() -> None:
    outputs = [
        run_python(DIGEST_OF_A_SET, env={"PYTHONHASHSEED": seed}).stdout.splitlines()
        for seed in ("0", "1", "2")
    ]
    assert len({order for _, order in outputs}) > 1, "the seeds changed nothing: no test"
    assert len({digest for digest, _ in outputs}) == 1
    assert len(outputs[0][0]) == len(hashlib.sha256().hexdigest())


# Back again


def clean(text: str) -> str:
    """How a string with surrogate escapes is written."""
    return "".join(
        f"\\u{ord(letter):04x}" if 0xD800 <= ord(letter) <= 0xDFFF else letter for letter in text
    )


def clean_frame(frame: Frame) -> Frame:
    return frame._replace(function=clean(frame.function), filename=clean(frame.filename))


def clean_label(label: Label) -> Label:
    value = clean(label.value) if isinstance(label.value, str) else label.value
    return label._replace(key=clean(label.key), value=value)


@given(profiles())
def test_decode_gives_back_what_was_encoded(profile: Profile) -> None:
    for data in (encode(profile), encode_raw(profile)):
        result = decode(data)
        assert Counter(result.samples) == Counter(
            Sample(
                tuple(map(clean_frame, sample.stack)),
                sample.values,
                tuple(map(clean_label, sample.labels)),
            )
            for sample in profile.samples
        )
        comments = tuple(map(clean, profile.comments))
        assert replace(result, samples=()) == replace(profile, samples=(), comments=comments)


FOREIGN = b"".join(
    [
        *(field(6, text) for text in ("", "cpu", "ns", "inlined", "caller", "/srv/a.c")),
        field(1, field(1, 1) + field(2, 2)),
        field(5, field(1, 70) + field(2, 3) + field(4, 5) + field(5, 8)),
        field(5, field(1, 60) + field(2, 4) + field(4, 5)),
        field(4, field(1, 9) + field(4, field(1, 70) + field(2, 11)) + field(4, field(1, 60))),
        field(4, field(1, 5) + field(3, 0xABC)),
    ]
)
"""Ids with gaps, an inlined call, a location without lines; no sample yet."""


def sample_of(locations: list[int], *values: int, labels: bytes = b"") -> bytes:
    places = b"".join(field(1, index) for index in locations)
    return field(2, places + b"".join(field(2, value) for value in values) + labels)


def test_inlined_calls_of_other_producers_become_frames_innermost_first() -> None:
    profile = decode(FOREIGN + sample_of([9], 42))
    assert profile.samples == (
        Sample((Frame("inlined", "/srv/a.c", 8, 11), Frame("caller", "/srv/a.c", 0, 0)), (42,)),
    )


def test_a_location_without_lines_is_named_by_its_address() -> None:
    profile = decode(FOREIGN + sample_of([5], -1))
    assert profile.samples == (Sample((Frame("0xabc", "", 0, 0),), (-1,)),)


def test_what_readers_do_not_know_is_skipped() -> None:
    assert decode(FOREIGN + field(15, 1) + field(99, b"new")).sample_types == (
        ValueType("cpu", "ns"),
    )


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<html>404</html>",
        b"\x1f\x8b",
        gzip.compress(b"", mtime=0),
        gzip.compress(b"heap profile: 1: 2 [3: 4] @ heap/2", mtime=0),
        gzip.compress(encode(heap_profile()), mtime=0),
        encode(heap_profile()) + b"rest",
        field(6, "") + field(6, "cpu"),
        b"\x0a\x80",
        b"\x0a\x00\x32\x02\xff\xfe",
    ],
)
def test_what_is_no_profile_is_refused(data: bytes) -> None:
    with pytest.raises(ProfileError, match="not a pprof profile"):
        decode(data)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(sample_of([77], 1), id="location"),
        pytest.param(field(4, field(1, 6) + field(4, field(1, 77))), id="function of a line"),
        pytest.param(field(5, field(1, 6) + field(2, 77)), id="function name"),
        pytest.param(field(5, field(1, 6) + field(4, 2**63 - 1)), id="file name"),
        pytest.param(field(5, field(1, 6) + field(2, -1)), id="negative function name"),
        pytest.param(field(1, field(1, -2) + field(2, -1)), id="negative sample type"),
        pytest.param(field(13, 77), id="comment"),
        pytest.param(field(13, -1), id="negative comment"),
        pytest.param(field(14, 77), id="default sample type"),
        pytest.param(field(14, -1), id="negative default sample type"),
        pytest.param(field(11, field(1, 77)), id="period type"),
        pytest.param(sample_of([], 1, labels=field(3, field(1, 77))), id="label key"),
        pytest.param(sample_of([], 1, labels=field(3, field(2, -1))), id="negative label"),
    ],
)
def test_a_reference_to_nothing_is_refused(data: bytes) -> None:
    with pytest.raises(ProfileError, match="dangling reference"):
        decode(FOREIGN + data)


@pytest.mark.parametrize("values", [(), (1, 2)])
def test_a_sample_without_a_value_for_each_type_is_refused(values: tuple[int, ...]) -> None:
    with pytest.raises(ProfileError):
        decode(FOREIGN + sample_of([5], *values))


@pytest.mark.parametrize("engine", ["python", "upb"])
def test_bad_utf8_is_refused_with_each_implementation_of_protobuf(engine: str) -> None:
    code = """
        import sys
        from google.protobuf.internal import api_implementation
        from pyprof_agent import ProfileError
        from pyprof_agent.formats.pprof import decode

        try:
            decode(b"\\x0a\\x00\\x32\\x02\\xff\\xfe")
        except ProfileError:
            print(api_implementation.Type())
    """
    result = run_python(code, env={"PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": engine})
    assert result.stdout == f"{engine}\n"


def test_a_file_cut_off_anywhere_is_refused() -> None:
    data = encode(one_row(Label("thread", "main")))
    for size in range(len(data)):
        with pytest.raises(ProfileError):
            decode(data[:size])


@given(st.binary(max_size=200))
def test_random_bytes_raise_nothing_but_profile_errors(data: bytes) -> None:
    for content in (data, b"\x1f\x8b" + data, b"\x1f\x8b\x08\x00" + data, gzip.compress(data)):
        with contextlib.suppress(ProfileError):
            decode(content)


@given(profiles(), st.data())
def test_broken_profiles_raise_nothing_but_profile_errors(
    profile: Profile, data: st.DataObject
) -> None:
    for whole in (encode(profile), encode_raw(profile)):
        broken = bytearray(whole)
        for _ in range(data.draw(st.integers(1, 3))):
            broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
        start = data.draw(st.integers(0, 3))
        stop = data.draw(st.integers(start, len(broken)))
        for content in (broken, whole[start:stop], broken[start:stop]):
            with contextlib.suppress(ProfileError):
                decode(bytes(content))


# The real reader


@pytest.fixture
def example_file(tmp_path: Path) -> Path:
    """One file that the examples of a test share."""
    return tmp_path / "profile.pb.gz"


@settings(max_examples=15, suppress_health_check=[*HealthCheck])
@given(profile=profiles())
def test_pprof_accepts_every_profile(
    go_pprof: GoPprof, example_file: Path, profile: Profile
) -> None:
    profile.write(example_file)
    output = go_pprof("-raw", example_file)
    assert f"Period: {profile.period}\n" in output
