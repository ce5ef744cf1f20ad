"""The page: docs/overhead.md from what was measured."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tests.bench import batch, instructions, live
from tests.bench.batch import Probe
from tests.bench.load import CONNECTIONS
from tests.bench.numbers import Spread
from tests.bench.profilers import BATCH, OFF, PROFILERS

STAR = " \\*"
"""Marks what was measured with a smaller workload."""

NOTHING = "-"
"""Marks what was not measured."""


@dataclass
class Results:
    """All that was measured, and where.

    skipped: parts that were left out, and why
    """

    date: str
    command: str
    cpus: int
    python: str
    system: str
    load_tool: str
    quick: bool
    versions: Mapping[str, str | None]
    probes: Mapping[str, Probe]
    tables: Sequence[batch.Table] = ()
    counts: Sequence[instructions.Count] = ()
    service: Sequence[live.ServiceRow] = ()
    service_seconds: float = 0
    skipped: dict[str, str] = field(default_factory=dict)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown; the first column is text, the others are numbers or text."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def number(value: float) -> str:
    """A number with three digits that matter."""
    if value >= 1000:
        return f"{value:,.0f}"
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def fine(value: float) -> str:
    """A number that is exact enough for three decimals."""
    return f"{value:.3f}" if value < 10 else number(value)


def spread(values: Spread, form: Callable[[float], str] = number) -> str:
    """`1.02 (0.99-1.05)`: the median, the smallest and the largest."""
    if values.low == values.high:
        return form(values.median)
    return f"{form(values.median)} ({form(values.low)}-{form(values.high)})"


def missing(reason: str, columns: int) -> list[str]:
    """The cells of a row that has no numbers."""
    return [f"not measured: {reason}", *[""] * (columns - 1)]


def title(profiler: str) -> str:
    """What the page calls a profiler."""
    return PROFILERS[profiler].title


def document(parts: Iterable[str]) -> str:
    """A page of parts, one below the other."""
    return "\n\n".join(part.strip() for part in parts) + "\n"


def page(results: Results) -> str:
    """The whole page."""
    parts = [
        _head(results),
        _summary(results),
        _profilers(results),
        _method(),
        _batch(results),
        _instructions(results),
        _service(results),
    ]
    return document(parts)


def _head(results: Results) -> str:
    quick = "\n**A quick run, to see that the benchmark works. Its numbers mean nothing.**\n"
    return f"""
# Overhead

What memory profilers cost a Python program. This page is written by `{results.command}`.
{quick if results.quick else ""}
Measured on {results.date}: pyprof-agent {results.versions["pyprof-agent"]}, {results.python},
{results.system}, {results.cpus} CPUs.

Ratios are to the same program without a profiler: 1.00 is free, 2.00 is twice as much. A ratio is
a median; what is in brackets is the smallest and the largest of the rounds. Where the brackets of
two rows overlap, this run does not tell them apart."""


def _summary(results: Results) -> str:
    service = {row.profiler: row for row in results.service}
    rows = []
    for name in PROFILERS:
        cells = [_summary_cell(found, name) for found in results.tables]
        row = service.get(name)
        measured = row is not None and row.seen and not row.failure
        cells.append(
            number(row.ratio(lambda seen: seen.cpu).median) if row and measured else NOTHING
        )
        if name != OFF and set(cells) != {NOTHING}:
            rows.append([title(name), *cells])
    header = ["", *(found.workload.title for found in results.tables), "A service"]
    return f"""
## In short

CPU time as a ratio: of the work in whole programs, without start and imports, and of a request to
a service.

{table(header, rows)}"""


def _summary_cell(found: batch.Table, profiler: str) -> str:
    for row in found.rows:
        if row.profiler == profiler and row.runs and not row.failure:
            return number(row.ratio(lambda run: run.cpu).median) + (STAR if row.smaller else "")
    return NOTHING


def _profilers(results: Results) -> str:
    rows = []
    for name, probe in results.probes.items():
        profiler = PROFILERS[name]
        version = results.versions.get(profiler.package) or NOTHING
        setup = profiler.setup + (f" Engines: {probe.engine}." if probe.engine else "")
        seen = f"not measured: {probe.failure}" if probe.failure else probe.evidence
        rows.append([profiler.title, version, setup, seen])
    return f"""
## The profilers

Each was run once on a small program that keeps a few MiB, and had to show what it had sampled.

{table(["profiler", "version", "how it is switched on", "what it showed"], rows)}

tracemalloc is Python's own and samples nothing: it notes every block. memray is made for a look at
one program rather than for services that run all day. ddtrace and pyroscope-io are more than memory
profilers; only that part of them is on."""


def _method() -> str:
    return f"""
## Method

- Every run is a process of its own. The profilers take turns, one run each, round after round, so
  that other work on the machine meets all alike. A ratio is made of two runs of the same round.
- This is the cost of being on: nobody asks for a profile while it is measured. pyroscope-io uploads
  every 10 s, as it always does; memray writes its file.
