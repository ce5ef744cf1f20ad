"""Forks in the middle of something: nobody hangs, and the child can go on profiling."""

from __future__ import annotations

import sys

import pytest

from tests.support import run_python

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")

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
        os._exit(threading.active_count() - 1)
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
