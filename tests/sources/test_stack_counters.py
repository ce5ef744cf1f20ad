"""CPU and wall profiles from the counters of a stack engine."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyprof_agent.profile import Frame, Label, Profile, Sample, ValueType
from pyprof_agent.profile_rules import validate
from pyprof_agent.sources.stack_counters import (
    COUNTERS,
    OVERFLOW,
    UNSAMPLED,
    cpu_profile,
    folded_window,
    wall_profile,
)
from tests.support import LEAF, ROOT_FRAME

RUNNING, WAITING = Label("state", "running"), Label("state", "waiting")
MAIN = (Label("thread", "MainThread"),)
WORKER = (Label("thread", "worker"),)

ADD = (LEAF, ROOT_FRAME)
PAY = (Frame("shop.pay.pay", "/srv/shop/pay.py", 5, 6), ROOT_FRAME)
SELECT = (Frame("selectors.select", "/usr/lib/selectors.py", 1, 2), ROOT_FRAME)
CLOCK = (UNSAMPLED,)

Stack = tuple[Frame, ...]
Labels = tuple[Label, ...]


def row(stack: Stack, labels: Labels = MAIN, **counts: float) -> Sample:
    """A row of counters, given by name; those left out are zero."""
    names = [value_type.type for value_type in COUNTERS]
    assert set(counts) <= set(names)
    return Sample(stack, tuple(counts.get(name, 0) for name in names), labels)


def counters(*rows: Sample) -> Profile:
    return Profile(
        sample_types=COUNTERS,
        samples=rows,
        period_type=ValueType("cpu", "nanoseconds"),
        period=10_000_000,
        time_nanos=1_700_000_000_000_000_000,
        duration_nanos=30_000_000_000,
        comments=("made by a test",),
    )


def table(profile: Profile) -> dict[tuple[Stack, Labels], tuple[float, ...]]:
    result = {(sample.stack, sample.labels): sample.values for sample in profile.samples}
    assert len(result) == len(profile.samples)
    return result


COUNTS = st.fixed_dictionaries(
    {
        "ticks": st.integers(-5, 50),
        "wall": st.integers(-(10**9), 10**11),
        "hits": st.integers(-5, 50),
        "asleep": st.integers(-5, 50),
        "cpu": st.just(0),
    }
)
STACKS = st.sampled_from((ADD, PAY, SELECT))
THREADS = st.sampled_from((MAIN, WORKER, ()))
CLOCKS = st.dictionaries(THREADS, st.integers(-(10**9), 10**12))


@st.composite
def windows(draw: st.DrawFn) -> Profile:
    """Counters of a window, in which rows may have shrunk as old ones were evicted."""
    seen = draw(st.dictionaries(st.tuples(STACKS, THREADS), COUNTS))
    rows = [row(stack, labels, **counts) for (stack, labels), counts in seen.items()]
    clocks = draw(CLOCKS)
    rows += [row(CLOCK, labels, cpu=clock) for labels, clock in clocks.items()]
    return counters(*draw(st.permutations(rows)))


# CPU


def test_cpu_of_a_thread_is_spread_over_what_was_seen_to_run() -> None:
    profile = cpu_profile(
        counters(row(ADD, hits=3, ticks=9), row(PAY, hits=1, ticks=9), row(CLOCK, cpu=1000))
    )
    assert table(profile) == {(ADD, MAIN): (3, 750), (PAY, MAIN): (1, 250)}


def test_each_thread_is_billed_for_its_own_cpu() -> None:
    profile = cpu_profile(
        counters(
            row(ADD, MAIN, hits=1),
            row(CLOCK, MAIN, cpu=100),
            row(ADD, WORKER, hits=7),
            row(CLOCK, WORKER, cpu=5000),
        )
    )
    assert table(profile) == {(ADD, MAIN): (1, 100), (ADD, WORKER): (7, 5000)}


def test_cpu_of_a_thread_that_was_never_seen_to_run_is_unsampled() -> None:
    profile = cpu_profile(
        counters(row(SELECT, hits=0, asleep=9, ticks=9), row(CLOCK, cpu=400), row(ADD, WORKER))
    )
    assert table(profile) == {(CLOCK, MAIN): (0, 400)}


def test_a_stack_at_which_a_thread_mostly_rests_is_not_billed() -> None:
    profile = cpu_profile(
        counters(row(SELECT, hits=2, asleep=50), row(ADD, hits=5, asleep=1), row(CLOCK, cpu=1000))
    )
    assert table(profile) == {(ADD, MAIN): (5, 1000)}


def test_stacks_that_made_room_are_billed_though_the_thread_rested_at_most_of_them() -> None:
    room = (OVERFLOW,)
    profile = cpu_profile(
        counters(row(room, hits=5, asleep=50), row(ADD, hits=5), row(CLOCK, cpu=1000))
    )
    assert table(profile) == {(room, MAIN): (5, 500), (ADD, MAIN): (5, 500)}


def test_a_thread_that_rests_everywhere_is_billed_where_it_was_seen_to_run() -> None:
    profile = cpu_profile(
        counters(row(ADD, hits=1, asleep=5), row(PAY, hits=3, asleep=9), row(CLOCK, cpu=1000))
    )
    assert table(profile) == {(ADD, MAIN): (1, 250), (PAY, MAIN): (3, 750)}


def test_a_thread_that_burned_nothing_is_left_out() -> None:
    profile = cpu_profile(counters(row(ADD, hits=3), row(CLOCK, cpu=0)))
    assert profile.samples == ()


def test_a_row_that_shrank_takes_no_share() -> None:
    profile = cpu_profile(
        counters(row(PAY, hits=-7, ticks=-9), row(ADD, hits=2), row(CLOCK, cpu=1000))
    )
    assert table(profile) == {(ADD, MAIN): (2, 1000)}


def test_a_clock_that_shrank_bills_nobody() -> None:
    profile = cpu_profile(counters(row(ADD, hits=2), row(CLOCK, cpu=-1000)))
    assert profile.samples == ()


@given(windows())
def test_the_cpu_of_every_thread_sums_to_its_clock(window: Profile) -> None:
    shares: dict[Labels, list[float]] = {}
    for sample in cpu_profile(window).samples:
        assert sample.values[0] >= 0
        assert sample.values[1] > 0
        shares.setdefault(sample.labels, []).append(sample.values[1])
    clocks = {
        sample.labels: sample.values[-1] for sample in window.samples if sample.values[-1] > 0
    }
    assert shares.keys() == clocks.keys()
    for labels, clock in clocks.items():
        assert math.isclose(math.fsum(shares[labels]), clock, rel_tol=1e-12)


# Wall


def test_wall_takes_ticks_and_time_of_every_stack() -> None:
    profile = wall_profile(
        counters(
            row(ADD, ticks=3, wall=300, hits=3),
            row(SELECT, WORKER, ticks=1, wall=100, asleep=1),
            row(CLOCK, cpu=1000),
        )
    )
    assert table(profile) == {
        (ADD, (*MAIN, RUNNING)): (3, 300),
        (SELECT, (*WORKER, WAITING)): (1, 100),
    }


def test_wall_tells_running_from_waiting_by_how_often_each_was_seen() -> None:
    profile = wall_profile(counters(row(ADD, ticks=4, wall=400, hits=1, asleep=3)))
    assert table(profile) == {
        (ADD, (*MAIN, RUNNING)): (1, 100),
        (ADD, (*MAIN, WAITING)): (3, 300),
    }


def test_wall_has_no_state_where_the_engine_cannot_tell() -> None:
    profile = wall_profile(counters(row(ADD, ticks=4, wall=400)))
    assert table(profile) == {(ADD, MAIN): (4, 400)}


def test_wall_leaves_out_rows_that_shrank() -> None:
    profile = wall_profile(counters(row(ADD, ticks=-3, wall=-300), row(PAY, ticks=1, wall=10)))
    assert table(profile) == {(PAY, MAIN): (1, 10)}


@given(windows())
def test_wall_has_no_negative_value(window: Profile) -> None:
    assert all(value >= 0 for sample in wall_profile(window).samples for value in sample.values)


# Both


@pytest.mark.parametrize(
    ("make", "kind"), [(cpu_profile, "cpu"), (wall_profile, "wall")], ids=["cpu", "wall"]
)
def test_a_profile_says_what_it_measures(make: Callable[[Profile], Profile], kind: str) -> None:
    window = counters(row(ADD, ticks=3, wall=300, hits=3), row(CLOCK, cpu=1000))
    profile = make(window)
    validate(profile)
    assert len(profile.samples) == 1
    assert profile.sample_types == (ValueType("samples", "count"), ValueType(kind, "nanoseconds"))
    assert profile.period_type == ValueType(kind, "nanoseconds")
    assert profile.default_sample_type == kind
    assert (profile.period, profile.time_nanos, profile.duration_nanos, profile.comments) == (
        window.period,
        window.time_nanos,
        window.duration_nanos,
        window.comments,
    )


@pytest.mark.parametrize("make", [cpu_profile, wall_profile])
def test_a_window_without_counters_is_empty(make: Callable[[Profile], Profile]) -> None:
    assert make(counters()).samples == ()


class Books:
    """What a bounded table does to the rows of a stack engine."""

    OTHERS = (Label("thread", "<other threads>"),)

    def __init__(self) -> None:
        self.rows: dict[tuple[Stack, Labels], list[int]] = {}
        self.given: set[Labels] = set()
        self.folds = 0

    def add(self, stack: Stack, labels: Labels, values: list[int]) -> None:
        row = self.rows.setdefault((stack, labels), [0] * len(COUNTERS))
        row[:] = [a + b for a, b in zip(row, values, strict=True)]

    def fold(self, stack: Stack, labels: Labels) -> None:
        if (stack, labels) in self.rows and stack != (OVERFLOW,):
            self.folds += 1
            self.add((OVERFLOW,), labels, self.rows.pop((stack, labels)))

    def hand_over(self, labels: Labels) -> None:
        for stack, whose in list(self.rows):
            if whose == labels != self.OTHERS:
                self.add(stack, self.OTHERS, self.rows.pop((stack, whose)))
                self.given.add(labels)

    def snapshot(self) -> Profile:
        return counters(
            *[Sample(stack, tuple(values), labels) for (stack, labels), values in self.rows.items()]
        )


STACKS = st.sampled_from([ADD, PAY, SELECT])
OWNERS = st.sampled_from([MAIN, WORKER, Books.OTHERS])
SEEN = st.tuples(
    st.just("add"), STACKS, OWNERS, st.lists(st.integers(0, 9), min_size=5, max_size=5)
)
EVENTS = st.lists(
    st.one_of(
        SEEN,
        SEEN,
        st.tuples(st.just("fold"), STACKS, OWNERS),
        st.tuples(st.just("hand_over"), OWNERS),
    ),
    max_size=30,
)


@given(EVENTS, EVENTS)
def test_a_window_across_rows_that_were_moved_has_all_that_was_counted_in_it(
    before: list[tuple[str, Stack, Labels]], within: list[tuple[str, Stack, Labels]]
) -> None:
    books = Books()
    for name, *arguments in before:
        getattr(books, name)(*arguments)
    earlier = books.snapshot()
    books.given.clear()
    books.folds = 0
    for name, *arguments in within:
        getattr(books, name)(*arguments)
    later = books.snapshot()
    window = folded_window(later, earlier, Books.OTHERS, books.given)

    def totals(profile: Profile) -> list[float]:
        return [sum(s.values[column] for s in profile.samples) for column in range(len(COUNTERS))]

    change = zip(totals(later), totals(earlier), strict=True)
    assert totals(window) == [a - b for a, b in change]
    assert all(value >= 0 for sample in window.samples for value in sample.values)
    if not books.folds:
        assert all(sample.stack != (OVERFLOW,) for sample in window.samples)


def test_a_stack_that_had_to_go_and_came_again_has_what_it_did_since() -> None:
    earlier = counters(row(ADD, ticks=1000, hits=1000, asleep=7), row(PAY, ticks=5))
    later = counters(
        row(ADD, ticks=1001, hits=900, asleep=0),
        row((OVERFLOW,), ticks=1000, hits=1000, asleep=7),
        row(PAY, ticks=6),
    )
    window = folded_window(later, earlier, Books.OTHERS)
    assert table(window) == {
        (ADD, MAIN): (1001, 0, 900, 0, 0),
        (PAY, MAIN): (1, 0, 0, 0, 0),
    }


def test_hits_without_ticks_make_no_more_wall_time_than_there_was() -> None:
    wall = wall_profile(counters(row(ADD, ticks=1, wall=100, hits=90, asleep=-89)))
    assert [sample.values for sample in wall.samples] == [(1, 100)]
