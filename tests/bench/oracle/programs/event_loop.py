"""An event loop that has something to do for a tenth of the time."""

from __future__ import annotations

import asyncio
import random
import time

from tests.bench.oracle.ledger import Ledger, Spent
from tests.bench.oracle.programs.c_code import big_integers
from tests.bench.oracle.programs.loops import adding
from tests.bench.oracle.programs.program import Program


def parse(units: int) -> int:
    return adding(units)


def render(units: int) -> None:
    big_integers(units)


async def handle(ledger: Ledger, dice: random.Random) -> None:
    if dice.random() < 0.6:
        ledger.spend(parse, dice.randint(100_000, 600_000))
    else:
        ledger.spend(render, dice.randint(10, 80))


async def serve(until: float, ledger: Ledger) -> None:
    dice = random.Random(2)
    busy = time.thread_time()
    tasks = set()
    while time.monotonic() < until:
        # After work of any length, rest nine times as long: a tenth on every machine.
        used, busy = time.thread_time() - busy, time.thread_time()
        await asyncio.sleep(max(9 * used, 0.001) * dice.uniform(0.5, 1.5))
        task = asyncio.create_task(handle(ledger, dice))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        await asyncio.sleep(0)
    await asyncio.gather(*tasks)


def bursty(until: float) -> Spent:
    """An asyncio loop that is idle for nine tenths of the time: what is CPU time belongs to the
    handlers, `parse` and `render`, and not to the call in which the loop waits (`rest`).
    """
    with Ledger() as ledger:
        asyncio.run(serve(until, ledger))
    return ledger.spent()


# A profiler may put the coroutine that made a task above it.
PROGRAM = Program(
    "bursty",
    "Event loop, 10 % load",
    bursty,
    ("parse", "render"),
    "bursty (serve )?(handle (parse (adding )?|render (big_integers )?)?)?",
)
