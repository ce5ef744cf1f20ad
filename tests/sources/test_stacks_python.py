"""The Python stack engine: right totals, honest shares, bounded, and gone when stopped."""

from __future__ import annotations

import gc
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from pyprof_agent import own_process
from pyprof_agent.errors import NotRunningError
from pyprof_agent.hidden_thread import HIDDEN
from pyprof_agent.profile import Profile, subtract
from pyprof_agent.sources import stack_rows, stacks_python, thread_labels
from pyprof_agent.sources.naming import FrameNames
from pyprof_agent.sources.stack_counters import cpu_profile, wall_profile
from pyprof_agent.sources.stacks_python import PythonStacks
from pyprof_agent.sources.thread_clock import thread_cpu_ns
from tests.support import Burned, burned_between, repeated, two_waits

pytestmark = pytest.mark.timing

HERE = __name__
linux = pytest.mark.skipif(sys.platform != "linux", reason="CPU clocks of threads are Linux's")


NAMES = FrameNames()


@contextmanager
def sampling(hz: float = 200, max_frames: int = 128) -> Iterator[PythonStacks]:
    """An engine that runs at its rate. It may cost 1 % of a core, so that after a look of 10 ms it
    looks less often for a second: to name the modules of pytest takes as long, and so does a
    collection of the garbage of all tests before that falls into a look."""
    NAMES.of_code(compile("", f"<{len(sys.modules)} modules>", "exec"), 0)
    stacks = PythonStacks(NAMES, max_frames=max_frames, hz=hz)
    gc.collect()
    gc.freeze()
    stacks.start()
    try:
        yield stacks
    finally:
        stacks.stop()
        gc.unfreeze()


def burn(seconds: float) -> int:
    """Use CPU time, of this thread's clock."""
    total = 0
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        total += sum(range(100))
    return total


def burn_twice(seconds: float) -> int:
    return burn(seconds)


def bursty(seconds: float) -> None:
    """10 % load, as of an event loop: 10 ms of work, then 90 ms of sleep."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        burn(0.01)
        time.sleep(0.09)


def by_function(profile: Profile, sample_type: str) -> Counter[str]:
    column = profile.column(sample_type)
    shares: Counter[str] = Counter()
    for sample in profile.samples:
        shares[sample.stack[0].function] += int(sample.values[column])
    return shares


def in_thread(work: Callable[[], object], name: str) -> threading.Thread:
    thread = threading.Thread(target=work, name=name)
    thread.start()
    return thread


def window(stacks: PythonStacks, work: Callable[[], object]) -> tuple[Profile, Burned]:
    """The counters of a window in which `work` ran, and the process's CPU seconds in it."""
    _, counters, burned = burned_between(
        stacks.snapshot, work, lambda earlier: subtract(stacks.snapshot(), earlier)
    )
    return counters, burned


@linux
@pytest.mark.parametrize("threads", [1, 5])
@repeated
def test_the_cpu_total_is_the_cpu_time_of_the_process(threads: int) -> None:
    def work() -> None:
        others = [in_thread(lambda: burn(0.2), f"burner-{n}") for n in range(threads)]
        for other in others:
            other.join()

    with sampling() as stacks:
        counters, burned = window(stacks, work)
    assert burned.admits(cpu_profile(counters).total("cpu") / 1e9, rel=0.02)
    assert burned.least > 0.2 * threads


@linux
@repeated
def test_an_idle_process_has_next_to_no_cpu() -> None:
    with sampling(hz=20) as stacks:
        counters, burned = window(stacks, lambda: time.sleep(0.5))
    profile = cpu_profile(counters)
    assert burned.admits(profile.total("cpu") / 1e9, rel=0.02)
    assert profile.total("cpu") / 1e9 < 0.1


