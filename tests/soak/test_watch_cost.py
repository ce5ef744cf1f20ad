"""What the watch costs a service of 5,000 stacks at its defaults: `make soak`."""

from __future__ import annotations

import pytest

from pyprof_agent.sources import heap_native
from tests.support import run_python

pytestmark = pytest.mark.skipif(bool(heap_native.unusable()), reason=heap_native.unusable())

# A block alive at each of so many stacks, which all have an allocating line of their own. A look is
# as dear whenever it is taken, so they follow each other at once.
LOOKS = """
import tracemalloc
import pyprof_agent
from pyprof_agent.leaks.history import PAST_EVERY, PAST_LOOKS, History
from pyprof_agent.leaks.looks import look
from pyprof_agent.watch import LeakWatch

COUNT, DEPTH = 5_200, 25

agent = pyprof_agent.start(
    stacks=False, heap_engine="native", heap_sample_bytes=4000, leak_window=0
)
space = {}
lines = [f"def leaf_{number}(): return bytes(20_000)" for number in range(COUNT)]
exec(compile("\\n".join(lines), "generated.py", "exec"), space)

def down(function, depth):
    return function() if depth == 0 else down(function, depth - 1)

kept = [down(space[f"leaf_{number}"], DEPTH) for number in range(COUNT)]
heap = agent._sources["heap"]
watch = LeakWatch(heap, lambda profile: profile, seconds=3600, limit=5.0)
for _ in range(90):
    kept.append([bytes(20_000) for _ in range(10)])  # so that there is something to judge
    watch.run()
stats = watch.stats()
print("stacks", len(heap.snapshot().samples))
print("share", stats["cpu_seconds"] / stats["looks"] / 60)
print("suspects", len(watch.report().suspects))
print("failures", stats["failures"])

found = look(heap.snapshot())
tracemalloc.start()
history = History(4000)
for _ in range(PAST_EVERY * PAST_LOOKS):
    history.add(found, None)
print("bytes", tracemalloc.get_traced_memory()[0])
"""


def test_the_watch_costs_less_than_a_thousandth_of_a_core_and_five_mebibytes() -> None:
    lines = run_python(LOOKS, timeout=110).stdout.splitlines()
    figures = {name: float(value) for name, value in map(str.split, lines)}
    print(f"\n{figures}")
    assert figures["stacks"] >= 5_000
    assert figures["suspects"] >= 1
    assert figures["failures"] == 0
    assert figures["share"] < 0.001
    assert figures["bytes"] < 5 * 2**20
