"""The native heap engine beside other code that hooks, races and fails: no harm to either."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyprof_agent.sources import heap_native
from tests.support import run_heap_child as child

pytestmark = pytest.mark.skipif(bool(heap_native.unusable()), reason=heap_native.unusable())


@pytest.mark.parametrize("look", ["after each step", "at the end"])
def test_tracemalloc_may_start_and_stop_in_every_order(look: str) -> None:
    code = """
    import itertools, sys, tracemalloc
    before = allocators()
    heap = started()
    heap.stop()
    kept = [None] * 100_000
    # Lower case: start; upper case: stop. Ours, tracemalloc, another engine of ours.
    orders = [
        order for order in set(itertools.permutations("oOtTeE"))
        if all(order.index(x) < order.index(x.upper()) for x in "ote")
    ]
    assert len(orders) == 90
    other = type(heap)(FrameNames(), sample_bytes=1, max_frames=64, look_back=600)
    steps = {
        "o": heap.start, "O": heap.stop, "e": other.start, "E": other.stop,
        "t": lambda: tracemalloc.start(3), "T": tracemalloc.stop,
    }
    for order in sorted(orders):
        last = 0
        for step in order:
            steps[step]()
            running = [engine for engine in (heap, other) if engine._running]
            if sys.argv[1] == "after each step" and running:
                seen = blocks(running[0])
                grow(kept, 10, 700)
                now = blocks(running[0])
                assert now[ALLOC_OBJECTS] >= seen[ALLOC_OBJECTS] + 10, (order, step, seen, now)
                more = [now[column] - seen[column] for column in (INUSE_OBJECTS, INUSE_SPACE)]
                # Above us tracemalloc's own memory is seen too.
                exact = more == [10, 7000] or tracemalloc.is_tracing() and more >= [10, 7000]
                assert exact, (order, step, seen, now)
            else:
                grow(kept, 10, 700)
        kept[:] = [None] * len(kept)
        # Ours may be left where tracemalloc had it; the next stop that finds it on top removes it.
        heap.start()
        grow(kept, 10, 700)
        assert blocks(heap)[INUSE_OBJECTS:] == [10, 7000]
        kept[:] = [None] * len(kept)
        assert blocks(heap)[INUSE_OBJECTS:] == [0, 0]
        heap.stop()
        assert allocators() == before, order
    print("done")
    """
    child(code, look)


def test_hooks_that_tracemalloc_drops_are_noticed_and_come_back() -> None:
    code = """
    import tracemalloc
    kept = [None] * 1000
    tracemalloc.start()
    heap = started()
    for resets in range(1, 6):
        grow(kept, 20, 900)
        before = blocks(heap)
        assert before[INUSE_OBJECTS:] == [20, 18_000], before
        tracemalloc.stop()  # puts back what was there before it, and so before us
        kept[:] = [None] * 1000  # nobody sees this
        grow(kept, 5, 900)  # nor this
        if resets < 5:
            tracemalloc.start()  # ours will be above it again
        after = blocks(heap)
        assert heap.stats()["resets"] == resets
        assert after == [*before[:INUSE_OBJECTS], 0, 0], (before, after)
        assert any("removed the hooks" in comment for comment in heap.snapshot().comments)
        kept[:] = [None] * 1000
        assert blocks(heap)[INUSE_OBJECTS:] == [0, 0]
    grow(kept, 20, 900)
    assert blocks(heap)[INUSE_OBJECTS:] == [20, 18_000]
    assert heap.stats()["resets"] == 5
    heap.stop()
    print("done")
    """
    child(code)


def test_another_profiler_may_come_on_top_and_go(other_code: str) -> None:
    code = """
    other = ctypes.PyDLL(sys.argv[1])
    kept = [None] * 10_000
    before = allocators()
    heap = started()
    ours = allocators()
    other.wrap()
    theirs = allocators()
    for _ in range(100):  # starts below them find our hooks, and do not hook anything twice
        heap.stop()
        heap.start()
        assert allocators() == theirs
    calls = other.calls_so_far()
    grow(kept, 50, 300)
    assert 50 <= other.calls_so_far() - calls < 1000
    assert blocks(heap)[INUSE_OBJECTS:] == [50, 15_000]
    assert heap.stats()["resets"] == 0
    other.unwrap()
    assert allocators() == ours
    grow(kept, 50, 300)
    assert blocks(heap)[INUSE_OBJECTS:] == [100, 30_000]
    heap.stop()
    assert allocators() == before
    kept[:] = [None] * 10_000

    other.wrap()  # below us now
    heap.start()
    grow(kept, 50, 300)
    other.unwrap()  # which takes us away
    assert blocks(heap)[INUSE_OBJECTS:] == [0, 0]
    grow(kept, 50, 300)
    assert blocks(heap)[INUSE_OBJECTS:] == [50, 15_000]
    assert heap.stats()["resets"] == 1
    heap.stop()
    assert allocators() == before
    print("done")
    """
    child(code, other_code)


def test_a_sampler_of_the_same_kind_may_come_on_top(tmp_path: Path) -> None:
    # It is a second copy of the extension, as of a package that brings its own.
    code = """
    import importlib.machinery, importlib.util, shutil
    from pyprof_agent._native import core
    copy = shutil.copy(core.__file__, sys.argv[1])
    loader = importlib.machinery.ExtensionFileLoader("_core", copy)
    spec = importlib.util.spec_from_loader("_core", loader, origin=copy)
    other = importlib.util.module_from_spec(spec)
    loader.exec_module(other)
    core.heap_start(1e9, 16, 0)
    other.heap_start(1000.0, 16, 0)
    for _ in range(5000):
        assert not core.heap_repair()
    core.heap_stop()
    other.heap_stop()
    print("done")
    """
    child(code, str(tmp_path / "_core.so"))


def test_a_thousand_starts_leave_the_allocators_and_their_memory_as_they_were() -> None:
    code = """
    import gc
    from pyprof_agent._native import core

    class Info(ctypes.Structure):
        _fields_ = [(name, ctypes.c_size_t) for name in
                    "arena ordblks smblks hblks hblkhd usmblks fsmblks used free keep".split()]

    def used():
        mallinfo = getattr(ctypes.CDLL(None), "mallinfo2", None)  # of glibc 2.33
        if mallinfo is None:
            return 0
        mallinfo.restype = Info
        return mallinfo().used

    def cycles(count):
        for _ in range(count):
            core.heap_start(1e6, 64, 0)
            core.heap_stop()
        gc.collect()
        return used()

    before = allocators()
    first = cycles(10)
    assert cycles(1000) - first < 5000
    assert allocators() == before
    heap = started()
    ours = allocators()
    assert all(a != b for a, b in zip(before, ours))
    for _ in range(10):
        heap.snapshot()
        other = started()
        other.stop()
    assert allocators() == ours
    heap.stop()
    assert allocators() == before
    print("done")
    """
    child(code)


ALLOCATORS = ["pymalloc", "pymalloc_debug", "debug", "malloc", "malloc_debug"]


@pytest.mark.parametrize("allocator", ALLOCATORS)
@pytest.mark.parametrize("size", [34, 450, 512, 530, 20_000])
def test_every_allocator_of_cpython_is_sampled_right(allocator: str, size: int) -> None:
    code = """
    size = int(sys.argv[1])
    debug = "debug" in os.environ["PYTHONMALLOC"]
    kept = [None] * 50_000
    heap = started()
    grow(kept, 50, size)
    held = blocks(heap)
    # The debug hooks ask pymalloc for some words more, which a large block counts with.
    assert held[INUSE_OBJECTS] == 50
    assert 50 * size <= held[INUSE_SPACE] <= 50 * (size + (40 if debug and size > 400 else 0))
    kept[:] = [None] * 50_000
    assert blocks(heap)[INUSE_OBJECTS:] == [0, 0]
    heap.stop()

    count = min(50_000, 10_000_000 // size)
    grow(kept, count, size)  # so that pymalloc has what it needs and keeps for itself
    kept[:] = [None] * 50_000
    heap = started(sample_bytes=16_384)
    grow(kept, count, size)
    held, truth = blocks(heap)[INUSE_SPACE], count * size
    # Five standard errors (and a tenth for the words of the debug hooks).
    error = 5 * (16_384 / truth) ** 0.5 + 0.1 * debug
    assert abs(held - truth) < error * truth, (held, truth)
    kept[:] = [None] * 50_000
    assert blocks(heap)[INUSE_OBJECTS:] == [0, 0]
    heap.stop()
    print("done")
    """
    child(code, str(size), env={"PYTHONMALLOC": allocator})


def test_development_mode_finds_nothing_wrong() -> None:
    code = """
    assert sys.flags.dev_mode
    with busy():
        for _ in range(20):
            heap = started()
            kept = [None] * 1000
            grow(kept, 100, 200)
            held = [bytearray(n) for n in range(1000)]
            for array in held:
                array.extend(b"more" * 100)
            del kept, held
            heap.snapshot()
            heap.stop()
    print("done")
    """
    child(code, env={"PYTHONDEVMODE": "1"})


def test_a_process_without_descriptors_left_has_its_profile() -> None:
    code = """
    import resource
    heap = started()
    heap.snapshot()
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    comments = heap.snapshot().comments
    assert "resident set size: unknown (Too many open files); " in comments[1], comments
    heap.stop()
    print("done")
    """
    child(code)


def test_neither_a_set_error_nor_errno_is_disturbed(other_code: str) -> None:
    code = """
    heap = started()
    other = ctypes.PyDLL(sys.argv[1])
    for _ in range(20):
        try:
            other.allocate_with_an_error()
        except KeyError as error:
            assert error.args == ("as it was",)
        else:
            raise AssertionError("the error is gone")
    for library in (ctypes.CDLL(None, use_errno=True), ctypes.PyDLL(None, use_errno=True)):
        malloc, free = raw(library)
        for size in range(1, 3000):
            ctypes.set_errno(77)
            block = malloc(size)
            assert ctypes.get_errno() == 77
            free(block)
            assert ctypes.get_errno() == 77
    assert heap.stats()["samples"] > 6000
    heap.stop()
    print("done")
    """
    child(code, other_code)
