"""Forks in the middle of something: nobody hangs, and the child can go on profiling."""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path

import pytest

from pyprof_agent._native import unusable as extension_unusable
from pyprof_agent.sources import heap_native, stacks_native
from tests.support import ROOT, compile_c, run_python

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")

# How a child has ended; one that hangs is killed.
WAIT_FOR = """
import os, time

def wait_for(child):
    end = time.monotonic() + 30
    while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0):
        if time.monotonic() > end:
            os.kill(child, 9)
        time.sleep(0.001)
    return ended
"""

# A fork copies the lock of an import that another thread is in the middle of, and nothing in the
# child ever releases it. CPython's own limitation, and how start() used to hang there.
IMPORTS = """
import sys
import pyprof_agent

class Listener:
    def find_spec(self, name, path=None, target=None):
        asked.append(name)

asked = []
sys.meta_path.insert(0, Listener())
for _ in range(2):
    pyprof_agent.start()
    pyprof_agent.stop()
print(asked)
"""


def test_nothing_is_imported_at_a_start_or_stop() -> None:
    assert run_python(IMPORTS).stdout == "[]\n"


# An agent that is not the process's own, stopped and started while its profiles are taken: at
# the fork any lock of it may be held by a thread that the child does not have. Without the heap:
# CPython's tracemalloc hangs such children by itself, see docs/how-it-works.md.
OWN_AGENT = """
import os, threading, time
from pyprof_agent import Agent, Config, NotRunningError

agent = Agent(Config(heap=False, stack_hz=1000))

def toggle():
    while True:
        agent.start()
        agent.stop()

def capture():
    while True:
        try:
            agent.capture("wall")
            agent.capture("goroutine")
        except NotRunningError:
            pass

for work in (toggle, toggle, capture):
    threading.Thread(target=work, daemon=True).start()
for _ in range(30):
    child = os.fork()
    if child == 0:
        agent.start()
        agent.capture("wall")
        agent.stop()
        for _ in range(100):  # until the kernel knows of their end
            if len(os.listdir("/proc/self/task")) == 1:
                break
            time.sleep(0.01)
        os._exit(len(os.listdir("/proc/self/task")) - 1)
    end = time.monotonic() + 20
    while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0):
        assert time.monotonic() < end, "a child hangs"
        time.sleep(0.005)
    assert ended[1] == 0, "a child failed, or has a thread of the agent left"
print("done", flush=True)
os._exit(0)
"""


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="such forks are warned of, as errors here")
def test_an_agent_of_ones_own_can_be_forked_in_the_middle_of_anything() -> None:
    assert run_python(OWN_AGENT, timeout=110).stdout == "done\n"


# Who makes a profile may hold any lock of ours, also when the agent has been stopped since.
LOCKS_HELD = (
    WAIT_FOR
    + """
import os, sys, threading, time, warnings
from pyprof_agent import Agent, Config, forks
from pyprof_agent.sources import heap_native, stacks_native, tracing

warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside other threads
agent = Agent(Config(stack_engine=sys.argv[1], heap_engine=sys.argv[2]))
agent.start()
if sys.argv[3] == "stopped":
    agent.stop()
held, over = threading.Event(), threading.Event()
owners = list(forks._lock_owners)
assert len(owners) >= 1, owners

def hold():
    locks = [owner._lock for owner in owners]
    locks += [heap_native._sampler.lock, stacks_native._sampler.lock, tracing._lock, forks._life]
    for lock in locks:
        lock.acquire()
    held.set()
    over.wait()
    for lock in locks:
        lock.release()

thread = threading.Thread(target=hold)
thread.start()
held.wait()
child = os.fork()
if child == 0:
    agent.start()
    for name in agent.profiles:
        agent.capture(name)
    agent.stats()
    agent.stop()
    os._exit(0)
over.set()
ended = wait_for(child)
assert ended[1] == 0, ended
thread.join()
agent.stop()
print("done")
"""
)


@pytest.mark.parametrize("state", ["running", "stopped"])
@pytest.mark.parametrize("heap", ["tracemalloc", "auto"])
@pytest.mark.parametrize("stacks", ["python", "auto"])
def test_a_child_has_the_locks_that_other_threads_held(stacks: str, heap: str, state: str) -> None:
    assert run_python(LOCKS_HELD, stacks, heap, state).stdout == "done\n"


