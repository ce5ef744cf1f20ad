"""A thousand starts, forks, ends and workers with both samplers on: no crash, hang or leftover."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from pyprof_agent.sources import heap_native, stacks_native
from tests.support import ROOT, free_port, get, run_python, running

_UNUSABLE = heap_native.unusable() or stacks_native.unusable()
pytestmark = [
    pytest.mark.skipif(bool(_UNUSABLE), reason=_UNUSABLE or "-"),
    pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc"),
    pytest.mark.timeout(1500),
]

ROUNDS = 1000

PRELUDE = f"""
import gc, os, sys, threading, time, traceback, warnings
from functools import partial
import pyprof_agent

warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside other threads
ROUNDS = {ROUNDS}
OPTIONS = {{"stack_engine": "native", "heap_engine": "native", "stack_hz": 1000}}

def held():
    return len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd"))

def ended_well(child):
    deadline = time.monotonic() + 30
    while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0):
        assert time.monotonic() < deadline, "a child hangs"
        time.sleep(0.0005)
    assert ended[1] == 0, ended

def in_child(work):
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    ended_well(child)

def turn(over):
    while not over.wait(0.0005):  # else everybody would wait for the GIL
        sorted(range(100), key=str)
"""


def rounds(code: str, timeout: float = 600) -> None:
    """Run code that prints how long it took; it must leave nothing behind."""
    begin = time.monotonic()
    result = run_python(PRELUDE + code, timeout=timeout)
    assert result.stdout == "done\n"
    print(f"\n{ROUNDS} rounds in {time.monotonic() - begin:.0f} s")


def test_starts_and_stops() -> None:
    rounds("""
over = threading.Event()
threads = [threading.Thread(target=turn, args=(over,), daemon=True) for _ in range(3)]
for thread in threads:
    thread.start()
before = held()
for _ in range(ROUNDS):
    agent = pyprof_agent.start(**OPTIONS)
    agent.capture("cpu")
    pyprof_agent.stop()
assert held() == before, (held(), before)
over.set()
print("done")
""")


def test_forks_beside_threads() -> None:
    rounds("""
over = threading.Event()
agent = pyprof_agent.start(**OPTIONS)
for _ in range(3):
    threading.Thread(target=turn, args=(over,), daemon=True).start()
before = held()

def work():
    turn_once = sorted(range(100), key=str)
    assert agent.capture("wall").duration_nanos > 0
    assert agent.capture("heap").sample_types
    assert held()[0] == 3, held()  # this thread, that which samples, and that of the watch

for _ in range(ROUNDS):
    in_child(work)
assert held() == before, (held(), before)
assert agent.capture("cpu").total("cpu") > 0
over.set()
pyprof_agent.stop()
print("done")
""")


def test_forks_with_handlers_of_others_in_every_order() -> None:
    rounds("""
import ctypes, zlib

over = threading.Event()
ran = []
HANDLER = ctypes.CFUNCTYPE(None)

def handle():
    ran.append([bytes(600) for _ in range(100)])

handler = HANDLER(handle)
libc = ctypes.CDLL(None)

def register():
    for phase in range(3):
        handlers = [handler if phase == each else HANDLER() for each in range(3)]
        assert libc.__register_atfork(*handlers, None) == 0
    os.register_at_fork(before=handle, after_in_parent=handle, after_in_child=handle)

def compress():  # allocates without the GIL
    while not over.is_set():
        zlib.compress(bytes(100_000))

register()
agent = pyprof_agent.start(**OPTIONS, heap_sample_bytes=4096)
register()
for work in (partial(turn, over), partial(turn, over), compress):
    threading.Thread(target=work, daemon=True).start()
before = held()

def work():
    assert agent.capture("wall").duration_nanos > 0
    assert agent.capture("heap").samples

for _ in range(ROUNDS):
    ran.clear()
    in_child(work)
    assert len(ran) == 8, len(ran)
assert held() == before, (held(), before)
over.set()
pyprof_agent.stop()
print("done")
""")


def test_forks_by_c_code() -> None:
    rounds("""
import ctypes

agent = pyprof_agent.start(**OPTIONS, heap_sample_bytes=4096)
os.fork = ctypes.PyDLL(None).fork
over = threading.Event()
for _ in range(2):  # who ask for the GIL
    threading.Thread(target=turn, args=(over,), daemon=True).start()

