"""Instructions of the work itself, counted by valgrind's callgrind: no noise of other programs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from tests.bench.batch import SHARE, Say
from tests.bench.numbers import Spread
from tests.bench.processes import ChildError, run
from tests.bench.profilers import OFF
from tests.bench.workloads import Workload

_COLLECTED = re.compile(r"^==\d+== Collected\s*:\s*([\d,]+)", re.MULTILINE)
_TIMEOUT = 100.0


@dataclass
class Count:
    """The counts of one workload with one profiler.

    per_round: instructions of one round of the workload, once for each repetition
    """

    workload: Workload
    profiler: str
    per_round: list[float] = field(default_factory=list)
    base: list[float] = field(default_factory=list)
    failure: str = ""

    def ratio(self) -> Spread:
        """How many times as many instructions as without a profiler."""
        without = Spread.of(self.base).median
        return Spread.of([count / without for count in self.per_round])


def collected(stderr: str) -> int:
    """The instructions that callgrind reports at the end of a process.

    Raises ChildError if it does not.
    """
    found = _COLLECTED.findall(stderr)
    if not found:
        raise ChildError("callgrind reported no instructions")
    return int(found[-1].replace(",", ""))


def per_round(once: int, twice: int, rounds: int) -> float:
    """Instructions of one round, from a run of `rounds` and one of twice as many.

    Start, imports and end are in both, and so in neither.
    """
    return (twice - once) / rounds


def callgrind() -> list[str] | None:
    """The command that counts; None without valgrind."""
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        return None
    words = [valgrind, "--tool=callgrind", "--callgrind-out-file=/dev/null"]
    setarch = shutil.which("setarch")
    if setarch and subprocess.run([setarch, "-R", "true"], check=False).returncode == 0:
        words = [setarch, "-R", *words]  # the same addresses in every run
    return words


def count(
    workloads: Sequence[Workload],
    profilers: Sequence[str],
    sink: int,
    *,
    failures: Mapping[str, str],
    engines: Mapping[str, str],
    scale: float,
    repetitions: int,
    deadline: float,
    prefix: Sequence[str],
    say: Say,
) -> list[Count]:
    """Count the instructions of each workload with each profiler.

    profilers: without `off`
    failures: why some of them cannot be measured
    engines: in use, by profiler; one that notes every block gets less work
    scale: by how much smaller than their full size the workloads are
    deadline: on the monotonic clock; after it there is no other repetition
    prefix: from `callgrind`
    """
    runs = [name for name in (OFF, *profilers) if name not in failures]
    jobs = [(workload, name) for workload in workloads for name in runs]

    def job(what: tuple[Workload, str]) -> float | ChildError:
        workload, name = what
        less = SHARE if "tracemalloc" in engines.get(name, name) else 1
        rounds = max(1, round(workload.counted * scale / less))
        say(f"{workload.title}: instructions, {name}")
        try:
            once, twice = (
                collected(run(name, workload.name, size, sink, prefix=prefix, timeout=_TIMEOUT)[1])
                for size in (rounds, 2 * rounds)
            )
        except ChildError as error:
            return error
        return per_round(once, twice, rounds)

    counts = {
        (workload, name): Count(workload, name, failure=failures.get(name, ""))
        for workload in workloads
        for name in (OFF, *profilers)
    }
    # What runs beside it changes no count.
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        for number in range(repetitions):
            if number and time.monotonic() > deadline:
                say(f"no time is left after {number} repetitions")
                break
            for key, result in zip(jobs, pool.map(job, jobs), strict=True):
                if isinstance(result, ChildError):
                    counts[key].failure = str(result)
                else:
                    counts[key].per_round.append(result)
    for (workload, _), row in counts.items():
        row.base = counts[workload, OFF].per_round
        row.failure = row.failure or counts[workload, OFF].failure
    return [row for row in counts.values() if row.profiler != OFF]
