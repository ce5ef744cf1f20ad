"""From the raw counters of a stack engine to the CPU and wall profiles that people read.

A stack engine counts, for each thread and stack, how often it was seen (`ticks`), for
how long (`wall`), how often it was seen to run (`hits`) and to rest (`asleep`), and books
the thread's exact CPU time (`cpu`) on the frame `<unsampled>`. All are monotonic, so that
any window is one snapshot minus another. Only then is the CPU time of a thread spread over
the stacks that were seen to run in that very window.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from operator import sub

from pyprof_agent.batches import gently
from pyprof_agent.profile import (
    Frame,
    Label,
    Profile,
    Sample,
    ValueType,
    merge,
    of_rows,
    subtract,
    unmade,
)

COUNTERS = (
    ValueType("ticks", "count"),
    ValueType("wall", "nanoseconds"),
    ValueType("hits", "count"),
    ValueType("asleep", "count"),
    ValueType("cpu", "nanoseconds"),
)

UNSAMPLED = Frame("<unsampled>", "", 0, 0)
"""CPU time of a thread that was never seen running in the window."""

NATIVE_THREADS = Frame("<threads without Python>", "", 0, 0)
"""CPU time of the process that no Python thread burned, or one too short-lived to be seen."""

SAMPLER = Frame("<pyprof-agent sampler>", "", 0, 0)
"""CPU time of the sampling thread itself."""

OVERFLOW = Frame("<too many stacks>", "", 0, 0)
"""Stands for the stacks that came after the table was full."""

_Labels = tuple[Label, ...]
_Stack = tuple[Frame, ...]
_Values = tuple[float, ...]

_ASLEEP_COLUMN, _CPU_COLUMN = 3, 4
_NOTHING = (0.0,) * len(COUNTERS)
_CPU = ValueType("cpu", "nanoseconds")
_WALL = ValueType("wall", "nanoseconds")
_SAMPLES = ValueType("samples", "count")
RUNNING = Label("state", "running")
WAITING = Label("state", "waiting")

CPU_TYPES = (_SAMPLES, _CPU)
WALL_TYPES = (_SAMPLES, _WALL)


def cpu_profile(counters: Profile, *, exact_hits: bool = False) -> Profile:
    """The CPU profile of a window: samples/count and cpu/nanoseconds.

    Each thread's CPU time goes to its stacks in proportion to how often they were seen to
    run; the sum over all samples is the CPU time of the process.

    exact_hits: the engine never takes a thread that is about to wake up for one that runs
    """
    rows = unmade(counters)
    if rows is not None and exact_hits:
        return of_rows(rows.cpu(), _of_kind(counters, CPU_TYPES, ()))
    clocks: dict[_Labels, float] = {}
    for _, values, labels in counters.samples:
        clocks[labels] = clocks.get(labels, 0) + max(values[_CPU_COLUMN], 0)
    hits = _hits(counters, exact_hits)
    totals: dict[_Labels, float] = {}
    for (_, labels), weight in hits.items():
        totals[labels] = totals.get(labels, 0) + weight
    samples = []
    for stack, values, labels in counters.samples:
        weight = hits.get((stack, labels), 0)
        if labels in totals:
            share = clocks[labels] * weight / totals[labels]
        else:
            share = max(values[_CPU_COLUMN], 0)
        if share > 0:
            samples.append(Sample(stack, (weight, share), labels))
    return _of_kind(counters, CPU_TYPES, samples)


def _hits(counters: Profile, exact: bool) -> dict[tuple[_Stack, _Labels], float]:
    """How often each stack was seen to run, as far as it counts.

    Where a thread that is about to wake up looks like one that runs, stacks at which it mostly
    rests do not count, unless it has no others: many threads that compete for the GIL rest
    everywhere. The stacks that made room in a full table count, as some of them have run.
    """
    seen = {
        (stack, labels): (hits, asleep)
        for stack, (_, _, hits, asleep, _), labels in counters.samples
        if hits > 0
    }
    runs_somewhere = {labels for (_, labels), (hits, asleep) in seen.items() if hits > asleep}
    return {
        key: hits
        for key, (hits, asleep) in seen.items()
        if exact or hits > asleep or key[0] == (OVERFLOW,) or key[1] not in runs_somewhere
    }


def wall_profile(counters: Profile) -> Profile:
    """The wall profile of a window: samples/count and wall/nanoseconds, each thread once.

    Where the engine can tell, the label `state` says `running` or `waiting`: for the CPU, for the
    GIL, for a lock, for input.
    """
    rows = unmade(counters)
    if rows is not None:
        return of_rows(rows.wall(), _of_kind(counters, WALL_TYPES, ()))
    samples = []
    for stack, (ticks, wall, hits, asleep, _), labels in counters.samples:
        if ticks <= 0:
            continue
        wall = max(wall, 0)
        if hits + asleep <= 0:
            samples.append(Sample(stack, (ticks, wall), labels))
            continue
        share = min(max(hits, 0) / (hits + asleep), 1)
        for state, part in ((RUNNING, share), (WAITING, 1 - share)):
            if part > 0:
                samples.append(Sample(stack, (ticks * part, wall * part), (*labels, state)))
    return _of_kind(counters, WALL_TYPES, samples)


def full_table_comments(overflowed: int, folded: int) -> list[str]:
    """What a profile says of stacks that found no room, and of those that made room for others."""
    comments = [
        (overflowed, "new stacks came after the table was full"),
        (folded, f"stacks not seen for the longest have lost their rows to {OVERFLOW.function}"),
    ]
    return [f"{count} {what}" for count, what in comments if count]


def folded_window(
    later: Profile, earlier: Profile, others: _Labels, given_again: Collection[_Labels] = ()
) -> Profile:
    """The difference between two snapshots, between which rows were moved to others.

    Counters only grow, so a row with less than before was moved: with its stack to the threads
    without labels of their own if its thread lost its labels, else to the thread's row of
    stacks that made room.

    others: the labels of threads without their own
    given_again: labels that were taken away between the snapshots and are there in the later one
    """
    later, earlier = merge([later]), merge([earlier])
    left = {(stack, labels): values for stack, values, labels in gently(later.samples)}
    known = {labels for _, labels in left} - set(given_again)
    counted: list[Sample] = []  # what is in the earlier one, where it is in the later one
    handed_over = []
    for stack, values, labels in gently(earlier.samples):
        if stack == (NATIVE_THREADS,):  # what is left of the process's time may become less
            counted.append(Sample(stack, values, labels))
        elif labels not in known:
            handed_over.append((stack, values))
        elif _has_grown(left.get((stack, labels), _NOTHING), values):
            left[stack, labels] = tuple(map(sub, left[stack, labels], values))
            counted.append(Sample(stack, values, labels))
        else:  # it had to go, and may have come again
            counted.append(Sample((OVERFLOW,), values, labels))
    for stack, values in gently(handed_over):
        there = left.get((stack, others), _NOTHING)
        stayed = tuple(map(min, values, there))
        left[stack, others] = tuple(map(sub, there, stayed))
        moved = tuple(map(sub, values, stayed))
        counted += (Sample(stack, stayed, others), Sample((OVERFLOW,), moved, others))
    return subtract(later, replace(earlier, samples=tuple(counted)))


def _has_grown(later: _Values, earlier: _Values) -> bool:
    """Whether counters are no less than before; `asleep` of a native engine is a difference."""
    columns = (column for column in range(len(COUNTERS)) if column != _ASLEEP_COLUMN)
    return all(later[column] >= earlier[column] for column in columns)


def _of_kind(
    counters: Profile, sample_types: tuple[ValueType, ...], samples: Iterable[Sample]
) -> Profile:
    return Profile(
        sample_types=sample_types,
        samples=tuple(samples),
        period_type=sample_types[-1],
        period=counters.period,
        time_nanos=counters.time_nanos,
        duration_nanos=counters.duration_nanos,
        default_sample_type=sample_types[-1].type,
        comments=counters.comments,
    )
