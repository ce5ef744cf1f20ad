"""`python -m tests.bench`: measure, and write the pages."""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench import batch, install, instructions, live, report
from tests.bench.load import load_tool
from tests.bench.oracle import accuracy
from tests.bench.oracle.samplers import SAMPLERS, USUAL
from tests.bench.processes import ROOT, shortened, upload_sink, versions
from tests.bench.profilers import BATCH, COUNTED, OFF, PROFILERS, SERVICE
from tests.bench.report import Results
from tests.bench.workloads import WORKLOADS

COST = ("programs", "instructions", "service")
"""Parts of docs/overhead.md."""

ACCURACY = "accuracy"
"""The part that is docs/accuracy.md."""

PARTS = (*COST, ACCURACY)


@dataclass(frozen=True)
class Size:
    """How much is measured, and how long. After so many seconds no other round is begun."""

    scale: float
    rounds: int
    seconds: float
    counted: tuple[str, ...]
    counted_scale: float
    repetitions: int
    counted_seconds: float
    service_rounds: int
    load_seconds: float
    service_seconds: float
    window: float


FULL = Size(1.0, 5, 400, COUNTED, 1.0, 2, 90, 5, 4.0, 240, 20)
QUICK = Size(0.05, 2, 60, COUNTED[:2], 0.1, 1, 0, 1, 1.0, 30, 1)


def say(text: str) -> None:
    """Tell how far it is."""
    print(f"{time.strftime('%H:%M:%S')}  {text}", file=sys.stderr, flush=True)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(prog="make bench", description="Measure profilers.")
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it works")
    parser.add_argument("--parts", default=",".join(PARTS), help=f"of {', '.join(PARTS)}")
    parser.add_argument("--only", default="", help="profilers, separated by commas; default: all")
    parser.add_argument("--seconds", type=float, help="of each window of the accuracy part")
    parser.add_argument("--output", type=Path, help="folder for the pages; default: docs")
    return parser.parse_args(arguments)


def chosen(names: Sequence[str], only: str) -> list[str]:
    """Of these profilers those that are wanted, without `off`."""
    wanted = only.split(",") if only else names
    return [name for name in names if name != OFF and name in wanted]


def probe_all(sink: int) -> dict[str, batch.Probe]:
    """Whether each profiler runs here, and if not, why."""
    probes = {}
    not_installed = install.failures()
    for name, profiler in PROFILERS.items():
        if name == OFF:
            continue
        found = batch.probe(name, sink)
        if found.failure and profiler.package in not_installed:
            why = shortened(not_installed[profiler.package])
            found = batch.Probe(failure=f"could not be installed: {why}")
        say(f"{profiler.title}: {found.failure or found.evidence}")
        probes[name] = found
    return probes


def measure(options: argparse.Namespace, sink: int) -> Results:
    """All that was asked for."""
    size = QUICK if options.quick else FULL
    parts = options.parts.split(",")
    probes = probe_all(sink)
    failures = {name: found.failure for name, found in probes.items() if found.failure}
    packages = [profiler.package for profiler in PROFILERS.values() if profiler.package]
    results = Results(
        date=datetime.date.today().isoformat(),
        command="make bench",
        cpus=os.cpu_count() or 1,
        python=f"{platform.python_implementation()} {platform.python_version()}",
        system=f"{platform.system()} {platform.machine()}",
        load_tool=load_tool(),
        quick=options.quick,
        versions=versions(packages),
        probes=probes,
        service_seconds=size.load_seconds,
        skipped={part: "left out of this run" for part in COST if part not in parts},
    )
    workloads = list(WORKLOADS.values())
    if "programs" in parts:
        results.tables = batch.compare(
            workloads,
            chosen(BATCH, options.only),
            sink,
            failures=failures,
            rounds=size.rounds,
            scale=size.scale,
            deadline=time.monotonic() + size.seconds,
            say=say,
        )
    prefix = instructions.callgrind()
    if prefix is None:
        results.skipped["instructions"] = "valgrind is not installed"
    elif "instructions" in parts:
        results.counts = instructions.count(
            [workload for workload in workloads if workload.counted][
                : 1 if options.quick else None
            ],
            chosen(size.counted, options.only),
            sink,
            failures=failures,
            engines=batch.engines(probes),
            scale=size.counted_scale,
            repetitions=size.repetitions,
            deadline=time.monotonic() + size.counted_seconds,
            prefix=prefix,
            say=say,
        )
    if "service" in parts:
        results.service = live.compare_service(
            chosen(SERVICE, options.only),
            sink,
            failures=failures,
            rounds=size.service_rounds,
            seconds=size.load_seconds,
            deadline=time.monotonic() + size.service_seconds,
            say=say,
        )
    return results


def judge(options: argparse.Namespace, sink: int) -> accuracy.Judged:
    """How accurate the profilers are that were asked for."""
    size = QUICK if options.quick else FULL
    seconds = options.seconds or size.window
    samplers = [name for name in options.only.split(",") if name in SAMPLERS] or [*USUAL]
    packages = [sampler.package for sampler in SAMPLERS.values() if sampler.package]
    return accuracy.Judged(
        date=datetime.date.today().isoformat(),
        command='make bench BENCH="--parts accuracy"',
        cpus=os.cpu_count() or 1,
        python=f"{platform.python_implementation()} {platform.python_version()}",
        system=f"{platform.system()} {platform.machine()}",
        quick=seconds < FULL.window,
        seconds=seconds,
        versions=versions(packages),
        samplers=samplers,
        outcomes=accuracy.judge_all(samplers, sink, seconds=seconds, say=say),
    )


def main() -> None:
    """Measure, and write the pages."""
    options = parse()
    parts = options.parts.split(",")
    folder: Path = options.output or ROOT / ("build/bench" if options.quick else "docs")
    folder.mkdir(parents=True, exist_ok=True)
    with upload_sink() as sink:
        if set(parts) & set(COST):
            write(folder / "overhead.md", report.page(measure(options, sink)))
        if ACCURACY in parts:
            write(folder / "accuracy.md", accuracy.page(judge(options, sink)))


def write(file: Path, page: str) -> None:
    """Write a page, and say so."""
    file.write_text(page)
    say(f"wrote {file}")


if __name__ == "__main__":
    main()