@linux
@repeated
def test_shares_follow_the_work() -> None:
    def work() -> None:
        for _ in range(20):
            burn(0.03)
            burn_twice(0.09)

    with sampling() as stacks:
        counters, _ = window(stacks, work)
    profile = cpu_profile(counters)
    column = profile.column("cpu")
    twice = sum(
        sample.values[column]
        for sample in profile.samples
        if any(frame.function == f"{HERE}.burn_twice" for frame in sample.stack)
    )
    # 0.75 is the truth; 4 standard errors at some 200 hits.
    assert twice / profile.total("cpu") == pytest.approx(0.75, abs=0.13)


@linux
@repeated
def test_a_bursty_thread_is_billed_to_its_work_and_not_to_its_sleep() -> None:
    with sampling(hz=50) as stacks:
        counters, _ = window(stacks, lambda: bursty(2.5))
    spent = by_function(cpu_profile(counters), "cpu")
    # The thread sleeps at 9 of 10 looks.
    assert spent[f"{HERE}.burn"] > 5 * spent[f"{HERE}.bursty"]


@repeated
def test_wall_time_counts_every_thread_once() -> None:
    def work() -> None:
        others = [in_thread(lambda: time.sleep(1), f"sleeper-{n}") for n in range(3)]
        for other in others:
            other.join()

    with sampling() as stacks:
        counters, _ = window(stacks, work)
    profile = wall_profile(counters)
    column = profile.column("wall")
    seconds: Counter[str] = Counter()
    for sample in profile.samples:
        seconds[str(sample.label("thread"))] += int(sample.values[column])
    for name in ("MainThread", "sleeper-0", "sleeper-1", "sleeper-2"):
        assert seconds[name] / 1e9 == pytest.approx(1, abs=0.2)


def test_a_thread_that_goes_on_during_a_look_is_looked_at_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    go = threading.Event()
    over = threading.Event()

    def read_clock(native_id: int) -> int | None:
        """That of the thread, once it has gone on."""
        if native_id == thread.native_id and armed.is_set() and not go.is_set():
            go.set()
            time.sleep(0.05)
        return thread_cpu_ns(native_id)

    thread = two_waits(go, over)
    armed = threading.Event()
    monkeypatch.setattr(stacks_python, "thread_cpu_ns", read_clock)
    with sampling() as stacks:
        thread.start()
        time.sleep(0.3)
        armed.set()
        go.wait()
        time.sleep(0.3)
        before = stacks.snapshot()
        time.sleep(0.5)
        later = stacks.snapshot()
        over.set()
        thread.join()
    wall = wall_profile(subtract(later, before))
    stacks_of = {sample.stack for sample in wall.samples}
    names = {frame.function.rpartition(".")[2] for stack in stacks_of for frame in stack}
    assert "second" in names
    assert "first" not in names


@repeated
def test_samples_carry_the_name_and_the_id_of_their_thread() -> None:
    ids: list[int] = []

    def work() -> None:
        ids.append(threading.get_native_id())
        time.sleep(0.2)

    with sampling() as stacks:
        thread = in_thread(work, "named")
        thread.join()
        profile = wall_profile(stacks.snapshot())
    assert ("named", ids[0]) in {
        (sample.label("thread"), sample.label("thread_id")) for sample in profile.samples
    }


def test_a_thread_that_cannot_tell_its_name_is_sampled_all_the_same() -> None:
    class Nameless(threading.Thread):
        unnamed = False

        @property
        def name(self) -> str:
            if self.unnamed:
                raise AttributeError("no job yet")
            return "nameless"

        @name.setter
        def name(self, value: str) -> None:
            pass

    with sampling() as stacks:
        thread = Nameless(target=time.sleep, args=(0.3,))
        thread.start()
        thread.unnamed = True
        time.sleep(0.2)
        labels = {s.label("thread") for s in wall_profile(stacks.snapshot()).samples}
        thread.unnamed = False
        thread.join()
        assert stacks.stats()["failures"] == 0
    # With the extension it is the name that Thread itself has; no code of the subclass runs.
    others = labels - {"MainThread", own_process.SAMPLER_THREAD}
    assert any(name == "<unknown>" or str(name).startswith("Thread-") for name in others), labels


