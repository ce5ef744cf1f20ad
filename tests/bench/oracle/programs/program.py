"""What a program is; and branches that take turns.

They do so at random, for some milliseconds each: a sampler cannot march in step with them. Less
would not do. The clock of a thread is read between them, which is a system call, and a profiler
that waits for the CPU of the program tends to get it at that very call: in rounds of 1 ms one in
eleven looks of py-spy met the clock being read, which takes half a microsecond.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tests.bench.oracle.ledger import Ledger, Spent


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


Work = Callable[[int], object]

TURNS = "take_turns "
"""The frame of `take_turns` in the chains of programs."""


def take_turns(until: float, branches: Mapping[Work, tuple[float, int]]) -> Spent:
    """Branches in turn; for each, how often compared to others, and units for some 6 ms."""
    dice = random.Random(1)
    choices = [*branches]
    weights = [weight for weight, _ in branches.values()]
    with Ledger() as ledger:
        while time.monotonic() < until:
            (branch,) = dice.choices(choices, weights)
            ledger.spend(branch, dice.randint(1, 2 * branches[branch][1]))
    return ledger.spent()
