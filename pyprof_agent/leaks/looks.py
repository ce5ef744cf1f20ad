"""What is known of a heap at one moment, of each line of code that allocates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log, sqrt

from pyprof_agent.batches import gently
from pyprof_agent.leaks.work import process, units
from pyprof_agent.profile import Frame, Profile, unmade


@dataclass(frozen=True, slots=True)
class Counts:
    """Bytes of one line: allocated so far, and in use."""

    allocated: float
    in_use: float


NOTHING = Counts(0, 0)

_OWN = "pyprof_agent."
_AROUND_OTHERS = ("pyprof_agent.http.counting.", "pyprof_agent.pytest_plugin.")


@dataclass(frozen=True, slots=True)
class Look:
    """A heap at one moment.

    seconds: Unix time
    lines: by the innermost frame
    sample_bytes: mean number of bytes between two samples; 1 where all is seen
    work: units done so far; None where nothing is counted
    process: which it is; None if the profile does not tell
    """

    seconds: float
    lines: Mapping[Frame, Counts]
    sample_bytes: int
    work: int | None
    process: int | None = None

    @property
    def in_use(self) -> float:
        """Bytes in use in all lines."""
        return sum(counts.in_use for counts in self.lines.values())

    @property
    def allocated(self) -> float:
        """Bytes allocated so far in all lines."""
        return sum(counts.allocated for counts in self.lines.values())

    def of(self, line: Frame) -> Counts:
        """The counts of a line."""
        return self.lines.get(line, NOTHING)


def look(profile: Profile) -> Look:
    """What a heap profile says, less what the agent itself has: a look makes that grow at first.

    Raises ProfileError if it has not the columns of one.
    """
    allocated, in_use = profile.column("alloc_space"), profile.column("inuse_space")
    return Look(
        profile.time_nanos / 1e9,
        {
            line: Counts(values[allocated], values[in_use])
            for line, values in gently(tuple(_lines(profile).items()))
        },
        profile.period,
        units(profile.comments),
        process(profile.comments),
    )


def _lines(profile: Profile) -> Mapping[Frame, tuple[float, ...]]:
    """Values by innermost frame, without the agent's own stacks."""
    rows = unmade(profile)
    if rows is not None:
        return rows.lines(_OWN, _AROUND_OTHERS)
    lines: dict[Frame, tuple[float, ...]] = {}
    for stack, values, _ in gently(profile.samples):
        if stack and not _is_own(stack):
            before = lines.get(stack[0])
            lines[stack[0]] = (
                values
                if before is None
                else tuple([a + b for a, b in zip(before, values, strict=True)])
            )
    return lines


def _is_own(stack: tuple[Frame, ...]) -> bool:
    return stack[0].function.startswith(_OWN) or any(
        frame.function.startswith(_OWN) and not frame.function.startswith(_AROUND_OTHERS)
        for frame in stack
    )


def error(looks: Sequence[Look], line: Frame | None = None) -> float:
    """The standard error, in bytes, of what a line, or all of them, have grown by.

    A sampled block stands for R bytes or more, so what is not the same at both ends, of N bytes, is
    known to sqrt(N R): Poisson. What has stayed is the same samples, and adds nothing. Of a line at
    most as much has come as it has allocated or has now, and gone as was there.
    """
    first, last = looks[0], looks[-1]
    if last.sample_bytes <= 1:
        return 0.0
    changed = 0.0
    for one in last.lines.keys() | first.lines.keys() if line is None else (line,):
        begin, end = first.of(one), last.of(one)
        allocated = max(end.allocated - begin.allocated, 0)
        freed = max(allocated - (end.in_use - begin.in_use), 0)
        changed += min(allocated, end.in_use) + min(freed, begin.in_use)
    return sqrt(changed * last.sample_bytes)


def most_unseen(sample_bytes: int) -> float:
    """Bytes that may have come without a single sample, at most, with 99.9 %.

    Of a Poisson number that was 0 the mean is below -ln(0.001), as P(0) = exp(-mean).
    """
    return -log(0.001) * sample_bytes if sample_bytes > 1 else 0.0
