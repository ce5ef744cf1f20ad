"""Helpers of the tests: literal profiles, child processes, a server in a process of its own."""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
import os
import random
import shutil
import socket
import subprocess
import sys
import textwrap
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec, TypeVar

import pytest

from pyprof_agent.profile import Frame, Profile, Sample, ValueType
from pyprof_agent.sources import heap_native

P = ParamSpec("P")
T = TypeVar("T")
U = TypeVar("U")
V = TypeVar("V")


def repeated(test: Callable[P, None]) -> Callable[P, None]:
    """For a test of real time that begins with an engine of its own.

    What an engine that samples sees is chance, and less of it on a busy machine: the test fails
    only if it does four times in a row.
    """

    @functools.wraps(test)
    def attempts(*args: P.args, **kwargs: P.kwargs) -> None:
        for _ in range(3):
            with contextlib.suppress(AssertionError):
                return test(*args, **kwargs)
        return test(*args, **kwargs)

    return attempts


@dataclass(frozen=True)
class Burned:
    """Bounds on the CPU seconds that the process used between two snapshots.

    least: excluding the time to take the snapshots
    most: including it
    """

    least: float
    most: float

    def admits(self, seconds: float, *, rel: float) -> bool:
        """Return True if `seconds` is in the interval, widened by `rel` at both ends."""
        return self.least * (1 - rel) <= seconds <= self.most * (1 + rel)


def burned_between(
    begin: Callable[[], T], work: Callable[[], U], end: Callable[[T], V]
) -> tuple[U, V, Burned]:
    """Call the three in turn; return the results of `work` and `end`, and the CPU time used."""
    outer = time.process_time()
    begun = begin()
    inner = time.process_time()
    done = work()
    least = time.process_time() - inner
    ended = end(begun)
    return done, ended, Burned(least, time.process_time() - outer)


def heap_error(sizes: Sequence[int], sample_bytes: int, runs: int = 1) -> float:
    """By how many bytes the estimate of the sum of `sizes` may be wrong, or the mean of several.

    A right sampler exceeds it at most once in 100 million. A block of `size` bytes is sampled with
    probability p and then counts size / p: its variance is size^2 (1 - p) / p. The bound is
    Bernstein's, as the normal distribution promises too much for few samples: with 29 of them 4.5
    standard errors are exceeded once in 36,000 and not once in 150,000.

    sizes: of the blocks, in bytes
    sample_bytes: mean distance between two samples
    runs: number of independent estimates whose mean is taken
    """
    variance = largest = 0.0
    for size in sizes:
        missed = math.exp(-size / sample_bytes)
        if missed > 1e-10:
            variance += size * size * missed / (1 - missed)
            largest = max(largest, size / (1 - missed))
    rarity = math.log(2 * 10**8)
    steps = largest * rarity / (3 * runs)
    return steps + math.sqrt(steps * steps + 2 * rarity * variance / runs)


def first(event: threading.Event) -> None:
    """Where a thread of `two_waits` is at first."""
    event.wait()


def second(event: threading.Event) -> None:
    """Where it is then."""
    event.wait()


def two_waits(
    go: threading.Event, over: threading.Event, between: Callable[[], object] = lambda: None
) -> threading.Thread:
    """A thread, to be started, that goes from one wait to another; they end with the events."""

    def work() -> None:
        first(go)
        between()
        second(over)

    return threading.Thread(target=work)


HEAP_ENGINES = ["tracemalloc"] + ([] if heap_native.unusable() else ["native"])
"""The heap engines that can be tested here."""

SERVICE_HEAP_ENGINES = (
    ["tracemalloc"]
    if len(HEAP_ENGINES) == 1
    else [pytest.param("tracemalloc", marks=pytest.mark.thorough), "native"]
)
"""The same for services of tests that take long with tracemalloc, which makes them slow."""

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"

