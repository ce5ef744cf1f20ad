"""The stack profilers that are judged: how each is switched on, and what its profile says."""

from __future__ import annotations

import gzip
import importlib
import io
import os
import re
import sys
import tempfile
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.bench.oracle.judge import Row, row
from tests.bench.oracle.programs import Program
from tests.bench.profilers import DDTRACE_ALONE, SINK

HZ = 100
"""Looks a second, of those that can be asked for a rate."""


@dataclass(frozen=True)
class Reading:
    """A profile, of one kind of time.

    kind: `cpu` or `wall`
    rows: its stacks
    stacks: whether these are whole stacks, and not just functions
    cost: CPU seconds that the profiler says it took; None if it does not say
    """

    kind: str
    rows: list[Row]
    stacks: bool = True
    cost: float | None = None


class Session:
    """A profiler inside the process that is judged. It is ready once it is made."""

    def __init__(self, program: Program) -> None:
        self.program = program

    def open(self) -> None:
        """The window begins."""

    def close(self) -> None:
        """The window ends."""

    def read(self) -> list[Reading]:
        """What was seen in the window."""
        return []


@dataclass(frozen=True)
class Sampler:
    """A profiler.

    setup: how it is switched on, for the reader
    package: whose it is, by its name on PyPI; empty for Python's own
    session: switches it on inside the process
    command: for one that is a program of its own: its command line, from the interpreter, the
        process to look at, seconds and the file to write
    started: what that writes to its standard error once it samples
    read: that file, as rows
    share: of the usual window; some need no long one
    """

    name: str
    title: str
    setup: str
    package: str = ""
    session: Callable[[Program], Session] = Session
    environ: tuple[tuple[str, str], ...] = ()
    command: Callable[[str, int, float, Path], list[str]] | None = None
    started: str = ""
    read: Callable[[str], Iterable[Row]] = lambda text: ()
    share: float = 1.0


class _Ours(Session):
    def __init__(self, program: Program, engine: str) -> None:
        super().__init__(program)
        import pyprof_agent

        self._agent = pyprof_agent.start(heap=False, stack_engine=engine, stack_hz=HZ)

    def open(self) -> None:
        self._cost = self._agent.stats()["stacks"]["cpu_seconds"]
        self._windows = {"cpu": self._agent.begin("profile"), "wall": self._agent.begin("wall")}

    def close(self) -> None:
        self._profiles = {kind: window.end() for kind, window in self._windows.items()}
        self._cost = self._agent.stats()["stacks"]["cpu_seconds"] - self._cost

    def read(self) -> list[Reading]:
        return [
            Reading(kind, pprof_rows(profile, "samples", kind, 1e-9), cost=self._cost)
            for kind, profile in self._profiles.items()
        ]


class _DDTrace(Session):
    def __init__(self, program: Program) -> None:
        super().__init__(program)
        self._ddup = _import("ddtrace.internal.datadog.profiling.ddup")
        self._folder = tempfile.mkdtemp(prefix="ddtrace-")  # in the folder of the run
        self._ddup.config(service="bench", output_filename=f"{self._folder}/profile")
        self._ddup.start()
        self._stack = _import("ddtrace.profiling.collector.stack").StackCollector()
        self._stack.start()

    def close(self) -> None:
        self._stack.stop()

    def read(self) -> list[Reading]:
        import zstandard

        from pyprof_agent.formats.pprof import decode

        self._ddup.upload()
        readings: dict[str, list[Row]] = {"cpu": [], "wall": []}
        for path in Path(self._folder).glob("*.pprof"):
            packed = io.BytesIO(path.read_bytes())
            stream = zstandard.ZstdDecompressor().stream_reader(packed, read_across_frames=True)
            profile = decode(stream.read())
            for kind, rows in readings.items():
                count = "cpu-samples" if kind == "cpu" else "wall-samples"
                rows += pprof_rows(profile, count, f"{kind}-time", 1e-9)
        return [Reading(kind, rows) for kind, rows in readings.items()]


class _Pyroscope(Session):
    def __init__(self, program: Program, implementation: str) -> None:
        super().__init__(program)
        self._pyroscope = _import("pyroscope")
        self._port = os.environ[SINK]
        started = self._pyroscope.configure(
            application_name="bench",
            server_address=f"http://127.0.0.1:{self._port}",
            sample_rate=HZ,
            upload_interval=3600,  # so that one upload, at the end, has it all
            cpu_implementation=getattr(self._pyroscope.ProfilerImplementation, implementation),
        )
        if not started:
            raise RuntimeError("pyroscope.configure() returned False")

    def close(self) -> None:
        self._pyroscope.shutdown()

    def read(self) -> list[Reading]:
        from pyprof_agent.formats.pprof import decode

        with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/", timeout=10) as answer:
            push = gzip.decompress(answer.read())
        # push.v1.PushRequest: series, samples, raw_profile
        profile = decode(field(push, 1, 2, 1))
        rows = pprof_rows(profile, "cpu", "cpu", 1e-9)
        return [
            Reading("cpu", [replace(one, samples=one.samples / profile.period) for one in rows])
        ]


class _CProfile(Session):
    def __init__(self, program: Program) -> None:
        super().__init__(program)
        import cProfile

        self._profile = cProfile.Profile()

    def open(self) -> None:
        self._profile.enable()

    def close(self) -> None:
        self._profile.disable()

    def read(self) -> list[Reading]:
        found: dict[str, float] = defaultdict(float)
        for entry in self._profile.getstats():
            if not isinstance(entry.code, str):
                found[entry.code.co_name] += entry.totaltime
        branches = self.program.branches
        rows = [Row((name,), name, 0, found[name]) for name in branches if found[name]]
        whole = found[self.program.name]
        if whole:
            rest = whole - sum(one.weight for one in rows)
            rows.append(Row((self.program.name,), self.program.name, 0, max(rest, 0)))
        return [Reading("wall", rows, stacks=False)]


