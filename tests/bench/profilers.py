"""The profilers that are compared: how each is switched on, and how it shows that it samples."""

from __future__ import annotations

import atexit
import importlib
import io
import os
import tempfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SAMPLE_BYTES = 512 * 1024
"""Mean number of bytes between two samples, where a profiler samples."""

MARK = "leave_behind"
"""The function whose allocations a profile has to show before its cost is worth a look."""

SINK = "BENCH_SINK"
"""Environment variable: the port on which somebody takes uploads."""


@dataclass(frozen=True)
class Started:
    """A profiler that runs.

    engine: what does the work, where there is a choice
    evidence: tells what it has sampled so far; may end the profiler
    """

    evidence: Callable[[], str]
    engine: str = ""


@dataclass(frozen=True)
class Profiler:
    """A way to run a program.

    setup: how it is switched on, for the reader
    package: whose it is, by its name on PyPI; empty for Python's own
    begin: switches it on in this process
    environ: variables it wants
    """

    name: str
    title: str
    setup: str
    begin: Callable[[], Started]
    package: str = ""
    environ: tuple[tuple[str, str], ...] = ()


def _off() -> Started:
    return Started(lambda: "")


def _ours(*, stacks: bool) -> Started:
    import pyprof_agent

    agent = pyprof_agent.start(stacks=stacks, heap_engine="auto", heap_sample_bytes=SAMPLE_BYTES)

    def evidence() -> str:
        heap = agent.capture("heap")
        _check(any(MARK in frame.function for row in heap.samples for frame in row.stack))
        text = f"{len(heap.samples)} stacks in `heap`"
        if stacks:
            text += f", {len(agent.capture('wall').samples)} in `wall`"
        return text

    engines = [f"{room} {engine}" for room, engine in agent.engines.items() if engine != "off"]
    return Started(evidence, ", ".join(engines))


def _tracemalloc(frames: int) -> Started:
    import tracemalloc

    tracemalloc.start(frames)

    def evidence() -> str:
        snapshot = tracemalloc.take_snapshot()
        return f"{len(snapshot.traces)} blocks"

    return Started(evidence)


def _mprofile() -> Started:
    mprofile = _import("mprofile")
    mprofile.start(sample_rate=SAMPLE_BYTES)

    def evidence() -> str:
        samples = len(mprofile.take_snapshot().traces)
        _check(samples > 0)
        return f"{samples} samples"

    return Started(evidence)


def _ddtrace() -> Started:
    ddup = _import("ddtrace.internal.datadog.profiling.ddup")
    memalloc = _import("ddtrace.profiling.collector.memalloc")
    folder = tempfile.mkdtemp(prefix="ddtrace-")  # in the folder of the run, which is removed
    # Without an exporter to hold them, samples would be dropped, and cost less than in real use.
    ddup.config(service="bench", output_filename=f"{folder}/profile")
    ddup.start()
    collector = memalloc.MemoryCollector(heap_sample_size=SAMPLE_BYTES)
    collector.start()

    def evidence() -> str:
        import zstandard

        collector.snapshot()
        ddup.upload()
        packed = b"".join(path.read_bytes() for path in Path(folder).glob("*.pprof"))
        reader = zstandard.ZstdDecompressor().stream_reader(
            io.BytesIO(packed), read_across_frames=True
        )
        return _profile_of(reader.read())

    return Started(evidence)


def _pyroscope() -> Started:
    pyroscope = _import("pyroscope")
    port = os.environ[SINK]
    started = pyroscope.configure(
        application_name="bench",
        server_address=f"http://127.0.0.1:{port}",
        cpu_enabled=False,
        mem_enabled=True,
        mem_heap_sample_size=SAMPLE_BYTES,
    )
    if not started:
        raise RuntimeError("pyroscope.configure() returned False")

    def evidence() -> str:
        import urllib.request

        pyroscope.shutdown()  # uploads what there is
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/last", timeout=10) as response:
            return _profile_of(unzipped(response.read()))

    return Started(evidence)


