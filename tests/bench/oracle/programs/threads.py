"""Twenty threads that compete for the GIL, each with an appetite of its own."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from functools import partial

from tests.bench.oracle.ledger import Ledger, Spent, together
from tests.bench.oracle.programs.c_code import compressing, sleeping
from tests.bench.oracle.programs.calls import LEFT, left
from tests.bench.oracle.programs.loops import counting
from tests.bench.oracle.programs.program import Program, Work


def hungry(until: float, dice: random.Random) -> Spent:
    return eat(hungry.__name__, until, dice, left, 7_500, rest=0)


def steady(until: float, dice: random.Random) -> Spent:
    return eat(steady.__name__, until, dice, compressing, 5, rest=0.01)


def modest(until: float, dice: random.Random) -> Spent:
    return eat(modest.__name__, until, dice, counting, 80_000, rest=0.04)


def idle(until: float, dice: random.Random) -> Spent:
    return eat(idle.__name__, until, dice, sleeping, 15, rest=0)


def eat(
    branch: str, until: float, dice: random.Random, work: Work, units: int, rest: float
) -> Spent:
    with Ledger(branch) as ledger:
        while time.monotonic() < until:
            work(dice.randint(1, units))
            time.sleep(rest * dice.uniform(0.5, 1.5))
    return ledger.spent()


def threads(until: float) -> Spent:
    """Five threads each that always want the CPU, that give the GIL up for C code, that want the
    CPU for a third of the time, and that sleep.
    """
    books: list[Spent] = []
    with Ledger() as ledger:
        workers = []
        for branch in (hungry, steady, modest, idle):
            for seed in range(5):
                work = partial(keep, books, branch, until, random.Random(seed))
                workers.append(threading.Thread(target=work, name=branch.__name__))
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    return together([*books, ledger.spent()])


def keep(
    books: list[Spent],
    work: Callable[[float, random.Random], Spent],
    until: float,
    dice: random.Random,
) -> None:
    books.append(work(until, dice))


PROGRAM = Program(
    "threads",
    "Twenty threads",
    threads,
    ("hungry", "steady", "modest", "idle"),
    f"threads |keep (hungry (eat ({LEFT})?)?|steady (eat (compressing )?)?"
    "|modest (eat (counting )?)?|idle (eat (sleeping )?)?)?",
)
