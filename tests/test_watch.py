"""The watch in a running agent: it finds the leak, says so once, and is switched off and on."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from pyprof_agent import Agent, CaptureError, Config, ConfigError, LeakReport, NotRunningError
from pyprof_agent.errors import PyprofAgentError
from pyprof_agent.hidden_thread import HIDDEN
from pyprof_agent.leaks.growth import INNOCENT, LEAK, UNSURE
from pyprof_agent.profile import Frame, Profile, Sample, ValueType
from pyprof_agent.sources import heap_native
from pyprof_agent.watch import JUDGED_EVERY, LeakWatch, watch_of
from tests.support import HEAP_TYPES, run_python

MIB = 2**20
LEAK_LINE = Frame("shop.channel.send", "/shop/channel.py", 30, 40)
CACHE_LINE = Frame("shop.cache.put", "/shop/cache.py", 1, 5)


class Heap:
    """A heap engine whose memory grows by so much from look to look."""

    name = "native"
    generation = 0
    past = None

    def __init__(self) -> None:
        self.leaked = self.step = 0.0
        self.second = 0.0
        self.failure: Exception | None = None

    def snapshot(self) -> Profile:
        if self.failure is not None:
            raise self.failure
        self.second += 60
        self.leaked += self.step
        sizes = {LEAK_LINE: self.leaked, CACHE_LINE: 100.0 * MIB}
        return Profile(
            sample_types=HEAP_TYPES,
            samples=tuple(
                Sample((line, LEAK_LINE), (1, size, 1, size)) for line, size in sizes.items()
            ),
            period_type=ValueType("space", "bytes"),
            period=1,
            time_nanos=round(self.second * 1e9),
        )

    def start(self) -> None: ...
    def stop(self) -> None: ...
    def stats(self) -> dict[str, float]:
        return {}

    def before_fork(self) -> None: ...
    def after_fork(self, *, child: bool) -> None: ...
    def window(self, later: Profile, earlier: Profile) -> Profile:
        return later

    def in_use_bytes(self) -> int:
        return 0


@pytest.fixture
def heap() -> Heap:
    return Heap()


@pytest.fixture
def told() -> list[LeakReport]:
    return []


@pytest.fixture
def watch(heap: Heap, told: list[LeakReport], monkeypatch: pytest.MonkeyPatch) -> LeakWatch:
    monkeypatch.setattr("pyprof_agent.watch.resident_bytes", lambda: 200 * MIB)
    return LeakWatch(heap, lambda profile: profile, seconds=3600, limit=5.0, on_leak=told.append)


def look(watch: LeakWatch, times: int) -> None:
    for _ in range(times):
        watch.run()


def test_it_warns_once_when_it_begins_and_tells_when_it_ends(
    watch: LeakWatch, heap: Heap, told: list[LeakReport], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "pyprof_agent")
    look(watch, 60)
    assert watch.report().verdict == INNOCENT
    heap.step = 0.5 * MIB  # 15 % of the process an hour
    look(watch, 90)
    assert watch.report().verdict == LEAK
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "memory in use grows by 15 % of the process an hour, surely by " in record.message
    assert "shop.channel.send (/shop/channel.py:40), 30.0 MiB an hour" in record.message
    (report,) = told
    assert [suspect.line for suspect in report.suspects] == [LEAK_LINE]
    assert report.stacks == {LEAK_LINE: (LEAK_LINE, LEAK_LINE)}
    heap.step = 0
    look(watch, 130)
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert len(told) == 1


def test_it_looks_as_often_as_a_minute_and_judges_less_often(
    watch: LeakWatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert 59 < watch.due - time.monotonic() <= 60
    judged: list[int] = []
    monkeypatch.setattr(LeakWatch, "report", lambda self: judged.append(1))
    monkeypatch.setattr(LeakWatch, "_warn", lambda self, report: None)
    look(watch, 3 * JUDGED_EVERY)
    assert len(judged) == 3
    assert watch.stats()["looks"] == 3 * JUDGED_EVERY


def test_the_last_judgement_is_kept_until_the_next_or_a_new_begin(
    watch: LeakWatch, heap: Heap
) -> None:
    look(watch, JUDGED_EVERY - 1)
    assert watch.last is None
    assert watch.in_use == 100 * MIB
    look(watch, 1)
    first = watch.last
    assert first is not None
    assert len(first.spans[0].moments) == JUDGED_EVERY
    # What is kept does not grow with the lines of the program.
    assert all(len(moment.line_in_use) == 0 for moment in first.spans[0].moments)
    heap.step = MIB
    look(watch, 3)
    assert watch.last is first
    assert watch.in_use == 103 * MIB
    watch.begin()
    assert (watch.last, watch.in_use) == (None, None)


def test_where_a_look_costs_much_it_looks_less_often(
    watch: LeakWatch, heap: Heap, monkeypatch: pytest.MonkeyPatch
) -> None:
    cheap = heap.snapshot()

    def dear(heap: Heap) -> Profile:
        end = time.thread_time() + 0.2
        while time.thread_time() < end:
            pass
        return cheap

    monkeypatch.setattr(Heap, "snapshot", dear)
    began = time.monotonic()
    watch.run()
    assert 200 < watch.due - began < 400  # 0.1 % of a core
    assert watch.stats()["cpu_seconds"] > 0.2


def test_a_failure_is_logged_once_and_counted_and_it_goes_on(
    watch: LeakWatch, heap: Heap, caplog: pytest.LogCaptureFixture
) -> None:
    heap.failure = ZeroDivisionError("of a test")
    look(watch, 3)
    assert watch.stats()["failures"] == 3
    assert len(caplog.records) == 1
    heap.failure = NotRunningError("stopped in the middle")
    look(watch, 1)
    assert watch.stats()["failures"] == 3
    heap.failure = None
    look(watch, 12)
    assert watch.report().spans[0].measured == 11 * 60


def test_what_on_leak_raises_harms_nothing(
    heap: Heap, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(report: LeakReport) -> None:
        raise KeyError("of a test")

    watch = LeakWatch(heap, lambda profile: profile, seconds=3600, limit=5.0, on_leak=fail)
    heap.step = 100 * MIB
    look(watch, 65)
    assert watch.stats() == {
        "looks": 65,
        "failures": 1,
        "cpu_seconds": watch.stats()["cpu_seconds"],
    }


def test_without_an_engine_or_with_another_there_is_a_reason(agent: Agent) -> None:
    off = Agent(Config(leak_window=0, stacks=False))
    with pytest.raises(NotRunningError):
        off.leaks()
    off.start()
    with pytest.raises(CaptureError, match="the leak watch is off: leak_window is 0"):
        off.leaks()
    off.stop()
    other = Heap()
    other.name = "tracemalloc"
    assert watch_of(Config(), other, lambda profile: profile) is None
    assert watch_of(Config(leak_window=60), other, lambda profile: profile) is not None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"leak_window": -1}, "leak_window is -1; use a whole number from 0 to 2592000"),
        ({"leak_limit": 0}, "leak_limit is 0; use a number from 0.01 to 100000"),
        ({"on_leak": "mail"}, "on_leak is 'mail'; use a function that takes the report"),
    ],
)
def test_options_that_cannot_be_used_are_told(options: dict[str, object], message: str) -> None:
    with pytest.raises(PyprofAgentError, match=message):
        Config.load(options, {})
    with pytest.raises(ConfigError):
        Config.load(options, {})


def test_a_function_does_not_come_from_the_environment() -> None:
    assert Config.load({}, {"PYPROF_AGENT_ON_LEAK": "print"}).on_leak is None
    found = Config.load({}, {"PYPROF_AGENT_LEAK_WINDOW": "60", "PYPROF_AGENT_LEAK_LIMIT": "2.5"})
    assert (found.leak_window, found.leak_limit) == (60, 2.5)


def test_where_no_thread_can_be_started_it_warns_all_the_same(
    watch: LeakWatch,
    heap: Heap,
    told: list[LeakReport],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def no_threads(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", no_threads)
    heap.step = 100 * MIB
    look(watch, 65)
    assert watch.stats()["failures"] == 0
    assert len(told) == 1
    assert "memory leak: " in caplog.text
    heap.failure = ZeroDivisionError("of a test")
    look(watch, 1)
    assert "the leak watch failed" in caplog.text


needs_native = pytest.mark.skipif(
    bool(heap_native.unusable()), reason=heap_native.unusable() or "-"
)


@pytest.fixture
def short() -> Iterator[Agent]:
    """An agent that judges growth over six seconds, from every block."""
    found = Agent(Config(stacks=False, heap_sample_bytes=64, leak_window=6))
    found.start()
    yield found
    found.stop()


def leaking(agent: Agent, kept: list[bytes], over: Callable[[], bool]) -> None:
    while not over():
        kept.append(bytes(95))
        agent.count()
        time.sleep(0.002)


@needs_native
def test_a_leak_of_a_running_process_is_named_with_its_bytes(short: Agent) -> None:
    kept: list[bytes] = []
    found = short.leaks()
    slope = 0.0
    for _ in range(10):  # on a busy machine its traffic seems to grow at times
        end = time.monotonic() + 6
        leaking(short, kept, lambda end=end: time.monotonic() > end)  # type: ignore[misc]
        found = short.leaks()
        if found.verdict == LEAK and (per_unit := found.suspects[0].growth.per_unit) is not None:
            slope = per_unit.slope
        if slope == pytest.approx(128, rel=0.1):
            break
    assert found.verdict == LEAK
    suspect = found.suspects[0]
    assert suspect.line.function.endswith("test_watch.leaking")
    assert slope == pytest.approx(128, rel=0.1)
    assert found.stacks[suspect.line][0] == suspect.line


@needs_native
def test_a_restarted_agent_begins_with_no_history(short: Agent) -> None:
    deadline = time.monotonic() + 10
    while not short.leaks().spans[0].moments and time.monotonic() < deadline:
        time.sleep(0.01)
    assert short.leaks().spans[0].moments
    short.stop()
    short.start()
    assert short.leaks().spans[0].moments == ()
    assert short.leaks().verdict == UNSURE


FORK = """
import os, time
import pyprof_agent

