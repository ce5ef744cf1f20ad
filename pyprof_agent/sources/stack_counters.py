"""From the raw counters of a stack engine to the CPU and wall profiles that people read.

A stack engine counts, for each thread and stack, how often it was seen (`ticks`), for
how long (`wall`), how often it was seen running (`hits`), how much CPU it was seen to
burn (`busy`), and books the thread's exact CPU time (`cpu`) on the frame `<unsampled>`.
All are monotonic, so that any window is one snapshot minus another. Only then is the CPU
time of a thread spread over the stacks that were seen running in that very window.
"""

from __future__ import annotations

from dataclasses import replace

from pyprof_agent.profile import Frame, Label, Profile, Sample, ValueType

COUNTERS = (
    ValueType("ticks", "count"),
    ValueType("wall", "nanoseconds"),
    ValueType("hits", "count"),
    ValueType("busy", "nanoseconds"),
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

_CPU = ValueType("cpu", "nanoseconds")
_WALL = ValueType("wall", "nanoseconds")
_SAMPLES = ValueType("samples", "count")


def cpu_profile(counters: Profile) -> Profile:
    """The CPU profile of a window: samples/count and cpu/nanoseconds.

    Each thread's CPU time goes to its stacks in proportion to what they were seen to burn;
    the sum over all samples is the CPU time of the process.
    """
    busy: dict[tuple[Label, ...], float] = {}
    clock: dict[tuple[Label, ...], float] = {}
    for _, (_, _, _, burned, cpu), labels in counters.samples:
        busy[labels] = busy.get(labels, 0) + max(burned, 0)
        clock[labels] = clock.get(labels, 0) + max(cpu, 0)
    samples = []
    for stack, (_, _, hits, burned, cpu), labels in counters.samples:
        seen = busy[labels]
        share = clock[labels] * max(burned, 0) / seen if seen > 0 else max(cpu, 0)
        if share > 0:
            samples.append(Sample(stack, (max(hits, 0), share), labels))
    return _of_kind(counters, _CPU, samples)


def wall_profile(counters: Profile) -> Profile:
    """The wall profile of a window: samples/count and wall/nanoseconds, each thread once."""
    samples = [
        Sample(stack, (ticks, wall), labels)
        for stack, (ticks, wall, _, _, _), labels in counters.samples
        if ticks > 0
    ]
    return _of_kind(counters, _WALL, samples)


def _of_kind(counters: Profile, kind: ValueType, samples: list[Sample]) -> Profile:
    return replace(
        counters,
        sample_types=(_SAMPLES, kind),
        samples=tuple(samples),
        period_type=kind,
        default_sample_type=kind.type,
    )