@repeated
def test_only_so_many_threads_get_labels_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thread_labels, "MAX_LABELLED_THREADS", 3)
    with sampling() as stacks:
        threads = [in_thread(lambda: time.sleep(0.3), f"one-of-{n}") for n in range(10)]
        for thread in threads:
            thread.join()
        profile = wall_profile(stacks.snapshot())
    labels = {sample.label("thread") for sample in profile.samples}
    assert "<other threads>" in labels
    assert len(labels - {"<other threads>", "pyprof-agent-stacks"}) <= 3


@repeated
def test_a_full_table_counts_what_it_cannot_tell_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack_rows, "MAX_ROWS", 1)
    with sampling() as stacks:
        begin = time.monotonic()
        burn(0.1)
        time.sleep(0.1)
        snapshot = stacks.snapshot()
        elapsed = time.monotonic() - begin
        assert stacks.stats()["overflowed"] > 0
    profile = wall_profile(snapshot)
    assert by_function(profile, "wall")["<too many stacks>"] > 0
    assert any("came after the table was full" in comment for comment in profile.comments)
    mine = threading.current_thread().name  # the test runner has threads too
    wall = sum(row.values[1] for row in profile.samples if row.label("thread") == mine)
    assert wall / 1e9 == pytest.approx(elapsed, abs=0.08)


def test_stacks_deeper_than_max_frames_are_cut_at_the_root_and_marked() -> None:
    with sampling(max_frames=3) as stacks:
        recurse(10)
        profile = wall_profile(stacks.snapshot())
    deepest = [s.stack for s in profile.samples if s.stack[0].function == f"{HERE}.recurse"]
    assert deepest
    for stack in deepest:
        assert [frame.function for frame in stack] == [
            f"{HERE}.recurse",
            f"{HERE}.recurse",
            f"{HERE}.recurse",
            "<deeper frames cut off>",
        ]


def recurse(depth: int) -> None:
    if depth:
        recurse(depth - 1)
    else:
        time.sleep(0.2)


@repeated
def test_deep_recursion_and_generators_are_walked() -> None:
    def generate() -> Iterator[int]:
        for _ in range(3):
            time.sleep(0.05)
            yield 1

    with sampling() as stacks:
        sys.setrecursionlimit(20_000)
        try:
            recurse(10_000)
        finally:
            sys.setrecursionlimit(1000)
        assert sum(generate()) == 3
        profile = wall_profile(stacks.snapshot())
    names = {sample.stack[0].function.rpartition(".")[2] for sample in profile.samples}
    assert {"recurse", "generate"} <= names


def test_the_profile_calls_itself_approximate_and_tells_its_rate() -> None:
    with sampling(hz=50) as stacks:
        profile = stacks.snapshot()
    assert "python, up to 50 looks a second" in profile.comments[0]
    assert "approximate" in profile.comments[0]
    assert profile.period == 20_000_000


@repeated
def test_the_sampler_bills_itself() -> None:
    with sampling(hz=500) as stacks:
        time.sleep(0.5)
        spent = by_function(cpu_profile(stacks.snapshot()), "cpu")
        cost = stacks.stats()["cpu_seconds"]
    if sys.platform == "linux":
        assert spent["<pyprof-agent sampler>"] > 0
    # 1 % of a core is its budget, whatever rate it was asked for; noise and start-up beside.
    assert cost < 0.05


def test_objects_of_sampled_frames_do_not_live_longer() -> None:
    import weakref

    class Thing:
        pass

    def work() -> weakref.ref[Thing]:
        thing = Thing()
        burn(0.1)
        return weakref.ref(thing)

    with sampling():
        dead = work()
        time.sleep(0.05)
        assert dead() is None


