"""Folded stacks, one a line, root first: what flamegraph.pl, inferno and `grep` read."""

from __future__ import annotations

from pyprof_agent.batches import batches
from pyprof_agent.formats.columns import shown
from pyprof_agent.formats.numbering import Numbering
from pyprof_agent.formats.plain import one_line
from pyprof_agent.profile import Frame, Profile, rounded

NO_STACK = "<no stack>"
"""Stands for a stack without frames."""


def encode(profile: Profile) -> bytes:
    """`root;...;leaf VALUE` for each stack of functions, largest first, in UTF-8.

    The column is the profile's default one. Stacks that differ in their lines or labels only are
    one line, and those of value 0 are left out. A `;` in a name is written as `:`.

    Raises ProfileError if the profile has no column of its default's name.
    """
    column = shown(profile)
    names = Numbering(_name)
    totals: dict[tuple[int, ...], int] = {}
    samples = rounded(profile).samples
    for sample, stack in zip(samples, names.stacks(samples), strict=True):
        totals[stack] = totals.get(stack, 0) + int(sample.values[column])
    rows = sorted([(value, stack) for stack, value in totals.items() if value], key=_largest_first)

    def line(value: int, stack: tuple[int, ...]) -> str:
        named = ";".join([names.keys[number] for number in reversed(stack)])
        return f"{named or NO_STACK} {value}\n"

    # A batch after the other becomes bytes, as all lines of 20,000 stacks are 18 MB.
    return b"".join(
        [
            "".join([line(*row) for row in rows[start:stop]]).encode()
            for start, stop in batches(0, len(rows))
        ]
    )


def _largest_first(row: tuple[int, tuple[int, ...]]) -> int:
    return -row[0]


def _name(frame: Frame) -> str:
    return one_line(frame.function).replace(";", ":")
