"""The native heap engine: unbiased, attributed to the right line, bounded, harmless."""

from __future__ import annotations

import gc
import random
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator

import pytest

from pyprof_agent.errors import CaptureError, NotRunningError
from pyprof_agent.profile import Frame, Profile
from pyprof_agent.sources import heap_native
from pyprof_agent.sources.heap_native import NativeHeap
from pyprof_agent.sources.naming import FrameNames
from tests.support import heap_error, run_python

pytestmark = pytest.mark.skipif(bool(heap_native.unusable()), reason=heap_native.unusable())

HERE = __name__
ZERO = b"\0"  # `ZERO * n` is one block; `bytes(n)` also takes a tuple, which a free list may keep
ALLOC_OBJECTS, ALLOC_SPACE, INUSE_OBJECTS, INUSE_SPACE = range(4)


def engine(sample_bytes: int = 1, max_frames: int = 128, look_back: int = 600) -> NativeHeap:
    return NativeHeap(
        FrameNames(), sample_bytes=sample_bytes, max_frames=max_frames, look_back=look_back
    )


@pytest.fixture
def every_block() -> Iterator[NativeHeap]:
    """An engine that samples every allocation, so that its numbers are exact."""
    callbacks = gc.callbacks[:]
    gc.callbacks.clear()  # hypothesis has one, which allocates in the name of whoever it stops
    # From 3.12 on, code that runs for the first time since anybody traced (another test, a
    # debugger) is given 72 bytes for its instruments, in its own name: let it have them before.
    keep([None], [0])
    resize(10, 10)
    make_cycle()
    heap = engine(sample_bytes=1)
    heap.start()
    yield heap
    heap.stop()
    gc.callbacks[:] = callbacks


@pytest.fixture
def sampling() -> Iterator[NativeHeap]:
    """An engine that samples a block in 64 KiB."""
    heap = engine(sample_bytes=65536)
    heap.start()
    yield heap
    heap.stop()


def total(profile: Profile, function: str) -> list[float]:
    """The values of all rows with `function` of this module in their stack, added up."""
    rows = [
        sample.values
        for sample in profile.samples
        if any(frame.function == f"{HERE}.{function}" for frame in sample.stack)
    ]
    return [sum(column) for column in zip(*rows, strict=True)] or [0, 0, 0, 0]


def block(payload: int) -> object:
    """An object of 33 bytes more than `payload`, or of 16 for -17, in one allocation."""
    return object() if payload == -17 else ZERO * payload


def keep(kept: list[object], payloads: list[int]) -> None:
    """Put objects into a list that is long enough already; the integers are there already."""
    for place, payload in enumerate(payloads):
        kept[place] = block(payload)


def payloads(sizes: list[int]) -> list[int]:
    return [size - 33 for size in sizes]


@pytest.mark.parametrize("size", [16, 35, 100, 512, 513, 5000, 1_000_000])
def test_with_a_sample_for_every_byte_the_numbers_are_exact(
    every_block: NativeHeap, size: int
) -> None:
    kept: list[object] = [None] * 50
    before = total(every_block.snapshot(), "block")
    keep(kept, payloads([size] * 50))
    held = total(every_block.snapshot(), "block")
    kept.clear()
    freed = total(every_block.snapshot(), "block")
    assert before == [0, 0, 0, 0]
    # With R = 1 a block of 16 bytes is sampled with probability 1 - exp(-16), and so on.
    assert held == [50, 50 * size, 50, 50 * size]
    assert freed == [50, 50 * size, 0, 0]


def test_blocks_are_attributed_to_the_line_that_allocates(every_block: NativeHeap) -> None:
    kept = make_blocks(100)
    rows = [
        sample
        for sample in every_block.snapshot().samples
        if sample.stack[0].function == f"{HERE}.make_blocks" and sample.values[INUSE_SPACE] > 5000
    ]
    (row,) = rows
    assert row.stack[0].filename == __file__
    assert row.stack[0].line == make_blocks.__code__.co_firstlineno + 3
    assert row.stack[1].function == f"{HERE}.test_blocks_are_attributed_to_the_line_that_allocates"
    assert row.values[INUSE_OBJECTS:] == (100, 100 * sys.getsizeof(kept[0]))


