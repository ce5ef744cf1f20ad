"""Runs the processes that are measured, and explains those that fail."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench.profilers import PROFILERS, SINK

ROOT = Path(__file__).resolve().parents[2]

# The checkout comes last: the package that is measured is the installed one.
_BOOT = (
    "import sys; sys.path.append(sys.argv[1]); "
    "from tests.bench.child import main; main(sys.argv[2:])"
)


class ChildError(Exception):
    """A process that is measured failed; the text is the reason, for a table."""


@dataclass(frozen=True)
class Run:
    """One process, from its start to its end.

    wall: seconds of the whole process
    work: seconds of the workload in it, without start, imports and end
    cpu: seconds of CPU time of all its threads, meanwhile
    peak: MiB that the process had in RAM at most
    """

    wall: float
    work: float
    cpu: float
    peak: float
    engine: str = ""
    evidence: str = ""


def command(*arguments: object, python: str = sys.executable) -> list[str]:
    """The command of a process that is measured."""
    return [python, "-P", "-c", _BOOT, str(ROOT), *map(str, arguments)]


def environ(variables: Iterable[tuple[str, str]], folder: str, sink: int) -> dict[str, str]:
    """The environment of a process that is measured: only `variables` configure a profiler."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "PYPROF_AGENT_", "DD_", "PYROSCOPE_", "MEMRAY_"))
    }
    own = {SINK: str(sink), "TMPDIR": folder, "PYTHONHASHSEED": "0"}
    return {**kept, **own, **dict(variables)}


def run(
    profiler: str,
    workload: str,
    rounds: int,
    sink: int,
    *,
    show: bool = False,
    prefix: Sequence[str] = (),
    timeout: float = 120,
) -> tuple[Run, str]:
    """Run a workload in a process of its own; also what that wrote to its standard error.

    prefix: a command that runs the process, such as valgrind

    Raises ChildError.
    """
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        words = command("work", profiler, workload, rounds, "show" if show else "")
        began = time.perf_counter()
        try:
            result = subprocess.run(
                [*prefix, *words],
                capture_output=True,
                text=True,
                timeout=timeout,
                env=environ(PROFILERS[profiler].environ, folder, sink),
                cwd=folder,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise ChildError(f"took longer than {timeout:.0f} s") from None
        wall = time.perf_counter() - began
    if result.returncode != 0:
        raise ChildError(reason(result.returncode, result.stderr))
    try:
        seen = json.loads(result.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        raise ChildError(f"printed no result: {shortened(result.stdout)}") from None
    return Run(wall, **seen), result.stderr


def reason(code: int, stderr: str) -> str:
    """Why a process failed, in one line without paths."""
    if code < 0:
        return f"ended by signal {-code}"
    lines = [line for line in stderr.splitlines() if line.strip()]
    missing = re.search(r"No module named '([\w.]+)'", stderr)
    if missing:
        return f"not installed: no module {missing[1]}"
    return shortened(lines[-1]) if lines else f"ended with status {code}"


def shortened(text: str) -> str:
    """Text of others as a table can take it: one short line, without paths and URLs."""
    text = re.sub(r"\w+://\S+|(?<![\w.])/[\w.@+-]+(/[\w.@+-]*)+", "...", " ".join(text.split()))
    text = text.replace("|", "/")
    return text if len(text) <= 140 else text[:137] + "..."


class _Sink(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    last = b""

    def do_POST(self) -> None:
        type(self).last = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._answer(b"")

    def do_GET(self) -> None:
        self._answer(type(self).last)

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def upload_sink() -> Iterator[int]:
    """The port of a server that takes every upload and remembers the last."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Sink) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def version_of(package: str) -> str | None:
    """The installed version of a package; None if it is not there."""
    import importlib.metadata

    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def versions(names: Sequence[str]) -> Mapping[str, str | None]:
    """The installed version of each package."""
    return {name: version_of(name) for name in names}
