"""What was allocated since the heap was last looked at: each allocation is in one answer."""

from __future__ import annotations

import threading
from dataclasses import replace

from pyprof_agent.profile import Frame, Profile, Sample
from pyprof_agent.sources import heap_rows
from pyprof_agent.sources.heap_delta import HeapDelta
from tests.support import LEAF, heap_profile

OTHER = Frame("shop.other", "/srv/shop/other.py", 1, 2)


class Heap:
    """A heap engine whose table is written by the test."""

    def __init__(self) -> None:
        self.generation = 1
        self.rows: dict[Frame, tuple[float, ...]] = {}
        self.taken = 0

    def snapshot(self) -> Profile:
        self.taken += 1
        rows = (Sample((frame,), values) for frame, values in self.rows.items())
        return heap_profile(*rows, time_nanos=self.taken * 10**9)

    def window(self, later: Profile, earlier: Profile) -> Profile:
        return heap_rows.window(later, earlier)


def table(profile: Profile) -> dict[Frame, tuple[float, ...]]:
    return {sample.stack[0]: sample.values for sample in profile.samples}


def test_the_first_has_all_and_the_next_what_came_since_with_what_is_in_use_now() -> None:
    heap = Heap()
    delta = HeapDelta(heap)
    heap.rows = {LEAF: (5, 500, 2, 200)}
    assert table(delta.snapshot()) == {LEAF: (5, 500, 2, 200)}
    assert table(delta.snapshot()) == {LEAF: (0, 0, 2, 200)}
    heap.rows = {LEAF: (8, 800, 0, 0), OTHER: (1, 10, 1, 10)}
    assert table(delta.snapshot()) == {LEAF: (3, 300, 0, 0), OTHER: (1, 10, 1, 10)}
    assert table(delta.snapshot()) == {OTHER: (0, 0, 1, 10)}


def test_it_has_the_time_of_the_snapshot_and_no_duration() -> None:
    delta = HeapDelta(Heap())
    for second in (1, 2, 3):
        profile = delta.snapshot()
        assert (profile.time_nanos, profile.duration_nanos) == (second * 10**9, 0)


def test_after_the_engine_began_anew_it_has_all_again() -> None:
    heap = Heap()
    delta = HeapDelta(heap)
    heap.rows = {LEAF: (5, 500, 2, 200)}
    delta.snapshot()
    heap.generation, heap.rows = 2, {LEAF: (1, 100, 1, 100)}
    assert table(delta.snapshot()) == {LEAF: (1, 100, 1, 100)}


def test_nothing_is_in_two_answers_however_many_ask_at_once() -> None:
    heap = Heap()
    delta = HeapDelta(heap)
    answers: list[float] = []
    ends = threading.Event()

    def ask() -> None:
        while not ends.is_set():
            answers.append(delta.snapshot().total("alloc_objects"))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for count in range(1, 501):
        heap.rows = {LEAF: (count, count, 0, 0)}
    ends.set()
    for thread in threads:
        thread.join()
    answers.append(delta.snapshot().total("alloc_objects"))
    assert sum(answers) == 500
    assert min(answers) >= 0


def test_the_engine_decides_what_a_window_is() -> None:
    heap = Heap()
    delta = HeapDelta(heap)
    delta.snapshot()
    heap.window = lambda later, earlier: replace(later, comments=("the engine's",))  # type: ignore[method-assign]
    assert delta.snapshot().comments == ("the engine's",)
