"""Threads and asyncio tasks: who is there, and what each waits for."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from pyprof_agent.profile import Profile, Sample
from pyprof_agent.sources.naming import FrameNames
from pyprof_agent.sources.tasks import ThreadsAndTasks

HERE = __name__


def source(max_frames: int = 128) -> ThreadsAndTasks:
    return ThreadsAndTasks(FrameNames(), max_frames=max_frames)


def named(profile: Profile, name: str) -> Sample:
    """The row of the thread or task called `name`."""
    (sample,) = [sample for sample in profile.samples if sample.label("name") == name]
    return sample


def functions(sample: Sample) -> list[str]:
    return [frame.function.removeprefix(f"{HERE}.") for frame in sample.stack]


async def leaf(event: asyncio.Event) -> None:
    await event.wait()


async def branch(event: asyncio.Event) -> None:
    await leaf(event)


async def agen(event: asyncio.Event) -> AsyncIterator[int]:
    await leaf(event)
    yield 1


async def over_agen(event: asyncio.Event) -> None:
    async for _ in agen(event):
        pass


def looked_at_from(
    action: Callable[[asyncio.Event], Coroutine[Any, Any, None]], taken: list[Profile]
) -> None:
    """Run an asyncio program in this thread, with a look at it from another one."""

    async def program() -> None:
        event = asyncio.Event()
        task = asyncio.create_task(action(event), name="looked-at")
        await asyncio.sleep(0.05)
        await asyncio.to_thread(lambda: taken.append(source().each()))
        event.set()
        await task

    asyncio.run(program())


def test_a_waiting_task_shows_its_whole_await_chain() -> None:
    taken: list[Profile] = []
    looked_at_from(branch, taken)
    task = named(taken[0], "looked-at")
    assert task.label("kind") == "task"
    assert task.label("state") == "waiting for Future"
    assert functions(task) == ["asyncio.locks.Event.wait", "leaf", "branch"]
    assert task.stack[1].line == leaf.__code__.co_firstlineno + 1


def test_an_await_chain_ends_at_an_async_generators_step() -> None:
    taken: list[Profile] = []
    looked_at_from(over_agen, taken)
    assert functions(named(taken[0], "looked-at"))[-1] == "over_agen"


def test_a_running_task_shows_the_stack_it_runs() -> None:
    taken: list[Profile] = []

    def deep() -> None:
        thread = threading.Thread(target=lambda: taken.append(source().each()))
        thread.start()
        thread.join()

    async def inner() -> None:
        deep()

    async def outer() -> None:
        await inner()

    async def program() -> None:
        await asyncio.create_task(outer(), name="runner")

    asyncio.run(program())
    task = named(taken[0], "runner")
    assert task.label("state") == "running"
    names = [name.rpartition(".")[2] for name in functions(task)]
    assert names[-3:] == ["deep", "inner", "outer"]


def test_a_watched_loop_is_looked_at_even_if_no_frame_gives_it_away() -> None:
    taken: list[Profile] = []

    async def program() -> None:
        look = source()
        look.watch(asyncio.get_running_loop())
        # As with a loop that is written in C: no frame of run_forever.
        frames = sys._current_frames
        sys._current_frames = dict
        try:
            taken.append(look.each())
        finally:
            sys._current_frames = frames

    async def main() -> None:
        await asyncio.create_task(program(), name="watched")

    asyncio.run(main())
    assert named(taken[0], "watched").label("kind") == "task"


def test_every_thread_has_a_row_with_its_name_and_native_id() -> None:
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait, name="waiter")
    thread.start()
    try:
        profile = source().each()
    finally:
        stop.set()
        thread.join()
    row = named(profile, "waiter")
    assert row.label("kind") == "thread"
    assert row.label("id") == thread.native_id
    assert "threading.Event.wait" in functions(row)
    assert named(profile, "MainThread").label("id") == threading.main_thread().native_id


def test_goroutine_adds_up_equal_stacks_and_has_few_labels() -> None:
    stop = threading.Event()
    threads = [threading.Thread(target=stop.wait, name=f"waiter-{n}") for n in range(5)]
    for thread in threads:
        thread.start()
    try:
        profile = source().snapshot()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    counts = {
        sample.values[0]
        for sample in profile.samples
        if "threading.Event.wait" in functions(sample)
    }
    assert counts == {5}
    assert {label.key for sample in profile.samples for label in sample.labels} == {"kind"}


def test_threadcreate_tells_threads_by_the_function_they_run() -> None:
    stop = threading.Event()

    def work() -> None:
        stop.wait()

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        profile = source().threads()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    rows = {functions(sample)[0]: sample for sample in profile.samples}
    row = rows[f"{work.__qualname__}"]
    assert row.values == (3,)
    assert row.stack[0].line == work.__code__.co_firstlineno


def test_a_deep_stack_is_cut_at_the_root() -> None:
    profile = source(max_frames=2).each()
    main = named(profile, "MainThread")
    assert len(main.stack) == 3
    assert main.stack[-1].function == "<deeper frames cut off>"


def test_stats_count_threads_and_tasks() -> None:
    async def program() -> dict[str, float]:
        task = asyncio.create_task(asyncio.sleep(10))
        stats = source().stats()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        return stats

    stats = asyncio.run(program())
    assert stats["tasks"] == 2
    assert stats["threads"] >= 1


def test_without_asyncio_there_are_only_threads() -> None:
    kinds = {sample.label("kind") for sample in source().each().samples}
    assert kinds == {"thread"}
