"""The history is bounded, and its looks tell the same as those that it was given."""

from __future__ import annotations

import random
import sys
from collections.abc import Mapping

import pytest

from pyprof_agent.leaks import history as module
from pyprof_agent.leaks.history import OTHER_LINES, PAST_EVERY, PAST_LOOKS, RECENT_LOOKS, History
from pyprof_agent.leaks.looks import NOTHING, Counts, Look, error
from pyprof_agent.profile import Frame


def line(number: int) -> Frame:
    return Frame(f"shop.function_{number}", "/shop.py", number, number)


def a_look(second: float, sizes: Mapping[int, float], work: int | None = None) -> Look:
    lines = {line(number): Counts(2 * size, size) for number, size in sizes.items()}
    return Look(second, lines, 4096, work)


def test_both_spans_keep_so_many_looks() -> None:
    history = History(4096)
    for second in range(PAST_EVERY * PAST_LOOKS + 75):
        history.add(a_look(second, {1: second}), None)
    last = PAST_EVERY * PAST_LOOKS + 74
    assert [moment.seconds for moment in history.recent] == [
        *range(last - RECENT_LOOKS + 1, last + 1)
    ]
    past = [moment.seconds for moment in history.past]
    assert len(past) == PAST_LOOKS
    assert past == [*range(int(past[0]), last + 1, PAST_EVERY)]


def test_looks_come_back_as_they_were_for_the_lines_that_have_grown() -> None:
    dice = random.Random(3)
    history, given = History(4096), []
    for second in range(20):
        sizes = {number: dice.randrange(1000) for number in range(10)} | {3: 100 * second}
        given.append(a_look(second, sizes, work=second * 7))
        history.add(given[-1], 1e6)
    looks, grown = history.looks(history.recent, 1)
    assert grown == [line(3)]
    for before, after in zip(given, looks, strict=True):
        assert (after.seconds, after.sample_bytes, after.work) == (
            before.seconds,
            4096,
            before.work,
        )
        assert after.of(line(3)) == before.of(line(3))
        assert after.in_use == pytest.approx(before.in_use)
        assert after.allocated == pytest.approx(before.allocated)
    assert {**looks[0].lines, OTHER_LINES: NOTHING} == {**given[0].lines, OTHER_LINES: NOTHING}
    assert error(looks) == pytest.approx(error(given))


def test_a_line_that_comes_later_had_nothing_before() -> None:
    history = History(4096)
    history.add(a_look(0, {1: 10}), None)
    history.add(a_look(1, {1: 10, 2: 20}), None)
    looks, grown = history.looks(history.recent, 5)
    assert grown == [line(2)]
    assert looks[0].of(line(2)) == NOTHING
    assert history.most_of(line(2), history.recent) == 20
    assert history.most_of(line(9), history.recent) == 0


def test_past_its_bound_the_largest_lines_are_known_and_later_ones_once_an_hour(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MAX_LINES", 100)
    history = History(4096)
    for second in range(RECENT_LOOKS + 10):
        small = {1000 + 10 * second + number: 1.0 for number in range(90)}
        large = dict.fromkeys(range(50), 1000.0 + second)
        late = {500: 10.0 * second} if second > 5 else {}
        history.add(a_look(second, small | large | late), None)
    looks, grown = history.looks(history.recent, 200)
    assert {line(number) for number in range(50)} <= set(grown)
    assert line(500) in grown
    assert len(looks[-1].lines) <= 100 + 1
    for found in looks:
        assert found.of(line(7)).in_use == 1000 + found.seconds
        late_size = 10 * found.seconds if found.seconds > 5 else 0
        assert found.in_use == pytest.approx(50 * (1000 + found.seconds) + 90 + late_size)


def test_full_of_lines_it_takes_less_than_five_mebibytes(monkeypatch: pytest.MonkeyPatch) -> None:
    part = 10
    monkeypatch.setattr(module, "MAX_LINES", module.MAX_LINES // part)
    history = History(4096)
    sizes = {number: float(number) for number in range(module.MAX_LINES)}
    for second in range(PAST_EVERY * PAST_LOOKS):
        history.add(a_look(second, sizes), None)
    moments = {id(moment): moment for moment in (*history.recent, *history.past)}
    arrays = [
        array
        for moment in moments.values()
        for array in (moment.line_allocated, moment.line_in_use)
    ]
    places = sys.getsizeof(dict.fromkeys(sizes)) + module.MAX_LINES * sys.getsizeof(1)
    assert part * (sum(map(sys.getsizeof, arrays)) + places) < 5 * 2**20
