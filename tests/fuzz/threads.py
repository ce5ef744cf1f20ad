"""Threads whose memory is worth recording: calls, generators, recursion, exceptions, C between."""

from __future__ import annotations

import asyncio
import functools
import threading
import time
from collections.abc import Callable, Coroutine, Generator, Iterator
from typing import Any

Pause = Callable[[], object]
"""Called at the innermost place: it waits, or returns at once."""


def calls(pause: Pause) -> None:
    """Functions that call functions."""

    def inner(number: int, *rest: int, **named: int) -> int:
        pause()
        return number

    def outer(number: int) -> int:
        return inner(number, 1, 2, 3, key=4) + 1

    outer(1)


def recursion(pause: Pause, depth: int = 250) -> None:
    """More frames than one chunk of the data stack has room for."""
    a, b, c, d = range(4)
    if depth == 0:
        pause()
    else:
        recursion(pause, depth - 1)
    assert a + b + c + d == 6


def generators(pause: Pause) -> None:
    """Generators that yield from generators."""

    def count(limit: int) -> Iterator[int]:
        for number in range(limit):
            pause()
            yield number

    def through(limit: int) -> Iterator[int]:
        yield from count(limit)

    def both() -> Generator[int, None, None]:
        yield from through(2)
        yield from (number + 1 for number in through(2))

    sum(both())


def coroutines(pause: Pause) -> None:
    """A task that awaits more coroutines, one in another, than are copied at once."""

    async def leaf() -> None:
        await asyncio.sleep(0)
        pause()

    async def wait(awaitable: Coroutine[Any, Any, None]) -> None:
        await awaitable

    asyncio.run(wait(wait(wait(wait(wait(leaf()))))))


def exceptions(pause: Pause) -> None:
    """In handlers and in what ends with a block."""

    def fail(depth: int) -> None:
        if depth == 0:
            raise ValueError("on purpose")
        try:
            fail(depth - 1)
        finally:
            pause()

    try:
        fail(5)
    except ValueError:
        pause()


def from_c(pause: Pause) -> None:
    """Python called by C called by Python, and a class that is called."""

    class Item:
        def __init__(self, number: int) -> None:
            self.number = number
            pause()

        def __lt__(self, other: Item) -> bool:
            pause()
            return self.number < other.number

    sorted(map(Item, range(3)))
    functools.reduce(lambda total, item: total + item.number, [Item(1), Item(2)], 0)


THREADS = (calls, recursion, generators, coroutines, exceptions, from_c)


def parked(function: Callable[[Pause], None], over: threading.Event) -> threading.Thread:
    """A thread that waits at the innermost place."""
    arrived = threading.Event()

    def pause() -> None:
        arrived.set()
        over.wait()

    thread = threading.Thread(target=function, args=(pause,), daemon=True)
    thread.start()
    arrived.wait()
    time.sleep(0.05)
    return thread


def running(function: Callable[[Pause], None], over: threading.Event) -> threading.Thread:
    """A thread that does it again and again."""

    def work() -> None:
        while not over.is_set():
            function(int)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    time.sleep(0.05)
    return thread
