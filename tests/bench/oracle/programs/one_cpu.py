"""One CPU for the program and for the profiler inside it."""

from __future__ import annotations

import contextlib
import os
import random
import threading
from collections.abc import Iterator

from tests.bench.oracle.ledger import Spent, together
from tests.bench.oracle.programs.c_code import big_integers, compressing, sleeping
from tests.bench.oracle.programs.calls import LEFT, left
from tests.bench.oracle.programs.loops import adding, counting
from tests.bench.oracle.programs.program import TURNS, Program, take_turns
from tests.bench.oracle.programs.threads import eat, keep


def beside(until: float, dice: random.Random) -> Spent:
    return eat(beside.__name__, until, dice, counting, 80_000, rest=0.004)


def pinned(until: float) -> Spent:
    """Two threads, and a profiler that is inside the process, share one CPU: when the profiler
    runs, the program does not.
    """
    with on_one_cpu():
        books: list[Spent] = []
        other = threading.Thread(target=keep, args=(books, beside, until, random.Random(3)))
        other.start()
        own = take_turns(
            until,
            {
                left: (3, 45_000),
                adding: (3, 240_000),
                big_integers: (3, 40),
                compressing: (3, 30),
                sleeping: (2, 6),
            },
        )
        other.join()
    return together([own, *books])


@contextlib.contextmanager
def on_one_cpu() -> Iterator[None]:
    """Have every thread of this process, and those it starts, run on the same CPU. Linux."""
    usual = os.sched_getaffinity(0)
    _allow({max(usual)})
    try:
        yield
    finally:
        _allow(usual)


def _allow(cpus: set[int]) -> None:
    for thread in os.listdir("/proc/self/task"):
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(int(thread), cpus)


PROGRAM = Program(
    "pinned",
    "One CPU",
    pinned,
    ("left", "adding", "big_integers", "compressing", "sleeping", "beside"),
    f"pinned ({TURNS}({LEFT}|adding |big_integers |compressing |sleeping )?"
    "|on_one_cpu (_allow )?)?|keep (beside (eat (counting )?)?)?",
)
