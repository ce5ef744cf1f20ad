"""Thirty histories of memory whose truth is known: fifteen leaks, and fifteen that are none."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

MIB = 2**20
HOUR = 3600.0


@dataclass(frozen=True)
class History:
    """What one sees of a process, and whether it leaks."""

    name: str
    leaks: bool
    seconds: list[float]
    live: list[float]
    work: list[float] | None


def histories(seed: int) -> list[History]:
    """All thirty; noise, bursts and size of the process are drawn."""
    dice = random.Random(seed)
    base = dice.choice([50, 200, 800]) * MIB

    def steady(second: float) -> float:
        return 100.0

    def daily(second: float) -> float:
        return 100 * (1 + 0.6 * math.sin(2 * math.pi * second / 24 / HOUR))

    def times(hours: float) -> list[float]:
        looks = 144 if hours > 1 else 60
        return [hours * HOUR * look / (looks - 1) for look in range(looks)]

    def done(seconds: list[float], rate: Callable[[float], float]) -> list[float]:
        work = [0.0]
        for start, stop in pairwise(seconds):
            work.append(work[-1] + rate((start + stop) / 2) * (stop - start))
        return work

    def leak(
        name: str,
        percent: float,
        hours: float,
        rate: Callable[[float], float] = steady,
        noise: float = 0.003,
        bursts: float = 0.0,
        known: bool = True,
    ) -> History:
        seconds = times(hours)
        work = done(seconds, rate)
        hourly = work[-1] / hours
        live = [
            base
            * (1 + percent / 100 * units / hourly)
            * (1 + dice.gauss(0, noise))
            * (1 + (dice.uniform(0.05, 0.3) if dice.random() < bursts else 0))
            for units in work
        ]
        return History(f"{percent:g} %/h, {name}", True, seconds, live, work if known else None)

    def innocent(
        name: str,
        hours: float,
        share: Callable[[float], float],
        rate: Callable[[float], float] = steady,
    ) -> History:
        seconds = times(hours)
        live = [base * share(second) * (1 + dice.gauss(0, 0.003)) for second in seconds]
        return History(name, False, seconds, live, done(seconds, rate))

    def fills(time: float) -> Callable[[float], float]:
        return lambda second: 1 + 0.5 * (1 - math.exp(-second / time))

    def saw(period: float) -> Callable[[float], float]:
        return lambda second: 1 + 0.3 * (second / period % 1)

    def rises(percent: float) -> Callable[[float], float]:
        return lambda second: 100 * (1 + percent / 100 * second / HOUR)

    return [
        *(leak("a day", percent, 24) for percent in (0.5, 1, 2, 5)),
        leak("a day, noise of 1 %", 0.5, 24, noise=0.01),
        leak("a day with bursts", 1, 24, bursts=0.1),
        leak("a day with its ups and downs of traffic", 2, 24, rate=daily),
        *(leak("an hour", percent, 1) for percent in (5, 10, 20, 50)),
        leak("an hour with bursts", 10, 1, bursts=0.15),
        leak("traffic stops and restarts", 20, 1, lambda s: 0 if s % 1200 < 600 else 100),
        leak("traffic stops for 25 minutes", 50, 1, lambda s: 0 if 900 < s < 2400 else 100),
        leak("traffic not known", 10, 1, noise=0.006, known=False),
        *(innocent(f"a cache fills in {t // 60} min", 1, fills(t)) for t in (300, 900, 1500)),
        innocent("a cache is full after half an hour", 1, lambda s: 1 + 0.4 * min(s / 1800, 1)),
        innocent("a cache fills for hours", 24, fills(10000)),
        innocent("garbage, every 7 minutes", 1, saw(420)),
        innocent("garbage, every 50 minutes", 1, saw(3000)),
        innocent("garbage, every 3 hours", 24, saw(10800)),
        innocent("a step", 1, lambda s: 1.2 if s > 1700 else 1),
        innocent("two steps", 1, lambda s: 1 + 0.2 * (s > 900) + 0.2 * (s > 2500)),
        innocent("imports at the first request", 1, lambda s: 1.6 if s > 120 else 1),
        innocent("traffic grows by 30 %/h", 1, lambda s: 0.5 + rises(30)(s) / 200, rises(30)),
        innocent("traffic grows by 3 %/h", 24, lambda s: 0.3 + 0.7 * rises(3)(s) / 100, rises(3)),
        innocent("a day of traffic", 24, lambda s: 0.4 + 0.6 * daily(s) / 100, daily),
        innocent("nothing happens", 1, lambda s: 1.0),
    ]
