"""The marker `no_leaks` of pytest: a test runs in rounds, and fails if each leaves memory."""

from __future__ import annotations

import gc
import inspect
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from pyprof_agent.agent import Agent
from pyprof_agent.config import Config
from pyprof_agent.leaks.growth import FEWEST_LOOKS
from pyprof_agent.leaks.looks import Look, look
from pyprof_agent.leaks.verdict import Suspect, grown, suspicious
from pyprof_agent.leaks.words import where

NAME = "no_leaks"
SAMPLE_BYTES = 1  # every block: a round may leave no more than one behind

_HELP = (
    f"{NAME}(rounds=30, warm_up=5, most=0): run the test so many times, and fail if memory that "
    "one line of code allocates grows by more than `most` bytes with each round after the warm-up"
)


@dataclass(frozen=True, slots=True)
class _Rounds:
    rounds: int = 30
    warm_up: int = 5
    most: float = 0

    def problem(self) -> str | None:
        """What is wrong with them."""
        if self.rounds < FEWEST_LOOKS:
            return f"rounds is {self.rounds!r}; use {FEWEST_LOOKS} or more"
        if self.warm_up < 0:
            return f"warm_up is {self.warm_up!r}; use 0 or more"
        if self.most < 0:
            return f"most is {self.most!r}; use 0 or more"
        return None


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line("markers", _HELP)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a test that has the marker."""
    marker = pyfuncitem.get_closest_marker(NAME)
    if marker is None:
        return None
    try:
        rounds = _Rounds(*marker.args, **marker.kwargs)
    except TypeError as error:
        raise pytest.UsageError(f"{pyfuncitem.nodeid}: {error}; {_HELP}") from None
    problem = rounds.problem()
    if problem is None and inspect.iscoroutinefunction(pyfuncitem.obj):
        problem = "it is a coroutine; use a function that calls asyncio.run()"
    if problem is not None:
        raise pytest.UsageError(f"{pyfuncitem.nodeid}, {NAME}: {problem}")
    names = pyfuncitem._fixtureinfo.argnames
    arguments = {name: pyfuncitem.funcargs[name] for name in names}
    leaks = _leaks(lambda: pyfuncitem.obj(**arguments), rounds)
    if leaks:
        pytest.fail(
            "\n".join([f"memory grows with each of {rounds.rounds} rounds:", *leaks]), False
        )
    return True


def _leaks(body: Callable[[], object], rounds: _Rounds) -> list[str]:
    agent = Agent(Config(stacks=False, heap_sample_bytes=SAMPLE_BYTES, leak_window=0))
    agent.start()
    try:
        looks: list[Look] = []
        for number in range(rounds.warm_up + rounds.rounds):
            body()
            gc.collect()
            if number >= rounds.warm_up:
                found = look(agent.capture("heap"))
                looks.append(Look(float(len(looks)), found.lines, found.sample_bytes, len(looks)))
    finally:
        agent.stop()
    suspects = suspicious(looks, grown(looks))
    return [_told(suspect) for suspect in suspects if _each_round(suspect) > rounds.most]


def _each_round(suspect: Suspect) -> float:
    return suspect.growth.per_unit.slope if suspect.growth.per_unit else 0.0


def _told(suspect: Suspect) -> str:
    return f"  {_each_round(suspect):.0f} bytes: {where(suspect.line)}"
