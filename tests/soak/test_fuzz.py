"""10,000 hostile requests: all have answers that are meant, and nothing grows: `make soak`."""

from __future__ import annotations

import asyncio
import logging
import os
import statistics
import time
from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings

from pyprof_agent import Agent, Config, make_asgi_app
from pyprof_agent.access import Networks
from tests.http import hostile
from tests.http.test_fuzz import ANY_HOST

REQUESTS = 10_000
ROUNDS = 10
MIB = 2**20


def resident() -> int:
    with open("/proc/self/statm", "rb") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGESIZE")


@pytest.mark.timeout(900)
def test_10_000_hostile_requests(caplog: pytest.LogCaptureFixture) -> None:
    agent = Agent(Config(stack_hz=10))
    agent.start()
    app = make_asgi_app(agent, access=Networks("0.0.0.0/0"), cmdline=True, max_captures=1000)
    kept: list[hostile.Request] = []

    @settings(max_examples=REQUESTS, database=None, suppress_health_check=list(HealthCheck))
    @given(hostile.requests(host=ANY_HOST))
    def keep(request: hostile.Request) -> None:
        kept.append(request)

    keep()
    statuses: Counter[int] = Counter()
    objects, memory = [], []

    async def replay(requests: list[hostile.Request]) -> None:
        for request in requests:
            answer = await hostile.answer_to(app, request, hang_up_after=0)
            hostile.check(request, answer)
            statuses[answer.status] += 1

    size = len(kept) // ROUNDS
    begin = time.monotonic()
    with asyncio.Runner() as runner, caplog.at_level(logging.WARNING):
        for round_ in range(ROUNDS):
            runner.run(replay(kept[round_ * size : (round_ + 1) * size]))
            objects.append(hostile.left_over())
            memory.append(resident())
    agent.stop()
    print(
        f"\n{sum(statuses.values())} requests in {time.monotonic() - begin:.0f} s: "
        f"{dict(sorted(statuses.items()))}; objects {objects}, resident MiB "
        f"{[round(each / MIB, 1) for each in memory]}"
    )
    assert sum(statuses.values()) >= 0.99 * REQUESTS
    assert {200, 307, 400, 403, 404, 405} <= statuses.keys()
    assert caplog.text == ""
    # One object for every hundredth request would be 80.
    assert objects[-1] - objects[1] < 80
    # Arenas come and go, so that one look may be of a moment with many; tables fill up at first.
    assert statistics.median(memory[-3:]) - statistics.median(memory[3:6]) < 4 * MIB