- "Whole process" includes the start of Python, the import of the profiler and the end. "Work" does
  not. CPU time is that of all threads of the process.
- {STAR.strip()} A profiler that makes a workload more than {batch.SLOW:.0f} times slower gets
  1/{batch.SHARE} of it, and is compared with runs of that size without a profiler.
- Python's hash seed is fixed. Nothing else is: no CPU is reserved, no garbage collection is held
  back."""


def _batch(results: Results) -> str:
    if "programs" in results.skipped:
        return f"## Whole programs\n\nNot measured: {results.skipped['programs']}."
    return "## Whole programs\n\n" + "\n\n".join(map(_batch_table, results.tables))


def _batch_table(found: batch.Table) -> str:
    rows = []
    for smaller in (False, True):
        mine = [row for row in found.rows if row.smaller == smaller]
        star = STAR if smaller else ""
        base = max((row.base for row in mine), key=len, default=[])
        if base:
            wall = spread(Spread.of([run.wall for run in base]))
            peak = number(Spread.of([run.peak for run in base]).median)
            rows.append([f"off{star}", wall, "1.00", "1.00", "1.00", peak])
        for row in mine:
            name = title(row.profiler) + star
            if row.failure or not row.runs:
                rows.append([name, *missing(row.failure or "no round was finished", 5)])
                continue
            rows.append(
                [
                    name,
                    spread(Spread.of([run.wall for run in row.runs])),
                    spread(row.ratio(lambda run: run.wall)),
                    spread(row.ratio(lambda run: run.work)),
                    spread(row.ratio(lambda run: run.cpu)),
                    number(Spread.of([run.peak for run in row.runs]).median),
                ]
            )
    header = ["", "whole process, s", "ratio", "work, ratio", "work, CPU ratio", "peak RSS, MiB"]
    rounds = max((len(row.runs) for row in found.rows), default=0)
    what = (found.workload.run.__doc__ or "").strip()
    return f"### {found.workload.title}\n\n{what} Rounds: {rounds}.\n\n{table(header, rows)}"


def _instructions(results: Results) -> str:
    head = "## Instructions\n\n"
    if "instructions" in results.skipped:
        return f"{head}Not measured: {results.skipped['instructions']}."
    rows = []
    for count in results.counts:
        names = [count.workload.title, title(count.profiler)]
        if count.failure or not count.per_round:
            rows.append([*names, *missing(count.failure or "nothing was counted", 3)])
            continue
        off = number(Spread.of(count.base).median / 1e6)
        on = number(Spread.of(count.per_round).median / 1e6)
        rows.append([*names, off, on, spread(count.ratio(), fine)])
    header = ["", "profiler", "off, millions a round", "on, millions a round", "ratio"]
    counted = {count.profiler for count in results.counts}
    others = [title(name) for name in BATCH if name != OFF and name not in counted]
    repeated = max((len(count.per_round) for count in results.counts), default=0)
    return f"""{head}\
Counted with valgrind's callgrind, which other programs do not disturb. Each program does N rounds
of its work, and in another process 2N; the difference is divided by N, so that start, imports and
end are not in it. Instructions are not time: waiting for memory does not show. glibc is kept from
copying long blocks with `rep movsb`, of which callgrind would count one instruction for each byte.
Repetitions: {repeated}. Not counted: {"; ".join(others) or "none"}.

{table(header, rows)}"""


def _service(results: Results) -> str:
    head = "## A service\n\n"
    if "service" in results.skipped:
        return f"{head}Not measured: {results.skipped['service']}."
    rows = []
    for row in results.service:
        if row.failure or not row.seen:
            rows.append([title(row.profiler), *missing(row.failure or "no round was finished", 5)])
            continue
        rows.append(
            [
                title(row.profiler),
                spread(Spread.of([seen.rate for seen in row.seen])),
                spread(row.ratio(lambda seen: seen.rate)),
                spread(Spread.of([seen.p99 for seen in row.seen])),
                spread(Spread.of([seen.cpu for seen in row.seen])),
                spread(row.ratio(lambda seen: seen.cpu)),
            ]
        )
    header = ["", "requests/s", "ratio", "p99, ms", "CPU, ms a request", "ratio"]
    served = {row.profiler for row in results.service}
    others = [title(name) for name in PROFILERS if name not in served]
    rounds = max((len(row.seen) for row in results.service), default=0)
    return f"""{head}\
A Starlette application under uvicorn (one process; asyncio and h11) takes an order of 40 lines as
JSON, prices it and answers with JSON. Load: {results.load_tool}, {CONNECTIONS} connections,
{results.service_seconds:.0f} s after half as long to warm up; too short for more than one of the
uploads of pyroscope-io. Rounds: {rounds}, with a new server each time. Of requests/s more is
better: a ratio of 0.90 is a tenth fewer. Left out here: {"; ".join(others) or "none"}.

{table(header, rows)}"""