def work():
    assert agent.capture("wall").duration_nanos > 0
    assert agent.capture("heap").samples
    assert agent.capture("goroutine").samples

for _ in range(ROUNDS):
    in_child(work)
over.set()
pyprof_agent.stop()
print("done")
""")


def test_processes_of_multiprocessing() -> None:
    rounds("""
import multiprocessing

def work(number):
    return pyprof_agent.current_agent().capture("wall").duration_nanos > 0

pyprof_agent.start(**OPTIONS)
before = held()
for _ in range(ROUNDS // 50):
    with multiprocessing.get_context("fork").Pool(2, maxtasksperchild=1) as pool:
        assert all(pool.map(work, range(50), chunksize=1))
        pool.close()
        pool.join()
del pool
gc.collect()  # a pool is in a cycle with its threads, and has pipes
deadline = time.monotonic() + 10
while held() != before and time.monotonic() < deadline:
    time.sleep(0.01)
assert held() == before, (held(), before)
pyprof_agent.stop()
print("done")
""")


def test_subinterpreters() -> None:
    rounds("""
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters

agent = pyprof_agent.start(**OPTIONS)
before = held()
for _ in range(ROUNDS):
    other = interpreters.create()
    interpreters.run_string(other, "kept = [str(number) for number in range(1000)]")
    interpreters.destroy(other)
assert held() == before, (held(), before)
assert agent.capture("wall").samples
pyprof_agent.stop()
print("done")
""")


ENDS = (
    "",
    "raise SystemExit",
    "import os; os._exit(0)",
    "threading.Thread(target=turn, args=(over,), daemon=True).start()",
    "threading.Timer(0.01, print, args=('late',)).start()",
    "agent.capture('heap'); pyprof_agent.stop()",
    "import gc; gc.collect(); gc.freeze()",
    "import atexit; atexit.register(sorted, range(10000), key=str)",
)
"""Last words of a program."""


def test_ends_of_the_process() -> None:
    def end(number: int) -> tuple[int, str]:
        code = PRELUDE + "over = threading.Event()\nagent = pyprof_agent.start(**OPTIONS)\n"
        result = subprocess.run(
            [sys.executable, "-W", "error", "-c", code + ENDS[number % len(ENDS)]],
            capture_output=True,
            text=True,
            timeout=60,
            cwd=ROOT,
            check=False,
        )
        return result.returncode, result.stderr

    with ThreadPoolExecutor(3) as pool:
        assert set(pool.map(end, range(ROUNDS))) == {(0, "")}


def respawned(command: list[str], port: int, requests: int) -> set[bytes]:
    """What a server's workers, each of which ends after one request, say of themselves."""
    seen: set[bytes] = set()
    with running(command, ready=f"http://127.0.0.1:{port}/debug/pprof/") as process:
        deadline = time.monotonic() + 1400
        while len(seen) < requests and time.monotonic() < deadline:
            try:
                seen.add(get(f"http://127.0.0.1:{port}/who", timeout=10))
            except OSError:
                time.sleep(0.01)  # between two workers
        assert process.poll() is None
        assert all(said.endswith(b" True") for said in seen)
        tasks = len(os.listdir(f"/proc/{process.pid}/task"))
        print(f"\n{len(seen)} workers, {tasks} threads of their parent")
    return seen


@pytest.mark.skipif(importlib.util.find_spec("gunicorn") is None, reason="there is no gunicorn")
def test_workers_of_gunicorn_that_are_forked_after_a_preload() -> None:
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "--preload", "--workers=2", "--max-requests=1"]
    command += ["--worker-class=uvicorn_worker.UvicornWorker", f"--bind=127.0.0.1:{port}"]
    command += ["--log-level=critical", "tests.soak.mortal_service:app"]
    assert len(respawned(command, port, ROUNDS)) >= ROUNDS


def test_workers_of_uvicorn() -> None:
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "--workers=2", "--limit-max-requests=1"]
    command += [f"--port={port}", "--log-level=critical", "tests.soak.mortal_service:app"]
    assert len(respawned(command, port, ROUNDS)) >= ROUNDS
