"""What each level of gzip and zstd costs and saves on a real heap profile of 20,000 stacks.

`python -m tests.bench.compression`; docs/endpoints.md has its table.
"""

from __future__ import annotations

import gzip
import importlib
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import zstandard

from pyprof_agent import Agent, Config
from pyprof_agent.formats import pprof
from pyprof_agent.profile import Profile

STACKS = 20_000
ROUNDS = 7

IMPORTED = (
    "django.contrib.admin.sites",
    "fastapi",
    "flask",
    "sqlite3",
    "hypothesis",
    "uvicorn.main",
)
"""Programs are mostly imports; each of these leaves thousands of stacks."""


def real_profile() -> Profile:
    """Memory in use after imports of well-known packages, every block sampled."""
    agent = Agent(Config(stacks=False, heap_engine="native", heap_sample_bytes=1))
    agent.start()
    try:
        for name in IMPORTED:
            importlib.import_module(name)
        profile = agent.capture("heap")
    finally:
        agent.stop()
    largest = sorted(profile.samples, key=lambda sample: sample.values, reverse=True)
    return replace(profile, samples=tuple(largest[:STACKS]))


def rows(data: bytes, rounds: int = ROUNDS) -> Iterator[tuple[str, int, float]]:
    """For each coding and level: its name, bytes, and the median of the seconds it took."""
    for level in range(1, 10):
        yield f"gzip {level}", *_measured(lambda: gzip.compress(data, level, mtime=0), rounds)  # noqa: B023
    for level in range(1, 10):
        compressor = zstandard.ZstdCompressor(level=level)
        yield f"zstd {level}", *_measured(lambda: compressor.compress(data), rounds)  # noqa: B023


def _measured(compress: Callable[[], bytes], rounds: int) -> tuple[int, float]:
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        size = len(compress())
        times.append(time.perf_counter() - start)
    return size, statistics.median(times)


def main() -> None:
    """Print the table."""
    profile = real_profile()
    data = pprof.encode_raw(profile)
    print(f"{len(profile.samples)} stacks, {len(data)} bytes of protobuf\n")
    print("| level | bytes | of the protobuf | milliseconds |\n|---|---|---|---|")
    for name, size, seconds in rows(data):
        print(f"| {name} | {size:,} | {size / len(data):.1%} | {seconds * 1000:.1f} |")


if __name__ == "__main__":
    main()
