"""Programs that know where their time went, and which stacks they can have.

Branches take turns at random, for a millisecond or so each: a sampler cannot march in step
with them, and what it sees at one look says nothing of the next.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import random
import threading
import time
import types
import zlib
from collections.abc import Callable, Coroutine, Generator, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from tests.bench.oracle.ledger import REST, Ledger, Spent, together


@dataclass(frozen=True)
class Program:
    """A program.

    run: does its work until this moment of the monotonic clock, and tells where its time went
    branches: the function that stands for each branch; all else is the branch `rest`
    chains: the stacks it can have, as a regular expression of its own functions, outermost
        first and each followed by a blank; functions of others are left out
    """

    name: str
    title: str
    run: Callable[[float], Spent]
    branches: tuple[str, ...]
    chains: str


_Work = Callable[[int], object]
_Weights = Mapping[_Work, tuple[float, int]]


def _take_turns(until: float, branches: _Weights, rest: str = REST) -> Spent:
    """Branches in turn; for each, how often compared to others, and units for a millisecond."""
    dice = random.Random(1)
    choices = [*branches]
    weights = [weight for weight, _ in branches.values()]
    with Ledger(rest) as ledger:
        while time.monotonic() < until:
            (branch,) = dice.choices(choices, weights)
            ledger.spend(branch, dice.randint(1, 2 * branches[branch][1]))
    return ledger.spent()


# Tiny calls, and nothing else. `shared` and `tiny` are called from everywhere: where a caller
# is read too late, it is one that never makes this call.


def tiny(number: int) -> int:
    return number + 1


def shared(number: int) -> int:
    return tiny(number)


def left_once(number: int) -> int:
    return shared(number)


def left_twice(number: int) -> int:
    return left_once(tiny(number))


def right_once(number: int) -> int:
    return tiny(number)


def right_twice(number: int) -> int:
    return shared(right_once(number))


def middle_once(number: int) -> int:
    return tiny(tiny(number))


def left(units: int) -> None:
    for number in range(units):
        left_once(number)
        left_twice(number)


def right(units: int) -> None:
    for number in range(units):
        right_once(number)
        right_twice(number)


def middle(units: int) -> None:
    for number in range(units):
        middle_once(number)
        shared(number)


_LEFT = "left (left_once (shared (tiny )?)?|left_twice (left_once (shared (tiny )?)?|tiny )?)?"
_RIGHT = "right (right_once (tiny )?|right_twice (right_once (tiny )?|shared (tiny )?)?)?"
_MIDDLE = "middle (middle_once (tiny )?|shared (tiny )?)?"


def calls(until: float) -> Spent:
    return _take_turns(until, {left: (5, 7_500), right: (3, 8_000), middle: (2, 10_000)})


# Loops without a call.


def adding(units: int) -> int:
    total = 0
    for number in range(units):
        total += number & 7
    return total


def counting(units: int) -> int:
    number = 0
    while number < units:
        number += 1
    return number


def looking_up(units: int) -> int:
    table = {0: 1, 1: 2, 2: 0}
    at = 0
    for _ in range(units):
        at = table[at]
    return at


def comprehending(units: int) -> int:
    return len([number for number in range(units) if number & 1])


def loops(until: float) -> Spent:
    return _take_turns(
        until,
        {
            adding: (4, 40_000),
            counting: (3, 80_000),
            looking_up: (2, 60_000),
            comprehending: (1, 50_000),
        },
    )


# Calls of C code: the first three hold the GIL, the others give it up.

_ODD = (1 << 25_000) // 7
_NUMBERS = [number * 7919 % 10_007 for number in range(2_000)]
_LARGE = bytes(range(256)) * 1024
_TEXT = b"".join(b"%d, " % number for number in _NUMBERS)


def big_integers(units: int) -> int:
    number = _ODD
    for _ in range(units):
        number = _ODD * _ODD % (number | 1)
    return number


def sorting(units: int) -> None:
    for _ in range(units):
        sorted(_NUMBERS)


def small_hashes(units: int) -> bytes:
    digest = b""
    for _ in range(units):
        digest = hashlib.sha256(digest).digest()
    return digest


def large_hashes(units: int) -> None:
    for _ in range(units):
        hashlib.sha256(_LARGE).digest()


def compressing(units: int) -> None:
    for _ in range(units):
        zlib.compress(_TEXT)


def sleeping(units: int) -> None:
    for _ in range(units):
        time.sleep(0.001)


def c_code(until: float) -> Spent:
    return _take_turns(
        until,
        {
            big_integers: (4, 2),
            sorting: (4, 20),
            small_hashes: (4, 4_500),
            large_hashes: (4, 8),
            compressing: (4, 5),
            sleeping: (3, 1),
        },
    )


# Frames that do not lie on the stack of C: generators, coroutines; deep ones; exceptions.


def gen_outer(units: int) -> Iterator[int]:
    yield from gen_middle(units)


def gen_middle(units: int) -> Iterator[int]:
    yield from gen_inner(units)


def gen_inner(units: int) -> Iterator[int]:
    for number in range(units):
        yield tiny(number)


def generating(units: int) -> None:
    for _ in gen_outer(units):
        pass


@types.coroutine
def step() -> Generator[None, None, None]:
    yield


async def co_outer(units: int) -> None:
    for _ in range(units):
        await co_middle()


async def co_middle() -> None:
    await co_inner()


async def co_inner() -> None:
    tiny(1)
    await step()


def awaiting(units: int) -> None:
    _drive(co_outer(units))


def _drive(coroutine: Coroutine[None, None, None]) -> None:
    with contextlib.suppress(StopIteration):
        while True:
            coroutine.send(None)


def down(depth: int) -> int:
    return down_again(depth - 1) if depth else 0


def down_again(depth: int) -> int:
    return down(depth - 1) + 1 if depth else 0


def recursing(units: int) -> None:
    for _ in range(units):
        down(60)


def fall(depth: int) -> None:
    if not depth:
        raise LookupError
    fall(depth - 1)


def raising(units: int) -> None:
    for _ in range(units):
        with contextlib.suppress(LookupError):
            fall(20)


_FRAMES = (
    "frames (generating (gen_outer (gen_middle (gen_inner (tiny )?)?)?)?"
    "|awaiting (_drive (co_outer (co_middle (co_inner (tiny |step )?)?)?)?)?"
    "|recursing ((down down_again ){0,30}(down )?)"
    "|raising (fall ){0,21}"
    ")?"
)


def frames(until: float) -> Spent:
    return _take_turns(
        until,
        {generating: (3, 15_000), awaiting: (3, 4_000), recursing: (3, 700), raising: (2, 500)},
    )


# An event loop that has something to do for a tenth of the time.


def parse(units: int) -> int:
    return adding(units)


def render(units: int) -> None:
    big_integers(units)


async def handle(ledger: Ledger, dice: random.Random) -> None:
    if dice.random() < 0.6:
        ledger.spend(parse, dice.randint(20_000, 120_000))
    else:
        ledger.spend(render, dice.randint(1, 7))


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
    with Ledger() as ledger:
        asyncio.run(serve(until, ledger))
    return ledger.spent()


# Twenty threads that compete for the GIL, each with an appetite of its own.


def hungry(until: float, dice: random.Random) -> Spent:
    return eat(hungry.__name__, until, dice, left, 7_500, rest=0)


def steady(until: float, dice: random.Random) -> Spent:
    return eat(steady.__name__, until, dice, compressing, 5, rest=0.01)


def modest(until: float, dice: random.Random) -> Spent:
    return eat(modest.__name__, until, dice, counting, 80_000, rest=0.04)


def idle(until: float, dice: random.Random) -> Spent:
    return eat(idle.__name__, until, dice, sleeping, 15, rest=0)


def eat(
    branch: str, until: float, dice: random.Random, work: _Work, units: int, rest: float
) -> Spent:
    with Ledger(branch) as ledger:
        while time.monotonic() < until:
            work(dice.randint(1, units))
            time.sleep(rest * dice.uniform(0.5, 1.5))
    return ledger.spent()


def threads(until: float) -> Spent:
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


# One CPU for the program and for the profiler inside it.


def beside(until: float, dice: random.Random) -> Spent:
    return eat(beside.__name__, until, dice, counting, 80_000, rest=0.004)


def pinned(until: float) -> Spent:
    with on_one_cpu():
        books: list[Spent] = []
        other = threading.Thread(target=keep, args=(books, beside, until, random.Random(3)))
        other.start()
        own = _take_turns(
            until,
            {
                left: (3, 7_500),
                adding: (3, 40_000),
                big_integers: (3, 2),
                compressing: (3, 5),
                sleeping: (2, 1),
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


_TURNS = "_take_turns "


def _programs() -> Iterator[Program]:
    yield Program(
        "calls",
        "Tiny calls",
        calls,
        ("left", "right", "middle"),
        f"calls ({_TURNS}({_LEFT}|{_RIGHT}|{_MIDDLE})?)?",
    )
    yield Program(
        "loops",
        "Loops",
        loops,
        ("adding", "counting", "looking_up", "comprehending"),
        f"loops ({_TURNS}(adding |counting |looking_up |comprehending (<listcomp> )?)?)?",
    )
    c_functions = (big_integers, sorting, small_hashes, large_hashes, compressing, sleeping)
    names = tuple(function.__name__ for function in c_functions)
    yield Program("c_code", "C code", c_code, names, f"c_code ({_TURNS}(({'|'.join(names)}) )?)?")
    yield Program(
        "frames",
        "Generators, coroutines, recursion",
        frames,
        ("generating", "awaiting", "recursing", "raising"),
        _FRAMES.replace("frames (", f"frames ({_TURNS}(", 1) + ")?",
    )
    yield Program(
        "bursty",
        "Event loop, 10 % load",
        bursty,
        ("parse", "render"),
        "bursty (serve |handle (parse (adding )?|render (big_integers )?)?)?",
    )
    yield Program(
        "threads",
        "Twenty threads",
        threads,
        ("hungry", "steady", "modest", "idle"),
        f"threads |keep (hungry (eat ({_LEFT})?)?|steady (eat (compressing )?)?"
        "|modest (eat (counting )?)?|idle (eat (sleeping )?)?)?",
    )
    if hasattr(os, "sched_setaffinity"):
        yield Program(
            "pinned",
            "One CPU",
            pinned,
            ("left", "adding", "big_integers", "compressing", "sleeping", "beside"),
            f"pinned ({_TURNS}({_LEFT}|adding |big_integers |compressing |sleeping )?"
            "|on_one_cpu (_allow )?)?|keep (beside (eat (counting )?)?)?",
        )


PROGRAMS = {program.name: program for program in _programs()}
