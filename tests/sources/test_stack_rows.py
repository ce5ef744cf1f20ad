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
    EVICTION_INTERVAL_NS,
    MAX_SEEN,
    ROW_RETENTION_NS,
    Row,
    StackRows,
)

MAIN = (Label("thread", "main"),)
SECOND = 10**9


def first() -> FrameType:
    return sys._getframe()


def second() -> FrameType:
    return sys._getframe()


def third() -> FrameType:
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
def room_for_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack_rows, "MAX_ROWS", 2)


@pytest.mark.usefixtures("room_for_two")
def test_a_full_table_counts_what_it_cannot_tell_apart() -> None:
    rows = table()
    now = EVICTION_INTERVAL_NS
    for at in (first, second, third, third):
        look(rows, at, now)
    assert ticks(rows) == {"first": 1, "second": 1, "<too many stacks>": 2}
    assert rows.overflows == 1


@pytest.mark.usefixtures("room_for_two")
def test_rows_that_rest_make_room_in_a_full_table() -> None:
    rows = table()
    now = EVICTION_INTERVAL_NS
    look(rows, first, now)
    look(rows, second, now + SECOND)
    look(rows, third, now + ROW_RETENTION_NS)
    assert ticks(rows) == {"second": 1, "third": 1}
    assert rows.overflows == 0


@pytest.mark.usefixtures("room_for_two")
def test_a_stack_that_found_no_room_gets_it_when_there_is_some() -> None:
    rows = table()
    now = EVICTION_INTERVAL_NS
    for at in (first, second, third):
        look(rows, at, now)
    look(rows, third, now + ROW_RETENTION_NS)
    assert ticks(rows) == {"third": 1}


@pytest.mark.usefixtures("room_for_two")
def test_a_full_table_is_searched_once_in_an_interval() -> None:
    rows = table()
    now = ROW_RETENTION_NS
    look(rows, first, now - ROW_RETENTION_NS + SECOND)
    look(rows, second, now)
    look(rows, third, now)  # none rests yet
    look(rows, third, now + 2 * SECOND)
    assert ticks(rows)["first"] == 1
    look(rows, third, now + EVICTION_INTERVAL_NS)
    assert "first" not in ticks(rows)


def test_the_cache_of_positions_is_bounded() -> None:
    rows = table()
    for n in range(MAX_SEEN + 10):
        namespace: dict[str, Callable[[], FrameType]] = {}
        exec("import sys\ndef here(): return sys._getframe()", namespace)
        assert look(rows, namespace["here"], n).ticks == n + 1
    assert len(rows._seen) <= MAX_SEEN
    assert len(rows._codes) <= MAX_SEEN
