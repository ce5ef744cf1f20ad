"""Profiles whose samples are made when somebody asks: their bytes are those of the samples."""

from __future__ import annotations

import hashlib
import subprocess
import sysconfig
from pathlib import Path

import pytest

from pyprof_agent.sources import heap_native, stacks_native
from tests.support import ROOT, compile_c, run_python

NATIVE = ROOT / "pyprof_agent" / "_native"

PRELUDE = """
import gc, gzip, os, random, sys, threading, time
from dataclasses import replace
import pyprof_agent
from pyprof_agent.formats.pprof import _Encoder, decode, encode, encode_raw
from pyprof_agent.profile import Profile, merge, unmade

def rows(profile):
    return {(sample.stack, sample.labels): sample.values for sample in profile.samples}

def check(profile):
    assert unmade(profile) is not None
    data = profile.to_bytes()
    assert data == profile.to_bytes()
    read = decode(data)
    made = Profile(**{name: getattr(profile, name) for name in Profile.__dataclass_fields__})
    assert unmade(made) is None
    other = decode(made.to_bytes())
    assert len(rows(read)) == len(read.samples)  # no two are equal
    assert rows(read) == rows(merge([other])) and read.samples, len(other.samples)
    assert replace(read, samples=()) == replace(other, samples=())
    return read
"""

HEAP = (
    PRELUDE
    + """
agent = pyprof_agent.start(stacks=False, leak_window=0, heap_sample_bytes=512)

def branch(turns, depth):
    if depth:
        return (left if turns & 1 else right)(turns >> 1, depth - 1)
    return bytearray(700)

def left(turns, depth): return branch(turns, depth)
def right(turns, depth): return branch(turns, depth)

dice = random.Random(1)
kept = [branch(dice.getrandbits(10), 10) for _ in range(2000)]
names = {"name": "na\\u00efve \\u03b1 \\U0001f600 lone \\udc80"}
source = "def spin(): return [bytes(900) for _ in range(50)]"
exec(compile(source, "/srv/lone\\udc80.py", "exec"), names)
function = names["spin"]
function.__code__ = function.__code__.replace(co_qualname=names["name"])
kept.append(function())
for name in ("heap", "allocs"):
    read = check(agent.capture(name))
    assert read.default_sample_type == {"heap": "inuse_space", "allocs": "alloc_space"}[name]
window = agent.begin("heap")
kept += [branch(dice.getrandbits(10), 10) for _ in range(500)]
del kept[:700]
read = check(window.end())
assert any(value < 0 for sample in read.samples for value in sample.values)
check(agent.capture("heap", last=1))
first = agent.capture("delta_heap")
kept += [branch(dice.getrandbits(10), 10) for _ in range(500)]
agent.capture("delta_heap").to_bytes()
print("done")
"""
)


@pytest.mark.skipif(bool(heap_native.unusable()), reason=heap_native.unusable() or "-")
def test_the_bytes_of_a_heap_are_those_of_its_samples() -> None:
    assert run_python(HEAP).stdout == "done\n"


STACKS = (
    PRELUDE
    + """
from pyprof_agent.sources.stack_counters import cpu_profile, wall_profile
agent = pyprof_agent.start(heap=False, stack_hz=500)

def spin(seconds):
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        sum(range(100))

def work(depth):
    if depth:
        work(depth - 1)
    else:
        spin(0.3)
        seen.wait()

seen = threading.Event()
threads = [threading.Thread(target=work, args=(n,), name=f"worker {n} \\u03b1") for n in range(6)]
for thread in threads:
    thread.start()
stacks = agent._sources["stacks"]
counters = stacks.snapshot()
while len({s.label("thread") for s in counters.samples} & {each.name for each in threads}) < 6:
    time.sleep(0.01)
    counters = stacks.snapshot()
window = agent.begin("profile")
seen.set()
assert counters.samples and len(counters.sample_types) == 5
for thread in threads:
    thread.join()
for name in ("profile", "wall"):
    read = check(agent.capture(name))
    functions = {frame.function.rpartition(".")[2] for s in read.samples for frame in s.stack}
    assert "spin" in functions
    threads = {sample.label("thread") for sample in read.samples}
    assert "worker 3 \\u03b1" in threads, threads
check(window.end())
check(agent.capture("wall", last=1))

# What C makes of the counters is what Python makes of them, but that it divides between running and
# waiting by instruction, not by line: what a stack has in both is the same. Of threads that are
# over, as another may be at an instruction that no tick has counted yet.
def sums(profile):
    sums = {}
    for stack, (count, time), labels in profile.samples:
        key = (stack, tuple(label for label in labels if label.key != "state"))
        if any(str(label.value).startswith("worker") for label in labels):
            before = sums.get(key, (0, 0))
            sums[key] = (before[0] + count, before[1] + time)
    return sums

raw = agent._sources["stacks"].snapshot()
made = Profile(**{name: getattr(raw, name) for name in Profile.__dataclass_fields__})
for make in (lambda each: cpu_profile(each, exact_hits=True), wall_profile):
    in_c, in_python = decode(make(raw).to_bytes()), decode(make(made).to_bytes())
    assert replace(in_c, samples=()) == replace(in_python, samples=())
    ours, theirs = sums(in_c), sums(in_python)
    assert len(ours) > 6 and ours.keys() == theirs.keys(), ours.keys() ^ theirs.keys()
    for key, (count, time) in ours.items():
        assert count == theirs[key][0], (key, count, theirs[key])
        assert abs(time - theirs[key][1]) <= 20, (key, time, theirs[key])
print("done")
"""
)


