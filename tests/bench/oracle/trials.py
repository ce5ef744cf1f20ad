"""One program below one profiler, in a process of its own: what both of them say."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tests.bench.oracle.judge import Row, Verdict, judge
from tests.bench.oracle.ledger import Spent
from tests.bench.oracle.programs import Program
from tests.bench.oracle.samplers import Reading, Sampler
from tests.bench.processes import ChildError, command, environ, reason

_START_SECONDS = 30.0
_END_SECONDS = 30.0


@dataclass(frozen=True)
class Trial:
    """A run of a program below a profiler.

    spent: the truth
    seconds: length of the window
    process_cpu: CPU seconds of the process in it
    outside_cpu: CPU seconds of the profiler's own process, from its start to its end
    python: the version that ran the program
    readings: what the profiler saw
    """

    spent: Spent
    seconds: float
    process_cpu: float
    outside_cpu: float
    python: str
    readings: tuple[Reading, ...]

    @property
    def cost(self) -> float:
        """CPU seconds that no thread of the program burned, as a share of one core."""
        others = self.process_cpu - sum(self.spent.cpu.values())
        return (others + self.outside_cpu) / self.seconds

    def truth(self, kind: str) -> Mapping[str, float]:
        """Seconds by branch, of CPU or wall time."""
        return self.spent.cpu if kind == "cpu" else self.spent.wall

    def verdict(self, program: Program, reading: Reading) -> Verdict:
        """How far a reading is from the truth."""
        return judge(program, self.truth(reading.kind), reading.rows)

    def whole(self, kind: str) -> float:
        """What the sum of a profile should be: of the process, or of the program's threads."""
        return self.process_cpu if kind == "cpu" else sum(self.spent.wall.values())


def run(
    sampler: Sampler, program: Program, seconds: float, sink: int, *, python: str = sys.executable
) -> Trial:
    """Run a program for so long below a profiler.

    sink: port of somebody who takes uploads
    python: the interpreter that runs the program

    Raises ChildError.
    """
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        errors = Path(folder) / "errors.txt"
        with (
            errors.open("w") as file,
            _child(sampler, program, seconds, sink, folder, python, file) as child,
        ):
            assert child.stdin is not None
            _line(child, errors, _START_SECONDS)  # it is ready
            outside = _outside(sampler, python, child.pid, seconds, folder)
            child.stdin.write("go\n")
            child.stdin.flush()
            measured = json.loads(_line(child, errors, seconds + _END_SECONDS))
            seen, outside_cpu = outside.read() if outside else ((), 0.0)
    own = [_reading(found) for found in measured["readings"]]
    return Trial(
        spent=Spent(**measured["spent"]),
        seconds=measured["seconds"],
        process_cpu=measured["process_cpu"],
        outside_cpu=outside_cpu,
        python=measured["python"],
        readings=(*own, *seen),
    )


def _reading(found: dict[str, object]) -> Reading:
    rows = found.pop("rows")
    assert isinstance(rows, list)
    return Reading(
        rows=[Row(**{**one, "chain": tuple(one["chain"])}) for one in rows],
        **found,  # type: ignore[arg-type]
    )


@contextlib.contextmanager
def _child(
    sampler: Sampler,
    program: Program,
    seconds: float,
    sink: int,
    folder: str,
    python: str,
    errors: IO[str],
) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        command("judge", sampler.name, program.name, seconds, python=python),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
        env=environ(sampler.environ, folder, sink),
        cwd=folder,
    )
    with process:  # closes its input, at which it ends
        try:
            yield process
        except BaseException:
            process.kill()
            raise


def _line(child: subprocess.Popen[str], errors: Path, seconds: float) -> str:
    """The next line that a process prints."""
    assert child.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ)
        if not selector.select(seconds):
            raise ChildError(f"said nothing for {seconds:.0f} s")
    line = child.stdout.readline()
    if not line:
        raise ChildError(reason(child.wait(_END_SECONDS), errors.read_text()))
    return line


class _Outside:
    """A profiler that is a process of its own."""

    def __init__(self, sampler: Sampler, words: list[str], file: Path) -> None:
        self._sampler = sampler
        self._file = file
        self._said = file.with_suffix(".said")
        with self._said.open("w") as said:
            self._process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=said, stderr=said
            )

    def wait_until_it_samples(self) -> None:
        """Raises ChildError if it ends before."""
        deadline = time.monotonic() + _START_SECONDS
        while self._sampler.started not in self._said.read_text():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self._process.kill()
                raise ChildError(reason(self._process.wait(), self._said.read_text()))
            time.sleep(0.01)

    def read(self) -> tuple[tuple[Reading, ...], float]:
        """Wait for its end; what it saw, and its CPU seconds."""
        _, status, usage = os.wait4(self._process.pid, 0)
        self._process.returncode = os.waitstatus_to_exitcode(status)
        if not self._file.exists():
            said = self._said.read_text()
            raise ChildError(reason(self._process.returncode, said) if said else "wrote nothing")
        rows = [*self._sampler.read(self._file.read_text())]
        return (Reading("cpu", rows),), usage.ru_utime + usage.ru_stime


def _outside(
    sampler: Sampler, python: str, process: int, seconds: float, folder: str
) -> _Outside | None:
    if sampler.command is None:
        return None
    file = Path(folder) / "profile.txt"
    outside = _Outside(sampler, sampler.command(python, process, seconds, file), file)
    outside.wait_until_it_samples()
    return outside
