"""Which threads have labels of their own, where not all can have them."""

from __future__ import annotations

import pytest

from pyprof_agent.own_process import SAMPLER_THREAD
from pyprof_agent.sources import thread_labels
from pyprof_agent.sources.thread_labels import (
    COOLING_NS,
    OTHER_LABELS,
    SampledThread,
    ThreadLabels,
)

MILLISECOND = 10**6


@pytest.fixture(autouse=True)
def room_for_four(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thread_labels, "MAX_LABELLED_THREADS", 4)


def names(threads: list[SampledThread]) -> list[str]:
    """Those of the threads that have labels of their own."""
    return [str(each.labels[0].value) for each in threads if each.labels is not OTHER_LABELS]


def claimed(labels: ThreadLabels, threads: list[SampledThread], last: SampledThread) -> list[str]:
    """Whose labels a thread takes; as the engine, let these have them no longer."""
    labels.survey(threads)
    lost = labels.claim(last, 1)
    for each in threads:
        if each.labels in lost:
            each.labels = OTHER_LABELS
    return [str(whose[0].value) for whose in lost]


def four() -> tuple[ThreadLabels, list[SampledThread]]:
    labels = ThreadLabels(0)
    threads = [SampledThread(number, f"t{number}") for number in range(4)]
    for thread in threads:
        assert not labels.claim(thread, 0)
    assert names(threads) == ["t0", "t1", "t2", "t3"]
    return labels, threads


def test_a_new_thread_takes_nothing_from_those_that_live() -> None:
    labels, threads = four()
    threads.append(SampledThread(4, "late", recent=49 * MILLISECOND))
    assert not claimed(labels, threads, threads[-1])
    assert names(threads) == ["t0", "t1", "t2", "t3"]


def test_half_of_those_that_have_ended_leave_their_labels_first_come_first() -> None:
    labels, threads = four()
    del threads[:3]
    threads.append(SampledThread(4, "late"))
    assert claimed(labels, threads, threads[-1]) == ["t0", "t1"]
    assert names(threads) == ["t3", "late"]
    threads.append(SampledThread(5, "later"))
    assert claimed(labels, threads, threads[-1]) == []  # there is room now
    assert labels.given_between(0, 1) == {threads[-2].labels, threads[-1].labels}
    assert not labels.given_between(1, 2)


def test_a_busy_thread_takes_the_labels_of_the_one_that_burned_least() -> None:
    labels, threads = four()
    for number, thread in enumerate(threads):  # pollers, each with up to 0.3 % of a core
        labels.burned(thread, (4 - number) * 8 * MILLISECOND)
    threads.append(SampledThread(4, "busy"))
    labels.burned(threads[-1], 60 * MILLISECOND)
    assert claimed(labels, threads, threads[-1]) == []  # not eight times as much
    labels.burned(threads[-1], 60 * MILLISECOND)
    assert claimed(labels, threads, threads[-1]) == ["t3"]


def test_a_busy_thread_leaves_labels_to_one_that_burned_more_and_has_ended() -> None:
    labels, threads = four()
    for thread in threads[:2]:
        labels.burned(thread, 2000 * MILLISECOND)
    del threads[1]
    threads.append(SampledThread(4, "busy"))
    labels.burned(threads[-1], 60 * MILLISECOND)
    assert claimed(labels, threads, threads[-1]) == ["t2"]
    for thread in [threads[0], *threads[2:]]:  # all that live burn something
        labels.burned(thread, 3000 * MILLISECOND)
    threads.append(SampledThread(5, "new"))
    assert claimed(labels, threads, threads[-1]) == []  # it has burned nothing yet
    labels.burned(threads[-1], 50 * MILLISECOND)
    assert claimed(labels, threads, threads[-1]) == ["t1"]


def test_those_that_have_ended_and_burned_less_leave_their_labels_first() -> None:
    labels, threads = four()
    labels.burned(threads[0], 10 * MILLISECOND)
    del threads[:2]
    threads.append(SampledThread(4, "late"))
    assert claimed(labels, threads, threads[-1]) == ["t1"]


def test_two_busy_threads_do_not_take_turns() -> None:
    labels, threads = four()
    threads.append(SampledThread(4, "busy"))
    now = 0
    for _ in range(100):
        now += COOLING_NS
        for thread in threads:
            labels.burned(thread, 5000 * MILLISECOND)
        labels.cool(threads, now)
        assert claimed(labels, threads, threads[-1]) == []


def test_what_was_burned_long_ago_does_not_count() -> None:
    labels, threads = four()
    for thread in threads:
        labels.burned(thread, 600_000 * MILLISECOND)
    threads.append(SampledThread(4, "busy"))
    for turn in range(20):
        labels.cool(threads, turn * COOLING_NS)
        labels.burned(threads[-1], 1000 * MILLISECOND)
        if claimed(labels, threads, threads[-1]):
            break
    assert 5 < turn < 15


def test_the_thread_of_the_sampler_takes_no_place() -> None:
    labels, threads = four()
    threads.append(SampledThread(4, SAMPLER_THREAD))
    assert claimed(labels, threads, threads[-1]) == []
    assert names(threads)[-1] == SAMPLER_THREAD
