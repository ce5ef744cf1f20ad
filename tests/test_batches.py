"""Long work leaves nothing out, and lets others run."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyprof_agent import batches
from pyprof_agent.batches import AT_ONCE, gently


class Clock:
    """Time that passes by a step whenever somebody looks, and pauses that are noted."""

    def __init__(self, step: float) -> None:
        self.step = step
        self.now = 0.0
        self.pauses = 0

    def perf_counter(self) -> float:
        self.now += self.step
        return self.now

    def pause(self, seconds: float) -> None:
        self.pauses += 1


@given(st.integers(0, 3 * AT_ONCE), st.integers(0, 3 * AT_ONCE))
def test_the_ranges_cover_all_once_and_in_order(start: int, length: int) -> None:
    ranges = list(batches.batches(start, start + length))
    places = [place for first, last in ranges for place in range(first, last)]
    assert places == list(range(start, start + length))
    assert all(0 < last - first <= AT_ONCE for first, last in ranges)


@given(st.integers(0, 3 * AT_ONCE))
def test_every_value_comes_once_and_in_order(count: int) -> None:
    assert list(gently(range(count))) == list(range(count))


@pytest.mark.parametrize(("step", "pauses"), [(0.001, 10), (0.0004, 5), (0.00001, 0)])
def test_pauses_come_after_so_much_time(
    step: float, pauses: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(step)
    monkeypatch.setattr(batches, "time", clock)
    monkeypatch.setattr(batches, "pause", clock.pause)
    assert len(list(batches.batches(0, 10 * AT_ONCE))) == 10
    assert clock.pauses == pauses