# The child ends with its only thread, not at the end of a program.
FROM_A_THREAD = """
import os, sys, threading, time, warnings
import pyprof_agent

warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside other threads
pyprof_agent.start(heap=sys.argv[2] == "heap", stack_engine=sys.argv[1])

def work():
    child = os.fork()
    if child == 0:
        time.sleep(0.3)
        return
    end = time.monotonic() + 20
    while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0):
        if time.monotonic() > end:
            os.kill(child, 9)
            sys.exit("the child hangs")
        time.sleep(0.005)
    print("done", ended[1])

thread = threading.Thread(target=work)
thread.start()
thread.join()
"""


@pytest.mark.parametrize("heap", ["heap", "no heap"])  # with it there is the leak watch
@pytest.mark.parametrize("engine", ["python", "auto"])
def test_a_child_that_a_thread_has_forked_ends_with_that_thread(engine: str, heap: str) -> None:
    assert run_python(FROM_A_THREAD, engine, heap).stdout == "done 0\n"


# Hooks before a fork run last first, so that this one runs after ours.
STOP_IN_A_HOOK = """
import os
stopping = []
os.register_at_fork(before=lambda: stopping and pyprof_agent.stop())
import pyprof_agent

agent = pyprof_agent.start(heap=False)
stopping.append(True)
child = os.fork()
assert not agent.running
if child == 0:
    pyprof_agent.start(heap=False)
    pyprof_agent.stop()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
stopping.clear()
pyprof_agent.start(heap=False)
print("done")
"""


def test_a_programs_own_fork_hook_may_stop_the_agent() -> None:
    assert run_python(STOP_IN_A_HOOK).stdout == "done\n"


# The alarm comes at many different moments of starting and stopping; each handler forks, starts
# and stops in the very thread that was interrupted. It is set anew at the handler's end: on a busy
# machine one that repeats itself would interrupt the handlers, until they were too many.
SIGNAL = """
import os, signal, time, warnings
import pyprof_agent

# From 3.12 on: a fork in the middle of a thread's start is a fork beside that thread.
warnings.simplefilter("ignore", DeprecationWarning)
forks = 0

def fork(number, frame):
    global forks
    child = os.fork()
    if child == 0:
        status = 1
        try:
            pyprof_agent.start(heap=False)
            pyprof_agent.stop()
            status = 0
        finally:
            os._exit(status)  # else it would go on with the loop below, and fork in its turn
    if os.waitpid(child, 0)[1] == 0:
        forks += 1
        if forks < 300:
            signal.setitimer(signal.ITIMER_REAL, 0.0093)

signal.signal(signal.SIGALRM, fork)
signal.setitimer(signal.ITIMER_REAL, 0.003)
begin = time.monotonic()
while forks < 300 and time.monotonic() < begin + 45:
    pyprof_agent.start(heap=False, stack_hz=1000)
    pyprof_agent.stop()
signal.setitimer(signal.ITIMER_REAL, 0)
print("done", forks)
"""


def test_a_signal_handler_may_fork_in_the_middle_of_a_start_or_stop() -> None:
    assert run_python(SIGNAL).stdout == "done 300\n"


# Handlers of a C library, as grpcio's, that run Python: what they allocate is sampled, by a hook
# that takes our locks. A lock that is held from one of our handlers to the next hangs here.
FOREIGN_HANDLERS = """
import ctypes, os, sys

phase, order = sys.argv[1:]
ran = []

def handle():
    ran.append([bytes(600) for _ in range(2000)])

HANDLER = ctypes.CFUNCTYPE(None)
handler = HANDLER(handle)
handlers = [handler if phase == each else HANDLER() for each in ("prepare", "parent", "child")]

def register():
    assert ctypes.CDLL(None).__register_atfork(*handlers, None) == 0

if order == "before":
    register()
import pyprof_agent
agent = pyprof_agent.start(heap_sample_bytes=4096, stack_hz=1000)
if order == "after":
    register()
for _ in range(5):
    child = os.fork()
    if child == 0:
        assert agent.capture("heap").samples
        os._exit(len(ran) != (phase != "parent"))
    assert os.waitpid(child, 0)[1] == 0
    assert len(ran) == (phase != "child"), len(ran)
    ran.clear()
print("done")
"""


