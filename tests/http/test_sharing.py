"""Shared work: many who ask at once cost two runs, and nobody gets what is stale."""

from __future__ import annotations

import asyncio

import pytest

from pyprof_agent.http.sharing import Shared


class Work:
    """Counts its runs; each waits until it is let go."""

    def __init__(self) -> None:
        self.begun = 0
        self.go = asyncio.Event()

    async def __call__(self) -> int:
        self.begun += 1
        number = self.begun
        await self.go.wait()
        return number


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def test_requests_during_a_run_share_the_next_one() -> None:
    async def scenario() -> None:
        shared: Shared[int] = Shared()
        work = Work()
        first = asyncio.create_task(shared.run("heap", work))
        await settle()
        rest = [asyncio.create_task(shared.run("heap", work)) for _ in range(199)]
        await settle()
        assert work.begun == 1
        work.go.set()
        assert await first == 1
        assert await asyncio.gather(*rest) == [2] * 199
        assert await shared.run("heap", work) == 3

    asyncio.run(scenario())


def test_other_keys_are_other_work() -> None:
    async def scenario() -> None:
        shared: Shared[int] = Shared()
        work = Work()
        tasks = [asyncio.create_task(shared.run(key, work)) for key in ("heap", "allocs")]
        await settle()
        assert work.begun == 2
        work.go.set()
        await asyncio.gather(*tasks)

    asyncio.run(scenario())


def test_one_who_leaves_does_not_take_the_result_from_the_others() -> None:
    async def scenario() -> None:
        shared: Shared[int] = Shared()
        work = Work()
        leaver = asyncio.create_task(shared.run("heap", work))
        stayer = asyncio.create_task(shared.run("heap", work))
        await settle()
        leaver.cancel()
        await settle()
        work.go.set()
        assert await stayer in (1, 2)
        with pytest.raises(asyncio.CancelledError):
            await leaver

    asyncio.run(scenario())


def test_a_failure_reaches_all_who_shared_it_and_nobody_after() -> None:
    async def scenario() -> None:
        shared: Shared[int] = Shared()

        async def fail() -> int:
            raise ValueError("no")

        async def succeed() -> int:
            return 1

        results = await asyncio.gather(
            *(shared.run("heap", fail) for _ in range(3)), return_exceptions=True
        )
        assert [str(result) for result in results] == ["no"] * 3
        assert await shared.run("heap", succeed) == 1

    asyncio.run(scenario())


def test_nothing_is_kept_when_all_is_done() -> None:
    async def scenario() -> Shared[int]:
        shared: Shared[int] = Shared()
        work = Work()
        work.go.set()
        await asyncio.gather(*(shared.run("heap", work) for _ in range(5)))
        return shared

    shared = asyncio.run(scenario())
    assert shared._waiting == {}
    assert shared._running == {}
