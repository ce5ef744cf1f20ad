"""Who is there, looked at on demand: every thread, and every asyncio task with what it awaits.

`goroutine` and `threadcreate` come from here; Go's names, because readers ask for them.
"""

from __future__ import annotations

import contextlib
import gc
import os
import re
import sys
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any

from pyprof_agent import borrowed, hidden_thread
from pyprof_agent.awaited import awaited_by, frame_of
from pyprof_agent.profile import Frame, Label, Profile, Sample, ValueType
from pyprof_agent.sources.naming import TRUNCATED, FrameNames
from pyprof_agent.sources.stack_counters import NATIVE_THREADS
from pyprof_agent.sources.thread_clock import NO_FACTS, thread_facts

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

MAX_TASK_NAMES = 100
"""Names of tasks that get a label: readers make a series of every label value. Where a program
has more, such as one for each request, no task has one."""

_NUMBERED = re.compile(r"Task-\d+")
"""Names that asyncio gives to tasks without one; there is no end of them."""

_TASK_SETS = ("_all_tasks", "_scheduled_tasks", "_eager_tasks")
"""Where `asyncio.tasks` has all tasks: the first up to 3.11, the others on 3.12 and 3.13."""

_BOOTSTRAPS = (threading.__file__, hidden_thread.__file__)
"""Files of what is below the function that a thread runs."""

_STEPS = frozenset(
    {
        "anext_awaitable",
        "async_generator_asend",
        "async_generator_athrow",
        "coroutine_wrapper",
    }
)
"""Types of awaitables that stand for a coroutine or an async generator and do not say which."""

_Stack = tuple[Frame, ...]
_Position = tuple[CodeType, int]  # code object and byte offset of its instruction

SAMPLE_TYPES = {name: (ValueType(name, "count"),) for name in ("goroutine", "threadcreate")}

_COMMENTS = {
    "goroutine": "threads, and the tasks of every asyncio loop that is running",
    "threadcreate": "threads by the function they run; Python does not know who started them",
}

NO_FRAMES = Frame("<no Python frames>", "", 0, 0)
"""Stands for the stack of a task that runs something other than a Python coroutine."""


