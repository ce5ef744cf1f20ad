"""What scrapes leave behind in a real service, and how late they make it: `make soak`."""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import statistics
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from pyprof_agent.formats.pprof import decode
from pyprof_agent.sources import heap_native
from tests.support import free_port, get, running

pytestmark = [
    pytest.mark.skipif(bool(heap_native.unusable()), reason=heap_native.unusable()),
    pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc"),
    pytest.mark.timeout(900),
]

MIB = 2**20
RESIDENT_TOLERANCE = 4 * MIB
"""Arenas of the C library come and go: so much is no leak, 4 kB a scrape."""


@dataclass(frozen=True)
class Held:
    """What a process holds."""

    resident: int
    descriptors: int
    threads: int


def held(pid: int) -> Held:
    with open(f"/proc/{pid}/statm", "rb") as statm:
        pages = int(statm.read().split()[1])
    return Held(
        pages * os.sysconf("SC_PAGESIZE"),
        len(os.listdir(f"/proc/{pid}/fd")),
        len(os.listdir(f"/proc/{pid}/task")),
    )


@contextlib.contextmanager
def service(stacks: int) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The service under uvicorn: its URL and its process."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", f"--port={port}", "--log-level=error"]
    url = f"http://127.0.0.1:{port}"
    with running(
        [*command, "tests.soak.deep_service:app"],
        ready=f"{url}/late",
        env={"STACKS": str(stacks)},
    ) as process:
        yield url, process


def settled(pid: int, before: Held, seconds: float = 15) -> Held:
    """What is held once connections are closed, at the latest after some seconds."""
    deadline = time.monotonic() + seconds
    while True:
        now = held(pid)
        if now.descriptors <= before.descriptors and now.threads <= before.threads:
            return now
        if time.monotonic() > deadline:
            return now
        time.sleep(0.1)


def told(what: str, before: Held, after: Held) -> None:
    growth = (after.resident - before.resident) / 1024
    print(
        f"\n{what}: resident {before.resident / MIB:.1f} MiB {growth:+.0f} KiB, descriptors "
        f"{before.descriptors} to {after.descriptors}, threads {before.threads} to {after.threads}"
    )


def test_1000_heap_scrapes_in_a_row_leave_nothing() -> None:
    with service(stacks=2000) as (url, process):
        for _ in range(100):
            get(f"{url}/debug/pprof/heap")
        before = settled(process.pid, held(process.pid))
        for _ in range(1000):
            get(f"{url}/debug/pprof/heap")
        assert decode(get(f"{url}/debug/pprof/heap")).samples
        after = settled(process.pid, before)
    told("1,000 scrapes", before, after)
    assert after.resident - before.resident < RESIDENT_TOLERANCE
    assert after.descriptors <= before.descriptors
    assert after.threads <= before.threads


PATHS = (
    *("heap", "heap?debug=1", "heap?seconds=60", "allocs", "delta_heap", "goroutine?debug=2"),
    *("profile?seconds=60", "wall", "fgprof?seconds=60", "symbol?0x1", "", "block?seconds=60"),
)


def hang_up(port: int, dice: random.Random) -> None:
    """Ask for something, or begin to, and leave after a moment; in every other case abruptly."""
    client = socket.create_connection(("127.0.0.1", port))
    request = f"GET /debug/pprof/{dice.choice(PATHS)} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    client.sendall(request[: dice.choice((len(request), dice.randrange(1, len(request))))])
    time.sleep(dice.uniform(0, 0.5))
    if dice.random() < 0.5:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def test_100_clients_that_hang_up_leave_nothing() -> None:
    with service(stacks=2000) as (url, process):
        port = int(url.rpartition(":")[2])

        def clients(seed: int) -> None:
            with ThreadPoolExecutor(20) as pool:
                for done in [
                    pool.submit(hang_up, port, random.Random(seed + number))
                    for number in range(100)
                ]:
                    done.result()

        get(f"{url}/debug/pprof/heap")
        quiet = settled(process.pid, held(process.pid))
        clients(0)  # what is learnt once: names, the worker's thread, its arenas
        before = settled(process.pid, quiet)
        clients(1000)
        # Windows are left as well: else they would be seen for a minute.
        assert b"capture_async" not in get(f"{url}/debug/pprof/goroutine?debug=2")
        assert decode(get(f"{url}/debug/pprof/profile?seconds=1")).duration_nanos
        after = settled(process.pid, before)
    told("100 clients that hung up", before, after)
    assert after.resident - before.resident < RESIDENT_TOLERANCE
    assert after.descriptors <= quiet.descriptors + 1
    assert after.threads <= before.threads


@dataclass(frozen=True)
class Lateness:
    """How late the loop woke, in seconds; and how late where all garbage was collected meanwhile.

    That goes through all objects of the service.
    """

    looks: list[float]
    collected: list[float]

    @property
    def p99(self) -> float:
        return statistics.quantiles(self.looks, n=100)[98]

    def __str__(self) -> str:
        worst = f"{max(self.looks) * 1e3:.1f}"
        collected = ", ".join(f"{late * 1e3:.0f}" for late in self.collected) or "none"
        return (
            f"p99 of {len(self.looks)} looks {self.p99 * 1e3:.2f} ms, worst {worst}; "
            f"in full collections {collected}"
        )


def lateness(url: str) -> Lateness:
    found: list[tuple[float, bool]] = json.loads(get(f"{url}/late"))
    return Lateness([late for late, _ in found], [late for late, collected in found if collected])


def test_the_event_loop_is_hardly_later_during_heap_of_20_000_stacks() -> None:
    later = []
    with service(stacks=20_200) as (url, _):
        profile = decode(get(f"{url}/debug/pprof/heap"))
        assert len(profile.samples) >= 20_000
        for _ in range(5):
            lateness(url)
            time.sleep(2)
            own = lateness(url)
            for _ in range(5):
                get(f"{url}/debug/pprof/heap")
            during = lateness(url)
            later.append(during.p99 - own.p99)
            print(f"\nat rest: {own}\nduring heap: {during}")
    print(f"later by {statistics.median(later) * 1e3:.2f} ms (median of {len(later)})")
    assert statistics.median(later) < 0.010
