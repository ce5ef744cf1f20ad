"""Whether a heap grows by more than a limit: surely not, surely, or not to be told."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from pyprof_agent.batches import gently
from pyprof_agent.errors import ConfigError
from pyprof_agent.leaks.growth import FEWEST_LOOKS, LEAK, Growth, judge
from pyprof_agent.leaks.looks import Look, error, most_unseen
from pyprof_agent.leaks.trend import CERTAINTY, trend
from pyprof_agent.leaks.work import done
from pyprof_agent.profile import Frame

PASSED, FAILED, UNKNOWN = "passed", "failed", "cannot tell"

MOST_LINES = 500
"""Lines that are judged, of those that have grown most: to judge one takes a millisecond."""

CLOSEST = 0.1
"""Share of the limit that a growth is taken to be away from it, at least: to tell two that are
equal apart takes for ever."""

MARGIN = 1.2
"""So much longer than it seems to need, a run should be."""

_UNITS = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "kB": 10**3, "MB": 10**6, "GB": 10**9}
_NUMBER = r"([0-9]+\.?[0-9]*|\.[0-9]+)"
_HOURLY = re.compile(rf"{_NUMBER}%/h")
_PER_REQUEST = re.compile(rf"{_NUMBER}({'|'.join(_UNITS)})")


@dataclass(frozen=True, slots=True)
class Limit:
    """The most that a heap may grow: per cent an hour, or bytes for each unit of work."""

    most: float
    per_work: bool = False

    def __str__(self) -> str:
        return f"{self.most:g} B a request" if self.per_work else f"{self.most:g} %/h"

    @classmethod
    def hourly(cls, text: str) -> Limit:
        """From `1%/h`. Raises ConfigError."""
        found = _HOURLY.fullmatch(text.replace(" ", ""))
        if not found or float(found[1]) == 0:
            raise ConfigError(f"the limit is {text!r}; use per cent an hour, as in 1%/h")
        return cls(float(found[1]))

    @classmethod
    def per_request(cls, text: str) -> Limit:
        """From `16B`, `1KiB`. Raises ConfigError."""
        found = _PER_REQUEST.fullmatch(text.replace(" ", ""))
        if not found or float(found[1]) == 0:
            raise ConfigError(f"the limit is {text!r}; use bytes a request, as in 16B or 1KiB")
        return cls(float(found[1]) * _UNITS[found[2]], per_work=True)


@dataclass(frozen=True, slots=True)
class Bounds:
    """An estimate, and what it is between; in the unit of the limit."""

    estimate: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Suspect:
    """A line whose memory grows all the time.

    share: of all growth
    """

    line: Frame
    growth: Growth
    share: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer.

    answer: `passed`, `failed` or `cannot tell`
    bounds: None where there are too few looks
    needed: seconds that a run should take to be told; None where this one did
    suspects: who grows most first
    """

    answer: str
    reason: str
    limit: Limit
    seconds: float
    bounds: Bounds | None
    needed: float | None
    suspects: tuple[Suspect, ...]


def decide(looks: Sequence[Look], limit: Limit) -> Verdict:
    """Hold what was seen against a limit.

    looks: at least one, in the order of time, without the warm-up

    Raises ConfigError where the limit is for each unit of work, and nothing is counted.
    """
    work = _work(looks)
    if limit.per_work and (work is None or work[-1] == work[0]):
        raise ConfigError(
            f"the limit is {limit}, and no request was counted: "
            "add pyprof_agent.count_requests to the service, or call pyprof_agent.count()"
        )
    seconds = looks[-1].seconds - looks[0].seconds
    bounds = _bounds(looks, limit, work) if len(looks) >= FEWEST_LOOKS else None
    suspects = suspicious(looks, grown(looks))

    def verdict(answer: str, reason: str, needed: float | None = None) -> Verdict:
        return Verdict(answer, reason, limit, seconds, bounds, needed, suspects)

    if not any(look.in_use for look in looks):
        reason = "no memory in use was seen; sample more of it, by a lower heap_sample_bytes"
        return verdict(UNKNOWN, reason)
    if bounds is None:
        pause = seconds / max(len(looks) - 1, 1)
        reason = f"{len(looks)} looks tell nothing of how sure a growth is"
        return verdict(UNKNOWN, reason, max(2 * seconds, 2 * FEWEST_LOOKS * pause))
    if bounds.high < limit.most:
        return verdict(PASSED, "it surely grows by less")
    if bounds.low > limit.most:
        return verdict(FAILED, "it surely grows by more")
    # Where it may not grow at all it is taken not to: the estimate is nothing but unsure then.
    likely = bounds.estimate if bounds.low > 0 else 0.0
    apart = max(abs(likely - limit.most), CLOSEST * limit.most)
    unsure = max(bounds.high - bounds.estimate, bounds.estimate - bounds.low)
    # As of a random walk, of which one knows the drift less soon than any other slope.
    longer = MARGIN * max(unsure / apart, 1) ** 2
    return verdict(UNKNOWN, "the limit is between the bounds", longer * seconds)


def grown(looks: Sequence[Look]) -> list[Frame]:
    """The lines that hold more in the last look than in the first, who has grown most first."""
    growth = {
        line: counts.in_use - looks[0].of(line).in_use for line, counts in looks[-1].lines.items()
    }
    most = sorted(growth, key=growth.__getitem__, reverse=True)[:MOST_LINES]
    return [line for line in most if growth[line] > 0]


def suspicious(looks: Sequence[Look], lines: Sequence[Frame]) -> tuple[Suspect, ...]:
    """Those of the lines that leak, by `judge`, who grows most first."""
    seconds, work = [look.seconds for look in looks], _work(looks)
    growths = {
        line: judge(
            seconds, [look.of(line).in_use for look in looks], work, error=error(looks, line)
        )
        for line in gently(lines)
    }
    hourly = {
        line: growth.hourly.slope
        for line, growth in growths.items()
        if growth.verdict == LEAK and growth.hourly is not None
    }
    total = sum(hourly.values())
    return tuple(
        [
            Suspect(line, growths[line], hourly[line] / total)
            for line in sorted(hourly, key=hourly.__getitem__, reverse=True)
        ]
    )


def _work(looks: Sequence[Look]) -> list[float] | None:
    return done([look.work for look in looks])


def _bounds(looks: Sequence[Look], limit: Limit, work: Sequence[float] | None) -> Bounds | None:
    xs = work if limit.per_work and work is not None else [look.seconds for look in looks]
    line = trend(xs, [look.in_use for look in looks])
    if line is None or line.start <= 0 or math.isinf(line.high - line.low):
        return None
    unit = 1.0 if limit.per_work else 3600 * 100 / line.start
    length = xs[-1] - xs[0]
    unsure = CERTAINTY * error(looks) / length
    unseen = most_unseen(looks[-1].sample_bytes) / length
    return Bounds(
        line.slope * unit,
        (line.slope - math.hypot(line.slope - line.low, unsure)) * unit,
        (line.slope + math.hypot(line.high - line.slope, unsure, unseen)) * unit,
    )
