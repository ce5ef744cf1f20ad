"""The native heap engine against known truths that take minutes: `make soak`."""

from __future__ import annotations

import math
import random
import statistics

import pytest

from pyprof_agent.sources import heap_native
from pyprof_agent.sources.heap_native import NativeHeap
from pyprof_agent.sources.naming import FrameNames
from tests.support import heap_error, run_python

pytestmark = [
    pytest.mark.skipif(bool(heap_native.unusable()), reason=heap_native.unusable()),
    pytest.mark.timeout(1800),
]

MIB = 2**20
RUNS = 20


def sizes_of(total: int) -> list[int]:
    """Sizes from 16 bytes to 64 MiB, mixed: a third of `total` each in small, middle and large."""
    dice = random.Random(total)
    sizes = []
    for low, high in ((4, 9), (9, 16), (16, min(26, math.log2(total / 4)))):
        left = total // 3
        while left > 0:
            size = int(2 ** dice.uniform(low, high))
            sizes.append(16 if size < 34 else size)
            left -= size
    dice.shuffle(sizes)
    return sizes


def keep(kept: list[object], payloads: list[int]) -> None:
    for place, payload in enumerate(payloads):
        kept[place] = object() if payload < 0 else bytes(payload)


def in_use(heap: NativeHeap) -> list[float]:
    """Objects and bytes on the line of `keep` that makes them."""
    rows = [
        sample.values[2:]
        for sample in heap.snapshot().samples
        if sample.stack[0].function == f"{__name__}.keep"
    ]
    return [sum(column) for column in zip(*rows, strict=True)] or [0, 0]


@pytest.mark.parametrize("mebibytes", [1, 10, 100, 1024])
def test_known_live_sets_are_estimated_without_bias(mebibytes: int) -> None:
    # 2048 gaps in a set: one estimate has a standard error of up to 2 %, the mean of 20 0.5 %.
    sample_bytes = mebibytes * MIB // 2048
    sizes = sizes_of(mebibytes * MIB)
    payloads = [size - 33 for size in sizes]
    truth, error = sum(sizes), heap_error(sizes, sample_bytes)
    # Once unseen: pymalloc's table of arenas grows with the set, where it is made, and stays.
    keep([None] * len(sizes), payloads)
    estimates = []
    for _ in range(RUNS):
        kept: list[object] = [None] * len(sizes)
        heap = NativeHeap(FrameNames(), sample_bytes=sample_bytes, max_frames=128, look_back=600)
        heap.start()
        keep(kept, payloads)
        estimates.append(in_use(heap)[1])
        kept.clear()
        assert in_use(heap) == [0, 0]
        heap.stop()
    mean = statistics.mean(estimates)
    worst = max(abs(estimate - truth) / error for estimate in estimates)
    print(
        f"\n{mebibytes} MiB in {len(sizes):,} blocks at {sample_bytes:,}: mean of {RUNS} off by "
        f"{mean / truth - 1:+.2%}, one may be by {error / truth:.1%}, the worst is by "
        f"{worst:.2f} of it"
    )
    assert mean == pytest.approx(truth, rel=0.02)
    assert worst <= 1


LEAK = """
import sys
sys.path.insert(0, "examples")
import pyprof_agent
from leaky_channel import Channel
agent = pyprof_agent.start(stacks=False, heap_engine="native", heap_sample_bytes=int(sys.argv[1]))
channel = Channel("orders")
for _ in range(1_000_000):
    channel.send(b"message")
rows = [s for s in agent.capture("heap").samples
        if s.stack[0].function == "leaky_channel.Channel.send" and s.stack[0].line == 40]
print(sum(s.values[3] for s in rows) / 1e6)
"""


def test_a_leak_of_128_bytes_a_message_has_its_line_and_its_rate() -> None:
    (precise,) = (float(run_python(LEAK, "16384").stdout) for _ in range(1))
    default = [float(run_python(LEAK, "524288").stdout) for _ in range(9)]
    print(f"\nbytes a message: {precise:.1f} at 16384; at 524288 {[round(d, 1) for d in default]}")
    messages = [128] * 1_000_000  # 244 samples at the default rate
    assert precise == pytest.approx(128, rel=0.05)
    assert default == pytest.approx([128] * 9, abs=heap_error(messages, 524288) / 1e6)
    assert statistics.mean(default) == pytest.approx(128, rel=0.09)


STACKS_WITHOUT_END = """
import random
from pyprof_agent.sources.heap_native import NativeHeap
from pyprof_agent.sources.naming import FrameNames

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

def branch(bits, depth):
    if depth == 0:
        return bytes(100)
    if bits & 1:
        return branch(bits >> 1, depth - 1)
    return branch(bits >> 1, depth - 1)

heap = NativeHeap(FrameNames(), sample_bytes=20, max_frames=128, look_back=600)
heap.start()
for tenth in range(10):
    for n in range(1_000_000):
        branch(tenth * 1_000_000 + n, 24)
    print(heap.stats()["own_bytes"], heap.stats()["frames"], resident())
"""


def test_ten_million_stacks_do_not_grow_the_table_past_its_cap() -> None:
    output = run_python(STACKS_WITHOUT_END, timeout=1500).stdout
    rows = [tuple(map(int, line.split())) for line in output.splitlines()]
    print(f"\nown bytes, frames, resident bytes after each million: {rows}")
    assert rows[-1][0] <= 200 * rows[-1][1]
    assert rows[-1][0] < 1.01 * rows[1][0]  # the past has a step more every ten seconds
    assert rows[-1][1] == 2**19
    assert rows[-1][2] - rows[1][2] < 2 * MIB


MEMORY = """
import sys, gc
from pyprof_agent.sources.heap_native import NativeHeap, core
from pyprof_agent.sources.naming import FrameNames

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

kept = [None] * 3_000_000
sampled = sys.argv[1] == "on"
if sampled:
    core.heap_start(640.0, 128, 0)
before = resident()
for n in range(len(kept)):
    kept[n] = bytes(31)
print(resident() - before, core.heap_stats()["live"], core.heap_stats()["frames"])
"""


def test_a_live_sample_costs_less_than_a_kibibyte() -> None:
    off = int(run_python(MEMORY, "off").stdout.split()[0])
    on, live, frames = map(int, run_python(MEMORY, "on").stdout.split())
    print(f"\n{live:,} live samples cost {(on - off) / live:.0f} bytes each, {frames} frames")
    assert live > 200_000
    assert on - off < 1024 * live + 200 * frames
