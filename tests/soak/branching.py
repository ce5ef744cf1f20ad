"""Blocks that are alive at as many stacks as one likes, for the soak tests."""

from __future__ import annotations

import random
from typing import Any

BLOCK_BYTES = 20_000


def blocks_of_many_stacks(count: int) -> list[bytes]:
    """So many blocks, each from a random stack of its own of 27 frames.

    A block is larger than the gap between samples, if that is some 4000 bytes, so that nearly
    each is one.
    """
    call, dice = _branching(), random.Random(1)
    return [call(6, [dice.randrange(10) for _ in range(18)]) for _ in range(count)]


def _branching() -> Any:
    """A function that goes down a path of digits, each by other functions, and allocates there."""
    lines = ["def leaf(path, place):", f"    return bytes({BLOCK_BYTES})"]
    for caller in range(10):
        lines.append(f"def call_{caller}(path, place):")
        for callee in range(10):
            lines.append(f"    if path[place] == {callee}:")
            lines.append("        return step(path, place)(path, place + 1)")
    lines.append("def step(path, place):")
    lines.append("    return leaf if place + 1 == len(path) else calls[path[place + 1]]")
    space: dict[str, Any] = {}
    exec(compile("\n".join(lines), "generated.py", "exec"), space)
    space["calls"] = [space[f"call_{number}"] for number in range(10)]

    def descend(depth: int, path: list[int]) -> bytes:
        made: bytes = space["calls"][path[0]](path, 0) if depth == 0 else descend(depth - 1, path)
        return made

    return descend
