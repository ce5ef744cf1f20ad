"""Look at a heap again and again, and hold its growth against a limit."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from pyprof_agent.errors import GateError
from pyprof_agent.leaks.looks import Look, look
from pyprof_agent.leaks.verdict import Limit, Verdict, decide
from pyprof_agent.profile import Profile

MOST_LOOKS = 240
"""Looks in a run, whatever --every is: the slopes between any two of them are compared."""

LOOKS = 60
"""So many in a run, if they are not more than one a second."""


class Source(Protocol):
    """Where heap profiles come from."""

    def heap(self) -> Profile: ...


@dataclass(frozen=True, slots=True)
class Plan:
    """How long, in seconds: all of it, its beginning that does not count, and between two looks."""

    duration: float
    warm_up: float
    pause: float

    @classmethod
    def of(cls, duration: float, warm_up: float | None = None, pause: float | None = None) -> Plan:
        """With what is usual for what is not given.

        Raises GateError for times that do not fit each other.
        """
        warm_up = duration / 5 if warm_up is None else warm_up
        measured = duration - warm_up
        if not 0 <= warm_up < duration:
            raise GateError(
                f"the warm-up is {warm_up:g} s of {duration:g} s; it must leave time to measure"
            )
        pause = max(measured / LOOKS, 1.0) if pause is None else pause
        if not 0 < pause <= measured:
            raise GateError(f"--every is {pause:g} s, of {measured:g} s that are measured")
        return cls(duration, warm_up, max(pause, measured / MOST_LOOKS))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a run: the answer, and the heap at both ends of what was measured."""

    verdict: Verdict
    looks: tuple[Look, ...]
    first: Profile
    last: Profile


def run(
    source: Source,
    plan: Plan,
    limit: Limit,
    *,
    tell: Callable[[float, Look], None],
    now: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Outcome:
    """Run a gate to its end.

    tell: is given the share of the time that is over, from 0 to 1, and each look

    Raises GateError if the process is another one in the middle, and what `source` raises.
    """
    begin = now()
    tell(0, look(source.heap()))  # whoever cannot be asked shall not be waited for
    sleep(max(begin + plan.warm_up - now(), 0))
    first = last = source.heap()
    looks = [look(first)]
    while True:
        over = now() - begin
        tell(min(over / plan.duration, 1), looks[-1])
        left = plan.duration - over
        if left <= 0:
            break
        sleep(min(plan.pause, left))
        last = source.heap()
        looks.append(look(last))
        if looks[-1].process != looks[0].process:
            raise GateError(
                f"process {looks[-1].process} has answered after {looks[0].process}: the service "
                "has several workers, or was restarted; look at one worker, on a port of its own"
            )
        if looks[-1].allocated < looks[-2].allocated:
            raise GateError("less is allocated than before: the agent was restarted")
    return Outcome(decide(looks, limit), tuple(looks), first, last)
