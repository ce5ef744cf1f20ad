"""Frames that do not lie on the stack of C: generators, coroutines; deep ones; exceptions."""

from __future__ import annotations

import contextlib
import types
from collections.abc import Coroutine, Generator, Iterator

from tests.bench.oracle.ledger import Spent
from tests.bench.oracle.programs.calls import tiny
from tests.bench.oracle.programs.program import TURNS, Program, take_turns


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
    drive(co_outer(units))


def drive(coroutine: Coroutine[None, None, None]) -> None:
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


def frames(until: float) -> Spent:
    """Generators and coroutines, three deep and driven without an event loop; recursion 60 deep;
    exceptions through 20 frames.
    """
    return take_turns(
        until,
        {
            generating: (3, 90_000),
            awaiting: (3, 24_000),
            recursing: (3, 4_200),
            raising: (2, 3_000),
        },
    )


PROGRAM = Program(
    "frames",
    "Generators, coroutines, recursion",
    frames,
    ("generating", "awaiting", "recursing", "raising"),
    f"frames ({TURNS}("
    "generating (gen_outer (gen_middle (gen_inner (tiny )?)?)?)?"
    "|awaiting (drive (co_outer (co_middle (co_inner (tiny |step )?)?)?)?)?"
    "|recursing (down down_again ){0,30}(down )?"
    "|raising (fall ){0,21}"
    ")?)?",
)
