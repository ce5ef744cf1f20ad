"""Programs that make code all the time: it goes when they let it go, and keeps its name."""

from __future__ import annotations

import pytest

from pyprof_agent.sources import heap_native, stacks_native
from tests.support import run_python

NATIVE = [
    *([] if heap_native.unusable() else ["heap-native"]),
    *([] if stacks_native.unusable() else ["stacks-native"]),
]
ONE_NATIVE = [
    engine if engine == NATIVE[-1] else pytest.param(engine, marks=pytest.mark.thorough)
    for engine in NATIVE
]
"""Both have the same table of code."""
ENGINES = [*NATIVE, "heap-tracemalloc", "stacks-python", "goroutine"]

PRELUDE = """
import gc, sys, time, weakref
import pyprof_agent

engine = sys.argv[1]
room, _, kind = engine.partition("-")
options = dict(leak_window=0, heap=False, stacks=False)
if kind:
    options.update({room: True, f"{room.rstrip('s')}_engine": kind})
if room == "heap":
    options["heap_sample_bytes"] = 256
profile = {"heap": "heap", "stacks": "profile"}.get(room, "goroutine")
agent = pyprof_agent.start(**options)

SOURCE = '''
def generated(agent, profile):
    end = time.thread_time() + {seconds}
    kept = [bytes(600) for _ in range(100)]
    while time.thread_time() < end: pass
    return agent.capture(profile) if profile else kept
'''

def make(name="generated", seconds=0.05):
    namespace = {"time": time}
    exec(SOURCE.format(seconds=seconds).replace("generated", name), namespace)
    return namespace[name]

def functions(profile):
    return {frame.function for sample in profile.samples for frame in sample.stack}
"""

DIES = (
    PRELUDE
    + """
seen = False
for _ in range(20):
    function = make()
    code = weakref.ref(function.__code__)
    seen = any(name.endswith(".generated") for name in functions(function(agent, profile))) or seen
    del function
    gc.collect()
    end = time.monotonic() + 10  # a look may be under way
    while code() is not None and time.monotonic() < end:
        time.sleep(0.01)
    assert code() is None, gc.get_referrers(code())
assert seen or kind == "tracemalloc"  # which knows the file and line alone
print("done")
"""
)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_function_that_was_sampled_dies_with_its_last_reference(engine: str) -> None:
    assert run_python(DIES, engine).stdout == "done\n"


NAMED = (
    PRELUDE
    + """
for number in range(100):
    function = make(f"made_{number}", 0.02)
    kept = function(agent, None)
    del function
    gc.collect()
filler = [compile(f"x{n} = {n}", "filler", "exec") for n in range(2000)]
after = agent.capture(profile)
seen = functions(after) if room == "stacks" else {
    frame.function for sample in after.samples for frame in sample.stack if sample.values[0]
}
names = {name.rpartition(".")[2] for name in seen}
assert sum(f"made_{number}" in names for number in range(100)) > 60, names
assert not any(frame.filename == "filler" for s in after.samples for frame in s.stack)
assert len(filler) == 2000
print("done")
"""
)


@pytest.mark.parametrize("engine", ONE_NATIVE)
def test_functions_that_die_before_anybody_asks_have_their_names(engine: str) -> None:
    assert run_python(NAMED, engine).stdout == "done\n"


RELOADED = (
    PRELUDE
    + """
def turn(times):
    for _ in range(times):
        make(seconds=0.001)(agent, None)
    agent.capture(profile)
    gc.collect()
    stats = agent.stats()[room]
    return stats["frames"], stats["own_bytes"], sys.getallocatedblocks()

turn(300)
before = turn(300)
after = turn(600)
assert after[0] <= before[0] + 300, (before, after)  # of 600 functions, with other lines of ours
assert after[1] <= before[1] + 200 * 600, (before, after)  # a code object has 1 to 2 kB
assert after[2] <= before[2] + 2000, (before, after)
print("done")
"""
)


@pytest.mark.parametrize("engine", ONE_NATIVE)
def test_code_that_is_made_again_and_again_is_one_function(engine: str) -> None:
    assert run_python(RELOADED, engine).stdout == "done\n"


FRESH = (
    PRELUDE
    + """
def turn(numbers):
    for number in numbers:
        make(f"fresh_{number}", seconds=0.001)(agent, None)
    data = agent.capture(profile).to_bytes()
    gc.collect()
    return sys.getallocatedblocks()

names = [sys.intern(f"fresh_{number}") for number in range(3_000)]  # 3.13 keeps them for ever
turn(range(100))
before = turn(range(100))
after = turn(range(1_000, 3_000))
assert after <= before + 100, (before, after)  # at 100 looks a second 200 or more are seen
print("done")
"""
)


@pytest.mark.parametrize("engine", ONE_NATIVE)
def test_python_keeps_no_name_of_functions_that_are_gone(engine: str) -> None:
    assert run_python(FRESH, engine).stdout == "done\n"


TEXTS = (
    PRELUDE
    + """
import types

def spin(name, filename):
    code = compile(SOURCE.format(seconds=0.05), filename, "exec")
    namespace = {"time": time}
    exec(code, namespace)
    function = namespace["generated"]
    function.__code__ = function.__code__.replace(co_qualname=name)
    return function(agent, None)

class Path(str):
    pass

names = ["latin_\\xe9", "greek_\\u03b1", "wide_\\U0001f600", "lone_\\udc80", "x" * 5000]
for number, name in enumerate(names):
    spin(name, Path(f"/srv/{number}/\\u03b1.py") if number % 2 else f"/srv/{number}/plain.py")
after = agent.capture(profile)
seen = {frame for sample in after.samples for frame in sample.stack}
for number, name in enumerate(names):
    expected = name[:4096]
    found = [frame for frame in seen if frame.function.rpartition(".")[2] == expected]
    assert found, (name[:20], seen)
    assert found[0].filename == f"/srv/{number}/" + ("\\u03b1.py" if number % 2 else "plain.py")
    assert found[0].first_line == 2 and 3 <= found[0].line <= 6, found
print("done")
"""
)


@pytest.mark.parametrize("engine", NATIVE)
def test_names_and_files_may_have_any_characters(engine: str) -> None:
    assert run_python(TEXTS, engine).stdout == "done\n"
