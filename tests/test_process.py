"""The agent of the process: start, stop, record, fork, exit."""

from __future__ import annotations

import logging
import sys
import threading
import time
from pathlib import Path

import pytest

import pyprof_agent
from pyprof_agent import ConfigError, NotRunningError, UnknownProfileError
from pyprof_agent.formats.pprof import decode
from tests.support import HEAP_ENGINES, run_python

posix = pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")


def test_start_returns_the_one_agent() -> None:
    agent = pyprof_agent.start(heap=False)
    assert pyprof_agent.start() is agent
    assert pyprof_agent.start(heap=False) is agent
    assert pyprof_agent.current_agent() is agent


def test_a_second_start_with_other_options_warns_and_changes_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    agent = pyprof_agent.start(heap=False)
    with caplog.at_level(logging.WARNING):
        assert pyprof_agent.start(heap=False, stack_hz=50) is agent
    assert "start(heap=False, stack_hz=50) changes nothing" in caplog.text
    assert agent.config.stack_hz is None


def test_after_a_stop_a_start_may_have_other_options() -> None:
    first = pyprof_agent.start(heap=False)
    pyprof_agent.stop()
    pyprof_agent.stop()
    with pytest.raises(NotRunningError):
        pyprof_agent.current_agent()
    second = pyprof_agent.start(heap=False, max_frames=7)
    assert second is not first
    assert second.config.max_frames == 7


def test_start_from_many_threads_makes_one_agent() -> None:
    agents: list[object] = []
    threads = [
        threading.Thread(target=lambda: agents.append(pyprof_agent.start(heap=False)))
        for _ in range(10)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(agent) for agent in agents}) == 1


def test_options_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYPROF_AGENT_HEAP", "off")
    monkeypatch.setenv("PYPROF_AGENT_STACK_HZ", "33")
    agent = pyprof_agent.start()
    assert agent.engines["heap"] == "off"
    assert agent.config.stack_hz == 33


def test_a_wrong_option_starts_nothing() -> None:
    with pytest.raises(ConfigError, match="unknown option 'hz'"):
        pyprof_agent.start(hz=3)
    with pytest.raises(NotRunningError):
        pyprof_agent.current_agent()


