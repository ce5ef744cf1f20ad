"""Whether what grows is a leak: how sure, how steadily, and whether traffic explains it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from pyprof_agent.leaks.trend import CERTAINTY, Trend, trend

FEWEST_LOOKS = 12
"""Fewer tell nothing: three for each part."""

PARTS = 4
"""Stretches of equal length, or of equal work, that a leak grows in all of."""

STEADY = 0.3
"""Share of the mean growth that the part which grows least must have."""

LEVELS_OFF = 0.5
"""Share of the first growth that the last must have, where it has become less all the time: a cache
that fills has less, a leak has as much."""

LEAK, INNOCENT, UNSURE = "leak", "no leak", "cannot tell"


@dataclass(frozen=True, slots=True)
class Growth:
    """What a series of live bytes does.

    verdict: `leak`, `no leak` or `cannot tell`
    reason: in words
    hourly: bytes an hour, with bounds
    percent: the same as a percentage of what there was at the beginning; None from zero
    steadiness: growth of the part that grows least, as a share of the mean; 1 is a straight line
    per_unit: bytes for each unit of work, with bounds, where work is known

    Where work is known, all is judged along it: a leak stands still while nothing is done.
    """

    verdict: str
    reason: str
    hourly: Trend | None = None
    percent: Trend | None = None
    steadiness: float = 0.0
    per_unit: Trend | None = None


def judge(
    seconds: Sequence[float],
    live: Sequence[float],
    work: Sequence[float] | None = None,
    *,
    error: float = 0.0,
) -> Growth:
    """Judge a series.

    seconds: when each look was taken, increasing
    live: bytes in use at each
    work: units done up to each, since whenever; None if it is not known
    error: bytes, the standard error of the difference between the last and the first look
    """
    count = len(seconds)
    done = work if work is not None and work[-1] > work[0] else None
    xs = seconds if done is None else done
    line = trend(xs, live) if count >= FEWEST_LOOKS else None
    if line is None:
        return Growth(UNSURE, f"{count} looks so far, and {FEWEST_LOOKS} are needed")
    hours = (seconds[-1] - seconds[0]) / 3600
    hourly = _scaled(line, (xs[-1] - xs[0]) / hours)
    percent = _scaled(hourly, 100 / line.start) if line.start > 0 else None
    steps = _steps(xs, live)
    mean = sum(steps) / len(steps)
    steadiness = max(min(steps) / mean, 0.0) if mean > 0 else 0.0

    def growth(verdict: str, reason: str) -> Growth:
        return Growth(verdict, reason, hourly, percent, steadiness, None if done is None else line)

    if line.high <= 0:
        return growth(INNOCENT, "it shrinks" if line.slope < 0 else "it does not grow")
    if line.low <= 0:
        return growth(INNOCENT, "it goes up and down, and does not surely grow")
    if hourly.slope * hours < CERTAINTY * error:
        return growth(UNSURE, "it has grown less than what sampling can tell")
    if steadiness < STEADY:
        return growth(INNOCENT, "it has grown at times, and not all the time")
    if steps == sorted(steps, reverse=True) and steps[-1] < LEVELS_OFF * steps[0]:
        return growth(INNOCENT, "it levels off")
    traffic = None if done is None else _traffic_percent(seconds, done)
    if traffic is not None and percent is not None and percent.low <= traffic.high:
        return growth(INNOCENT, f"traffic grows as fast, by {traffic.slope:.1f} % an hour")
    return growth(LEAK, "it grows all the time")


def _scaled(line: Trend, factor: float) -> Trend:
    return Trend(line.slope * factor, line.low * factor, line.high * factor, line.start)


def _steps(xs: Sequence[float], live: Sequence[float]) -> list[float]:
    """The growth from each part to the next, by their medians; none where a part has no look."""
    length = (xs[-1] - xs[0]) / PARTS
    parts: list[list[float]] = [[] for _ in range(PARTS)]
    for x, value in zip(xs, live, strict=True):
        parts[min(int((x - xs[0]) / length), PARTS - 1)].append(value)
    if not all(parts):
        return [0.0]
    middles = [median(part) for part in parts]
    return [later - earlier for earlier, later in itertools.pairwise(middles)]


def _traffic_percent(seconds: Sequence[float], work: Sequence[float]) -> Trend | None:
    """How much more work is done from hour to hour, in per cent, where that surely grows."""
    middles = [(a + b) / 2 for a, b in itertools.pairwise(seconds)]
    rates = [
        (work[i + 1] - work[i]) / (seconds[i + 1] - seconds[i]) for i in range(len(seconds) - 1)
    ]
    line = trend(middles, rates)
    if line is None or line.low <= 0 or line.start <= 0:
        return None
    return _scaled(line, 3600 * 100 / line.start)
