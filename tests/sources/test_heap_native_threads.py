"""The native heap engine and threads, stacks and code objects: nothing races, nothing dangles."""

from __future__ import annotations

import pytest

from pyprof_agent.sources import heap_native
from tests.support import run_heap_child as child

pytestmark = pytest.mark.skipif(bool(heap_native.unusable()), reason=heap_native.unusable())


def test_threads_without_the_gil_are_counted_on_a_row_of_their_own(other_code: str) -> None:
    code = """
    other = ctypes.CDLL(sys.argv[1])
    libraries = {"with": ctypes.PyDLL(None), "without": ctypes.CDLL(None)}
    free = raw(libraries["without"])[1]
    heap = started()

    def row():
        rows = [s.values for s in heap.snapshot().samples
                if [frame.function for frame in s.stack] == ["<allocated without the GIL>"]]
        return [sum(column) for column in zip(*rows)] or [0] * 4

    def allocate(library):
        malloc = raw(libraries[library])[0]
        held.extend([malloc(10_000) for _ in range(100)])

    for library in libraries:
        held, before = [], row()
        thread = threading.Thread(target=allocate, args=(library,))
        thread.start()
        thread.join()
        after, mine = row(), total(heap, "allocate")
        with_gil = library == "with"
        assert mine[INUSE_SPACE] >= 1_000_000 * with_gil
        assert (after[INUSE_SPACE] - before[INUSE_SPACE] >= 1_000_000) != with_gil
        for address in held:
            free(address)
        assert total(heap, "allocate")[INUSE_SPACE] < 100_000
        assert row()[INUSE_SPACE] - before[INUSE_SPACE] < 100_000

    before, blocks_of_c = row(), (ctypes.c_void_p * 100)()
    assert other.allocate_in_foreign_thread(blocks_of_c) == 0  # that Python knows nothing of
    after = row()
    assert after[INUSE_SPACE] - before[INUSE_SPACE] == 1_000_000
    for address in blocks_of_c:
        free(address)
    assert row()[INUSE_SPACE] == before[INUSE_SPACE]
    heap.stop()
    print("done")
    """
    child(code, other_code)


def test_starts_stops_and_profiles_from_many_threads_race_without_harm() -> None:
    code = """
    from pyprof_agent.errors import NotRunningError
    profiles = []

    def rounds(count):
        heap = NativeHeap(FrameNames(), sample_bytes=4096, max_frames=16, look_back=600)
        for n in range(count):
            heap.start()
            if n % 10 == 0:
                profiles.append(heap.snapshot())
            heap.stop()

    def look(heap):
        for _ in range(200):
            try:
                profiles.append(heap.snapshot())
            except NotRunningError:
                pass
            heap.stats()

    before = allocators()
    shared = NativeHeap(FrameNames(), sample_bytes=4096, max_frames=16, look_back=600)
    threads = [threading.Thread(target=rounds, args=(250,)) for _ in range(4)]
    threads += [threading.Thread(target=look, args=(shared,)) for _ in range(2)]
    with busy():
        for thread in threads:
            thread.start()
        for _ in range(100):
            shared.start()
            shared.stop()
        for thread in threads:
            thread.join()
    assert allocators() == before
    assert shared.stats()["samples"] == shared.stats()["live"] == 0
    assert len(profiles) >= 100
    print("done")
    """
    child(code)


def test_a_thread_that_ran_at_a_larger_mean_samples_at_the_new_one() -> None:
    code = """
    from pyprof_agent._native import core
    kept = [None] * 3000
    steps = [threading.Event() for _ in range(4)]

    def work():
        steps[0].wait()
        grow(kept, 20, 70_000)
        steps[1].set()
        steps[2].wait()
        grow(kept, 2000, 5000)
        steps[3].set()

    thread = threading.Thread(target=work)
    thread.start()
    core.heap_start(2.0**40, 16, 0)
    steps[0].set()
    steps[1].wait()
    core.heap_stop()
    heap = started(sample_bytes=8192)
    steps[2].set()
    steps[3].wait()
    held = blocks(heap)[INUSE_SPACE]
    thread.join()
    heap.stop()
    assert abs(held - 10_000_000) < 0.2 * 10_000_000, held
    print("done")
    """
    child(code)


def test_a_block_that_was_freed_where_nobody_saw_it_is_not_counted_twice() -> None:
    code = """
    malloc, free = raw(ctypes.PyDLL(None))
    hidden_free = ctypes.PyDLL(None).free  # the C library's, which PyMem_RawMalloc is made of
    hidden_free.restype, hidden_free.argtypes = None, [ctypes.c_void_p]

    def allocate():
        return malloc(1000)

    heap = started()
    addresses = []
    for _ in range(200):
        address = allocate()
        addresses.append(address)
        hidden_free(address)
    again = len(addresses) - len(set(addresses))  # its address was another one's before
    assert again > 100
    held = total(heap, "allocate")
    numbers = 40 * len(addresses)
    assert held[INUSE_SPACE] <= 1000 * len(set(addresses)) + numbers, held
    assert held[ALLOC_SPACE] >= 200_000
    heap.stop()
    print("done")
    """
    child(code, env={"PYTHONMALLOC": "pymalloc"})


