"""Values as `go tool pprof` writes them: scaled to a unit, and as a share of a total."""

from __future__ import annotations

_BYTES = (("B", 1), ("kB", 2**10), ("MB", 2**20), ("GB", 2**30), ("TB", 2**40), ("PB", 2**50))
_TIME = (("ns", 1), ("us", 10**3), ("ms", 10**6), ("s", 10**9), ("hrs", 3600 * 10**9))
_SCALES = {"bytes": _BYTES, "nanoseconds": _TIME}
_OF_NOTHING = {"bytes": "B", "nanoseconds": "s"}


def unit_for(value: int, unit: str) -> str:
    """The largest unit in which the value is 1 or more; "" for what has no units, like counts.

    unit: that of the value, as sample types have it
    """
    fits = [name for name, factor in _SCALES.get(unit, ()) if abs(value) >= factor]
    return fits[-1] if fits else _OF_NOTHING.get(unit, "")


def label(value: int, unit: str, shown: str = "") -> str:
    """The value in a unit, as in `128.52MB`; 0 has none.

    shown: a unit from `unit_for`; left out, the one that fits
    """
    shown = shown or unit_for(value, unit)
    factor = dict(_SCALES.get(unit, ())).get(shown, 1)
    number = f"{value / factor:.2f}".removesuffix(".00")
    return "0" if number in ("0", "-0") else number + shown


def common_unit(smallest: int, largest: int, unit: str) -> str:
    """One unit for a table, in which its smallest value still shows as 0.01 or more."""
    if unit_for(smallest, unit) != unit_for(largest, unit) and smallest * 100 < largest:
        smallest *= 100
    return unit_for(smallest, unit)


def percentage(value: int, total: int) -> str:
    """The value's share of the total, at least six characters wide."""
    ratio = abs(value / total) * 100 if total else 0.0
    if 99.95 <= ratio <= 100.05:
        return "  100%"
    return f"{ratio:5.2f}%" if ratio >= 1 else f"{ratio:5.2g}%"
