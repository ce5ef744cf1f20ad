"""The functions of a profile as a table: what `go tool pprof -top` prints."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime

from pyprof_agent.formats.columns import shown
from pyprof_agent.formats.numbering import Numbering
from pyprof_agent.formats.plain import one_line
from pyprof_agent.formats.units import common_unit, label, percentage
from pyprof_agent.profile import MAPPING, Frame, Profile, ValueType, rounded

DROPPED_SHARE = 0.005
"""Functions with less than this share of all are left out, as pprof leaves them out."""


def encode(profile: Profile) -> bytes:
    """The table in UTF-8, largest `flat` first, with pprof's heading; times are UTC.

    The column is the profile's default one. `flat` is what a function has itself, `cum` what it
    has together with those it calls.

    Raises ProfileError if the profile has no column of its default's name.
    """
    column = shown(profile)
    value_type = profile.sample_types[column]
    counted = _count(profile, column)
    cutoff = int(abs(sum(counted.flat)) * DROPPED_SHARE)
    there = [number for number, cum in enumerate(counted.cum) if cum or counted.flat[number]]
    kept = [number for number in there if abs(counted.cum[number]) >= cutoff]
    kept.sort(key=lambda number: (-abs(counted.flat[number]), counted.names[number]))
    total = counted.total
    values = [abs(counted.flat[number]) or abs(counted.cum[number]) for number in kept]
    smallest = min(filter(None, values), default=total)
    unit = common_unit(smallest, total, value_type.unit) if kept else ""

    def written(value: int) -> str:
        return label(value, value_type.unit, unit)

    shown_total = sum(counted.flat[number] for number in kept)
    lines = [
        *_heading(profile, value_type, total, written(total)),
        f"Showing nodes accounting for {written(shown_total)}, "
        f"{percentage(shown_total, total).strip()} of {written(total)} total",
    ]
    dropped = len(there) - len(kept)
    if dropped and total:
        nodes = "nodes" if dropped > 1 else "node"
        lines.append(f"Dropped {dropped} {nodes} (cum <= {written(int(total * DROPPED_SHARE))})")
    lines.append(f"{'flat':>10} {'flat':>5}% {'sum':>5}% {'cum':>10} {'cum':>5}%")
    so_far = 0
    for number in kept:
        flat, cum = counted.flat[number], counted.cum[number]
        so_far += flat
        lines.append(
            f"{written(flat):>10} {percentage(flat, total)} {percentage(so_far, total)} "
            f"{written(cum):>10} {percentage(cum, total)}  {counted.names[number]}"
        )
    return ("\n".join(lines) + "\n").encode()


@dataclass(slots=True)
class _Counted:
    """`flat` and `cum` by the number of a function's name; `total` is without signs."""

    names: list[str]
    total: int = 0
    flat: list[int] = field(default_factory=list)
    cum: list[int] = field(default_factory=list)


def _count(profile: Profile, column: int) -> _Counted:
    names = Numbering(_name)
    counted = _Counted(names.keys)
    samples = rounded(profile).samples
    for sample, stack in zip(samples, names.stacks(samples), strict=True):
        value = int(sample.values[column])
        new = len(names.keys) - len(counted.cum)
        counted.flat.extend([0] * new)
        counted.cum.extend([0] * new)
        counted.total += abs(value)
        for number in set(stack):  # once, also where it calls itself
            counted.cum[number] += value
        if stack:
            counted.flat[stack[0]] += value
    return counted


def _name(frame: Frame) -> str:
    return one_line(frame.function)


def _heading(profile: Profile, of: ValueType, total: int, total_text: str) -> list[str]:
    taken = datetime.fromtimestamp(profile.time_nanos // 10**9, UTC)
    lines = [f"File: {MAPPING}"]
    lines += [one_line(comment) for comment in profile.comments if not comment.startswith("#")]
    lines += [f"Type: {of.type}", f"Time: {taken:%Y-%m-%d %H:%M:%S} UTC"]
    if profile.duration_nanos:
        busy = of.unit == "nanoseconds" and total
        ratio = f"({percentage(total, profile.duration_nanos)})" if busy else ""
        lines.append(
            f"Duration: {label(profile.duration_nanos, 'nanoseconds')}, "
            f"Total samples = {total_text} {ratio}"
        )
    return lines
