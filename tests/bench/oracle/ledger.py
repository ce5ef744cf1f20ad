"""What a program measures of itself: the CPU and wall time of each of its branches."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType

REST = "rest"
"""The branch of all that no other branch did: the loop that starts them, an event loop."""


@dataclass(frozen=True)
class Spent:
    """Where the time of the threads of a program went.

    cpu, wall: seconds by branch
    units: how much work was done, by branch
    """

    cpu: Mapping[str, float]
    wall: Mapping[str, float]
    units: Mapping[str, float]


class Ledger:
    """The books of one thread, kept from `with` to the end of it.

    Clocks are read once for some milliseconds of work, so that reading them is no work to
    speak of; waits for the GIL and for a busy machine are in the wall time, not in the CPU time.
    """

    def __init__(self, rest: str = REST) -> None:
        self._rest = rest
        self._cpu: dict[str, float] = defaultdict(float)
        self._wall: dict[str, float] = defaultdict(float)
        self._units: dict[str, float] = defaultdict(float)

    def __enter__(self) -> Ledger:
        self._began = time.perf_counter(), time.thread_time()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        wall, cpu = time.perf_counter() - self._began[0], time.thread_time() - self._began[1]
        self._cpu[self._rest] += cpu - sum(self._cpu.values())
        self._wall[self._rest] += wall - sum(self._wall.values())

    def spend(self, branch: Callable[[int], object], units: int) -> None:
        """Do so many units of work, and book them on the branch of that name."""
        wall, cpu = time.perf_counter(), time.thread_time()
        branch(units)
        self._cpu[branch.__name__] += time.thread_time() - cpu
        self._wall[branch.__name__] += time.perf_counter() - wall
        self._units[branch.__name__] += units

    def spent(self) -> Spent:
        """What was booked."""
        return Spent(dict(self._cpu), dict(self._wall), dict(self._units))


def together(all_spent: Iterable[Spent]) -> Spent:
    """The books of several threads as one."""
    cpu: dict[str, float] = defaultdict(float)
    wall: dict[str, float] = defaultdict(float)
    units: dict[str, float] = defaultdict(float)
    for spent in all_spent:
        for sums, parts in ((cpu, spent.cpu), (wall, spent.wall), (units, spent.units)):
            for branch, value in parts.items():
                sums[branch] += value
    return Spent(dict(cpu), dict(wall), dict(units))