def _memray() -> Started:
    memray = _import("memray")
    path = Path(tempfile.mkdtemp(prefix="memray-")) / "allocations.bin"
    tracker = memray.Tracker(path)
    tracker.__enter__()
    atexit.register(tracker.__exit__, None, None, None)  # as at the end of `memray run`

    def evidence() -> str:
        tracker.__exit__(None, None, None)
        atexit.unregister(tracker.__exit__)
        with memray.FileReader(path) as reader:
            seen = reader.metadata.total_allocations
        _check(seen > 0)
        return f"{seen} allocations"

    return Started(evidence)


def _import(name: str) -> Any:
    return importlib.import_module(name)


def unzipped(data: bytes) -> bytes:
    """Data with the gzip member in it unpacked, however deep; what follows one is left out."""
    start = data.find(b"\x1f\x8b\x08")
    if start < 0:
        return data
    try:
        inner = zlib.decompressobj(wbits=31).decompress(data[start:])
    except zlib.error:  # it only looked like one
        return data[: start + 1] + unzipped(data[start + 1 :])
    return data[:start] + unzipped(inner)


def _profile_of(data: bytes) -> str:
    _check(MARK.encode() in data)
    return f"a pprof file of {len(data)} bytes"


def _check(shows_it: bool) -> None:
    if not shows_it:
        raise RuntimeError("its profile does not show an allocation that is there")


OFF = "off"
OURS = "ours"
OURS_ALL = "ours-all"

DDTRACE_ALONE = tuple(
    (name, "0")
    for name in (
        "DD_TRACE_ENABLED",
        "DD_INSTRUMENTATION_TELEMETRY_ENABLED",
        "DD_REMOTE_CONFIGURATION_ENABLED",
        "DD_CRASHTRACKING_ENABLED",
    )
)

PROFILERS = {
    profiler.name: profiler
    for profiler in (
        Profiler(OFF, "off", "nothing", _off),
        Profiler(
            OURS,
            "pyprof-agent, heap",
            "`start(stacks=False, heap_sample_bytes=524288)`.",
            lambda: _ours(stacks=False),
            "pyprof-agent",
        ),
        Profiler(
            OURS_ALL,
            "pyprof-agent, heap and stacks",
            "`start(heap_sample_bytes=524288)`.",
            lambda: _ours(stacks=True),
            "pyprof-agent",
        ),
        Profiler("tracemalloc-1", "tracemalloc, 1 frame", "`start(1)`", lambda: _tracemalloc(1)),
        Profiler(
            "tracemalloc-25", "tracemalloc, 25 frames", "`start(25)`", lambda: _tracemalloc(25)
        ),
        Profiler(
            "mprofile",
            "mprofile",
            "`start(sample_rate=524288)`: a sample each 512 KiB on average, up to 128 frames",
            _mprofile,
            "mprofile",
        ),
        Profiler(
            "ddtrace",
            "ddtrace, memory",
            "its memory collector alone, `MemoryCollector(heap_sample_size=524288)`, up to 64"
            " frames; tracing, telemetry and the other collectors are off, nothing is uploaded",
            _ddtrace,
            "ddtrace",
            DDTRACE_ALONE,
        ),
        Profiler(
            "pyroscope",
            "pyroscope-io, memory",
            "`configure(mem_enabled=True, cpu_enabled=False, mem_heap_sample_size=524288)`, up to"
            " 128 frames; uploads every 10 s to a server that throws them away",
            _pyroscope,
            "pyroscope-io",
        ),
        Profiler(
            "memray",
            "memray",
            "`Tracker(file)`: every call of malloc and mmap, not those of Python's own"
            " allocator, with Python stacks, no native ones",
            _memray,
            "memray",
        ),
    )
}

BATCH = tuple(name for name in PROFILERS if name != OURS_ALL)
SERVICE = tuple(name for name in PROFILERS if name != "tracemalloc-25")
COUNTED = (OURS, "mprofile", "ddtrace", "pyroscope")