def _import(name: str) -> Any:
    return importlib.import_module(name)


def pprof_rows(profile: Any, samples: str, weight: str, unit: float) -> list[Row]:
    """The rows of a pprof profile; `unit` is what one of the weight's column is worth."""
    count, column = profile.column(samples), profile.column(weight)
    return [
        row(
            [(frame.function, frame.filename) for frame in reversed(sample.stack)],
            sample.values[count],
            sample.values[column] * unit,
        )
        for sample in profile.samples
        if sample.values[count] or sample.values[column]
    ]


def field(message: bytes, *path: int) -> bytes:
    """The first field of that number in a protobuf message, and of the next number in that.

    All of them are messages or bytes. Raises ValueError if there is no such field.
    """
    for number in path:
        message = next((value for key, value in _fields(message) if key == number), b"")
        if not message:
            raise ValueError(f"no field {number} of {path} in an upload")
    return message


def _fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        length, at = _varint(message, at)
        if tag & 7 == 2:  # it has a length; the only other kind here is a number
            yield tag >> 3, message[at : at + length]
            at += length


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (message[at] & 0x7F) << shift
        shift += 7
        at += 1
        if message[at - 1] < 0x80:
            return value, at


_SPY_FRAME = re.compile(r"(.+) \((.+?)(?::\d+)?\)")


def spy_rows(text: str) -> Iterator[Row]:
    """What `py-spy record --format raw --full-filenames` writes: `f (file:1);g (file:2) 12`."""
    for line in text.splitlines():
        stack, _, count = line.rpartition(" ")
        frames = []
        for frame in stack.split(";"):
            found = _SPY_FRAME.fullmatch(frame)
            frames.append((found[1], found[2]) if found else (frame, ""))
        yield row(frames, int(count), int(count) / HZ)


def collapsed_rows(text: str) -> Iterator[Row]:
    """What `profiling.sampling --collapsed` writes: `tid:7;file:f:1;file:g:2 12`."""
    for line in text.splitlines():
        stack, _, count = line.rpartition(" ")
        frames = []
        for frame in stack.split(";"):
            file, _, function = frame.rpartition(":")[0].rpartition(":")
            frames.append((function, file))
        yield row(frames, int(count), int(count) / HZ)


def _py_spy(python: str, process: int, seconds: float, file: Path) -> list[str]:
    program = str(Path(sys.prefix) / "bin" / "py-spy")
    options = ["--format", "raw", "--full-filenames", "--rate", str(HZ)]
    length = ["--duration", str(max(1, round(seconds)))]
    return [program, "record", *options, *length, "--output", str(file), "--pid", str(process)]


def _sampling(python: str, process: int, seconds: float, file: Path) -> list[str]:
    program = [python, "-m", "profiling.sampling", "attach"]
    options = ["--all-threads", "--mode", "cpu", "-r", str(HZ), "-d", str(round(seconds))]
    return [*program, *options, "--collapsed", "-o", str(file), str(process)]


OFF = "off"
SAMPLING = "profiling.sampling"

SAMPLERS = {
    sampler.name: sampler
    for sampler in (
        Sampler(OFF, "off", "nothing", share=0.25),
        Sampler(
            "native",
            "pyprof-agent, native",
            f'`start(heap=False, stack_engine="native", stack_hz={HZ})`',
            "pyprof-agent",
            session=lambda program: _Ours(program, "native"),
        ),
        Sampler(
            "python",
            "pyprof-agent, python",
            f'`start(heap=False, stack_engine="python", stack_hz={HZ})`; it looks less often'
            " where that would cost more than 1 % of a core",
            "pyprof-agent",
            session=lambda program: _Ours(program, "python"),
        ),
        Sampler(
            "py-spy",
            "py-spy",
            f"`record --rate {HZ}` from outside; it stops the program at each look",
            "py-spy",
            command=_py_spy,
            started="Sampling process",
            read=spy_rows,
        ),
        Sampler(
            "pyroscope",
            "pyroscope-io",
            f"`configure(sample_rate={HZ})`: py-spy inside the process, threads on a CPU that"
            " hold the GIL",
            "pyroscope-io",
            session=lambda program: _Pyroscope(program, "PySpy"),
        ),
        Sampler(
            "pyroscope-stack",
            "pyroscope-io, Stack",
            "`configure(cpu_implementation=ProfilerImplementation.Stack)`, its experimental one",
            "pyroscope-io",
            session=lambda program: _Pyroscope(program, "Stack"),
        ),
        Sampler(
            "ddtrace",
            "ddtrace",
            "its stack collector alone, `StackCollector()`, which chooses its rate itself",
            "ddtrace",
            session=_DDTrace,
            environ=DDTRACE_ALONE,
        ),
        Sampler(
            "cProfile",
            "cProfile",
            "`Profile().enable()`: every call, of the thread that enables it",
            session=_CProfile,
            share=0.25,
        ),
        Sampler(
            SAMPLING,
            "profiling.sampling",
            f"Python 3.15's own: `attach --all-threads --mode cpu -r {HZ}` from outside",
            command=_sampling,
            started="",
            read=collapsed_rows,
        ),
    )
}

USUAL = tuple(name for name in SAMPLERS if name not in (OFF, "pyroscope-stack"))
"""Those that are judged if none are named."""
