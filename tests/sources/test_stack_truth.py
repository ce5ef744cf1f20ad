"""What stack engines say of programs that know better: shares, stacks, totals, their own cost.

A share may be off by what chance explains, and by the bias that is told below. Chance is taken
so that a right engine fails one of these tests at most once in 100,000 runs of all of them,
however busy the machine: there are some 150 comparisons, and each is held to once in e**18.
The programs measure their own time by the clocks of their threads, so that a busy machine
changes the truth and the profile alike. Only where it stops for long is it tried again.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import pytest

from pyprof_agent import Agent, Config
from pyprof_agent.errors import ConfigError
from pyprof_agent.profile import Profile
from tests.bench.oracle.judge import Verdict, judge, surprise
from tests.bench.oracle.ledger import REST, Spent
from tests.bench.oracle.programs import PROGRAMS
from tests.bench.oracle.samplers import pprof_rows
from tests.support import Burned, burned_between

SECONDS = {"python": 0.8, "native": 1.0}
HZ = 1000

LATE = 0.3
"""Seconds that starting, stopping and two profiles take at most if the machine does work."""
SURPRISE = 18.0

UNEVEN = 2
"""Samples of wall time are of different lengths where the sampler was late: so many of them
are taken for one."""

BIAS = {"python": 0.05, "native": 0.03}
"""Of shares, from 0 to 1: what is allowed besides chance."""

IMPOSSIBLE = {"python": 0.0, "native": 0.02}
"""The same for stacks that the program cannot have; the Python engine holds the GIL."""

APPROXIMATE = ("c_code", "pinned", "bursty")
"""Programs of which the Python engine tells no right shares: it sees threads where they give
up the GIL. It says so in its profiles."""


def usable(engine: str) -> bool:
    """Whether an engine can be used here."""
    try:
        Agent(Config(heap=False, stack_engine=engine))
    except ConfigError:
        return False
    return True


def is_approximate(engine: str, name: str) -> bool:
    """Whether an engine tells no right shares of a program."""
    return engine == "python" and name in APPROXIMATE


ENGINES = [engine for engine in ("python", "native") if usable(engine)]

pytestmark = [
    pytest.mark.timing,
    pytest.mark.skipif(sys.platform != "linux", reason="CPU clocks of threads are Linux's"),
]


@dataclass(frozen=True)
class Seen:
    """A program below an engine: what both of them say.

    burned: by the process, in the window
    cost: CPU seconds of the sampler in it, as the agent tells
    """

    spent: Spent
    burned: Burned
    cost: float
    cpu: Verdict
    wall: Verdict


EVERY = [(engine, name) for engine in ENGINES for name in PROGRAMS]
EXACT = [(engine, name) for engine, name in EVERY if not is_approximate(engine, name)]

every = pytest.mark.parametrize(("engine", "name"), EVERY)
exact = pytest.mark.parametrize(("engine", "name"), EXACT)


def look(engine: str, name: str) -> Seen:
    """A program below an engine, for a moment; once for all tests."""
    seen = undisturbed(engine, name)
    if seen is None:
        pytest.skip("the machine is too busy to run anything for a second")
    return seen


@cache
def undisturbed(engine: str, name: str) -> Seen | None:
    """What was seen in a window in which the program ran, and hardly anything did beside it.

    Where the machine stops for long, that time is the sampler's error and not the engine's.
    """
    for _ in range(3):
        began = time.monotonic()
        seen = once(engine, name)
        late = time.monotonic() - began - SECONDS[engine]
        if late < LATE and (name == "bursty" or seen.burned.least > SECONDS[engine] / 4):
            return seen
    return None


def once(engine: str, name: str) -> Seen:
    """Run a program below an engine."""
    program = PROGRAMS[name]
    agent = Agent(Config(heap=False, stack_engine=engine, stack_hz=HZ))
    agent.start()
    try:
        cost = agent.stats()["stacks"]["cpu_seconds"]
        spent, profiles, burned = burned_between(
            lambda: {"cpu": agent.begin("profile"), "wall": agent.begin("wall")},
            lambda: program.run(time.monotonic() + SECONDS[engine]),
            lambda windows: {kind: window.end() for kind, window in windows.items()},
        )
        cost = agent.stats()["stacks"]["cpu_seconds"] - cost
    finally:
        agent.stop()
    cpu, wall = (
        judge(program, true, pprof_rows(profiles[kind], "samples", kind, 1e-9))
        for kind, true in (("cpu", spent.cpu), ("wall", spent.wall))
    )
    return Seen(spent, burned, cost, cpu, wall)


def assert_shares(verdict: Verdict, samples: float, bias: float) -> None:
    assert verdict.shares, "no stack of the program was seen"
    for share in verdict.shares:
        assert surprise(share.seen, share.true, samples, bias) < SURPRISE, share


@exact
def test_cpu_shares_are_the_truth(engine: str, name: str) -> None:
    seen = look(engine, name)
    assert_shares(seen.cpu, seen.cpu.samples, BIAS[engine])


@exact
def test_wall_shares_are_the_truth(engine: str, name: str) -> None:
    seen = look(engine, name)
    assert_shares(seen.wall, seen.wall.samples / UNEVEN, BIAS[engine])


@every
def test_no_stack_is_impossible(engine: str, name: str) -> None:
    seen = look(engine, name)
    for verdict in (seen.cpu, seen.wall):
        unlikely = surprise(verdict.impossible_share, 0, verdict.samples, IMPOSSIBLE[engine])
        assert unlikely < SURPRISE, verdict.examples


@every
def test_the_cpu_total_is_the_process(engine: str, name: str) -> None:
    seen = look(engine, name)
    assert seen.burned.admits(seen.cpu.total, rel=0.03), seen


@every
def test_the_wall_total_is_every_thread_once(engine: str, name: str) -> None:
    seen = look(engine, name)
    # The window is longer than the run. Where the sampler is late by a tenth of it just then, that
    # time is another's; so it is tried again.
    deadline = time.monotonic() + 40
    while not is_whole(seen) and time.monotonic() < deadline:
        seen = once(engine, name)
    assert is_whole(seen), seen.wall


def is_whole(seen: Seen) -> bool:
    """Compare the wall time of the program with what it took: within a tenth and two samples."""
    of_program = seen.wall.total * (1 - seen.wall.elsewhere)
    took = sum(seen.spent.wall.values())
    return abs(of_program - took) / took < 0.1 + UNEVEN / max(seen.wall.samples, 1)


@pytest.mark.parametrize("engine", ENGINES)
def test_an_event_loop_is_billed_for_its_handlers_and_not_for_waiting(engine: str) -> None:
    seen = look(engine, "bursty")
    waiting = [share for share in seen.cpu.shares if share.branch == REST]
    for share in waiting:
        assert surprise(share.seen, share.true, seen.cpu.samples, 0.1) < SURPRISE, share


@every
def test_the_sampler_costs_little(engine: str, name: str) -> None:
    # A tick takes some 50 us of CPU time, and more where it finds the caches cold.
    assert look(engine, name).cost < 0.15 * SECONDS[engine]


async def leaf() -> None:
    end = time.thread_time() + 0.25
    while time.thread_time() < end:
        sum(range(100))


async def branch() -> None:
    await asyncio.sleep(0)
    await leaf()


async def trunk() -> None:
    await branch()


def stacks(profile: Profile, function: str) -> Iterator[list[str]]:
    """Stacks whose innermost frame is this function, outermost frame first."""
    for sample in profile.samples:
        if sample.stack[0].function.rpartition(".")[2] == function:
            yield [frame.function.rpartition(".")[2] for frame in reversed(sample.stack)]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("gather", [False, True])
def test_a_running_coroutine_has_all_that_await_it(engine: str, gather: bool) -> None:
    async def program() -> None:
        if gather:
            await asyncio.gather(trunk(), asyncio.sleep(0))
        else:
            await asyncio.create_task(trunk())

    agent = Agent(Config(heap=False, stack_engine=engine, stack_hz=HZ))
    agent.start()
    try:
        asyncio.run(program())
        found: list[list[str]] = [*stacks(agent.capture("profile"), "leaf")]
    finally:
        agent.stop()
    whole = [stack for stack in found if stack[-3:] == ["trunk", "branch", "leaf"]]
    assert whole
    assert len(whole) == len(found)
    assert all("run_forever" in stack for stack in whole)
