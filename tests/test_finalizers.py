"""The program's finalizers run in the program's threads, whatever the agent is doing."""

from __future__ import annotations

import sys

import pytest

from pyprof_agent.sources import heap_native
from tests.support import run_python

pytestmark = [
    pytest.mark.skipif(
        (3, 14) <= sys.version_info < (3, 14, 5), reason="it collects in another way"
    ),
    pytest.mark.skipif(bool(heap_native.unusable()), reason=heap_native.unusable() or "-"),
]

PRELUDE = """
import asyncio, collections, gc, sys, threading, time, weakref
import pyprof_agent
from pyprof_agent.hidden_thread import HIDDEN

ran = collections.Counter()

def note(*_):
    thread = HIDDEN.get(threading.get_ident()) or threading.current_thread()
    ran[thread.name if "pyprof" in thread.name else "program"] += 1

class Node:
    def __init__(self):
        self.me = self  # only the collector frees it

    def __del__(self):
        note()

class Plain:
    pass

def make(count):
    for _ in range(count):
        Node()
        plain = Plain()
        plain.me = plain
        weakref.finalize(plain, note)

def stop():
    pyprof_agent.stop()
    end = time.monotonic() + 30  # a thread that has said goodbye may not be over yet
    while (HIDDEN or min(gc.get_count()) < 0) and time.monotonic() < end:
        time.sleep(0.01)

def check(least):
    stop()
    gc.collect()
    assert set(ran) == {"program"} and ran["program"] >= least, ran
    assert all(count >= 0 for count in gc.get_count()), gc.get_count()
    assert gc.isenabled()
    names = [thread.name for thread in threading.enumerate()]
    assert not [name for name in names if "Dummy" in name or "pyprof" in name], names
    print("done")
"""

CAPTURES = (
    PRELUDE
    + """
options = {"stack_engine": sys.argv[1]} if len(sys.argv) > 1 else {}
agent = pyprof_agent.start(heap_sample_bytes=4096, stack_hz=500, leak_window=60, **options)

async def capture():
    for _ in range(50):
        for name in agent.profiles:
            profile = await agent.capture_async(name)
            await agent.offload(profile.to_bytes)
        await agent.each_thread_and_task()

async def main():
    captures = asyncio.create_task(capture())
    while not captures.done():
        make(50)
        gc.collect(0)  # which begins to count from zero again
        make(50)
        await asyncio.sleep(0.001)
    await captures

asyncio.run(main())
make(50000)
check(100000)
"""
)


def test_none_runs_in_the_worker_while_profiles_are_made() -> None:
    assert run_python(CAPTURES, timeout=120).stdout == "done\n"


def test_none_runs_in_the_sampling_thread_of_the_python_engine() -> None:
    assert run_python(CAPTURES, "python", timeout=120).stdout == "done\n"


SERVED = (
    PRELUDE
    + """
import httpx
from starlette.applications import Starlette
from starlette.routing import Mount
from pyprof_agent.access.rules import Everybody

agent = pyprof_agent.start(heap_sample_bytes=4096, stack_hz=500, leak_window=0)
app = Starlette(routes=[Mount("/debug/pprof", pyprof_agent.make_asgi_app(access=Everybody()))])
PATHS = ["", "heap", "allocs", "profile?seconds=1", "wall?seconds=1", "goroutine", "threadcreate"]
PATHS += ["goroutine?debug=2", "heap?debug=1", "heap?format=html"]

async def ask():
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        for path in PATHS * 2:
            answer = await client.get("/debug/pprof/" + path)
            assert answer.status_code < 500, (path, answer.status_code, answer.text)

async def main():
    asking = asyncio.create_task(ask())
    while not asking.done():
        make(100)
        await asyncio.sleep(0.001)
    await asking

asyncio.run(main())
make(5000)
check(10000)
"""
)


def test_none_runs_in_the_worker_while_a_mounted_app_answers() -> None:
    assert run_python(SERVED, timeout=120).stdout == "done\n"


JOB = (
    PRELUDE
    + """
agent = pyprof_agent.start(stacks=False, leak_window=0)

def job():  # containers, as encoding makes them, without a wait
    end = time.monotonic() + 1
    while time.monotonic() < end:
        [(number, [number]) for number in range(2000)]

async def main():
    job_of_ours = asyncio.create_task(agent.offload(job))
    while not job_of_ours.done():
        make(50)
        gc.collect()
        make(50)
        await asyncio.sleep(0.005)
    await job_of_ours

asyncio.run(main())
make(5000)
check(10000)
"""
)


def test_none_runs_in_a_long_job_while_the_program_collects() -> None:
    assert run_python(JOB, timeout=60).stdout == "done\n"


SIDE_PORT = (
    PRELUDE
    + """
import subprocess

class Local:
    def __del__(self):
        note()

async def leaf():
    await asyncio.sleep(0.002)

async def short():
    local = Local()
    await leaf()

pyprof_agent.start(heap_sample_bytes=4096, stack_hz=500, leak_window=0)
server = pyprof_agent.serve(port=0)
asks = "import sys, urllib.request as r; [r.urlopen(url).read() for url in sys.argv[1:]]"
paths = ["", "heap", "profile?seconds=1", "goroutine?debug=2", "heap?format=html", "heap?debug=1"]
urls = [server.url + path for path in [*paths * 3, *["goroutine?debug=2"] * 30]]

async def main():
    asking = subprocess.Popen([sys.executable, "-c", asks, *urls])
    while asking.poll() is None:
        make(100)
        await asyncio.gather(*[short() for _ in range(100)])
    assert asking.returncode == 0

asyncio.run(main())
make(5000)
server.stop()
check(10000)
"""
)


