"""Leaks are called leaks, and what only looks like one is not."""

from __future__ import annotations

import math
import random
from statistics import fmean

import pytest

from pyprof_agent.leaks.growth import INNOCENT, LEAK, UNSURE, judge
from pyprof_agent.leaks.trend import trend
from tests.leaks.histories import History, histories

SEEDS = range(20)


@pytest.mark.parametrize("place", range(30), ids=[found.name for found in histories(0)])
def test_every_history_is_judged_right(place: int) -> None:
    wrong = []
    for seed in SEEDS:
        history = histories(seed)[place]
        found = judge(history.seconds, history.live, history.work)
        if (found.verdict == LEAK) != history.leaks:
            wrong.append((seed, found))
    assert not wrong


def of(percent: float) -> History:
    return next(found for found in histories(3) if found.name == f"{percent} %/h, an hour")


@pytest.mark.parametrize("percent", [5, 10, 20, 50])
def test_the_rate_is_between_its_bounds(percent: float) -> None:
    history = of(percent)
    found = judge(history.seconds, history.live, history.work)
    assert found.percent is not None
    assert found.percent.slope == pytest.approx(percent, rel=0.1)
    assert found.percent.low < percent < found.percent.high
    assert found.hourly is not None
    assert found.per_unit is not None
    assert history.work is not None
    assert found.per_unit.slope * history.work[-1] == pytest.approx(found.hourly.slope)
    assert found.steadiness > 0.6


def test_too_few_looks_and_too_little_growth_tell_nothing() -> None:
    history = of(5)
    assert judge(history.seconds[:11], history.live[:11]).verdict == UNSURE
    growth = history.live[-1] - history.live[0]
    assert judge(history.seconds, history.live, error=growth / 2).verdict == UNSURE
    assert judge(history.seconds, history.live, error=growth / 10).verdict == LEAK


@pytest.mark.parametrize(("correlation", "most"), [(0.95, 0.01), (0.98, 0.02), (1.0, 0.06)])
def test_memory_that_wanders_is_seldom_called_a_leak(correlation: float, most: float) -> None:
    called = []
    for seed in range(200):
        dice, rest, live = random.Random(seed), 0.0, []
        for _ in range(60):
            rest = correlation * rest + dice.gauss(0, 0.01)
            live.append(2e8 * (1 + rest))
        called.append(judge([60.0 * look for look in range(60)], live).verdict == LEAK)
    assert fmean(called) <= most


def test_what_shrinks_is_no_leak() -> None:
    seconds = [60.0 * look for look in range(60)]
    live = [1e8 - 1e5 * look for look in range(60)]
    assert judge(seconds, live).verdict == INNOCENT
    assert judge(seconds, live).reason == "it shrinks"


def test_a_line_has_its_slope_without_doubt() -> None:
    found = trend([1, 2, 4, 8], [12, 14, 18, 26])
    assert found is not None
    assert (found.slope, found.start) == (2, 12)


@pytest.mark.parametrize(("xs", "ys"), [([], []), ([1, 2], [1, 2]), ([3, 3, 3], [1, 2, 3])])
def test_there_is_no_trend_of_too_little(xs: list[float], ys: list[float]) -> None:
    assert trend(xs, ys) is None


def test_points_that_are_wrong_do_not_turn_the_line() -> None:
    ys = [2.0 * x for x in range(40)]
    for wrong in range(0, 40, 4):
        ys[wrong] += 1000
    found = trend(range(40), ys)
    assert found is not None
    assert found.slope == pytest.approx(2, rel=0.02)


@pytest.mark.parametrize("correlation", [0.0, 0.6, 0.9])
def test_the_bounds_hold_the_truth_nearly_always(correlation: float) -> None:
    dice, held = random.Random(1), []
    for _ in range(150):
        rest, ys = dice.gauss(0, 1), []
        for look in range(60):
            rest = correlation * rest + math.sqrt(1 - correlation**2) * dice.gauss(0, 1)
            ys.append(0.5 * look + rest)
        found = trend(range(60), ys)
        assert found is not None
        held.append(found.low <= 0.5 <= found.high)
    assert fmean(held) > 0.97
