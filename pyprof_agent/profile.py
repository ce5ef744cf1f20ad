"""Profiles as frozen values, and the pure functions that combine them.

A profile is a table: a row (`Sample`) for each distinct stack and set of
labels, a column (`ValueType`) for each thing that was counted. It holds strings
and frames; the indices of the wire format are the encoder's business.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from pyprof_agent.batches import batches, gently
from pyprof_agent.errors import ProfileError

MAPPING = "python-process"
"""The name of the program's file in pprof. It must not be the name of a real file, which
pprof would open to look for symbols, nor start with `[`, which means "kernel" to it."""


# Frame, Label and Sample are named tuples rather than frozen data classes: a
# heap profile hashes and compares 100,000s of them, which tuples do in C
# (measured on 3.11: a set look-up of a Frame takes 0.2 us, of a data class 1.1 us).


class ValueType(NamedTuple):
    """What a column counts, and in which unit: `ValueType("inuse_space", "bytes")`."""

    type: str
    unit: str


class Frame(NamedTuple):
    """One level of a stack.

    function: `module.qualname`; pseudo frames are in angle brackets, `<unsampled>`
    filename: absolute path of the source, or a name like `<string>`; "" if there is none
    first_line: the line the function starts on, 0 if unknown
    line: the line being executed, 0 if unknown
    """

    function: str
    filename: str
    first_line: int
    line: int


class Label(NamedTuple):
    """A tag on a sample; a string, or a number with an optional unit."""

    key: str
    value: str | int
    unit: str = ""


class Sample(NamedTuple):
    """One row: a stack (leaf first), a value for each sample type, and labels."""

    stack: tuple[Frame, ...]
    values: tuple[float, ...]
    labels: tuple[Label, ...] = ()

    def label(self, key: str) -> str | int | None:
        """The value of the label `key`, or None."""
        return next((label.value for label in self.labels if label.key == key), None)


class Rows(Protocol):
    """Rows of a profile that are no objects of Python's yet.

    Their values are whole numbers.
    """

    def samples(self) -> tuple[Sample, ...]:
        """Make them; rows of equal stacks and labels are one, and those of zeros left out."""

    def frames(self) -> list[Frame]:
        """Those of all stacks, each once."""

    def encode(self, profile: Profile) -> bytes:
        """The protobuf bytes of a profile that has these rows, uncompressed."""

    def lines(self, own: str, around: tuple[str, ...]) -> dict[Frame, tuple[int, ...]]:
        """Values by innermost frame, without the stacks of a library.

        own: its functions begin with this
        around: these of them call the program's: such a one is the library's if it is innermost
        """

    def minus(self, earlier: Rows) -> Rows | None:
        """The difference to an earlier profile; None if the two number their stacks differently."""

    def only(self, columns: Sequence[int]) -> Rows:
        """The same rows with zeros in all other columns."""

    def cpu(self) -> Rows:
        """Hits and CPU time, of the counters of a stack engine: `stack_counters.cpu_profile`."""

    def wall(self) -> Rows:
        """Ticks and elapsed time, likewise: `stack_counters.wall_profile`."""


class _Unmade:
    """A profile whose samples are made of its rows when somebody asks for them."""

    __slots__ = ("_made", "_rows")
    _rows: Rows
    _made: dict[str, tuple[Sample, ...]]  # empty until then

    if not TYPE_CHECKING:  # else every attribute would be a known one

        def __getattr__(self, name: str) -> Any:
            if name != "samples":
                raise AttributeError(f"a profile has no {name!r}")
            # For threads that ask at the same time there is one answer.
            made = self._made.get(name) or self._made.setdefault(name, self._rows.samples())
            object.__setattr__(self, name, made)
            return made


@dataclass(frozen=True, slots=True, repr=False)
class Profile(_Unmade):
    """A profile as a value; see `profile_rules` for what makes it a proper one.

    The native engines give profiles whose samples are made when somebody asks for them. To write
    such a profile, or to make its bytes, takes no samples.

    sample_types: the columns
    samples: the rows
    period_type, period: what a sampling period is measured in, and its mean
    time_nanos: when it was taken (the end of the window), Unix time in nanoseconds
    duration_nanos: length of the window; 0 for a snapshot
    default_sample_type: the `type` of the column that readers show first; "" for the last
    comments: free lines: the engine, its rate, what it could not see
    """

    sample_types: tuple[ValueType, ...]
    samples: tuple[Sample, ...]
    period_type: ValueType
    period: int
    time_nanos: int
    duration_nanos: int = 0
    default_sample_type: str = ""
    comments: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """Short, as `asyncio.run` makes it of results: that of 20,000 samples took 150 MB."""
        types = ", ".join(value_type.type for value_type in self.sample_types)
        return f"<Profile of {types} at {self.time_nanos}>"

    def column(self, sample_type: str) -> int:
        """Index of the column called `sample_type`.

        Raises ProfileError if the profile has no such column.
        """
        for index, value_type in enumerate(self.sample_types):
            if value_type.type == sample_type:
                return index
        known = ", ".join(value_type.type for value_type in self.sample_types)
        raise ProfileError(f"no sample type {sample_type!r} in this profile; it has: {known}")

    def total(self, sample_type: str) -> float:
        """Sum of a column over all samples.

        Raises ProfileError if the profile has no such column.
        """
        column = self.column(sample_type)
        return math.fsum(sample.values[column] for sample in self.samples)

    def to_bytes(self) -> bytes:
        """The profile as gzip-compressed pprof protobuf, the content of a `.pb.gz` file.

        Raises ProfileError if it breaks a rule of the format (see `profile_rules`).
        """
        from pyprof_agent.formats.pprof import encode

        return encode(self)

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write `to_bytes()` to `path`: the whole file appears at once, or none of it.

        Raises ProfileError for an invalid profile and OSError if the file cannot be written.
        """
        data = self.to_bytes()
        target = os.path.abspath(os.fspath(path))
        folder, name = os.path.split(target)
        temporary = os.path.join(folder, f".{name}.{os.getpid()}.{os.urandom(4).hex()}")
        try:
            with open(temporary, "xb") as stream:
                stream.write(data)
            os.replace(temporary, target)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            raise


