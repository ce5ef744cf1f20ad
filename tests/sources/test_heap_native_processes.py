"""The native heap engine and processes: forks, children, subinterpreters, the end."""

from __future__ import annotations

import sys
import textwrap

import pytest

from pyprof_agent.sources import heap_native
from tests.support import run_heap_child as child

pytestmark = pytest.mark.skipif(bool(heap_native.unusable()), reason=heap_native.unusable())

# From 3.12 on a fork beside any other thread warns, and warnings are errors here.
FORKS = """
import warnings
warnings.simplefilter("ignore", DeprecationWarning)
"""


def test_a_forked_child_keeps_what_was_alive_and_goes_its_own_way() -> None:
    code = """
    heap = started()
    kept = [None] * 1000
    grow(kept, 100, 700)

    def inherit():
        heap.after_fork(child=True)
        assert blocks(heap)[INUSE_OBJECTS:] == [100, 70_000]
        kept[50:100] = [None] * 50
        assert blocks(heap)[INUSE_OBJECTS:] == [50, 35_000]
        grow(kept, 10, 700)
        assert blocks(heap)[INUSE_OBJECTS:] == [60, 42_000]

    def grandchild():
        inherit()
        reap([forked(lambda: blocks(heap)[INUSE_OBJECTS] == 60 or 1 / 0)])
        heap.stop()
        assert heap.stats()["samples"] == 0
        heap.start()
        grow(kept, 3, 700)
        assert blocks(heap)[INUSE_OBJECTS:] == [3, 2100]

    reap([forked(inherit), forked(grandchild)])
    assert blocks(heap)[INUSE_OBJECTS:] == [100, 70_000]
    kept[:] = [None] * 1000
    assert blocks(heap)[INUSE_OBJECTS:] == [0, 0]
    heap.stop()
    print("done")
    """
    child(code)


def test_the_children_of_one_parent_do_not_sample_in_step() -> None:
    code = """
    heap = started(sample_bytes=4096)
    reader, writer = os.pipe()

    def work():
        heap.after_fork(child=True)
        kept, when = [], []
        for n in range(200):
            before = heap.stats()["samples"]
            kept.append(bytes(1000))
            when.append("1" if heap.stats()["samples"] > before else "0")
        os.write(writer, ("".join(when) + "\\n").encode())

    reap([forked(work) for _ in range(8)])
    lines = os.read(reader, 10_000).decode().split()
    assert len(lines) == 8
    assert len(set(lines)) == 8, lines
    heap.stop()
    print("done")
    """
    child(code)


@pytest.mark.parametrize("without_gil", [0, 3])
def test_forks_beside_threads_that_allocate_never_hang(without_gil: int) -> None:
    code = """
    heap = started(sample_bytes=500)

    def work():
        heap.after_fork(child=True)
        kept = [None] * 50
        grow(kept, 50, 900)
        malloc, free = raw(ctypes.CDLL(None))
        for block in [malloc(900) for _ in range(50)]:
            free(block)
        heap.snapshot()

    def fork(count):
        for _ in range(count):
            reap([forked(work)])

    with busy(with_gil=2, without_gil=int(sys.argv[1])):
        forkers = [threading.Thread(target=fork, args=(25,)) for _ in range(2)]
        for forker in forkers:
            forker.start()
        for _ in range(20):
            heap.snapshot()
        for forker in forkers:
            forker.join()
    heap.stop()
    print("done")
    """
    child(FORKS + textwrap.dedent(code), str(without_gil))


def test_programs_started_beside_threads_that_allocate_run_well() -> None:
    code = """
    import subprocess
    heap = started(sample_bytes=500)
    with busy():
        for n in range(40):
            # With preexec_fn it is a fork, without one a vfork where there is one.
            before = (lambda: bytes(10_000)) if n % 4 == 0 else None
            result = subprocess.run(["sh", "-c", "echo it ran"], capture_output=True,
                                    preexec_fn=before, timeout=20, check=True)
            assert result.stdout == b"it ran\\n"
        heap.snapshot()
    heap.stop()
    print("done")
    """
    child(FORKS + textwrap.dedent(code))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_of_multiprocessing_have_samplers_of_their_own(method: str) -> None:
    code = """
    import multiprocessing
    method = sys.argv[1]
    heap = started()
    kept = [None] * 100
    grow(kept, 30, 5000)
    inherited = 150_000 if method == "fork" else 0
    with multiprocessing.get_context(method).Pool(2) as pool:
        results = pool.map(work_in_pool, [10, 20, 30])
    assert [held for held, _ in results] == [inherited + 5000 * n for n in (10, 20, 30)], results
    assert [freed for _, freed in results] == [inherited] * 3, results
    assert blocks(heap)[INUSE_OBJECTS:] == [30, 150_000]
    heap.stop()
    print("done")
    """
    child(FORKS + textwrap.dedent(code), method)