@pytest.mark.skipif(bool(heap_native.unusable()), reason=heap_native.unusable() or "-")
@pytest.mark.parametrize("order", ["before", "after"])
@pytest.mark.parametrize("phase", ["prepare", "parent", "child"])
def test_handlers_of_others_may_allocate_in_any_order(phase: str, order: str) -> None:
    assert run_python(FOREIGN_HANDLERS, phase, order).stdout == "done\n"


# A hook that was registered before ours runs while ours has prepared for the fork; the program
# may wait there for a thread of its own that starts or stops an agent.
WAITING_HOOK = """
import os, threading, warnings

warnings.simplefilter("ignore", DeprecationWarning)  # of the threads of the restarted agent

def restart():
    pyprof_agent.stop()
    pyprof_agent.start(heap=False)

def in_a_thread():
    thread = threading.Thread(target=restart)
    thread.start()
    thread.join()

os.register_at_fork(before=in_a_thread)
import pyprof_agent

pyprof_agent.start(heap=False)
for _ in range(2):
    child = os.fork()
    if child == 0:
        agent = pyprof_agent.start(heap=False)
        window = agent.begin("profile")
        while sum(sample.values[0] for sample in window.end().samples) < 3:
            sum(range(1000))
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
print("done")
"""


def test_a_programs_own_fork_hook_may_wait_for_a_thread_that_restarts_the_agent() -> None:
    assert run_python(WAITING_HOOK).stdout == "done\n"


# As uWSGI forks its workers: by C code that tells CPython afterwards, or never.
BY_C = (
    WAIT_FOR
    + """
import ctypes, os, sys, threading, time
import pyprof_agent

agent = pyprof_agent.start(stack_engine=sys.argv[1], leak_window=60, heap_sample_bytes=4096)
libc = ctypes.PyDLL(None)
if sys.argv[2] == "told":  # before any bytecode runs in the child
    hooks = [libc.PyOS_BeforeFork, libc.PyOS_AfterFork_Parent, libc.PyOS_AfterFork_Child]
    if sys.version_info < (3, 13):  # there uWSGI calls the last one only
        hooks[:2] = [None, None]
    tell = [ctypes.cast(hook, ctypes.c_void_p) if hook else None for hook in hooks]
    assert libc.__register_atfork(*tell, None) == 0

def only_in_the_child():
    return sum(range(1000))

child = libc.fork()
if child == 0:
    end = time.monotonic() + 20
    window = agent.begin("profile")
    found = False
    while not found and time.monotonic() < end:
        only_in_the_child()
        found = any(
            sample.stack[0].function.endswith(".only_in_the_child")
            for sample in window.end().samples
        )
    assert found
    assert agent.running
    assert agent.capture("heap").samples
    agent.leaks()
    os._exit(0)
ended = wait_for(child)
assert ended[1] == 0, ended
print("done")
"""
)


@pytest.mark.parametrize("told", ["told", "never told"])
@pytest.mark.parametrize("engine", ["python", "auto"])
def test_a_child_that_c_code_has_forked_is_profiled(engine: str, told: str) -> None:
    if told == "never told" and extension_unusable():
        pytest.skip("needs the extension")
    assert run_python(BY_C, engine, told).stdout == "done\n"


# The sampler is there again without any call of ours: a scrape may come much later.
BY_C_UNASKED = """
import ctypes, os, sys, time
from contextlib import suppress
import pyprof_agent

pyprof_agent.start(heap_sample_bytes=16384)
child = ctypes.PyDLL(None).fork()
if child == 0:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        for task in os.listdir("/proc/self/task"):
            with suppress(OSError), open(f"/proc/self/task/{task}/comm") as name:
                if name.read() == "pyprof-stacks\\n":
                    os._exit(0)
    os._exit(1)
assert os.waitpid(child, 0)[1] == 0
print("done")
"""


@pytest.mark.skipif(
    bool(heap_native.unusable() or stacks_native.unusable()), reason="needs both native engines"
)
def test_the_sampler_of_such_a_child_runs_before_anybody_asks() -> None:
    assert run_python(BY_C_UNASKED).stdout == "done\n"


