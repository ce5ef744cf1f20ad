"""Tiny calls, and nothing else.

`shared` and `tiny` are called from everywhere: where a caller is read too late, it is one that
never makes this call.
"""

from __future__ import annotations

from tests.bench.oracle.ledger import Spent
from tests.bench.oracle.programs.program import TURNS, Program, take_turns


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


LEFT = "left (left_once (shared (tiny )?)?|left_twice (left_once (shared (tiny )?)?|tiny )?)?"
_RIGHT = "right (right_once (tiny )?|right_twice (right_once (tiny )?|shared (tiny )?)?)?"
_MIDDLE = "middle (middle_once (tiny )?|shared (tiny )?)?"


def calls(until: float) -> Spent:
    """Calls of functions that do next to nothing, four deep at most. A profiler that reads a
    stack while it changes makes stacks up here.
    """
    return take_turns(until, {left: (5, 45_000), right: (3, 48_000), middle: (2, 60_000)})


PROGRAM = Program(
    "calls",
    "Tiny calls",
    calls,
    ("left", "right", "middle"),
    f"calls ({TURNS}({LEFT}|{_RIGHT}|{_MIDDLE})?)?",
)