SUBINTERPRETERS = '''
try:
    import _interpreters as interpreters
    own_gil, shared_gil = ("isolated",), ("legacy",)
except ImportError:
    import _xxsubinterpreters as interpreters
    own_gil, shared_gil = (), ()

run = getattr(interpreters, "exec", None) or interpreters.run_string
WORK = """
def allocate_elsewhere():
    kept = [bytes(n % 600) for n in range(20_000)]
    kept.append(bytearray(10_000))
    kept[0] = {str(n): [n] for n in range(1000)}
    return kept
kept = allocate_elsewhere()
for n in range(3):
    allocate_elsewhere()
"""
'''


@pytest.mark.parametrize("gil", ["own_gil", "shared_gil"])
def test_subinterpreters_pass_through_and_are_counted(gil: str) -> None:
    code = """
    heap = started()
    kept = [None] * 1000
    grow(kept, 10, 700)
    for n in range(1, 6):
        before = heap.stats()["subinterpreter"]
        other = interpreters.create(*globals()[sys.argv[1]])
        error = run(other, WORK)
        assert error is None, error
        grow(kept, 10, 700)
        assert heap.stats()["subinterpreter"] - before > 50_000
        assert total(heap, "allocate_elsewhere") == [0, 0, 0, 0]
        interpreters.destroy(other)
        assert blocks(heap)[INUSE_OBJECTS:] == [10 * n + 10, 700 * (10 * n + 10)]
    assert any("fell into a subinterpreter" in comment for comment in heap.snapshot().comments)
    kept[:] = [None] * 1000
    assert blocks(heap)[INUSE_OBJECTS:] == [0, 0]
    heap.stop()
    print("done")
    """
    child(SUBINTERPRETERS + textwrap.dedent(code), gil)


@pytest.mark.skipif(
    (3, 12) <= sys.version_info < (3, 14),
    reason="CPython 3.12.1 and 3.13.0 crash on a subinterpreter made beside any thread",
)
def test_subinterpreters_in_threads_run_beside_starts_and_stops() -> None:
    code = """
    heap = started(sample_bytes=2000)
    others = [interpreters.create(*own_gil) for _ in range(2)]
    threads = [threading.Thread(target=run, args=(other, WORK * 3)) for other in others]
    with busy():
        for thread in threads:
            thread.start()
        for _ in range(100):
            heap.snapshot()
            heap.stop()
            heap.start()
        for thread in threads:
            thread.join()
    for other in others:
        interpreters.destroy(other)
    heap.stop()
    print("done")
    """
    child(SUBINTERPRETERS + textwrap.dedent(code))


ENDS = {
    "returns": "",
    "exits": "sys.exit(0)",
    "without atexit": "import atexit; atexit._clear()",
    "at once": "sys.stdout.flush(); os._exit(0)",
    "in garbage": "gc.disable(); cycle = [Late()]; cycle.append(cycle); del cycle",
    "in a thread": "threading.Thread(target=lambda: time.sleep(0.1) or grow(kept, 9, 700)).start()",
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("others", ["alone", "beside threads"])
def test_the_process_ends_well_while_the_sampler_runs(end: str, others: str) -> None:
    code = """
    import gc, time, weakref
    heap = started(sample_bytes=100)
    kept = [None] * 1000
    grow(kept, 100, 700)

    class Late:
        def __del__(self):
            self.more = [bytes(n) for n in range(1000)]

    late, weak = Late(), weakref.WeakKeyDictionary({Late(): 1})
    local = threading.local()
    local.late = Late()
    if sys.argv[1] == "beside threads":
        for target in (churn, churn, churn_without_gil, churn_without_gil):
            threading.Thread(target=target, args=(threading.Event(),), daemon=True).start()
        time.sleep(0.05)
    heap.snapshot()
    print("done", flush=True)
    """
    child(textwrap.dedent(code) + ENDS[end], others)