@pytest.mark.timing
def test_none_runs_in_a_side_port() -> None:
    assert run_python(SIDE_PORT, timeout=120).stdout == "done\n"


WATCHED = (
    PRELUDE
    + """
from pyprof_agent import watch
watch.RECENT_LOOKS = 600  # a look every 100 ms
agent = pyprof_agent.start(heap_sample_bytes=4096, stacks=False, leak_window=60)
end = time.monotonic() + 60
while agent.stats()["leaks"]["looks"] < 20 and time.monotonic() < end:
    make(100)
    time.sleep(0.001)
assert agent.stats()["leaks"]["looks"] >= 20
check(10000)
"""
)


def test_none_runs_in_the_watch() -> None:
    assert run_python(WATCHED, timeout=120).stdout == "done\n"


FRAMES = (
    PRELUDE
    + """
sys.setswitchinterval(1e-5)  # many turns in the middle of a look
agent = pyprof_agent.start(heap=False, stack_engine="python", stack_hz=1000)
over = threading.Event()

class Local:
    def __del__(self):
        note()

def call():
    local = Local()
    return sum(range(300))

def work():
    while not over.is_set():
        call()

class Worker(threading.Thread):
    def __init__(self):
        super().__init__(target=call)
        self.local = Local()

async def short():
    local = Local()
    await asyncio.sleep(0)

async def capture():
    for _ in range(100):
        await agent.capture_async("goroutine")
        await agent.capture_async("threadcreate")

async def main():
    captures = asyncio.create_task(capture())
    while not captures.done():
        thread = Worker()
        thread.start()
        await asyncio.gather(*[short() for _ in range(50)])
        thread.join()
        del thread
    await captures

threads = [threading.Thread(target=work) for _ in range(2)]
for thread in threads:
    thread.start()
asyncio.run(main())
over.set()
for thread in threads:
    thread.join()
check(10000)
"""
)


def test_frames_and_tasks_that_end_while_they_are_looked_at_end_in_the_program() -> None:
    assert run_python(FRAMES, timeout=120).stdout == "done\n"


STUCK = (
    PRELUDE
    + """
import json
agent = pyprof_agent.start(leak_window=0, **json.loads(sys.argv[1]))
busy = threading.Event()
over = threading.Event()

def stuck():
    busy.set()
    over.wait(60)

async def main():
    waiting = asyncio.create_task(agent.offload(stuck))
    while not busy.is_set():
        await asyncio.sleep(0.01)
    ran.clear()
    begin = time.monotonic()
    while not ran and time.monotonic() - begin < 30:
        make(1000)
        await asyncio.sleep(0.001)
    assert ran["program"], time.monotonic() - begin
    over.set()
    await waiting

asyncio.run(main())
make(5000)
check(1000)
"""
)


@pytest.mark.timing
@pytest.mark.parametrize(
    "options",
    [
        '{"heap_sample_bytes": 4096, "stacks": false}',
        '{"heap_sample_bytes": 4096, "stack_engine": "python"}',  # a thread that comes and goes
        '{"heap": false}',
        '{"heap": false, "stacks": false}',
    ],
)
def test_collections_start_again_where_a_thread_of_the_agent_is_stuck(options: str) -> None:
    assert run_python(STUCK, options, timeout=120).stdout == "done\n"


SWITCHED = (
    PRELUDE
    + """
callbacks = list(gc.callbacks)
agent = pyprof_agent.start(heap_sample_bytes=4096, stacks=False, leak_window=0)
seen = []

def in_the_worker():
    seen.append((gc.isenabled(), gc.get_threshold()))
    gc.disable()
    gc.set_threshold(500, 5, 5)

async def main():
    await agent.offload(in_the_worker)
    assert not gc.isenabled() and gc.get_threshold() == (500, 5, 5)
    await agent.capture_async("heap")
    assert not gc.isenabled() and gc.get_threshold() == (500, 5, 5)
    make(1000)
    assert not ran
    assert gc.collect() > 0 and ran["program"]
    await agent.capture_async("heap")
    gc.enable()
    before = ran["program"]
    end = time.monotonic() + 30
    while ran["program"] == before and time.monotonic() < end:
        make(1000)  # the worker that has answered may not wait yet
        time.sleep(0.001)
    assert ran["program"] > before

before = (gc.isenabled(), gc.get_threshold())
asyncio.run(main())
assert seen == [before], (seen, before)
stop()
assert gc.callbacks == callbacks
print("done")
"""
)


def test_what_a_program_sets_of_the_collector_stays() -> None:
    assert run_python(SWITCHED).stdout == "done\n"


FORKED = (
    PRELUDE
    + """
import os
agent = pyprof_agent.start(heap_sample_bytes=4096, stacks=False, leak_window=0)

def busy():
    end = time.monotonic() + 1
    while time.monotonic() < end:
        pass

async def main():
    waiting = asyncio.create_task(agent.offload(busy))
    await asyncio.sleep(0.2)
    child = os.fork()
    if child == 0:
        assert all(count > -1000 for count in gc.get_count()), gc.get_count()
        make(5000)
        os._exit(ran["program"] < 1000)
    assert os.waitpid(child, 0)[1] == 0
    await waiting

import warnings
warnings.simplefilter("ignore", DeprecationWarning)
asyncio.run(main())
print("done")
"""
)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
def test_a_child_that_was_forked_while_they_are_kept_off_has_them() -> None:
    assert run_python(FORKED).stdout == "done\n"