agent = pyprof_agent.start(stacks=False, heap_sample_bytes=64, leak_window=1)

def looks():
    return [moment.seconds for moment in agent.leaks().spans[0].moments]

def wait_for_more(count):
    end = time.monotonic() + 10
    while len(looks()) < count:
        assert time.monotonic() < end
        time.sleep(0.01)

wait_for_more(3)
forked = time.time()
child = os.fork()
if child == 0:
    wait_for_more(2)
    assert min(looks()) > forked
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
assert min(looks()) < forked
wait_for_more(len(looks()) + 1)
print("done")
"""


@needs_native
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_parent_and_child_go_on_after_a_fork_each_with_its_own_history() -> None:
    assert run_python(FORK).stdout == "done\n"


@needs_native
def test_it_is_one_thread_and_that_is_gone_after_the_stop(short: Agent) -> None:
    deadline = time.monotonic() + 10
    while not HIDDEN and time.monotonic() < deadline:
        time.sleep(0.01)
    assert [thread.name for thread in HIDDEN.values()] == ["pyprof-agent-worker"]
    assert not any("pyprof" in thread.name for thread in threading.enumerate())
    short.stop()
    while HIDDEN and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not HIDDEN


SIGNALS = """
import os, signal, time
import pyprof_agent

pyprof_agent.start()
time.sleep(0.2)
signal.signal(signal.SIGUSR1, lambda number, frame: 1 / 0)
mask = {signal.SIGUSR1}
signal.pthread_sigmask(signal.SIG_BLOCK, mask)
os.kill(os.getpid(), signal.SIGUSR1)
time.sleep(0.2)
assert signal.sigpending() == mask
assert signal.sigwait(mask) == signal.SIGUSR1
print("done")
"""


@needs_native
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no such signals")
def test_a_signal_that_the_program_keeps_waiting_does_not_come_to_ours() -> None:
    assert run_python(SIGNALS).stdout == "done\n"


ENUMERATE = """
import logging, sys, threading, time
import pyprof_agent

told = []
agent = pyprof_agent.start(
    stacks=False, heap_sample_bytes=64, leak_window=2, leak_limit=1, on_leak=told.append
)
kept, end = [], time.monotonic() + 20
while not told and time.monotonic() < end:
    kept.append(bytes(1000))
    time.sleep(0.001)
assert told
time.sleep(0.1)
for thread in threading.enumerate():
    if thread is not threading.main_thread():
        thread.join()
print("done", threading.active_count())
"""


@needs_native
def test_a_program_that_waits_for_all_its_threads_does_not_wait_for_ours() -> None:
    assert run_python(ENUMERATE).stdout == "done 1\n"
