"""A profile as a tree of calls, with as many of its largest nodes as a picture can hold."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pyprof_agent.formats.columns import Part
from pyprof_agent.formats.numbering import Numbering
from pyprof_agent.profile import Profile

_STEPS = 8
"""Thresholds that are tried for each halving of a share."""

_SMALLEST = 2.0**-62


@dataclass(frozen=True, slots=True)
class Hidden:
    """What of one part of the profile has no node of its own, and shows in its callers' width.

    stacks: as many, of functions
    value: their sum
    """

    stacks: int
    value: float


@dataclass(frozen=True, slots=True)
class CallTree:
    """Nodes in an order in which callers come before those they call; the first is all.

    parents: the node that calls each, by index; 0 for the first, too
    functions: the number of each one's function; 0 for the first, which has none
    values: for each part of the profile the value of each node, callees included
    below: nodes with less than this share in every part are hidden; 0 if none are
    hidden: for each part
    """

    parents: list[int]
    functions: list[int]
    values: list[list[float]]
    below: float
    hidden: list[Hidden]


def call_tree(
    profile: Profile, columns: Sequence[Part], functions: Numbering[tuple[str, str, int]], most: int
) -> CallTree:
    """The tree of a profile.

    columns: the parts that nodes have values of
    functions: makes the numbers of functions
    most: nodes there may be
    """
    parents, numbers = [0], [0]
    values: list[list[float]] = [[0] for _ in columns]
    node_of: dict[tuple[int, int], int] = {}
    for sample, stack in zip(profile.samples, functions.stacks(profile.samples), strict=True):
        node = 0
        for number in reversed(stack):
            key = (node, number)
            child = node_of.get(key)
            if child is None:
                node_of[key] = child = len(parents)
                parents.append(node)
                numbers.append(number)
                for own in values:
                    own.append(0)
            node = child
        for part, own in zip(columns, values, strict=True):
            own[node] += part.of(sample)
    own_values = [own.copy() for own in values]
    for column in values:
        for node in range(len(parents) - 1, 0, -1):
            column[parents[node]] += column[node]
    shares = _shares(values)
    below = _threshold(shares, most)
    kept = [node for node, share in enumerate(shares) if share >= below or not node]
    place = {node: index for index, node in enumerate(kept)}
    return CallTree(
        parents=[place[parents[node]] for node in kept],
        functions=[numbers[node] for node in kept],
        values=[[column[node] for node in kept] for column in values],
        below=below,
        hidden=[_hidden(own, shares, below) for own in own_values],
    )


def _shares(values: Sequence[Sequence[float]]) -> list[float]:
    """For each node its share of all, in the part where that is largest."""
    shares = [0.0] * len(values[0])
    for column in values:
        total = column[0]
        if total:
            shares = [
                max(share, value / total) for share, value in zip(shares, column, strict=True)
            ]
    return shares


def _threshold(shares: Sequence[float], most: int) -> float:
    """The lowest share of a coarse scale that no more than `most` nodes reach; 0 if all may stay.

    Counted and not sorted, which would hold the GIL for as long as it takes.
    """
    if len(shares) <= most:
        return 0.0
    counts = [0] * (62 * _STEPS + 1)
    for share in shares:
        counts[math.floor(-math.log2(max(share, _SMALLEST)) * _STEPS)] += 1
    room = most
    for step, count in enumerate(counts):
        room -= count
        if room < 0:
            return float(2 ** (-step / _STEPS))
    return 0.0


def _hidden(own: Sequence[float], shares: Sequence[float], below: float) -> Hidden:
    values = [value for value, share in zip(own, shares, strict=True) if value and share < below]
    return Hidden(len(values), sum(values))