HEAP_TYPES = (
    ValueType("alloc_objects", "count"),
    ValueType("alloc_space", "bytes"),
    ValueType("inuse_objects", "count"),
    ValueType("inuse_space", "bytes"),
)

LEAF = Frame("shop.cart.Cart.add", "/srv/shop/cart.py", 10, 12)
ROOT_FRAME = Frame("shop.main.<module>", "/srv/shop/main.py", 1, 3)


def heap_profile(*samples: Sample, time_nanos: int = 1_700_000_000_000_000_000) -> Profile:
    """A heap profile of these samples."""
    return Profile(
        sample_types=HEAP_TYPES,
        samples=samples,
        period_type=ValueType("space", "bytes"),
        period=524288,
        time_nanos=time_nanos,
        default_sample_type="inuse_space",
        comments=("made by a test",),
    )


def run_python(
    code: str,
    *arguments: str,
    env: Mapping[str, str] | None = None,
    timeout: float = 60,
    check: bool = True,
) -> subprocess.CompletedProcess[str]:
    """Run code in a child process that treats warnings as errors; its output is captured."""
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code), *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, **(env or {})},
        cwd=ROOT,
        check=False,
    )
    if check:
        assert result.returncode == 0, f"{result.stdout}\n{result.stderr}"
    return result


def run_heap_child(
    code: str, *arguments: str, env: Mapping[str, str] | None = None, timeout: float = 60
) -> None:
    """Run code that finds tests.sources.heap_child imported; it says `done` and nothing else."""
    prelude = "import sys\nfrom tests.sources.heap_child import *\n"
    result = run_python(prelude + textwrap.dedent(code), *arguments, env=env, timeout=timeout)
    assert (result.stdout, result.stderr) == ("done\n", ""), f"{result.stdout}\n{result.stderr}"


def compile_c(target: Path, *sources: Path, flags: Sequence[str] = ()) -> Path:
    """Build a program or, with -shared, a library for a test, which is skipped without a compiler.

    The flags in CFLAGS are added, as for a build of the extension.
    """
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        import pytest  # late, as children of the tests import this module too

        pytest.skip("there is no C compiler")
    flags = [*flags, *os.environ.get("CFLAGS", "").split()]
    command = [
        compiler,
        "-std=c11",
        "-O1",
        *flags,
        *map(str, sources),
        "-o",
        str(target),
        "-pthread",
        "-lm",
    ]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
    return target


_PORTS_OF_A_WORKER = 7000
_turn = itertools.count(random.randrange(_PORTS_OF_A_WORKER))


def free_port() -> int:
    """A port that nobody listens on at this moment, nor takes before its server is there.

    Each worker of pytest has ports of its own. They are below those that Linux gives to sockets
    that ask for any port: two of 200 servers among these had the same once in some runs, and a test
    then talked to the server of another.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 3
    while True:
        port = 10_000 + worker * _PORTS_OF_A_WORKER + next(_turn) % _PORTS_OF_A_WORKER
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def get(url: str, timeout: float = 60) -> bytes:
    """The body of a successful GET."""
    with urllib.request.urlopen(url, timeout=timeout) as response:
        body: bytes = response.read()
        return body


@contextlib.contextmanager
def running(
    command: Sequence[str | Path], ready: str, env: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[str]]:
    """A server in a process of its own, from the moment that the URL `ready` answers."""
    process = subprocess.Popen(
        [str(word) for word in command],
        env={**os.environ, **(env or {})},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        cwd=ROOT,
    )
    try:
        wait_until_answers(ready, process)
        yield process
    finally:
        process.terminate()
        try:
            process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def wait_until_answers(url: str, process: subprocess.Popen[str], seconds: float = 30) -> None:
    """Wait for a server to answer."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            get(url, timeout=5)
        except OSError as error:
            if isinstance(error, urllib.error.HTTPError):
                error.close()  # of a proxy whose server does not answer yet
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                raise AssertionError(f"no answer from {url}: {process.communicate()[1]}") from None
            time.sleep(0.05)
        else:
            return