def busy(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        sum(range(1000))


def test_record_writes_the_profile_of_a_block(tmp_path: Path) -> None:
    path = tmp_path / "block.pb.gz"
    with pyprof_agent.record(path) as recording:
        busy(0.5)
    saved = decode(path.read_bytes())
    assert saved.total("cpu") == recording.profile.total("cpu")
    assert saved.total("cpu") / 1e9 == pytest.approx(0.5, rel=0.3)
    assert any(
        frame.function == f"{__name__}.busy" for sample in saved.samples for frame in sample.stack
    )


def test_record_of_the_heap_is_the_growth_in_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYPROF_AGENT_HEAP_SAMPLE_BYTES", "1")
    with pyprof_agent.record(name="heap") as recording:
        kept = [bytes(1000) for _ in range(1000)]
    assert recording.profile.total("inuse_space") >= 1_000_000
    assert len(kept) == 1000


def test_record_writes_although_the_block_raises(tmp_path: Path) -> None:
    path = tmp_path / "block.pb.gz"
    with pytest.raises(KeyError), pyprof_agent.record(path, "wall"):
        raise KeyError
    assert decode(path.read_bytes()).sample_types[1].type == "wall"


def test_record_uses_the_agent_that_runs_and_leaves_it_running() -> None:
    agent = pyprof_agent.start(heap=False, stack_hz=20)
    with pyprof_agent.record(name="wall") as recording:
        time.sleep(0.1)
    assert agent.running
    assert recording.profile.period == 50_000_000  # the 20 looks a second of that agent


def test_records_of_the_heap_may_overlap_each_other_and_the_agent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYPROF_AGENT_HEAP_SAMPLE_BYTES", "1")
    first, second = pyprof_agent.record(name="heap"), pyprof_agent.record(name="allocs")
    first.__enter__()
    second.__enter__()
    pyprof_agent.start()
    kept = [bytes(1000) for _ in range(1000)]
    first.__exit__(None, None, None)
    second.__exit__(None, None, None)
    assert first.profile.total("inuse_space") >= len(kept) * 1000
    assert second.profile.total("alloc_space") >= len(kept) * 1000
    assert pyprof_agent.current_agent().capture("heap").samples


@pytest.mark.parametrize("name", ["nosuch", "goroutine"])
def test_record_of_another_profile_is_refused(name: str) -> None:
    with pytest.raises(UnknownProfileError, match=f"no profile '{name}'; record one of: cpu"):
        pyprof_agent.record(name=name)


def test_record_of_what_the_agent_does_not_have_leaves_it_running() -> None:
    agent = pyprof_agent.start(heap=False)
    with pytest.raises(UnknownProfileError, match="heap"), pyprof_agent.record(name="heap"):
        pass
    assert agent.running


FORK = """
import os, sys, threading, time
import pyprof_agent

agent = pyprof_agent.start(stack_hz=200, heap_sample_bytes=1)
kept = [bytes(1000) for _ in range(1000)]
stop = threading.Event()

def work():
    while not stop.is_set():
        [bytes(100) for _ in range(100)]
        agent.capture("heap")

# From 3.12 on a fork beside any other thread warns, and warnings are errors here.
threads = [threading.Thread(target=work, daemon=True) for _ in range(2)]
if sys.version_info < (3, 12):
    for thread in threads:
        thread.start()
for _ in range(5):
    child = os.fork()
    if child == 0:
        time.sleep(0.05)
        wall = agent.capture("wall")
        assert wall.total("wall") > 0, "the child does not sample"
        assert wall.duration_nanos < 30e9
        cpu = agent.capture("cpu").total("cpu") / 1e9
        assert cpu <= time.process_time() + 0.01, (cpu, time.process_time())
        end = time.process_time() + 0.2
        window = agent.begin("cpu")
        while time.process_time() < end:
            sum(range(1000))
        cpu = window.end()
        seen = sum(s.values[1] for s in cpu.samples if s.label("thread") == "MainThread")
        assert seen > 0.8 * cpu.total("cpu"), "the child's main thread has no clock"
        heap = agent.capture("heap").total("inuse_space")
        assert heap > 1_000_000, "what was alive is inherited"
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert status == 0, status
assert agent.capture("wall").total("wall") > 0
stop.set()
print("done")
"""


@posix
def test_a_forked_child_samples_from_zero_and_keeps_what_was_alive() -> None:
    assert run_python(FORK, timeout=110).stdout == "done\n"


FORK_IN_THREADS = """
import os, threading
import pyprof_agent

pyprof_agent.start(heap=False, stack_hz=1000)

def fork_often():
    for _ in range(25):
        child = os.fork()
        if child == 0:
            pyprof_agent.stop()
            pyprof_agent.start(heap=False)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0

threads = [threading.Thread(target=fork_often) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print("done")
"""


@posix
@pytest.mark.skipif(sys.version_info >= (3, 12), reason="such forks are warned of, as errors here")
def test_forks_from_many_threads_neither_hang_nor_fail() -> None:
    assert run_python(FORK_IN_THREADS).stdout == "done\n"


FORK_AND_START = """
import os, threading, time
import pyprof_agent

stop = threading.Event()

def toggle():
    while not stop.is_set():
        pyprof_agent.start(heap=False)
        pyprof_agent.stop()

threading.Thread(target=toggle, daemon=True).start()
for _ in range(50):
    child = os.fork()
    if child == 0:
        pyprof_agent.start(heap=False)
        pyprof_agent.stop()
        os._exit(0)
    end = time.monotonic() + 10
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        assert time.monotonic() < end, "a child hangs in start()"
        time.sleep(0.005)
stop.set()
print("done")
"""


@posix
@pytest.mark.skipif(sys.version_info >= (3, 12), reason="such forks are warned of, as errors here")
def test_forks_during_starts_and_stops_hang_nobody() -> None:
    assert run_python(FORK_AND_START).stdout == "done\n"


REENTRANT = """
import os, signal, sys, time, pyprof_agent

agent = pyprof_agent.start(max_frames=1, heap_engine=sys.argv[1], heap_sample_bytes=1)
busy = inside = 0

def handler(*_):
    global inside
    if busy == 1:  # a capture takes longer than the time to the next signal
        agent.capture("heap")
        inside += 1

signal.signal(signal.SIGALRM, handler)
kept = [[number] for number in range(20_000)]
end = time.monotonic() + 5  # a native profile is over too soon for many
while inside < 20 and time.monotonic() < end:
    signal.setitimer(signal.ITIMER_REAL, 0.0001 * (inside + 1))
    busy += 1
    agent.capture("heap")
    busy -= 1
    agent.capture("wall")
signal.setitimer(signal.ITIMER_REAL, 0)
print("done", inside > 0)
"""


@posix
@pytest.mark.parametrize("engine", HEAP_ENGINES)
def test_a_signal_handler_may_ask_for_a_profile_in_the_middle_of_one(engine: str) -> None:
    assert run_python(REENTRANT, engine, timeout=60).stdout == "done True\n"


@posix
def test_sampling_alone_does_not_make_a_fork_warn() -> None:
    code = """
        import os, pyprof_agent
        pyprof_agent.start()
        child = os.fork()
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)
    """
    assert run_python(code).stderr == ""


@pytest.mark.parametrize(
    "end",
    [
        "",
        "sys.exit(3)",
        "os._exit(3)",
        "raise KeyError",
        "threading.Thread(target=time.sleep, args=(0.2,)).start()",
        "pyprof_agent.serve(port=0)",
        "pyprof_agent.serve(port=0); sys.exit(3)",
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "os.kill(os.getpid(), signal.SIGINT); time.sleep(5)",
    ],
)
def test_a_program_ends_as_it_would_without_the_agent(end: str) -> None:
    code = f"""
import os, sys, threading, time, pyprof_agent
pyprof_agent.start(stack_hz=1000)
time.sleep(0.1)
{end}
"""
    begin = time.monotonic()
    result = run_python(code, check=False)
    expected = {"": 0, "sys": 3, "os": 3, "raise": 1, "threading": 0, "pyprof_agent": 0}
    word = end.partition(".")[0].partition(" ")[0]
    if word == "import":
        assert result.returncode in (-2, 1, 130)
    else:
        assert result.returncode == (3 if "exit(3)" in end else expected[word])
    assert "pyprof" not in result.stderr
    assert time.monotonic() - begin < 10


SUBINTERPRETER = '''
import sys
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters

REFUSED = """
import pyprof_agent
try:
    pyprof_agent.start()
except pyprof_agent.ConfigError as refusal:
    assert "main interpreter" in str(refusal)
else:
    raise AssertionError("started")
"""

import pyprof_agent
pyprof_agent.start(heap=False, stack_hz=1000)
run = getattr(interpreters, "run_string", None) or interpreters.exec
other = interpreters.create()
error = run(other, REFUSED)
assert error is None, error
interpreters.destroy(other)
print("done")
'''


@pytest.mark.skipif(
    sys.version_info >= (3, 12),
    reason="CPython 3.12.1 and 3.13.0 crash on a subinterpreter made beside any thread",
)
def test_a_subinterpreter_refuses_to_start_and_can_be_destroyed() -> None:
    assert run_python(SUBINTERPRETER).stdout == "done\n"


def test_importing_and_starting_many_times_leaks_no_thread_or_descriptor() -> None:
    code = """
        import os, threading, pyprof_agent
        def state():
            return threading.active_count(), len(os.listdir("/proc/self/fd"))
        pyprof_agent.start(); pyprof_agent.stop()
        before = state()
        for _ in range(100):
            pyprof_agent.start(stack_hz=1000)
            pyprof_agent.stop()
        assert state() == before, (before, state())
    """
    run_python(code)
