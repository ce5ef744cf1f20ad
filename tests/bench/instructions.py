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

# For long blocks memcpy has one instruction, `rep movsb`, which processors carry out by 32 bytes
# and more at a time, and valgrind counts once for each byte. Whether a growing list has room to
# stay where it is or must be copied is luck of the heap's layout; counted like that it was up to
# 3 % of a workload, now up, now down. With these glibc copies long blocks as it does short ones.
_NO_REP = "GLIBC_TUNABLES=" + ":".join(
    f"glibc.cpu.x86_rep_{name}_threshold={2**40}" for name in ("movsb", "stosb")
)


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
    words = ["env", _NO_REP, valgrind, "--tool=callgrind", "--callgrind-out-file=/dev/null"]
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
    engines: in use, by profiler; one that notes every block gets less work, and
        is compared with as little
    scale: by how much smaller than their full size the workloads are
    deadline: on the monotonic clock; after it there is no other repetition
    prefix: from `callgrind`
    """
    shares = {name: SHARE if "tracemalloc" in engines.get(name, name) else 1 for name in profilers}
    runs = [(name, shares[name]) for name in profilers if name not in failures]
    runs = [*((OFF, share) for share in sorted({share for _, share in runs})), *runs]
    jobs = [(workload, name, share) for workload in workloads for name, share in runs]
    results: dict[tuple[Workload, str, int], list[float | ChildError]] = {job: [] for job in jobs}

    def measure(job: tuple[Workload, str, int]) -> float | ChildError:
        workload, name, share = job
        rounds = max(1, round(workload.counted * scale / share))
        say(f"{workload.title}: instructions, {name}")
        try:
            once, twice = (
                collected(run(name, workload.name, size, sink, prefix=prefix, timeout=_TIMEOUT)[1])
                for size in (rounds, 2 * rounds)
            )
        except ChildError as error:
            return error
        return per_round(once, twice, rounds)

    # What runs beside it changes no count.
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        for number in range(repetitions):
            if number and time.monotonic() > deadline:
                say(f"no time is left after {number} repetitions")
                break
            for job, result in zip(jobs, pool.map(measure, jobs), strict=True):
                results[job].append(result)

    counts = []
    for workload in workloads:
        for name in profilers:
            row = Count(workload, name, failure=failures.get(name, ""))
            for where, key in ((row.per_round, name), (row.base, OFF)):
                for result in results.get((workload, key, shares[name]), ()):
                    if isinstance(result, ChildError):
                        row.failure = str(result)
                    else:
                        where.append(result)
            counts.append(row)
    return counts