@pytest.mark.skipif(bool(stacks_native.unusable()), reason=stacks_native.unusable() or "-")
def test_the_bytes_of_cpu_and_wall_time_are_those_of_their_samples() -> None:
    assert run_python(STACKS).stdout == "done\n"


UNMADE = (
    PRELUDE
    + """
import asyncio, logging
from pyprof_agent.sources.native_rows import NativeRows
from tests.soak.branching import blocks_of_many_stacks
from starlette.testclient import TestClient

agent = pyprof_agent.start(heap_sample_bytes=4000)
kept = blocks_of_many_stacks(5_000)
agent.capture("heap").to_bytes()

def no_samples(rows):
    raise AssertionError("somebody asks for samples")

NativeRows.samples, samples = no_samples, NativeRows.samples
collections = []
gc.callbacks.append(lambda phase, info: collections.append(phase))

async def ask(name):
    return (await agent.capture_async(name, 0.1 if name == "wall" else None)).to_bytes()

app = pyprof_agent.make_asgi_app()
client = TestClient(app, base_url="http://127.0.0.1", client=("127.0.0.1", 5000))
gc.collect()
del collections[:]
data = agent.capture("heap").to_bytes()
assert collections == []  # nor anything for which the collector would start
for name in ("heap", "allocs", "delta_heap", "profile", "wall"):
    assert decode(asyncio.run(ask(name))).sample_types, name  # it makes a text of each result
    for query in ("?seconds=1",) if name in ("profile", "wall") else ("", "?seconds=1"):
        answer = client.get(f"/{name}{query}")
        right = 400 if name == "delta_heap" and query else 200
        assert answer.status_code == right, (name, query, answer.text)
agent.watch.run()
agent.stats()
NativeRows.samples = samples
assert len(agent.capture("heap").samples) >= 5_000
print("done")
"""
)


@pytest.mark.skipif(bool(heap_native.unusable()), reason=heap_native.unusable() or "-")
def test_a_profile_that_is_written_makes_no_samples() -> None:
    assert run_python(UNMADE).stdout == "done\n"


THREADS = (
    PRELUDE
    + """
agent = pyprof_agent.start(heap_sample_bytes=200, leak_window=0)
end, failures, kept = time.monotonic() + 3, [], []

def repeat(function):
    try:
        while time.monotonic() < end:
            function()
    except BaseException as error:
        failures.append(error)
        raise

def fresh():
    names = {"kept": kept}
    number = len(kept)
    exec(f"def fresh_{number}(): kept.append(bytes(400))", names)
    names[f"fresh_{number}"]()
    if len(kept) > 20_000:
        time.sleep(0.01)

def look():  # as programs do that search for leaks: a list is whole, or they do not see it
    for each in gc.get_objects():
        if type(each) is list and each:
            each[-1]

jobs = [
    fresh,
    look,
    lambda: agent.capture("heap").to_bytes(),
    lambda: agent.capture("heap").samples,
    lambda: agent._heap.window(agent._heap.snapshot(), agent._heap.snapshot()).to_bytes(),
]
threads = [threading.Thread(target=repeat, args=(job,)) for job in jobs]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert failures == [] and len(kept) > 100, (failures, len(kept))
names = {frame.function for sample in agent.capture("heap").samples for frame in sample.stack}
assert sum(name.startswith("<string>.fresh_") for name in names) > len(kept) / 2, len(names)
print("done")
"""
)


@pytest.mark.skipif(bool(heap_native.unusable()), reason=heap_native.unusable() or "-")
def test_threads_may_make_profiles_while_functions_get_names() -> None:
    assert run_python(THREADS, timeout=200).stdout == "done\n"


DIGESTS = """
#include "blake2b.h"
#include <stdio.h>

int
main(void)
{
    static unsigned char message[1000];
    for (unsigned i = 0; i < sizeof message; i++) {
        message[i] = (unsigned char)(i * 7 + i / 256);
    }
    for (size_t count = 0; count <= sizeof message; count++) {
        printf("%016llx\\n", (unsigned long long)blake2b_64(message, count));
    }
    return 0;
}
"""


def test_digests_are_those_of_hashlib(tmp_path: Path) -> None:
    source = tmp_path / "digests.c"
    source.write_text(DIGESTS)
    program = compile_c(
        tmp_path / "digests",
        source,
        NATIVE / "blake2b.c",
        flags=[f"-I{NATIVE}", "-isystem", sysconfig.get_path("include")],
    )
    lines = subprocess.run([program], capture_output=True, text=True, check=True).stdout.split()
    message = bytes((i * 7 + i // 256) % 256 for i in range(1000))
    for count, line in enumerate(lines):
        digest = hashlib.blake2b(message[:count], digest_size=8).digest()
        assert int(line, 16) == int.from_bytes(digest, "little"), count
    assert len(lines) == 1001
