"""Loops without a call."""

from __future__ import annotations

from tests.bench.oracle.ledger import Spent
from tests.bench.oracle.programs.program import TURNS, Program, take_turns


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
    """Loops without a call."""
    return take_turns(
        until,
        {
            adding: (4, 240_000),
            counting: (3, 480_000),
            looking_up: (2, 360_000),
            comprehending: (1, 300_000),
        },
    )


PROGRAM = Program(
    "loops",
    "Loops",
    loops,
    ("adding", "counting", "looking_up", "comprehending"),
    f"loops ({TURNS}(adding |counting |looking_up |comprehending (<listcomp> )?)?)?",
)
