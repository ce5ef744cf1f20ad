"""A real service under load: every profiler in turn, round after round."""

from __future__ import annotations

import contextlib
import http.client
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.batch import Say
from tests.bench.load import LoadError, put_load
from tests.bench.numbers import Spread, ratios
from tests.bench.processes import ChildError, command, environ, reason
from tests.bench.profilers import OFF, PROFILERS
from tests.bench.service import request_body
from tests.support import free_port

_START_SECONDS = 30.0


@dataclass(frozen=True)
class Seen:
    """One load on one server.

    rate: requests per second
    p99: milliseconds
    cpu: milliseconds of CPU time that the server's process took for a request
    """

    rate: float
    p99: float
    cpu: float


@dataclass
class ServiceRow:
    """The loads on a service with one profiler, and those without in the same rounds."""

    profiler: str
    seen: list[Seen] = field(default_factory=list)
    base: list[Seen] = field(default_factory=list)
    failure: str = ""

    def ratio(self, of: Callable[[Seen], float]) -> Spread:
        """How many times as much as without a profiler."""
        return Spread.of(ratios([of(seen) for seen in self.seen], [of(seen) for seen in self.base]))


def compare_service(
    profilers: Sequence[str],
    sink: int,
    *,
    failures: Mapping[str, str],
    rounds: int,
    seconds: float,
    deadline: float,
    say: Say,
) -> list[ServiceRow]:
    """Put the same load on a server with each profiler, in turn.

    profilers: without `off`
    failures: why some of them cannot be measured
    seconds: of each load; there is a warm-up of half as long
    deadline: on the monotonic clock; after it there are no more rounds than three
    """
    rows = [ServiceRow(name, failure=failures.get(name, "")) for name in (OFF, *profilers)]
    for number in range(rounds):
        if number >= min(3, rounds) and time.monotonic() > deadline:
            say(f"no time is left after {number} rounds")
            break
        say(f"Service: round {number + 1} of {rounds}")
        base: Seen | None = None
        for row in rows:
            if row.failure or (row.profiler != OFF and base is None):
                continue
            try:
                seen = _measure(row.profiler, sink, seconds)
            except (ChildError, LoadError) as error:
                row.failure = str(error)
                continue
            base = seen if row.profiler == OFF else base
            row.seen.append(seen)
            row.base.append(seen if base is None else base)
    return rows


def _measure(profiler: str, sink: int, seconds: float) -> Seen:
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        _server(profiler, sink, folder) as (process, port),
    ):
        body = request_body()
        put_load(port, "/orders", body, seconds / 2, folder)
        before = cpu_seconds(process.pid)
        load = put_load(port, "/orders", body, seconds, folder)
        spent = cpu_seconds(process.pid) - before
        return Seen(load.rate, load.p99, 1e3 * spent / load.requests)


@contextlib.contextmanager
def _server(profiler: str, sink: int, folder: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    port = free_port()
    errors = Path(folder) / "errors.txt"
    with errors.open("w") as file:
        process = subprocess.Popen(
            command("serve", profiler, port),
            stdout=subprocess.DEVNULL,
            stderr=file,
            text=True,
            env=environ(PROFILERS[profiler].environ, folder, sink),
            cwd=folder,
        )
    try:
        _wait_until_ready(process, port, errors)
        yield process, port
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_ready(process: subprocess.Popen[str], port: int, errors: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise ChildError(reason(process.returncode, errors.read_text()))
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/ready")
            if connection.getresponse().status == 200:
                return
        except OSError:
            time.sleep(0.05)
        finally:
            connection.close()
    raise ChildError(f"did not answer within {_START_SECONDS:.0f} s")


def cpu_seconds(process: int) -> float:
    """CPU time of all threads of a process so far."""
    text = Path(f"/proc/{process}/stat").read_text()
    fields = text.rpartition(")")[2].split()  # from the third on; the name may have spaces
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
