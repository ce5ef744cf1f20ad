"""Time of whole programs: every profiler in turn, round after round."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from tests.bench.numbers import Spread, ratios
from tests.bench.processes import ChildError, Run, run
from tests.bench.profilers import OFF
from tests.bench.workloads import Workload

SLOW = 5.0
"""From this ratio on, a profiler gets a smaller workload."""

SHARE = 10
"""By how much smaller it is."""

_TRIAL = 40
"""By how much smaller than full size the run is that finds out."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Probe:
    """What a first, short run of a profiler showed.

    failure: why it cannot be measured; empty if it can
    """

    engine: str = ""
    evidence: str = ""
    failure: str = ""


def probe(profiler: str, sink: int) -> Probe:
    """Start a profiler once, and have it show that it samples."""
    try:
        seen, _ = run(profiler, "tree", 2, sink, show=True)
    except ChildError as error:
        return Probe(failure=str(error))
    return Probe(seen.engine, seen.evidence)


@dataclass
class Row:
    """The runs of one workload with one profiler.

    base: the runs without one, of the same size and in the same rounds
    smaller: whether the workload was made smaller for it
    """

    profiler: str
    runs: list[Run] = field(default_factory=list)
    base: list[Run] = field(default_factory=list)
    smaller: bool = False
    failure: str = ""

    def ratio(self, of: Callable[[Run], float]) -> Spread:
        """How many times as much as without a profiler."""
        return Spread.of(ratios([of(run) for run in self.runs], [of(run) for run in self.base]))


@dataclass
class Table:
    """The rows of one workload."""

    workload: Workload
    rows: list[Row]


def compare(
    workloads: Sequence[Workload],
    profilers: Sequence[str],
    sink: int,
    *,
    failures: Mapping[str, str],
    rounds: int,
    scale: float,
    deadline: float,
    say: Say,
) -> list[Table]:
    """Run every workload with every profiler, in turn, so that noise meets all alike.

    profilers: without `off`
    failures: why some of them cannot be measured
    rounds: how often; fewer, but two at least, if the deadline passes
    scale: by how much smaller than their full size the workloads are
    deadline: on the monotonic clock
    """
    tables = []
    for workload in workloads:
        say(f"{workload.title}: which profilers need less of it")
        tables.append(Table(workload, _rows(workload, profilers, sink, failures)))
    for number in range(rounds):
        if number >= 2 and time.monotonic() > deadline:
            say(f"no time is left after {number} rounds")
            break
        for table in tables:
            say(f"{table.workload.title}: round {number + 1} of {rounds}")
            _round(table, sink, scale)
    return tables


def _rows(
    workload: Workload, profilers: Sequence[str], sink: int, failures: Mapping[str, str]
) -> list[Row]:
    rounds = max(1, round(workload.rounds / _TRIAL))
    off, _ = run(OFF, workload.name, rounds, sink)
    rows = []
    for profiler in profilers:
        row = Row(profiler, failure=failures.get(profiler, ""))
        rows.append(row)
        if row.failure:
            continue
        try:
            row.smaller = run(profiler, workload.name, rounds, sink)[0].cpu > SLOW * off.cpu
        except ChildError as error:
            row.failure = str(error)
    return rows


def _round(table: Table, sink: int, scale: float) -> None:
    base: dict[bool, Run] = {}
    for smaller in sorted({row.smaller for row in table.rows if not row.failure}):
        base[smaller], _ = run(OFF, table.workload.name, _size(table, scale, smaller), sink)
    for row in table.rows:
        if row.failure:
            continue
        size = _size(table, scale, row.smaller)
        try:
            seen, _ = run(row.profiler, table.workload.name, size, sink)
        except ChildError as error:
            row.failure = str(error)
        else:
            row.runs.append(seen)
            row.base.append(base[row.smaller])


def _size(table: Table, scale: float, smaller: bool) -> int:
    return max(1, round(table.workload.rounds * scale / (SHARE if smaller else 1)))


def engines(probes: Mapping[str, Probe]) -> dict[str, str]:
    """The engine in use, of those that have a choice."""
    return {name: probe.engine for name, probe in probes.items() if probe.engine}