class ThreadsAndTasks:
    """The stacks of all threads and asyncio tasks at this moment.

    names: where frames come from
    max_frames: depth of the stacks, 1 to 1024
    now: the clock, Unix time in nanoseconds
    """

    name = "on demand"
    generation = 0  # it counts nothing

    def __init__(
        self, names: FrameNames, *, max_frames: int, now: Callable[[], int] = time.time_ns
    ) -> None:
        self._names = names
        self._max_frames = max_frames
        self._now = now
        self._loops: weakref.WeakSet[AbstractEventLoop] = weakref.WeakSet()
        self._task_names: set[str] = set()  # one more than MAX_TASK_NAMES at most

    def start(self) -> None:
        """Nothing to start: it looks when asked."""

    def stop(self) -> None:
        """Nothing to stop."""

    def before_fork(self) -> None:
        """Nothing to do."""

    def after_fork(self, *, child: bool) -> None:
        """Nothing to do."""

    def watch(self, loop: AbstractEventLoop) -> None:
        """Remember a loop. Loops of `asyncio.run` are found without; uvloop's are not."""
        self._loops.add(loop)

    def snapshot(self) -> Profile:
        """The `goroutine` profile: rows of equal stacks added up, labelled with their `kind`.

        Tasks that were given a name have it as label `task`, as long as no more than
        MAX_TASK_NAMES have ever been seen.
        """
        samples = [*self._look()]
        named = self._few_task_names(samples)
        counts = Counter((sample.stack, _common_labels(sample, named)) for sample in samples)
        return self._profile(
            "goroutine", (Sample(stack, (n,), labels) for (stack, labels), n in counts.items())
        )

    def each(self) -> Profile:
        """A row for each thread and task, labelled with `kind`, `name` and `id`.

        Tasks have a `state` too: `running`, or what they wait for.
        """
        return self._profile("goroutine", self._look())

    def threads(self) -> Profile:
        """The `threadcreate` profile: threads by the function they run."""
        stacks = _stacks()
        counts = Counter(self._entry(steps) for steps in stacks.values())
        foreign = _count_os_threads() - len(stacks)
        if foreign > 0:
            counts[(NATIVE_THREADS,)] = foreign
        return self._profile("threadcreate", (Sample(stack, (n,)) for stack, n in counts.items()))

    def stats(self) -> dict[str, float]:
        """`threads` and `tasks` at this moment."""
        stacks = _stacks()
        tasks = sum(len(_tasks(loop)) for loop in self._running_loops(stacks))
        return {"threads": len(stacks), "tasks": tasks}

    def _look(self) -> Iterator[Sample]:
        stacks = _stacks()
        facts = thread_facts()
        for ident, steps in stacks.items():
            name, native_id = facts.get(ident, NO_FACTS)
            stack = self._stack([(step.f_code, step.f_lasti) for step in steps])
            labels = _labels("thread", name, native_id or ident)
            yield Sample(stack, (1,), labels)
        # Where each frame is that is on a stack: there may be 100,000 tasks to look up.
        running = {step: steps[0] for steps in stacks.values() for step in steps}
        for loop in self._running_loops(stacks):
            for task in _tasks(loop):
                yield self._task_sample(task, running)

    def _task_sample(self, task: Any, running: dict[FrameType, FrameType]) -> Sample:
        coroutine = task.get_coro()
        waits_for = getattr(task, "_fut_waiter", None)
        outermost = frame_of(coroutine)
        borrowed.keep((coroutine, waits_for, outermost))
        if outermost in running:
            stack = self._stack(_frames_down_to(running[outermost], outermost))
            return Sample(stack, (1,), _labels("task", task.get_name(), id(task), "running"))
        state = _state(waits_for)
        stack = self._stack([*_await_chain(coroutine)][::-1])
        return Sample(stack, (1,), _labels("task", task.get_name(), id(task), state))

    def _few_task_names(self, samples: Iterable[Sample]) -> bool:
        for name in filter(None, map(_given_name, samples)):
            if len(self._task_names) <= MAX_TASK_NAMES:
                self._task_names.add(name)
        return len(self._task_names) <= MAX_TASK_NAMES

    def _stack(self, positions: list[_Position]) -> _Stack:
        kept = positions[: self._max_frames]
        stack = tuple([self._names.of_code(code, instruction) for code, instruction in kept])
        if not stack:
            return (NO_FRAMES,)
        return stack if len(kept) == len(positions) else (*stack, TRUNCATED)

    def _entry(self, steps: Sequence[FrameType]) -> _Stack:
        """The outermost frames, up to the first that is not of a thread's own, without lines."""
        codes = [step.f_code for step in steps]
        while len(codes) > 1 and codes[-1].co_filename in _BOOTSTRAPS:
            codes.pop()
        # Where a thread is now does not matter here: the line is that of the function.
        return (self._names.of_code(codes[-1], -1),)

    def _running_loops(self, stacks: Mapping[int, Sequence[FrameType]]) -> set[AbstractEventLoop]:
        watched = set(self._loops)
        borrowed.keep(watched)
        loops = {loop for loop in watched if loop.is_running()}
        # Another thread may be in the middle of importing asyncio.
        loop_type = getattr(sys.modules.get("asyncio.base_events"), "BaseEventLoop", None)
        if loop_type is not None:
            run_forever = loop_type.run_forever.__code__
            for steps in stacks.values():
                for step in steps:
                    if step.f_code is run_forever:
                        loops.add(step.f_locals["self"])
        return loops

    def _profile(self, kind: str, samples: Iterable[Sample]) -> Profile:
        sample_types = SAMPLE_TYPES[kind]
        return Profile(
            sample_types=sample_types,
            samples=tuple(samples),
            period_type=sample_types[0],
            period=1,
            time_nanos=self._now(),
            comments=(_COMMENTS[kind],),
        )


