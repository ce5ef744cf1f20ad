"""What runs in a process that is measured: a workload or a service, below a profiler."""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path

from tests.bench.oracle.child import main as judged
from tests.bench.profilers import PROFILERS
from tests.bench.workloads import WORKLOADS, leave_behind


def work(profiler: str, workload: str, rounds: int, show: bool) -> None:
    """Run a workload; print what that took, the engine and, if it shall show it, the evidence."""
    run = WORKLOADS[workload].run
    started = PROFILERS[profiler].begin()
    wall, cpu = time.perf_counter(), time.process_time()
    run(rounds)
    seen: dict[str, object] = {
        "work": time.perf_counter() - wall,
        "cpu": time.process_time() - cpu,
        "peak": peak_memory(),
        "engine": started.engine,
        "evidence": "",
    }
    if show:
        kept = leave_behind()
        seen["evidence"] = started.evidence()
        del kept
    json.dump(seen, sys.stdout)


def peak_memory() -> float:
    """The most memory that this process has had in RAM, in MiB; 0 where Linux does not tell."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return 0
    found = re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
    return int(found[1]) / 1024 if found else 0


def serve(profiler: str, port: int) -> None:
    """Serve the application of the benchmark until SIGTERM."""
    PROFILERS[profiler].begin()  # first, as a service would

    import uvicorn

    from tests.bench.service import make_app

    uvicorn.run(
        make_app(), port=port, loop="asyncio", http="h11", log_level="warning", access_log=False
    )


def main(arguments: list[str]) -> None:
    """`work PROFILER WORKLOAD ROUNDS SHOW`, `serve PROFILER PORT`, `judge SAMPLER PROGRAM S`."""
    match arguments:
        case ["work", profiler, workload, rounds, show]:
            work(profiler, workload, int(rounds), show == "show")
        case ["serve", profiler, port]:
            serve(profiler, int(port))
        case ["judge", sampler, program, seconds]:
            judged(sampler, program, float(seconds))
        case _:
            raise SystemExit(f"unknown arguments: {arguments}")
