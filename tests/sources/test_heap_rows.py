"""The table of the heap engine: bounded, and no window sees an allocation that was none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyprof_agent.profile import Frame, Profile, Sample
from pyprof_agent.sources import heap_rows
from pyprof_agent.sources.heap_rows import HeapRows, window
from tests.support import heap_profile

MANY = Frame("<too many stacks>", "", 0, 0)

Stack = tuple[Frame, ...]


def stack(number: int) -> Stack:
    return (Frame(f"made.by_template_{number}", "<template>", 1, number),)


@pytest.fixture(autouse=True)
def small_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten rows are many."""
    monkeypatch.setattr(heap_rows, "MAX_ROWS", 10)


def values(samples: tuple[Sample, ...]) -> dict[Stack, tuple[float, ...]]:
    return {sample.stack: sample.values for sample in samples}


def allocated(samples: tuple[Sample, ...]) -> tuple[float, float]:
    return (
        sum(sample.values[0] for sample in samples),
        sum(sample.values[1] for sample in samples),
    )


def test_what_generated_code_has_freed_does_not_pile_up() -> None:
    rows = HeapRows()
    for number in range(1000):
        rows.update({stack(number): (1, 100)})
        assert len(rows) <= 10
    table = values(tuple(rows))
    assert table[stack(999)] == (1, 100, 1, 100)
    assert rows.folded == 1000 - len(rows)
    assert table[(MANY,)] == (rows.folded, 100 * rows.folded, 0, 0)
    assert allocated(tuple(rows)) == (1000, 100_000)


def test_what_is_alive_always_has_a_row_of_its_own() -> None:
    rows = HeapRows()
    live = {stack(number): (1, 100) for number in range(50)}
    rows.update(live)
    rows.update(live)
    assert values(tuple(rows)).keys() == live.keys()
    assert rows.folded == 0


def test_those_that_have_allocated_least_go_first() -> None:
    rows = HeapRows()
    rows.update({stack(number): (1, 100 * (number + 1)) for number in range(10)})
    rows.update({stack(100): (1, 1)})
    assert values(tuple(rows)).keys() == {
        (MANY,), *(stack(number) for number in range(2, 10)), stack(100)
    }  # fmt: skip


def test_a_table_that_is_not_full_has_no_row_for_the_rest() -> None:
    rows = HeapRows()
    rows.update({stack(1): (1, 100)})
    rows.update({})
    assert values(tuple(rows)) == {stack(1): (1, 100, 0, 0)}


def take(rows: HeapRows) -> Profile:
    return heap_profile(*rows)


def test_to_be_folded_is_no_allocation_and_to_come_back_is_one() -> None:
    rows = HeapRows()
    rows.update({stack(1): (1, 50)})
    first = take(rows)
    rows.update({stack(number): (1, 100) for number in range(10, 30)})
    assert stack(1) not in values(tuple(rows))
    second = take(rows)
    rows.update({stack(1): (1, 20)})
    third = take(rows)
    assert values(window(second, first).samples)[stack(1)] == (0, 0, -1, -50)
    assert (MANY,) not in values(window(second, first).samples)
    assert values(window(third, first).samples)[stack(1)] == (1, 20, 0, -30)
    assert allocated(window(third, first).samples) == (20 + 1, 20 * 100 + 20)


lives = st.dictionaries(st.integers(0, 30), st.integers(1, 5), max_size=20)


@given(st.lists(lives, min_size=1, max_size=12))
def test_no_window_sees_a_counter_fall_or_an_allocation_that_was_none(
    history: list[dict[int, int]],
) -> None:
    rows = HeapRows()
    snapshots = []
    grown: list[int] = []
    before: dict[int, int] = {}
    for live in history:
        rows.update({stack(number): (n, 100 * n) for number, n in live.items()})
        snapshots.append(take(rows))
        grown.append(sum(max(n - before.get(number, 0), 0) for number, n in live.items()))
        before = live
    for begin in range(len(history)):
        for end in range(begin, len(history)):
            change = window(snapshots[end], snapshots[begin])
            assert all(min(sample.values[:2]) >= 0 for sample in change.samples)
            expected = sum(grown[begin + 1 : end + 1])
            assert allocated(change.samples) == (expected, 100 * expected)
