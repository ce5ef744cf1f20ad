"""Every program below every profiler, and the page docs/accuracy.md of that."""

from __future__ import annotations

import inspect
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tests.bench.batch import Say
from tests.bench.oracle import trials
from tests.bench.oracle.judge import STANDARD_ERRORS, Share, Verdict, slowdown
from tests.bench.oracle.programs import PROGRAMS, Program
from tests.bench.oracle.samplers import HZ, OFF, SAMPLERS, SAMPLING, Reading
from tests.bench.oracle.trials import Trial
from tests.bench.processes import ChildError
from tests.bench.report import NOTHING, document, missing, table

Outcome = Trial | str
"""What was measured, or why nothing was."""


@dataclass(frozen=True)
class Judged:
    """All that was measured, and where.

    seconds: length of a window
    outcomes: by program and profiler
    """

    date: str
    command: str
    cpus: int
    python: str
    system: str
    quick: bool
    seconds: float
    versions: Mapping[str, str | None]
    samplers: Sequence[str]
    outcomes: Mapping[tuple[str, str], Outcome]


def judge_all(
    samplers: Sequence[str], sink: int, *, seconds: float, say: Say
) -> dict[tuple[str, str], Outcome]:
    """Run every program below each of these profilers, and below none."""
    outcomes: dict[tuple[str, str], Outcome] = {}
    for program in PROGRAMS.values():
        say(f"{program.title}: {', '.join(samplers)}")
        for name in (OFF, *samplers):
            outcomes[program.name, name] = _outcome(name, program, seconds, sink)
    return outcomes


def _outcome(name: str, program: Program, seconds: float, sink: int) -> Outcome:
    sampler = SAMPLERS[name]
    python = sys.executable
    if name == SAMPLING:
        newest = newest_python()
        if newest is None:
            return "there is no Python 3.15 here"
        python = newest
    try:
        return trials.run(sampler, program, seconds * sampler.share, sink, python=python)
    except ChildError as error:
        return str(error)


def newest_python() -> str | None:
    """A Python that has `profiling.sampling`, if there is one."""
    return sys.executable if sys.version_info >= (3, 15) else shutil.which("python3.15")


def page(judged: Judged) -> str:
    """The whole page."""
    parts = [
        _head(judged),
        _summary(judged),
        _profilers(judged),
        _method(judged),
        *(_program(judged, program) for program in PROGRAMS.values()),
    ]
    return document(parts)


def _head(judged: Judged) -> str:
    quick = "\n**A quick run, to see that it works. Its numbers mean nothing.**\n"
    return f"""
# Accuracy

How far the profiles of stack profilers are from the truth. This page is written by
`{judged.command}`.
{quick if judged.quick else ""}
Measured on {judged.date}: pyprof-agent {judged.versions["pyprof-agent"]}, {judged.python},
{judged.system}, {judged.cpus} CPUs; {judged.seconds:g} s of each program for each profiler.

Each program does several things in turn and measures, by the clocks of its own threads, how much
CPU and wall time each of them takes. A profile of the same seconds should give them the same
shares. It is a sample: an error of up to {STANDARD_ERRORS} standard errors, which are in brackets,
is chance."""


def _summary(judged: Judged) -> str:
    rows = []
    for name, kind in _lines(judged):
        cells = []
        for program in PROGRAMS.values():
            found = _verdict(judged, program, name, kind)
            worst = found[1].worst if found else None
            cells.append(error(worst) if worst else NOTHING)
        rows.append([_title(name, kind), *cells])
    titles = [program.title for program in PROGRAMS.values()]
    return f"""
## In short

The error of a share in percentage points, with {STANDARD_ERRORS} standard errors in brackets. What
is beyond them by more than a point is **bold**; of each program the share is told that is farthest
beyond, or that with the largest error where none is.

{table(["", *titles], rows)}

{_quality(judged)}"""


def _quality(judged: Judged) -> str:
    rows = []
    for name, kind in _lines(judged):
        samples = impossible = 0.0
        totals, costs, slow = [], [], []
        stacks = True
        for program in PROGRAMS.values():
            found = _verdict(judged, program, name, kind)
            if found is None:
                continue
            trial, verdict, reading = found
            samples += verdict.samples
            impossible += verdict.impossible
            stacks = stacks and reading.stacks
            totals.append(verdict.total / trial.whole(kind))
            costs.append(100 * trial.cost)
            slow.append(_slowdown(judged, program, trial))
        if not totals:
            continue
        share = f"{100 * impossible / samples:.2f} %" if samples and stacks else NOTHING
        rows.append(
            [
                _title(name, kind),
                f"{samples:,.0f}" if stacks else NOTHING,
                share,
                _range(totals, "{:.2f}"),
                _range(costs, "{:.1f}") + " %",
                _range(slow, "{:.2f}"),
            ]
        )
    header = ["", "samples", "impossible stacks", "total / truth", "cost, of a core", "slowdown"]
    return f"""\
Over all programs; what differs between them is from the least to the most.

{table(header, rows)}

An impossible stack has a caller that never makes this call. The truth of a total is the CPU time
of the process or, for wall time, that of all threads of the program. The cost is the CPU time that
no thread of the program burned, and that of a profiler that is a process of its own, its start
included. The slowdown is the CPU time that the threads of the program need for the same work, as a
ratio to a run without a profiler; the machine itself changes by some percent from run to run."""


