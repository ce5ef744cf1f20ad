"""What a heap profile of 20,000 stacks costs the service that is asked for it: `make soak`."""

from __future__ import annotations

import pytest

from pyprof_agent.sources import heap_native
from tests.support import run_python

pytestmark = pytest.mark.skipif(bool(heap_native.unusable()), reason=heap_native.unusable())

# What the profile itself allocates is in smaller blocks, and not sampled.
SNAPSHOT = """
import threading, time
import pyprof_agent
from tests.soak.branching import blocks_of_many_stacks

agent = pyprof_agent.start(stacks=False, heap_engine="native", heap_sample_bytes=4000)
kept = blocks_of_many_stacks(20_200)

class Watch(threading.Thread):
    # The longest time that this thread, which asks for the GIL all the time, did not get it.
    longest, ends = 0, False

    def __init__(self):
        super().__init__()
        self.begun = threading.Event()

    def run(self):
        last = time.perf_counter()
        self.begun.set()
        while not self.ends:
            time.sleep(0.0002)
            now = time.perf_counter()
            self.longest, last = max(self.longest, now - last), now

def make():
    return agent.capture("heap").to_bytes()

first = time.perf_counter()
make()
print("first", time.perf_counter() - first)
alone = []
for _ in range(7):
    begin = time.perf_counter()
    make()
    alone.append(time.perf_counter() - begin)
longest = 1
for _ in range(100):  # on a busy machine this thread is often kept waiting by others
    watch = Watch()
    watch.start()
    watch.begun.wait()
    make()
    watch.ends = True
    watch.join()
    longest = min(longest, watch.longest)
    if longest < 0.002:
        break
profile = agent.capture("heap")
print("stacks", len(profile.samples))
print("frames", sum(len(sample.stack) for sample in profile.samples) / len(profile.samples))
print("alone", min(alone))
print("longest", longest)
"""


def test_a_snapshot_of_20_000_stacks_is_quick_and_lets_others_run() -> None:
    lines = run_python(SNAPSHOT, timeout=110).stdout.splitlines()
    figures = {name: float(value) for name, value in map(str.split, lines)}
    print(f"\n{figures}")
    assert figures["stacks"] >= 20_000
    assert figures["frames"] > 25
    assert figures["alone"] < 0.060
    assert figures["longest"] < 0.002
