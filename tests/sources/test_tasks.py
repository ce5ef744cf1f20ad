"""Threads and asyncio tasks: who is there, and what each waits for."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterator, Sequence
from types import ModuleType
from typing import Any, ClassVar

import pytest

from pyprof_agent.profile import Profile, Sample
from pyprof_agent.sources import tasks
from pyprof_agent.sources.naming import FrameNames
from pyprof_agent.sources.tasks import ThreadsAndTasks
from tests.support import run_python

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


async def agen(event: asyncio.Event) -> AsyncGenerator[int, None]:
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


def test_an_await_chain_goes_through_async_generators() -> None:
    taken: list[Profile] = []
    looked_at_from(over_agen, taken)
    task = named(taken[0], "looked-at")
    assert functions(task) == ["asyncio.locks.Event.wait", "leaf", "agen", "over_agen"]


class Ticket:
    """Something to await that is no coroutine, but leads to one."""

    def __init__(self, event: asyncio.Event) -> None:
        self.event = event

    def __await__(self) -> Generator[Any, None, None]:
        return leaf(self.event).__await__()


async def over_ticket(event: asyncio.Event) -> None:
    await Ticket(event)


async def over_anext(event: asyncio.Event) -> None:
    await anext(agen(event), None)


async def over_generator_method(event: asyncio.Event) -> None:
    await agen(event).asend(None)


@pytest.mark.parametrize(
    ("action", "between"),
    [(over_ticket, []), (over_anext, ["agen"]), (over_generator_method, ["agen"])],
)
def test_an_await_chain_goes_through_what_stands_for_a_coroutine(
    action: Callable[[asyncio.Event], Coroutine[Any, Any, None]], between: list[str]
) -> None:
    taken: list[Profile] = []
    looked_at_from(action, taken)
    names = functions(named(taken[0], "looked-at"))
    assert names == ["asyncio.locks.Event.wait", "leaf", *between, action.__name__]


class Curious:
    """Something to await whose attributes are code of the program."""

    asked: ClassVar[list[str]] = []

    def __init__(self, event: asyncio.Event) -> None:
        self.inner = leaf(event).__await__()

    def __await__(self) -> Iterator[Any]:
        return self

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        return next(self.inner)

    def __getattr__(self, name: str) -> Any:
        self.asked.append(name)
        raise AttributeError(name)


async def over_curious(event: asyncio.Event) -> None:
    await Curious(event)  # type: ignore[misc]


def test_no_attribute_is_read_of_what_may_run_code_for_it() -> None:
    taken: list[Profile] = []
    looked_at_from(over_curious, taken)
    assert functions(named(taken[0], "looked-at")) == ["over_curious"]
    assert Curious.asked == []


# A call that the interpreter cannot specialise counts down in the cache behind it. At some counts
# that looks like a RESUME: CPython 3.11 and 3.12 crash when `cr_await` is read then.
RUNNING = """
import asyncio, functools, sys
from pyprof_agent.awaited import awaited_by, frame_of

seen = set()
ask = functools.partial(lambda: seen.add((awaited_by(asked), frame_of(asked).f_code)))

async def coroutine():
    for _ in range(20_000):
        ask()

def generator():
    for _ in range(20_000):
        ask()
    yield

async def agen():
    for _ in range(20_000):
        ask()
    yield

async def program():
    global asked
    asked = agen()
    async for _ in asked:
        pass

asked = coroutine()
asyncio.run(asked)
asked = generator()
list(asked)
asyncio.run(program())
assert seen == {(None, each.__code__) for each in (coroutine, generator, agen)}, seen

class Ready:  # no exception can be thrown into it, so it comes up where it is awaited
    def __await__(self):
        return self
    def __iter__(self):
        return self
    def __next__(self):
        return None

async def thrown():
    try:
        await Ready()
    except ValueError:
        yield

def trace(frame, event, argument):
    if frame.f_code is thrown.__code__:
        traced.append((event, awaited_by(asked)))
    return trace

asked, traced = thrown(), []
step = asked.__anext__()
step.send(None)
assert type(awaited_by(asked)) is Ready
sys.settrace(trace)
try:
    step.throw(ValueError)
except StopIteration:
    pass
sys.settrace(None)
assert ("exception", None) in traced and {each for _, each in traced} == {None}, traced
print("done")
"""


def test_what_runs_is_not_asked_what_it_awaits() -> None:
    assert run_python(RUNNING).stdout == "done\n"


async def over_gather(event: asyncio.Event) -> None:
    await asyncio.gather(branch(event), leaf(event))


async def over_task(event: asyncio.Event) -> None:
    await asyncio.create_task(branch(event), name="inner")


def test_a_task_that_gathers_is_a_row_beside_those_it_waits_for() -> None:
    taken: list[Profile] = []
    looked_at_from(over_gather, taken)
    task = named(taken[0], "looked-at")
    assert functions(task) == ["over_gather"]
    assert task.label("state") == "waiting for _GatheringFuture of 2"
    others = [functions(sample) for sample in taken[0].samples if sample.label("kind") == "task"]
    assert ["asyncio.locks.Event.wait", "leaf", "branch"] in others
    assert ["asyncio.locks.Event.wait", "leaf"] in others


def test_a_task_that_awaits_a_task_names_it() -> None:
    taken: list[Profile] = []
    looked_at_from(over_task, taken)
    outer, inner = named(taken[0], "looked-at"), named(taken[0], "inner")
    assert functions(outer) == ["over_task"]
    assert outer.label("state") == "waiting for Task 'inner'"
    assert functions(inner) == ["asyncio.locks.Event.wait", "leaf", "branch"]


async def waiting_tasks(names: Sequence[str | None], look: ThreadsAndTasks) -> Profile:
    """The `goroutine` profile beside waiting tasks of these names, or without."""
    event = asyncio.Event()
    waiting = [asyncio.create_task(leaf(event), name=name) for name in names]
    await asyncio.sleep(0)
    profile = look.snapshot()
    event.set()
    await asyncio.gather(*waiting)
    return profile


def waiting_rows(profile: Profile) -> dict[object, float]:
    """How many tasks wait in `leaf`, by their label `task`."""
    return {
        sample.label("task"): sample.values[0]
        for sample in profile.samples
        if functions(sample) == ["asyncio.locks.Event.wait", "leaf"]
    }


def test_goroutine_has_the_names_that_tasks_were_given() -> None:
    profile = asyncio.run(waiting_tasks(["poll", "poll", "flush", None, None, None], source()))
    assert waiting_rows(profile) == {"poll": 2, "flush": 1, None: 3}


def test_goroutine_has_no_names_of_tasks_once_there_were_too_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tasks, "MAX_TASK_NAMES", 3)
    look = source()
    few = asyncio.run(waiting_tasks(["a", "b", "c", None], look))
    assert waiting_rows(few) == {"a": 1, "b": 1, "c": 1, None: 1}
    many = asyncio.run(waiting_tasks(["a", "d"], look))
    assert waiting_rows(many) == {None: 2}
    for number in range(5):
        asyncio.run(waiting_tasks([f"request {number}"], look))
    assert len(look._task_names) == 4
    assert waiting_rows(asyncio.run(waiting_tasks(["a"], look))) == {None: 1}


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


def test_asyncio_that_another_thread_is_importing_fails_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "asyncio", ModuleType("asyncio"))
    monkeypatch.setitem(sys.modules, "asyncio.base_events", ModuleType("asyncio.base_events"))
    assert source().stats()["tasks"] == 0