def make_blocks(count: int) -> list[bytes]:
    kept = []
    for _ in range(count):
        block = ZERO * 95
        kept.append(block)
    return kept


@pytest.mark.parametrize("start", [10, 400, 600, 100_000])
@pytest.mark.parametrize("end", [10, 400, 600, 100_000])
def test_a_resized_block_counts_with_its_new_size(
    every_block: NativeHeap, start: int, end: int
) -> None:
    kept = resize(start, end)
    held = total(every_block.snapshot(), "resize")
    assert held[INUSE_OBJECTS:] == [2, sys.getsizeof(kept)]
    del kept
    assert total(every_block.snapshot(), "resize")[INUSE_OBJECTS:] == [0, 0]


def resize(start: int, end: int) -> bytearray:
    buffer = bytearray(start)
    if end > start:
        buffer.extend(b"x" * (end - start))
    else:
        del buffer[end:]
    return buffer


def test_the_lists_that_append_grows_are_seen(sampling: NativeHeap) -> None:
    kept = append_lists(50_000)
    held = total(sampling.snapshot(), "append_lists")
    sizes = [sys.getsizeof(kept), *map(sys.getsizeof, kept)]
    assert held[INUSE_SPACE] == pytest.approx(sum(sizes), abs=heap_error(sizes, 65536))


def append_lists(count: int) -> list[list[None]]:
    kept = []
    for _ in range(count):
        row: list[None] = []
        for _ in range(20):
            row.append(None)  # noqa: PERF401, the way that resizes
        kept.append(row)
    return kept


DICE = random.Random(1)
LIVE_SETS = {
    "16 bytes": [16] * 60_000,
    "mixed small": [DICE.randrange(35, 513) for _ in range(20_000)],
    "around the limit of pymalloc": [size for size in range(500, 525) for _ in range(200)],
    "larger": [DICE.randrange(1000, 60_000) for _ in range(400)],
    "1 MiB and more, which are never missed": [DICE.randrange(2**20, 2**23) for _ in range(10)],
    "all sizes": [int(2 ** DICE.uniform(5.2, 16)) for _ in range(2000)],
}