def test_a_failing_look_is_counted_and_sampling_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = sys._current_frames
    state = {"broken": False}

    def flaky() -> dict[int, object]:
        if state["broken"]:
            raise RuntimeError("no frames today")
        return real()  # type: ignore[return-value]

    monkeypatch.setattr(sys, "_current_frames", flaky)
    with sampling() as stacks:
        state["broken"] = True
        time.sleep(0.1)
        state["broken"] = False
        time.sleep(0.1)
        snapshot = stacks.snapshot()
        assert stacks.stats()["failures"] > 0
    assert any("looks failed" in comment for comment in snapshot.comments)
    assert wall_profile(snapshot).total("wall") > 0
    assert [record.message for record in caplog.records] == [
        "stack sampling failed; further failures are only counted"
    ]


def test_without_clocks_of_threads_the_profile_invents_no_shares(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stacks_python, "thread_cpu_ns", lambda native_id: None)
    with sampling() as stacks:
        counters, burned = window(stacks, lambda: burn(0.3))
    profile = cpu_profile(counters)
    assert by_function(profile, "cpu").keys() == {"<threads without Python>"}
    assert burned.admits(profile.total("cpu") / 1e9, rel=0.02)
    assert by_function(wall_profile(counters), "wall")[f"{HERE}.burn"] > 0


def test_under_green_threads_it_warns_once_and_looks_at_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def get_ident() -> int:
        return 1  # as of a greenlet: no thread that sys._current_frames() knows

    get_ident.__module__ = "gevent.thread"
    stacks_python._warn_of_green_threads.cache_clear()
    monkeypatch.setattr(threading, "get_ident", get_ident)
    for _ in range(2):
        with sampling() as stacks:
            assert own_process.SAMPLER_THREAD not in {t.name for t in HIDDEN.values()}
            stacks.before_fork()
            stacks.after_fork(child=False)
            burn(0.1)
            snapshot = stacks.snapshot()
        assert stacks.stats()["failures"] == 0
        assert snapshot.comments[-1] == (
            "the threads are those of gevent.thread: no stacks are looked at"
        )
        assert cpu_profile(snapshot).total("cpu") > 0
    (warning,) = caplog.records
    assert "threads of this program are those of gevent.thread" in warning.getMessage()
    assert "profile and wall will have no stacks" in warning.getMessage()


def test_a_snapshot_before_start_and_after_stop_is_an_error() -> None:
    stacks = PythonStacks(FrameNames(), max_frames=1)
    with pytest.raises(NotRunningError):
        stacks.snapshot()
    stacks.start()
    stacks.start()
    stacks.snapshot()
    stacks.stop()
    stacks.stop()
    with pytest.raises(NotRunningError):
        stacks.snapshot()


@repeated
def test_a_restart_counts_from_zero() -> None:
    with sampling() as stacks:
        time.sleep(0.2)
        stacks.stop()
        stacks.start()
        assert wall_profile(stacks.snapshot()).total("wall") / 1e9 < 0.1


@repeated
def test_a_program_that_forks_all_the_time_is_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stacks_python, "MAX_CPU_SHARE", 1)  # a tick may take long on a busy machine
    with sampling(hz=20) as stacks:
        deadline = time.monotonic() + 2
        while time.monotonic() < deadline:
            stacks.before_fork()
            stacks.after_fork(child=False)
            time.sleep(0.015)
        ticks = stacks.stats()["ticks"]
    assert 20 <= ticks <= 60


@repeated
def test_overlapping_windows_each_get_their_own() -> None:
    with sampling() as stacks:
        first = stacks.snapshot()
        time.sleep(0.3)
        second = stacks.snapshot()
        time.sleep(0.3)
        end = stacks.snapshot()
    long = wall_profile(subtract(end, first))
    short = wall_profile(subtract(end, second))
    assert 0.6 <= long.duration_nanos / 1e9 < 1
    assert 0.3 <= short.duration_nanos / 1e9 < long.duration_nanos / 1e9 - 0.29
    assert by_function(long, "wall").total() > by_function(short, "wall").total()