# New threads of such a child are given the stacks of the parent's, and with them their ids. CPython
# up to 3.12 finds the frames of those through these stacks, in which anything is then. (Some C
# libraries do not use them again.)
BY_C_WITH_THREADS = """
import _thread, ctypes, os, sys, threading, time
import pyprof_agent

agent = pyprof_agent.start(heap=False)
over = _thread.allocate_lock()
over.acquire()
begun = []

def wait(depth):
    if depth:
        return len([wait(depth - 1)])
    begun.append(threading.get_ident())
    over.acquire()

for _ in range(8):
    _thread.start_new_thread(wait, (20,))
while len(begun) < 8:
    time.sleep(0.001)
child = ctypes.PyDLL(None).fork()
if child == 0:
    begun.clear()
    looked = []

    def look():
        me = threading.get_ident()
        begun.append(me)
        while len(begun) < 8:
            time.sleep(0.001)
        for _ in range(20):
            frames = sys._current_frames()
            assert frames[me] is sys._getframe()
            assert len(frames) <= 10, frames  # these, the main thread and the worker
            samples = agent.capture("goroutine").samples
            mine = [s for s in samples if any(f.function.endswith(".look") for f in s.stack)]
            assert mine and all(s.label("thread") != "pyprof-agent-worker" for s in mine), samples
        looked.append(me)

    for _ in range(8):
        _thread.start_new_thread(look, ())
    end = time.monotonic() + 30
    while len(looked) < 8 and time.monotonic() < end:
        time.sleep(0.001)
    os._exit(len(looked))
ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
assert ended == 8, ended
print("done", flush=True)
os._exit(0)
"""


@pytest.mark.skipif(bool(stacks_native.unusable()), reason="needs the extension")
def test_threads_of_such_a_child_are_not_taken_for_those_of_the_parent() -> None:
    assert run_python(BY_C_WITH_THREADS).stdout == "done\n"


# Nobody tells CPython to make the GIL anew in such a child. A thread of the parent's may have it,
# or have asked for it, and is not there.
BY_C_BESIDE_BUSY_THREADS = (
    WAIT_FOR
    + """
import _thread, ctypes, os, sys, time
import pyprof_agent

agent = pyprof_agent.start()
fork = (ctypes.CDLL if sys.argv[1] == "given away" else ctypes.PyDLL)(None).fork
begun = []

def spin():
    begun.append(None)
    while True:
        pass

for _ in range(2):
    _thread.start_new_thread(spin, ())
while len(begun) < 2:
    time.sleep(0.001)
sys.setswitchinterval(0.0001)
for each in range(40):
    child = fork()
    if child == 0:
        for _ in range(3):
            time.sleep(0.0001)
        if each % 10 == 0:
            assert agent.capture("goroutine").samples
            over = _thread.allocate_lock()
            over.acquire()
            _thread.start_new_thread(over.release, ())
            over.acquire()
        os._exit(0)
    ended = wait_for(child)
    assert ended[1] == 0, (each, ended)
print("done", flush=True)
os._exit(0)
"""
)


@pytest.mark.skipif(bool(extension_unusable()), reason="needs the extension")
@pytest.mark.parametrize("gil", ["given away", "kept"])
def test_such_a_child_does_not_wait_for_threads_that_it_does_not_have(gil: str) -> None:
    assert run_python(BY_C_BESIDE_BUSY_THREADS, gil).stdout == "done\n"


# A state has the id of the thread that made it, which is not always the one that runs in it.
FOREIGN_STATE = """
import ctypes, os, sys, warnings
import pyprof_agent

warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside other threads
agent = pyprof_agent.start()
results = []

def work():
    frame = sys._getframe()
    child = os.fork() if sys.argv[2] == "told" else ctypes.PyDLL(None).fork()
    if child == 0:
        assert sys._getframe() is frame
        assert sorted(locals())[0] == "child"
        agent.capture("wall")
        os._exit(7)
    results.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

ctypes.PyDLL(sys.argv[1]).run_in_foreign_thread(b"import __main__; __main__.work()")
assert results == [7], results
print("done")
"""


