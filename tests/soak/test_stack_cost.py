"""What looking at stacks costs a core, and whether all CPU time is in the profile: `make soak`."""

from __future__ import annotations

import pytest

from pyprof_agent.sources import stacks_native
from tests.support import run_python

pytestmark = pytest.mark.skipif(bool(stacks_native.unusable()), reason=stacks_native.unusable())

SECONDS = 10

# A window's clocks are read when its beginning and its end are asked for.
MEASURE = """
import sys, threading, time
import pyprof_agent

sleepers, workers, seconds = map(int, sys.argv[1:])
over = threading.Event()

def work():
    while not over.is_set():
        sum(range(2000))

for target, count in ((over.wait, sleepers), (work, workers)):
    for _ in range(count):
        threading.Thread(target=target, daemon=True).start()
agent = pyprof_agent.start(heap=False, stack_engine="native")
time.sleep(1)
before, begin, burned = agent.stats()["stacks"], time.monotonic(), time.process_time()
window = agent.begin("cpu")
time.sleep(seconds)
burned, passed = time.process_time() - burned, time.monotonic() - begin
profile = window.end()
after = agent.stats()["stacks"]
over.set()
print((after["cpu_seconds"] - before["cpu_seconds"]) / passed)
print((after["ticks"] - before["ticks"]) / passed)
print(sum(sample.values[1] for sample in profile.samples) / 1e9 / burned)
"""


@pytest.mark.parametrize(
    ("sleepers", "workers", "most"),
    [(0, 1, 0.005), (200, 0, 0.01), (200, 1, 0.01), (0, 20, 0.01), (0, 0, 0.005)],
)
def test_looking_100_times_a_second_is_cheap_and_no_cpu_time_is_missing(
    sleepers: int, workers: int, most: float
) -> None:
    printed = run_python(MEASURE, str(sleepers), str(workers), str(SECONDS), timeout=60).stdout
    share, looks, total = map(float, printed.split())
    print(
        f"\n{sleepers} threads that sleep, {workers} that compute: {share:.2%} of a core, "
        f"{looks:.1f} looks a second, {total:.4f} of the process's CPU time in the profile"
    )
    assert share < most
    assert total == pytest.approx(1, abs=0.02)
