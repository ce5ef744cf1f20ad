"""The programs that are measured; each does the same work at every call."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Workload:
    """A program.

    run: does this many rounds of its work
    rounds: so many take about a second without a profiler
    counted: so many for instruction counts, where everything is about 50 times slower
    """

    name: str
    title: str
    run: Callable[[int], object]
    rounds: int
    counted: int = 0


class Node:
    """A node of a tree: a small object with a dictionary."""

    def __init__(self, left: Node | None, right: Node | None, value: int) -> None:
        self.left = left
        self.right = right
        self.value = value


def _grow(depth: int, value: int) -> Node:
    if depth == 0:
        return Node(None, None, value)
    return Node(_grow(depth - 1, 2 * value), _grow(depth - 1, 2 * value + 1), value)


def _count(node: Node | None) -> int:
    return 0 if node is None else 1 + _count(node.left) + _count(node.right)


def tree(rounds: int) -> int:
    """Binary trees of 8191 objects; 5 of them are alive at any time."""
    alive: deque[Node] = deque(maxlen=5)
    nodes = 0
    for _ in range(rounds):
        alive.append(_grow(12, 1))
        nodes += _count(alive[0])
    return nodes


def json_round_trip(rounds: int) -> int:
    """100 orders to JSON and back."""
    orders = [
        {
            "id": number,
            "customer": {"name": f"customer {number}", "address": [f"street {number}", "town"]},
            "lines": [{"sku": f"sku-{line}", "count": line, "price": 9.5} for line in range(5)],
            "paid": number % 2 == 0,
        }
        for number in range(100)
    ]
    size = 0
    for _ in range(rounds):
        text = json.dumps(orders)
        orders = json.loads(text)
        size += len(text)
    return size


def strings(rounds: int) -> int:
    """Lines formatted, joined, split, replaced and joined again."""
    size = 0
    for number in range(rounds):
        lines = [f"{number}:{line}: the quick brown fox" for line in range(1000)]
        page = "\n".join(lines).replace("quick", "slow")
        words = page.split(" ")
        text = ""
        for word in words[:500]:
            text += word.upper()
        size += len(" ".join(words)) + len(text)
    return size


def _descend(depth: int) -> list[str]:
    if depth == 0:
        return []
    here = [str(depth), "x" * depth]
    below = _descend(depth - 1)
    return [*here, *below[:4]]


def recursion(rounds: int) -> int:
    """Calls 60 deep; each allocates on the way down and on the way up."""
    size = 0
    for _ in range(rounds):
        for _ in range(100):
            size += len(_descend(60))
    return size


def large_blocks(rounds: int) -> int:
    """Byte arrays of 64 KiB to 4 MiB; 8 of them are alive at any time."""
    alive: deque[bytearray] = deque(maxlen=8)
    state = 1
    size = 0
    for _ in range(rounds):
        for _ in range(20):
            state = (state * 1103515245 + 12345) % 2**31
            alive.append(bytearray(65536 << (state >> 16) % 7))
            size += len(alive[0])
    return size


def leave_behind() -> Node:
    """A tree that stays alive: tens of MiB, so that no heap profile misses it by chance."""
    return _grow(18, 1)


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload("tree", "Tree of small objects", tree, 250, 12),
        Workload("json", "JSON round trip", json_round_trip, 1600, 60),
        Workload("strings", "String building", strings, 4000, 150),
        Workload("recursion", "Recursion, 60 deep", recursion, 1000),
        Workload("large", "Large blocks", large_blocks, 220),
    )
}
