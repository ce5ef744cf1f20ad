"""What is said of growth, to people and to machines."""

from __future__ import annotations

import math
from typing import Protocol

from pyprof_agent.leaks.growth import Growth
from pyprof_agent.leaks.verdict import Suspect
from pyprof_agent.profile import Frame

_SCALES = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))


class Range(Protocol):
    """Bounds of an estimate."""

    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...


def duration(seconds: float) -> str:
    """`90 s`, `5 min`, `2 h`: rounded up."""
    if seconds < 120:
        return f"{math.ceil(seconds)} s"
    if seconds < 7200:
        return f"{math.ceil(seconds / 60)} min"
    return f"{math.ceil(seconds / 3600)} h"


def size(count: float) -> str:
    """Bytes in the largest unit that leaves one or more."""
    for unit, name in _SCALES:
        if abs(count) >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count:.0f} B"


def rate(count: float) -> str:
    """Bytes that are more or less, with a sign."""
    return f"{'-' if count < 0 else '+'}{size(abs(count))}"


def percent(value: float) -> str:
    """A percentage with three digits, and with all there are before the point."""
    return f"{value:,.0f} %" if abs(value) >= 100 else f"{value:.3g} %"


def where(line: Frame) -> str:
    """A function, its file and the line."""
    return f"{line.function} ({line.filename}:{line.line})" if line.filename else line.function


def suspect_text(suspect: Suspect) -> str:
    """A line, how much it grows an hour and a request, and its share of what grows."""
    growth = suspect.growth
    words = [where(suspect.line)]
    if growth.hourly is not None:
        words.append(f"{size(growth.hourly.slope)} an hour")
    if growth.per_unit is not None:
        words.append(f"{growth.per_unit.slope:.0f} B a request")
    return ", ".join([*words, f"{suspect.share:.0%} of that growth"])


def suspect_object(suspect: Suspect) -> dict[str, object]:
    """The same for JSON."""
    return {
        "function": suspect.line.function,
        "file": suspect.line.filename,
        "line": suspect.line.line,
        **growth_object(suspect.growth),
        "share": suspect.share,
    }


def growth_object(growth: Growth) -> dict[str, object]:
    """A growth for JSON: bytes an hour and, where work is counted, for each unit of it."""
    hourly, per_unit = growth.hourly, growth.per_unit
    return {
        "bytes_per_hour": None if hourly is None else bounds_object(hourly.slope, hourly),
        "bytes_per_request": None if per_unit is None else bounds_object(per_unit.slope, per_unit),
    }


def bounds_object(estimate: float, found: Range) -> dict[str, float | None]:
    """An estimate and its bounds for JSON, which has no infinity: `null` is none."""
    values = {"estimate": estimate, "low": found.low, "high": found.high}
    return {name: value if math.isfinite(value) else None for name, value in values.items()}