def test_a_code_object_gets_no_reference() -> None:
    code = """
    from pyprof_agent._native import core
    template = compile("kept.append(bytes(5000))", "generated", "exec")
    codes = [template.replace(co_name=f"code{n}", co_qualname=f"code{n}") for n in range(50)]
    before = [sys.getrefcount(code) for code in codes]
    kept = []
    core.heap_start(1.0, 64, 0)
    for code in codes:
        exec(code)
    del code
    snapshot, count, *_ = core.heap_snapshot(-1)
    named = {name for name, *_ in core.snapshot_functions(snapshot, 1, count)}
    assert named >= {f"code{n}" for n in range(50)}, named
    assert [sys.getrefcount(code) for code in codes] == before
    core.heap_stop()
    print("done")
    """
    child(code)


def test_code_that_dies_in_its_own_frame_is_not_kept() -> None:
    code = """
    import types, weakref
    heap = started()
    kept, refs, seen = [], [], []
    template = compile("def dying(): return 1", "generated", "exec").co_consts[0]

    def callback(ref):
        seen.append(bytes(2000))  # sampled while the code object is on its way out

    def make():
        function = types.FunctionType(template.replace(co_filename=str(len(refs))), {})
        refs.append(weakref.ref(function.__code__, callback))
        return function

    for _ in range(1000):
        make()()
    assert len(seen) == 1000
    kept = [bytes(n % 500) for n in range(100_000)]  # reuses what it left
    assert total(heap, "callback")[INUSE_OBJECTS] >= 1000
    heap.stop()
    print("done")
    """
    child(code, env={"PYTHONMALLOC": "debug"})


def test_naming_may_restart_the_engine_in_the_middle_of_a_profile() -> None:
    code = """
    class Names(FrameNames):
        restart = False

        def named(self, *function):
            if self.restart:
                self.restart = False
                heap.stop()
                heap.start()
                after()
            return super().named(*function)

    kept = []

    def before():
        kept.append(bytes(3000))

    def after():
        kept.append(bytes(3000))

    names = Names()
    heap = NativeHeap(names, sample_bytes=1, max_frames=64, look_back=600)
    heap.start()
    before()
    heap.snapshot()
    before()
    names.restart = True
    assert total(heap, "before")[INUSE_SPACE] >= 6000  # of the run that was asked
    assert total(heap, "before") == [0, 0, 0, 0]
    assert total(heap, "after")[INUSE_SPACE] >= 3033
    heap.stop()
    print("done")
    """
    child(code)


def test_frozen_objects_are_counted_like_others() -> None:
    code = """
    import gc
    heap = started()
    kept = [[None] * 100 for _ in range(200)]
    more = [None] * 100
    gc.freeze()
    grow(more, 100, 600)
    gc.collect()
    assert blocks(heap)[INUSE_OBJECTS:] == [100, 60_000]
    more[:] = [None] * 100
    gc.unfreeze()
    gc.collect()
    assert blocks(heap)[INUSE_OBJECTS:] == [0, 0]
    heap.stop()
    print("done")
    """
    child(code)


def test_stacks_stay_right_once_the_interpreter_has_specialised_the_code() -> None:
    code = """
    import asyncio, contextlib, functools
    from pyprof_agent._native import core
    compared = 0

    def compare():
        global compared
        seen = core.own_stack(core.MAX_FRAMES)[1:]
        frame, shown = sys._getframe(1), []
        while frame is not None:
            shown.append((frame.f_code, frame.f_lasti))
            frame = frame.f_back
        assert seen == shown, (seen, shown)
        compared += 1
        return 0

    class Thing:
        def __init__(self, *args, **more):
            compare()
        def __getitem__(self, key):
            return compare()
        def __getattr__(self, name):
            return compare()
        def __eq__(self, other):
            return not compare()
        def __enter__(self):
            return compare()
        def __exit__(self, *error):
            return not compare()
        def __del__(self):
            compare()
        @property
        def held(self):
            return compare()

    def generated():
        with contextlib.suppress(KeyError):
            yield compare()
            yield from (compare() for _ in "ab")
            raise KeyError

    async def awaited():
        compare()
        await asyncio.sleep(0)
        return [compare() async for _ in numbers()]

    async def numbers():
        for _ in range(2):
            yield compare()

    for _ in range(200):
        thing = Thing(1, more=2)
        thing[0], thing.unknown, thing.held, thing == 0
        list(generated()), [compare() for _ in "ab"], {compare(): 1 for _ in "ab"}
        sorted("ab", key=lambda letter: compare()), functools.partial(compare)()
        exec("compare()"), eval("compare()"), type("C", (), {"m": compare()})
        with thing:
            raise ValueError
        async def both():
            await asyncio.gather(awaited(), awaited())
    for _ in range(20):
        asyncio.run(both())
    assert compared > 200 * 18, compared
    print("done")
    """
    child(code)