_FIELDS = [field.name for field in fields(Profile) if field.name != "samples"]


def unmade(profile: Profile) -> Rows | None:
    """The rows that a profile's samples are, or would be, made of; None if it was given samples."""
    return getattr(profile, "_rows", None)


def of_rows(rows: Rows, like: Profile) -> Profile:
    """A profile with these rows, and all else like another one."""
    profile = object.__new__(Profile)
    for name in _FIELDS:
        object.__setattr__(profile, name, getattr(like, name))
    object.__setattr__(profile, "_rows", rows)
    object.__setattr__(profile, "_made", {})
    return profile


def changed(profile: Profile, **changes: Any) -> Profile:
    """The profile with other values of fields, but with the same samples, made or not."""
    rows = unmade(profile)
    if rows is None or "samples" in changes:
        return replace(profile, **changes)
    return of_rows(rows, replace(_without_samples(profile), **changes))


def _without_samples(profile: Profile) -> Profile:
    return Profile(samples=(), **{name: getattr(profile, name) for name in _FIELDS})


def rounded(profile: Profile) -> Profile:
    """The profile with whole numbers, and without the rows in which nothing is left.

    Weighted samples are summed as floats; this is the one place where they become integers.
    """
    if unmade(profile) is not None:
        return profile
    kept: list[Sample] = []
    for start, stop in batches(0, len(profile.samples)):
        rows = profile.samples[start:stop]
        if not {int} >= set(map(type, chain.from_iterable([row.values for row in rows]))):
            rows = tuple([row._replace(values=tuple(map(round, row.values))) for row in rows])
        kept += [row for row in rows if any(row.values)]
    return replace(profile, samples=tuple(kept))


def scale(profile: Profile, factor: float) -> Profile:
    """The profile with every value multiplied by `factor`."""
    scaled = [
        Sample(stack, tuple([value * factor for value in values]), labels)
        for stack, values, labels in gently(profile.samples)
    ]
    return replace(profile, samples=tuple(scaled))


def merge(profiles: Iterable[Profile]) -> Profile:
    """The sum of the profiles, row by row; rows whose values are all zero are left out.

    Time is the earliest, duration the sum, period the largest, as in google/pprof's
    `profile.Merge`. Comments are united in order, everything else is the first profile's.

    Raises ProfileError without profiles, or if their sample or period types differ.
    """
    parts = tuple(profiles)
    if not parts:
        raise ProfileError("nothing to merge: give at least one profile")
    first = parts[0]
    for part in parts[1:]:
        _check_compatible(first, part)
    totals: dict[tuple[tuple[Frame, ...], tuple[Label, ...]], tuple[float, ...]] = {}
    for part in parts:
        for stack, values, labels in gently(part.samples):
            key = (stack, labels)
            so_far = totals.get(key)
            totals[key] = (
                values
                if so_far is None
                else tuple([a + b for a, b in zip(so_far, values, strict=True)])
            )
    return replace(
        first,
        samples=tuple(
            [
                Sample(stack, values, labels)
                for (stack, labels), values in totals.items()
                if any(values)
            ]
        ),
        time_nanos=min(part.time_nanos for part in parts),
        duration_nanos=sum(part.duration_nanos for part in parts),
        period=max(part.period for part in parts),
        comments=tuple(dict.fromkeys(comment for part in parts for comment in part.comments)),
    )


def subtract(later: Profile, earlier: Profile) -> Profile:
    """What changed from the `earlier` snapshot to the `later` one, in every column.

    Time is the later one's. The duration is the difference of the durations where
    the snapshots are cumulative counters (they say how long they have been counting),
    and the distance in time where they are not.

    Raises ProfileError if their sample or period types differ.
    """
    later_rows, earlier_rows = unmade(later), unmade(earlier)
    rows = later_rows.minus(earlier_rows) if later_rows and earlier_rows else None
    if rows is None:
        difference = merge((later, scale(earlier, -1)))
    else:
        _check_compatible(later, earlier)
        difference = of_rows(rows, changed(later, period=max(later.period, earlier.period)))
    if later.duration_nanos:
        duration = later.duration_nanos - earlier.duration_nanos
    else:
        duration = later.time_nanos - earlier.time_nanos
    return changed(
        difference,
        time_nanos=later.time_nanos,
        duration_nanos=max(duration, 0),
        comments=later.comments,
    )


def _check_compatible(first: Profile, other: Profile) -> None:
    for field in ("sample_types", "period_type"):
        ours: Sequence[object] = getattr(first, field)
        theirs: Sequence[object] = getattr(other, field)
        if ours != theirs:
            raise ProfileError(f"profiles of different {field}: {ours} and {theirs}")