@pytest.mark.skipif(bool(extension_unusable()), reason="needs the extension, and a compiler")
@pytest.mark.parametrize("told", ["told", "never told"])
def test_a_thread_in_a_state_that_another_one_has_made_can_fork(told: str, tmp_path: Path) -> None:
    library = compile_c(
        tmp_path / "foreign.so",
        ROOT / "tests" / "native" / "foreign_thread.c",
        flags=["-shared", "-fPIC", "-isystem", sysconfig.get_path("include")],
    )
    assert run_python(FOREIGN_STATE, str(library), told).stdout == "done\n"


# `threading` makes this lock anew only where it is told of the fork.
LIMBO = (
    WAIT_FOR
    + """
import ctypes, os, threading, time
import pyprof_agent

agent = pyprof_agent.start(stack_engine="python", heap=False)
held, over = threading.Event(), threading.Event()

def hold():
    with threading._active_limbo_lock:
        held.set()
        over.wait()

thread = threading.Thread(target=hold)
thread.start()
held.wait()
child = ctypes.PyDLL(None).fork()
if child == 0:
    agent.capture("wall")
    os._exit(0)
ended = wait_for(child)
over.set()
thread.join()
assert ended[1] == 0, ended
print("done")
"""
)


@pytest.mark.skipif(bool(extension_unusable()), reason="needs the extension")
def test_a_child_that_c_code_has_forked_can_start_threads() -> None:
    assert run_python(LIMBO).stdout == "done\n"


# What a signal handler raises while the child takes notice comes out where the program is.
ENDED_MEANWHILE = """
import ctypes, os, sys, time
import pyprof_agent
from pyprof_agent._native import core

agent = pyprof_agent.start(heap_sample_bytes=4096)
core.follow_forks(lambda: sys.exit(5))  # as a handler of SIGTERM
child = ctypes.PyDLL(None).fork()
if child == 0:
    end = time.monotonic() + 20
    try:
        while time.monotonic() < end:
            [object() for _ in range(1000)]
    except SystemExit as ended:
        os._exit(ended.code)
    os._exit(1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 5
core.follow_forks(int)
print("done")
"""


@pytest.mark.skipif(bool(heap_native.unusable()), reason="needs the native heap engine")
def test_an_exit_in_the_middle_of_the_notice_ends_the_child() -> None:
    assert run_python(ENDED_MEANWHILE).stdout == "done\n"


# Nothing is begun at the end of a process.
UNNOTICED = """
import atexit, ctypes, os
import pyprof_agent

agent = pyprof_agent.start(heap_sample_bytes=4096)
child = ctypes.PyDLL(None).fork()
if child == 0:
    atexit._run_exitfuncs()
    os._exit(len(os.listdir("/proc/self/task")))
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
print("done")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")
def test_a_child_that_nobody_has_noticed_starts_nothing_at_its_exit() -> None:
    assert run_python(UNNOTICED).stdout == "done\n"


# Without the extension the stacks cannot be read there: up to 3.12 that crashes.
BY_C_WITHOUT_THE_EXTENSION = """
import ctypes, os, sys

sys.modules["pyprof_agent._native._core"] = None
import pyprof_agent

early = pyprof_agent.start() if sys.argv[1] == "before" else None
child = ctypes.PyDLL(None).fork()
if child == 0:
    if early:
        for use in (lambda: early.capture("goroutine"), early.leaks, early.start):
            try:
                use()
            except pyprof_agent.NotRunningError as error:
                assert "PyOS_AfterFork_Child" in str(error), error
            else:
                raise AssertionError("it runs")
        early.stats()
        early.stop()
    else:
        assert pyprof_agent.start().capture("goroutine").samples
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
print("done")
"""


@pytest.mark.parametrize("started", ["before", "after"])
def test_without_the_extension_an_agent_in_such_a_child_says_why_not(started: str) -> None:
    assert run_python(BY_C_WITHOUT_THE_EXTENSION, started).stdout == "done\n"


# CPython 3.12 and later warn of a fork beside other threads, and count them after the hooks of
# the parent. Recorded, as of the fork itself a warning that is an error cannot be raised.
WITHOUT_WARNING = """
import os, sys, threading, time, warnings

os.register_at_fork(after_in_parent=lambda: sorted(range(1000), key=str))  # after ours
import pyprof_agent