@pytest.mark.parametrize("name", LIVE_SETS)
def test_the_estimate_of_a_known_live_set_is_unbiased(name: str) -> None:
    sizes, runs = LIVE_SETS[name], 20
    truth = sum(sizes)
    sample_bytes = min(32768, truth // 500)  # so that a few bytes have samples enough, too
    lengths = payloads(sizes)
    # Once unseen: pymalloc's table of arenas grows with the set, where it is made, and stays.
    keep([None] * len(sizes), lengths)
    estimates = []
    for _ in range(runs):
        kept: list[object] = [None] * len(sizes)
        heap = engine(sample_bytes)
        heap.start()
        try:
            keep(kept, lengths)
            estimates.append(total(heap.snapshot(), "block")[INUSE_SPACE])
            kept.clear()
            assert total(heap.snapshot(), "block")[INUSE_OBJECTS:] == [0, 0]
        finally:
            heap.stop()
    assert all(abs(seen - truth) <= heap_error(sizes, sample_bytes) + 1 for seen in estimates)
    assert abs(sum(estimates) / runs - truth) <= heap_error(sizes, sample_bytes, runs) + 1


def test_the_weights_are_those_of_go() -> None:
    # By runtime/pprof's scaleHeapSample four blocks of 1 KiB at 512 KiB weigh 2050 and 2099200.
    heap = engine(sample_bytes=524288)
    heap.start()
    try:
        kept: list[object] = []
        held = [0.0] * 4
        while held[INUSE_OBJECTS] < 2050:  # one at a time: two sampled between two looks miss it
            one: list[object] = [None]
            keep(one, payloads([1024]))
            kept.append(one)
            held = total(heap.snapshot(), "block")
        assert held[INUSE_OBJECTS:] == [2050, 2099200]
    finally:
        heap.stop()


def test_deeper_stacks_are_cut_at_the_root_with_a_marker() -> None:
    heap = engine(max_frames=3)
    heap.start()
    try:
        kept = descend(10)
        deep = [
            sample
            for sample in heap.snapshot().samples
            if sample.stack[0].function == f"{HERE}.descend" and sample.values[INUSE_SPACE] > 5000
        ]
    finally:
        heap.stop()
    (row,) = deep
    assert [frame.function for frame in row.stack] == [
        f"{HERE}.descend",
        f"{HERE}.descend",
        f"{HERE}.descend",
        "<deeper frames cut off>",
    ]
    assert len(kept) == 6000


def descend(depth: int) -> bytes:
    return bytes(6000) if depth == 0 else descend(depth - 1)


def test_ten_thousand_deep_recursion_is_sampled() -> None:
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(20_000)
    heap = engine()
    heap.start()
    try:
        kept = descend(10_000)
        assert total(heap.snapshot(), "descend")[INUSE_SPACE] >= len(kept)
    finally:
        heap.stop()
        sys.setrecursionlimit(limit)


def numbers(count: int) -> Iterator[bytes]:
    for _ in range(count):
        yield bytes(700)


async def awaited() -> bytes:
    return bytes(1700)


async def awaiting() -> bytes:
    return await awaited()


def test_generators_and_coroutines_are_in_the_stack(every_block: NativeHeap) -> None:
    kept: list[bytes] = list(numbers(3))
    coroutine = awaiting()
    with pytest.raises(StopIteration) as stop:
        coroutine.send(None)
    kept.append(stop.value.value)
    stacks = [
        [frame.function.removeprefix(f"{HERE}.") for frame in sample.stack[:3]]
        for sample in every_block.snapshot().samples
        if sample.values[INUSE_SPACE] > 1500
    ]
    test = "test_generators_and_coroutines_are_in_the_stack"
    assert ["numbers", test] in [stack[:2] for stack in stacks]
    assert ["awaited", "awaiting", test] in stacks


def test_threads_that_hold_the_gil_have_their_own_stacks(every_block: NativeHeap) -> None:
    kept: list[bytes] = []
    threads = [threading.Thread(target=lambda: kept.append(in_thread(10_000))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert total(every_block.snapshot(), "in_thread")[INUSE_SPACE] >= 80_000


def in_thread(size: int) -> bytes:
    return bytes(size)


def test_a_garbage_cycle_is_in_use_until_it_is_collected(every_block: NativeHeap) -> None:
    gc.disable()
    try:
        make_cycle()
        before = total(every_block.snapshot(), "make_cycle")
        gc.collect()
        after = total(every_block.snapshot(), "make_cycle")
    finally:
        gc.enable()
    assert before[INUSE_SPACE] > 100_000
    assert after[INUSE_SPACE] == 0


def make_cycle() -> None:
    cycle: list[object] = [bytes(100_000)]
    cycle.append(cycle)


def test_the_count_of_allocated_blocks_stays_right(sampling: NativeHeap) -> None:
    before = sys.getallocatedblocks()
    kept = [object() for _ in range(200_000)]
    held = sys.getallocatedblocks() - before
    del kept
    assert 200_000 <= held <= 200_100
    assert abs(sys.getallocatedblocks() - before) < 100
    assert sampling.stats()["samples"] > 10


def test_memory_errors_stay_memory_errors(every_block: NativeHeap) -> None:
    for _ in range(100):
        with pytest.raises(MemoryError):
            bytearray(sys.maxsize - 100)
    assert total(every_block.snapshot(), "test_memory_errors_stay_memory_errors")[INUSE_SPACE] < 1e6


def test_an_exception_in_a_finalizer_is_as_ever(every_block: NativeHeap) -> None:
    seen = []

    class Broken:
        def __del__(self) -> None:
            self.kept = [bytes(1000) for _ in range(10)]
            raise ValueError("broken")

    def hook(unraisable: sys.UnraisableHookArgs) -> None:
        seen.append(repr(unraisable.exc_value))

    before, sys.unraisablehook = sys.unraisablehook, hook
    try:
        for _ in range(20):
            Broken()
    finally:
        sys.unraisablehook = before
    assert seen == ["ValueError('broken')"] * 20


def test_counters_never_fall(sampling: NativeHeap) -> None:
    before: dict[tuple[Frame, ...], Counter[int]] = {}
    for _ in range(5):
        garbage = [bytes(3000) for _ in range(2000)]
        after: dict[tuple[Frame, ...], Counter[int]] = defaultdict(Counter)
        for stack, values, _ in sampling.snapshot().samples:
            after[stack].update(dict(enumerate(map(int, values))))
        for stack, earlier in before.items():
            assert after[stack][ALLOC_OBJECTS] >= earlier[ALLOC_OBJECTS]
            assert after[stack][ALLOC_SPACE] >= earlier[ALLOC_SPACE]
        before = after
        garbage.clear()


def test_the_profile_says_how_it_was_made(sampling: NativeHeap) -> None:
    profile = sampling.snapshot()
    assert profile.period == 65536
    assert profile.default_sample_type == "inuse_space"
    assert profile.comments[0].startswith("heap engine: native, a sample every 65536 bytes")
    assert profile.comments[1].startswith("resident set size: ")


def test_the_numbers_of_a_run_are_not_those_of_the_run_before() -> None:
    heap = engine()
    heap.start()
    kept = make_blocks(100)
    heap.stop()
    heap.start()
    try:
        assert total(heap.snapshot(), "make_blocks") == [0, 0, 0, 0]
        kept.clear()  # sampled in the run before, and unknown now
        assert total(heap.snapshot(), "make_blocks") == [0, 0, 0, 0]
    finally:
        heap.stop()


def test_two_engines_share_the_sampler_and_the_last_one_stops_it() -> None:
    first, second = engine(), engine()
    first.start()
    second.start()
    kept = make_blocks(100)
    first.stop()
    try:
        assert total(second.snapshot(), "make_blocks")[INUSE_OBJECTS] >= len(kept)
        with pytest.raises(NotRunningError):
            first.snapshot()
    finally:
        second.stop()
    assert second.stats()["samples"] == 0


def test_another_rate_needs_a_restart_and_says_so(
    every_block: NativeHeap, caplog: pytest.LogCaptureFixture
) -> None:
    other = engine(sample_bytes=4096)
    with caplog.at_level("WARNING"):
        other.start()
    try:
        assert "heap_sample_bytes=4096, max_frames=128, look_back=600: no effect" in caplog.text
        assert other.snapshot().period == 1
    finally:
        other.stop()
    every_block.stop()
    other.start()
    assert other.snapshot().period == 4096
    other.stop()


def test_start_and_stop_twice_are_as_once() -> None:
    heap = engine()
    heap.start()
    heap.start()
    heap.stop()
    with pytest.raises(NotRunningError):
        heap.snapshot()
    heap.stop()


MANY_STACKS = """
import random
from pyprof_agent.sources.heap_native import NativeHeap
from pyprof_agent.sources.naming import FrameNames

# The turns are made beforehand, and their items are there already: an integer that branch() made
# would be in use for good from 3.14 on, in the interpreter's list of free ones.
all_turns = iter([random.randbytes(121) for _ in range(20_000)])

def branch(turns, depth):
    if depth == 0:
        return bytes(1000)
    if turns[depth] & 1:
        return branch(turns, depth - 1)
    return branch(turns, depth - 1)

def many(count):
    return [branch(next(all_turns), 120) for _ in range(count)]

def row(profile, function):
    rows = [s.values for s in profile.samples if s.stack[0].function == function]
    return [sum(column) for column in zip(*rows)] or [0, 0, 0, 0]

settings = {"sample_bytes": 1000, "max_frames": 128, "look_back": 600}
heap, other = (NativeHeap(FrameNames(), **settings) for _ in range(2))
heap.start()
other.start()
"""

STACKS_WITHOUT_END = (
    MANY_STACKS
    + """
own_bytes = []
for _ in range(5):
    for _ in range(4000):
        branch(next(all_turns), 120)
    own_bytes.append(heap.stats()["own_bytes"])
stats, profile = heap.stats(), heap.snapshot()
overflow = row(profile, "<too many stacks>")
print(own_bytes[-2] == own_bytes[-1] < 200 * stats["frames"] < 200 * 2**19 + 1)
print(stats["overflowed"] > 5000, 0.5 < overflow[1] / (1000 * stats["overflowed"]) < 3)
print(any("samples came after the table of stacks was full" in c for c in profile.comments))
"""
)


def test_stacks_beyond_the_table_are_counted_on_a_row_of_their_own() -> None:
    # In a process of its own, as the table keeps its memory until the sampler is stopped.
    output = run_python(STACKS_WITHOUT_END, timeout=110).stdout
    assert output.splitlines() == ["True", "True True", "True"]


def make_more(count: int) -> list[bytes]:
    return [bytes(1000) for _ in range(count)]


def test_one_looks_back_at_what_has_been_allocated_and_freed(every_block: NativeHeap) -> None:
    kept = make_blocks(50)
    before = every_block.snapshot()
    more = make_more(100)
    before_boot = time.monotonic() + 600
    for seconds in (600, before_boot):
        growth = every_block.window(every_block.snapshot(), every_block.past(seconds))
        assert total(growth, "make_more")[INUSE_OBJECTS] >= len(more) == 100
    # Its beginning, as it does not run for as long; an empty heap.
    for seconds in (0, 600, before_boot):
        assert not any(any(sample.values) for sample in every_block.past(seconds).samples)
    assert 0 < before.time_nanos - every_block.past(600).time_nanos < 10e9
    assert growth.duration_nanos > 0
    assert total(growth, "make_blocks")[INUSE_OBJECTS] >= len(kept)


def test_nothing_is_kept_where_nobody_wants_to_look_back() -> None:
    heap = engine(look_back=0)
    heap.start()
    with pytest.raises(CaptureError, match="look_back is 0"):
        heap.past(1)
    heap.stop()
    with pytest.raises(NotRunningError):
        heap.past(1)


STACKS_THAT_MAKE_ROOM = (
    MANY_STACKS
    + """
def keep():
    return bytes(20_000)

kept = [None] * 100
for place in range(100):
    kept[place] = keep()
many(2000)
other.snapshot()
before = heap.snapshot()
many(8000)  # dead by now, and more than the table has room for
full, after = heap.stats(), heap.snapshot()  # which makes room
print(full["frames"] > 450_000, heap.stats()["frames"] < 2000, heap.stats()["folded"] > 3000)
print(sum(s.values[0] for s in before.samples) <= sum(s.values[0] for s in after.samples) + 1)
print(row(before, "<string>.keep")[2:] == row(after, "<string>.keep")[2:] != [0, 0])
window = heap.window(after, before)
print(min(value for s in window.samples for value in s.values[:2]) >= 0)
past = heap.past(600)  # what stacks had before they lost their places is not known
print(past.time_nanos > before.time_nanos, row(heap.window(after, past), "<string>.branch"))
print(row(before, "<string>.branch")[1] > 1_500_000, row(window, "<string>.branch")[:2])
print({s.stack for s in other.snapshot().samples} >= {s.stack for s in after.samples})
more = many(3000)
print(sum(s.values[3] for s in heap.snapshot().samples) > 2_000_000)
kept = more = None
print(row(heap.snapshot(), "<string>.keep")[2:])
print(heap.stats()["overflowed"] - full["overflowed"] < 100)
print(any("have lost their rows to <too many stacks>" in c for c in heap.snapshot().comments))
"""
)


def test_stacks_with_nothing_alive_make_room_for_others() -> None:
    output = run_python(STACKS_THAT_MAKE_ROOM, timeout=110).stdout
    assert output.splitlines() == [
        "True True True",
        *["True"] * 3,
        "True [0, 0, 0, 0]",
        "True [0, 0]",
        *["True"] * 2,
        "[0, 0]",
        *["True"] * 2,
    ]


def test_the_collector_has_no_rows_to_go_through(every_block: NativeHeap) -> None:
    kept = [bytearray(1000) for _ in range(10)]
    profile = every_block.snapshot()
    assert len(profile.samples) > 0
    assert not any(gc.is_tracked(sample) for sample in profile.samples)
    assert not any(gc.is_tracked(sample.values) for sample in profile.samples)
    del kept