def _labels(kind: str, name: str, number: int, state: str = "") -> tuple[Label, ...]:
    labels = (Label("kind", kind), Label("name", name), Label("id", number))
    return (*labels, Label("state", state)) if state else labels


def _given_name(sample: Sample) -> str | None:
    """The name of a task, unless asyncio numbered it; None for threads."""
    name = sample.label("name")
    if sample.label("kind") != "task" or not isinstance(name, str) or _NUMBERED.fullmatch(name):
        return None
    return name


def _common_labels(sample: Sample, named: bool) -> tuple[Label, ...]:
    """The labels that more than one thread or task may have."""
    name = _given_name(sample) if named else None
    return (*sample.labels[:1], Label("task", name)) if name else sample.labels[:1]


def _state(awaited: Any) -> str:
    """What a task that does not run waits for: another task, by its name, or some future."""
    if awaited is None:
        return "waiting"
    kind = type(awaited).__name__
    name = getattr(awaited, "get_name", None)
    if name is not None:
        return f"waiting for {kind} {name()!r}"
    children = getattr(awaited, "_children", None)
    return f"waiting for {kind}" + (f" of {len(children)}" if children else "")


def _tasks(loop: AbstractEventLoop) -> Collection[Any]:
    import asyncio

    if sys.version_info >= (3, 14):  # where it is in C
        with contextlib.suppress(RuntimeError):
            tasks = asyncio.all_tasks(loop)
            borrowed.keep(tasks)
            return tasks
        return ()
    # What all_tasks() does before, with those that have ended too: they may die where it lets go.
    kept: list[Any] = []
    borrowed.keep(kept)
    for name in _TASK_SETS:
        _append_all(kept, getattr(asyncio.tasks, name, ()))
    loop_of = asyncio.futures._get_loop  # type: ignore[attr-defined]
    return {task for task in kept if loop_of(task) is loop and not task.done()}


def _append_all(kept: list[Any], tasks: Iterable[Any]) -> None:
    for _ in range(1000):  # the set changes under the hands of another thread's loop
        with contextlib.suppress(RuntimeError):
            kept += tasks
            return


def _stacks() -> dict[int, list[FrameType]]:
    """The frames of all threads, innermost first.

    All at once: a frame that returns meanwhile has no caller any more, and its thread no loop.
    """
    stacks = {ident: [*_callers(frame)] for ident, frame in sys._current_frames().items()}
    borrowed.keep(stacks)
    return stacks


def _callers(frame: FrameType | None) -> Iterator[FrameType]:
    """The frame, its caller, and so on to the root."""
    while frame is not None:
        yield frame
        frame = frame.f_back


def _frames_down_to(frame: FrameType, outermost: FrameType) -> list[_Position]:
    """Positions from `frame` to `outermost`, or to the root if that has left the stack."""
    positions = []
    for step in _callers(frame):
        positions.append((step.f_code, step.f_lasti))
        if step is outermost:
            break
    return positions


def _await_chain(awaitable: Any) -> Iterator[_Position]:
    """Positions of a suspended coroutine and of what it awaits, outermost first.

    It ends at the first thing that cannot be looked into: a future, mostly.
    """
    while awaitable is not None:
        borrowed.keep(awaitable)
        frame = frame_of(awaitable)
        if frame is None:
            awaitable = _stepped(awaitable)
        else:
            borrowed.keep(frame)
            yield frame.f_code, frame.f_lasti
            awaitable = awaited_by(awaitable)


def _stepped(awaitable: Any) -> Any:
    """What a step of an async generator is a step of, and the like; None for all else."""
    if type(awaitable).__name__ not in _STEPS:
        return None
    return next(iter(gc.get_referents(awaitable)), None)  # it refers to that first


def _count_os_threads() -> int:
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:  # no procfs
        return 0