os.register_at_fork(after_in_parent=lambda: sorted(range(1000), key=str))
warned = []
warnings.simplefilter("always")
warnings.showwarning = lambda message, category, *arguments: warned.append(category)
filters = list(warnings.filters)
agent = pyprof_agent.start(stack_engine=sys.argv[1], leak_window=60)
if sys.argv[2] == "served":
    pyprof_agent.serve(port=0)

def fork():
    child = os.fork()
    if child == 0:
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0

for _ in range(20):
    fork()
assert not warned, warned
ticks = agent.stats()["stacks"]["ticks"]
end = time.monotonic() + 20
while agent.stats()["stacks"]["ticks"] == ticks:  # it goes on
    assert time.monotonic() < end
over = threading.Event()
mine = threading.Thread(target=over.wait)
mine.start()
fork()
WARNS = sys.version_info >= (3, 12)
assert warned == [DeprecationWarning] * WARNS, warned
assert warnings.filters == filters, warnings.filters
over.set()
mine.join()
fork()
assert len(warned) == WARNS, warned
warnings.simplefilter("always", UserWarning)  # in front of ours
over.clear()
mine = threading.Thread(target=over.wait)
mine.start()
fork()
assert len(warned) == 2 * WARNS, warned
over.set()
mine.join()
fork()
if sys.argv[2] != "served":
    pyprof_agent.stop()
    fork()
    assert warnings.filters[1:] == filters, warnings.filters
print("done")
"""


@pytest.mark.parametrize("served", ["served", "not served"])
@pytest.mark.parametrize("engine", ["python", "auto"])
def test_a_fork_beside_no_thread_but_ours_is_not_warned_of(engine: str, served: str) -> None:
    assert run_python(WITHOUT_WARNING, engine, served).stdout == "done\n"


# On a busy machine the kernel may list a thread for long after its last instruction. Here it has
# more to do.
ENDING = """
import _thread, threading
from pyprof_agent import hidden_thread, own_process

over = _thread.allocate_lock()
over.acquire()
begun = []

def run():
    begun.append(threading.get_native_id())
    over.acquire()

_thread.start_new_thread(run, ())
while not begun:
    pass
assert not own_process.is_single_threaded_but_for_us()
hidden_thread.wait_for_the_kernel(begun[0])
assert own_process.is_single_threaded_but_for_us()
over.release()
while hidden_thread.ending():
    pass
assert own_process.is_single_threaded_but_for_us()
print("done")
"""


def test_a_thread_of_ours_that_the_kernel_still_lists_is_none_of_the_programs() -> None:
    assert run_python(ENDING).stdout == "done\n"


# As a signal handler's, such as a time limit's, that raises in the middle of our hook.
INTERRUPTED = """
import os, sys, time
import pyprof_agent
from pyprof_agent.sources import stacks_python

agent = pyprof_agent.start(stack_engine="python")
begin = stacks_python.PythonStacks._launch
calls = []

def launch(self):
    calls.append(self)
    if len(calls) == 1:
        raise KeyboardInterrupt
    begin(self)

stacks_python.PythonStacks._launch = launch
sys.unraisablehook = lambda unraisable: None
child = os.fork()
if child == 0:
    end = time.monotonic() + 20
    while not agent.stats()["stacks"]["ticks"]:
        assert time.monotonic() < end
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
ticks = agent.stats()["stacks"]["ticks"]
end = time.monotonic() + 20
while agent.stats()["stacks"]["ticks"] == ticks:
    assert time.monotonic() < end
print("done")
"""


def test_the_agent_goes_on_where_a_handler_has_interrupted_its_fork_hook() -> None:
    assert run_python(INTERRUPTED).stdout == "done\n"


# Hooks of the program's that see what CPython is asked to do: an exit is none of our business.
AUDIT = """
import sys
import pyprof_agent

pyprof_agent.start()
pyprof_agent.current_agent().capture("goroutine")
events = []
sys.addaudithook(lambda event, arguments: events.append(event))
import atexit
atexit._run_exitfuncs()
print([event for event in events if not event.startswith(("import", "open", "atexit"))])
"""


def test_an_exit_asks_cpython_for_nothing_that_hooks_see() -> None:
    assert run_python(AUDIT).stdout == "[]\n"
