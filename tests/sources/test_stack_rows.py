"""The table of the Python stack engine, at moments that the test chooses."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType

import pytest

from pyprof_agent.profile import Label
from pyprof_agent.sources import stack_rows
from pyprof_agent.sources.naming import FrameNames
from pyprof_agent.sources.stack_rows import (
    FOLDING_INTERVAL_NS,
    MAX_SEEN,
    Row,
    StackRows,
    _bytes_of,
)

MAIN = (Label("thread", "main"),)
OTHERS = (Label("thread", "<other threads>"),)
SECOND = 10**9


def first() -> FrameType:
    return sys._getframe()


def second() -> FrameType:
    return sys._getframe()


def third() -> FrameType:
    return sys._getframe()


def fourth() -> FrameType:
    return sys._getframe()


def fifth() -> FrameType:
    return sys._getframe()


def table() -> StackRows:
    """Of leaves alone: a test calls look() from several lines."""
    return StackRows(FrameNames(), max_frames=1)


def look(rows: StackRows, at: Callable[[], FrameType], now: int) -> Row:
    """Count one look, as the engine does."""
    row = rows.row(MAIN, at(), now, [])
    row.ticks += 1
    row.changed_at = now
    return row


def ticks(rows: StackRows) -> dict[str, int]:
    """Looks by the function of the leaf."""
    return {stack[0].function.rpartition(".")[2]: row.ticks for _, stack, row in rows}


@pytest.fixture
def room_for_four(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack_rows, "MAX_ROWS", 4)


@pytest.mark.usefixtures("room_for_four")
def test_a_full_table_counts_what_it_cannot_tell_apart() -> None:
    rows = table()
    for at in (first, second, third, fourth, fifth, fifth):
        look(rows, at, FOLDING_INTERVAL_NS - 1)
    known = {"first": 1, "second": 1, "third": 1, "fourth": 1}
    assert ticks(rows) == {**known, "<too many stacks>": 2}
    assert rows.overflows == 1


@pytest.mark.usefixtures("room_for_four")
def test_rows_that_changed_last_stay_in_a_full_table_and_nothing_is_lost() -> None:
    rows = table()
    now = FOLDING_INTERVAL_NS
    for at in (first, second, third, fourth, fifth):
        now += SECOND
        look(rows, at, now)
    assert ticks(rows) == {"<too many stacks>": 2, "third": 1, "fourth": 1, "fifth": 1}
    assert (rows.overflows, rows.folded) == (0, 2)


@pytest.mark.usefixtures("room_for_four")
def test_a_stack_that_found_no_room_gets_it_when_there_is_some() -> None:
    rows = table()
    for at in (first, second, third, fourth, fifth):
        look(rows, at, FOLDING_INTERVAL_NS - 1)
    look(rows, fifth, FOLDING_INTERVAL_NS)
    assert ticks(rows)["fifth"] == 1
    assert sum(ticks(rows).values()) == 6


@pytest.mark.usefixtures("room_for_four")
def test_a_full_table_makes_room_once_in_an_interval() -> None:
    rows = table()
    now = FOLDING_INTERVAL_NS
    for at in (first, second, third, fourth, fifth, third):
        look(rows, at, now)
    assert rows.folded == 2
    assert rows.overflows > 0
    look(rows, first, now + FOLDING_INTERVAL_NS)
    assert rows.folded > 2


def test_what_a_thread_has_is_added_to_that_of_others() -> None:
    rows = table()
    look(rows, first, 1)
    look(rows, second, 2)
    before = rows.own_bytes
    rows.row(OTHERS, first(), 3, []).ticks += 10
    rows.hand_over({MAIN}, OTHERS, 4)
    assert rows.moved_at == 4
    assert {labels for labels, _, _ in rows} == {OTHERS}
    assert ticks(rows) == {"first": 11, "second": 1}
    assert rows._bytes == sum(_bytes_of(stack) for _, stack, _ in rows)
    assert rows.own_bytes < before
    look(rows, first, 4)
    assert len(rows) == 3


def test_the_cache_of_positions_is_bounded() -> None:
    rows = table()
    for n in range(MAX_SEEN + 10):
        namespace: dict[str, Callable[[], FrameType]] = {}
        exec("import sys\ndef here(): return sys._getframe()", namespace)
        assert look(rows, namespace["here"], n).ticks == n + 1
    assert len(rows._seen) <= MAX_SEEN
    assert len(rows._codes) <= MAX_SEEN
