"""What the agent says that it holds of memory is what it holds."""

from __future__ import annotations

import platform

import pytest

from pyprof_agent.sources import heap_native, stacks_native
from tests.support import run_python

HELD = """
import ctypes, gc, itertools, random, sys, threading, time
import pyprof_agent
from pyprof_agent.formats import text

class Mallinfo2(ctypes.Structure):
    fields = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
    _fields_ = [(field, ctypes.c_size_t) for field in fields.split()]

libc = ctypes.CDLL(None)
libc.mallinfo2.restype = Mallinfo2

def held():
    gc.collect()
    info = libc.mallinfo2()  # PYTHONMALLOC=malloc: all of Python's objects are in it too
    return info.uordblks + info.hblkhd

def branch(turns, depth):
    if depth:
        (left if turns & 1 else right)(turns >> 1, depth - 1)
    else:
        bytearray(2000)
        end = time.thread_time() + spin
        while time.thread_time() < end:
            pass

def left(turns, depth):
    branch(turns, depth)

def right(turns, depth):
    branch(turns, depth)

def work(stacks, seconds):
    global spin
    spin = seconds / stacks
    for _ in range(stacks):
        branch(dice.getrandbits(14), depth)

def code(count):
    for number in range(count):
        namespace = {}
        exec(f"def made_{number}(): return bytearray(2000)", namespace)
        namespace[f"made_{number}"]()

heap_engine, stack_engine, stacks, seconds, made = sys.argv[1:]
dice = random.Random(1)
depth = 14 if heap_engine else 60  # few stacks are seen in a second: long ones
work(10, 0.1)
names = [sys.intern(f"made_{number}") for number in range(int(made))]  # 3.12 keeps them for ever
options = {"heap": heap_engine != "", "stacks": stack_engine != "", "leak_window": 0}
options.update({"heap_engine": heap_engine} if heap_engine else {})
options.update({"stack_engine": stack_engine} if stack_engine else {})
agent = pyprof_agent.start(heap_sample_bytes=512, stack_hz=500, look_back=0, **options)
first = held() - sum(part.get("own_bytes", 0) for part in agent.stats().values())
work(int(stacks), float(seconds))
end = time.monotonic() + 60  # a busy machine has seen few of them by now
while stack_engine and agent.stats()["stacks"]["own_bytes"] < 250_000 and time.monotonic() < end:
    work(100, 1.0)
code(int(made))
for name in ("heap", "profile"):
    if agent.knows(name):
        agent.capture(name)
parts = {name: part["own_bytes"] for name, part in agent.stats().items() if "own_bytes" in part}
really = held() - first
print(sum(parts.values()), really, parts, file=sys.stderr)
assert 0.8 < sum(parts.values()) / really < 1.2, (parts, really)
print("done")
"""

ENVIRONMENT = {
    "PYTHONMALLOC": "malloc",
    # Without its caches, which mallinfo2() counts as in use: up to 100 kB of a thread's.
    "GLIBC_TUNABLES": "glibc.malloc.tcache_count=0:glibc.malloc.mxfast=0",
}

CASES = [
    *([] if heap_native.unusable() else [("native", "", 8000, 0.0, 0)]),
    *([] if heap_native.unusable() else [("native", "", 10, 0.0, 3000)]),
    *([] if stacks_native.unusable() else [("", "native", 1000, 3.0, 0)]),
    ("", "python", 200, 3.0, 0),
]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallinfo2() is of glibc")
@pytest.mark.parametrize(("heap", "stacks", "count", "seconds", "made"), CASES)
def test_own_bytes_are_those_that_are_held(
    heap: str, stacks: str, count: int, seconds: float, made: int
) -> None:
    arguments = (heap, stacks, str(count), str(seconds), str(made))
    result = run_python(HELD, *arguments, env=ENVIRONMENT, timeout=110)
    assert result.stdout == "done\n"