def _range(values: Sequence[float], form: str) -> str:
    low, high = form.format(min(values)), form.format(max(values))
    return low if low == high else f"{low} to {high}"


def _lines(judged: Judged) -> Iterator[tuple[str, str]]:
    """Profilers and the kinds of time that they told of."""
    for name in judged.samplers:
        for kind in ("cpu", "wall"):
            if any(_verdict(judged, program, name, kind) for program in PROGRAMS.values()):
                yield name, kind


def _verdict(
    judged: Judged, program: Program, name: str, kind: str
) -> tuple[Trial, Verdict, Reading] | None:
    outcome = judged.outcomes.get((program.name, name), "")
    if isinstance(outcome, str):
        return None
    for reading in outcome.readings:
        if reading.kind == kind:
            return outcome, outcome.verdict(program, reading), reading
    return None


def _slowdown(judged: Judged, program: Program, trial: Trial) -> float:
    off = judged.outcomes[program.name, OFF]
    if isinstance(off, str):
        return float("nan")
    return slowdown((trial.spent.cpu, trial.spent.units), (off.spent.cpu, off.spent.units))


def _title(name: str, kind: str) -> str:
    return f"{SAMPLERS[name].title}, {kind}"


def error(share: Share) -> str:
    """An error with its chance in brackets, if it is one of a sample."""
    text = f"{share.error:+.1f}" + (f" ({share.chance:.1f})" if share.sampled else "")
    return f"**{text}**" if share.wrong else text


def _profilers(judged: Judged) -> str:
    rows = []
    for name in judged.samplers:
        sampler = SAMPLERS[name]
        found = [judged.outcomes[program, name] for program in PROGRAMS]
        failures = sorted({outcome for outcome in found if isinstance(outcome, str)})
        pythons = sorted({outcome.python for outcome in found if not isinstance(outcome, str)})
        version = judged.versions.get(sampler.package) or NOTHING
        told = [f"Python {', '.join(pythons)}"] if pythons else []
        told += [f"failed: {failure}" for failure in failures]
        rows.append([sampler.title, version, sampler.setup, "; ".join(told)])
    return f"""
## The profilers

{table(["profiler", "version", "how it is switched on", "ran on"], rows)}"""


def _method(judged: Judged) -> str:
    shares = {sampler.title: sampler.share for sampler in SAMPLERS.values() if sampler.share < 1}
    shorter = ", ".join(f"{title} {judged.seconds * share:g} s" for title, share in shares.items())
    return f"""
## Method

- Every run is a process of its own, one after the other. A program takes its branches in turn, at
  random and for some milliseconds each, and reads the clock of its thread between them
  (`time.thread_time`). So the truth is measured in the very run that is judged: a busy machine and
  waits for the GIL are in it.
- Profilers inside the process are on before the window begins, and their profile is of the window
  alone where they can tell. Those outside begin when the program does, for as many seconds.
- A look is asked for {HZ} times a second. Shorter windows have: {shorter}.
- A stack is billed to the innermost branch in it, or to `rest`: the loop that takes the turns, an
  event loop. Only stacks with functions of the program count.
- Standard errors are those of a dice thrown once for each sample, `sqrt(p (1 - p) / n)`. Branches
  take turns more regularly than dice fall, so that a right profiler is mostly closer. cProfile
  does not sample."""


def _program(judged: Judged, program: Program) -> str:
    lines = [*_lines(judged)]
    off = judged.outcomes[program.name, OFF]
    branches = [] if isinstance(off, str) else sorted(off.spent.cpu)
    rows = [
        [f"the truth, {kind}", *_truth(off, kind, branches), "", ""]
        for kind in ("cpu", "wall")
        if not isinstance(off, str)
    ]
    for name, kind in lines:
        found = _verdict(judged, program, name, kind)
        if found is None:
            outcome = judged.outcomes[program.name, name]
            why = outcome if isinstance(outcome, str) else "nothing of this kind"
            rows.append([_title(name, kind), *missing(why, len(branches) + 2)])
            continue
        _, verdict, reading = found
        by_branch = {share.branch: share for share in verdict.shares}
        cells = [error(by_branch[one]) if one in by_branch else NOTHING for one in branches]
        counted = f"{verdict.samples:,.0f}" if reading.stacks else NOTHING
        impossible = f"{verdict.impossible:.0f}" if reading.stacks else NOTHING
        rows.append([_title(name, kind), *cells, counted, impossible])
    header = ["", *(f"`{branch}`" for branch in branches), "samples", "impossible"]
    what = inspect.getdoc(program.run)
    return f"## {program.title}\n\n{what}\n\n{table(header, rows)}"


def _truth(off: Trial, kind: str, branches: Sequence[str]) -> list[str]:
    true = off.truth(kind)
    whole = sum(true.values())
    return [f"{100 * true.get(branch, 0) / whole:.1f} %" for branch in branches]
