"""How fast a series grows, and how sure that is."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

CERTAINTY = 3.29
"""Of the bounds, in standard deviations of the normal distribution: 99.9 %, both sides together."""


@dataclass(frozen=True, slots=True)
class Trend:
    """A slope, and the bounds that it is between with that certainty; all per unit of x.

    start: the value of the line at the first x
    """

    slope: float
    low: float
    high: float
    start: float


def trend(xs: Sequence[float], ys: Sequence[float]) -> Trend | None:
    """The Theil-Sen line through points: the median of the slopes between any two of them.

    It stays right where up to 29 % of the points are wrong. The bounds are those of Sen (1968),
    "Estimates of the Regression Coefficient Based on Kendall's Tau", sections 4 and 5, which hold
    for points that are independent. Of those on a curve, or of memory that goes up and down
    slowly, each is like the one before, and tells little that is new: the variance of Kendall's
    score is multiplied as in Yue and Wang (2004), "The Mann-Kendall Test Modified by Effective
    Sample Size", equations 8 to 10, by the correlation of neighbours about the line.

    Where each point is so much like the one before that there are no such bounds, it is taken for
    a random walk with a drift, of which they are wider than needed for anything in between.

    xs: increasing, not all equal
    ys: as many

    None for fewer than three points, or if all have one x.
    """
    count = len(xs)
    slopes = sorted(
        [
            (ys[j] - ys[i]) / (xs[j] - xs[i])
            for i in range(count)
            for j in range(i + 1, count)
            if xs[j] != xs[i]
        ]
    )
    if count < 3 or not slopes:
        return None
    slope = median(slopes)
    middle = median([y - slope * x for x, y in zip(xs, ys, strict=True)])
    rest = [y - slope * x - middle for x, y in zip(xs, ys, strict=True)]
    variance = count * (count - 1) * (2 * count + 5) / 18 * _repetition(rest)
    reach = CERTAINTY * math.sqrt(variance)
    below = round((len(slopes) - reach) / 2)
    above = round((len(slopes) + reach) / 2)
    if below >= 0 and above < len(slopes):
        low, high = slopes[below], slopes[above]
    else:
        drift, unsure = _walk(xs, ys)
        low, high = min(drift - unsure, slope), max(drift + unsure, slope)
    return Trend(slope, low, high, start=middle + slope * xs[0])


def _walk(xs: Sequence[float], ys: Sequence[float]) -> tuple[float, float]:
    """The drift of a random walk through the points, and how much more or less it may be.

    Its steps are independent, with a variance in proportion to their length, so that the drift is
    known by the first point and the last, and its variance is that of a step of length 1, divided
    by the whole length. As few steps tell little of that, what is 1 at infinity is added for them:
    (n + 3) / (n - 1) is near to Student's t, over the normal distribution, for ten steps and more.
    """
    length = xs[-1] - xs[0]
    drift = (ys[-1] - ys[0]) / length
    steps = [
        (y - before - drift * (x - start)) ** 2 / (x - start)
        for (start, before), (x, y) in itertools.pairwise(zip(xs, ys, strict=True))
        if x > start
    ]
    count = len(steps)
    if count < 2:
        return drift, math.inf
    few = (count + 3) / (count - 1)
    return drift, CERTAINTY * few * math.sqrt(sum(steps) / count / length)


def _repetition(rest: Sequence[float]) -> float:
    """How many neighbours tell what one point would, from what is left beside the line; 1 or more.

    For a first-order process of correlation r it is (1 + r) / (1 - r), less what the end of the
    series cuts off: 1 + 2 sum (1 - k/n) r^k over all distances k.
    """
    count = len(rest)
    mean = sum(rest) / count
    spread = sum((value - mean) ** 2 for value in rest)
    if spread == 0:
        return 1.0
    pairs = itertools.pairwise(rest)
    correlation = sum((one - mean) * (next_ - mean) for one, next_ in pairs) / spread
    if correlation <= 0:
        return 1.0
    return 1 + 2 * sum((1 - k / count) * correlation**k for k in range(1, count))
