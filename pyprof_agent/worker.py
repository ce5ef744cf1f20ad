"""The one thread that collects and encodes for asyncio programs, so that no loop has to wait.

What is to be done now and then, by the clock, is done there too.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar

from pyprof_agent import borrowed
from pyprof_agent.errors import NotRunningError
from pyprof_agent.hidden_thread import HIDDEN, HiddenThread
from pyprof_agent.own_process import WORKER_THREAD, has_ended_but_for_us, in_server
from pyprof_agent.pauses import Waker

if TYPE_CHECKING:
    import asyncio

FORK_SECONDS = 1.0
"""How long a fork waits for an idle thread to end."""

LET_GO = 5000
"""Borrowed objects that the loop lets go of at once: a millisecond, if none of them dies."""

LONELY_SECONDS = 1.0
"""How often the thread looks whether it is all that is left of a process that would end then."""

_P = ParamSpec("_P")
_T = TypeVar("_T")


class Chore(Protocol):
    """Something to be done now and then. It takes care of its own failures.

    due: when it is to be done next, by the monotonic clock
    """

    @property
    def due(self) -> float: ...
    def begin(self) -> None:
        """Begin anew: with the worker, and in a forked child."""

    def run(self) -> None: ...


@dataclass(frozen=True, slots=True)
class _Job:
    call: Callable[[], object]
    future: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop

    def run(self) -> None:
        if self.future.cancelled():
            return
        result: object = None
        failure: BaseException | None = None
        kept = borrowed.begin()
        try:
            result = self.call()
        except BaseException as error:  # whatever it is, it belongs to who waits
            failure = error
        borrowed.end()
        try:
            self.loop.call_soon_threadsafe(_settle, self.future, result, failure, kept)
        except RuntimeError:  # the loop was closed, so nobody waits any more
            kept += (self.loop, self.future)
            borrowed.leave_to_collector(kept)


class _Jobs:
    """A queue of jobs for one thread. None is the end."""

    def __init__(self) -> None:
        self._jobs: deque[_Job | None] = deque()
        self._waker = Waker(newcomers=True)  # for a chore

    def __len__(self) -> int:
        return len(self._jobs)

    def put(self, job: _Job | None) -> None:
        self._jobs.append(job)
        self._waker.wake()

    def get(self) -> _Job | None:
        """The first of them. Raises IndexError if there is none."""
        return self._jobs.popleft()

    def wait(self, seconds: float | None) -> None:
        """Wait for one, for up to so many seconds."""
        self._waker.wait(seconds)


def _settle(
    future: asyncio.Future[Any], result: object, failure: BaseException | None, kept: list[object]
) -> None:
    if in_server():
        borrowed.leave_to_collector(kept)
    else:
        _let_go(future.get_loop(), kept)
    if future.done():  # cancelled meanwhile
        return
    if failure is None:
        future.set_result(result)
    elif isinstance(failure, StopIteration):  # no future takes one: it would end the coroutine
        error = RuntimeError(f"the function raised {failure!r}")
        error.__cause__ = failure
        future.set_exception(error)
    else:
        future.set_exception(failure)


def _let_go(loop: asyncio.AbstractEventLoop, kept: list[object]) -> None:
    """A part at a time: there may be 100,000 tasks."""
    del kept[-LET_GO:]
    if kept:
        loop.call_soon(_let_go, loop, kept)


class Worker:
    """Runs functions one after the other in a daemon thread, started when first needed.

    No `ThreadPoolExecutor`: that takes no work once the main thread has ended, while other
    threads may go on to serve for days.

    chores: what is to be done besides; with any, the thread is there from `start()` on
    """

    def __init__(self, chores: Sequence[Chore] = ()) -> None:
        self._chores = tuple(chores)
        self._ended = False
        # Of this process: such a one does not end with its main thread but with its last.
        self._forked_by_thread = False
        self._about_to = False
        self._begin_anew()

    def start(self) -> None:
        """Begin with the chores. Raises RuntimeError if no thread can be started."""
        with self._lock:
            if self._chores and not self._ended and self._thread is None:
                self._launch()

    def _begin_anew(self) -> None:
        # Guards all here. Re-entrant, as a signal handler may fork while a job is handed over.
        self._lock = threading.RLock()
        self._jobs = _Jobs()
        self._thread: HiddenThread | None = None
        self._unfinished = 0
        for chore in self._chores:
            chore.begin()

    async def run(self, function: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """The result of `function` with these arguments, or what it raises.

        A call that is cancelled before its turn is skipped. Once the main thread has ended
        CPython 3.12.0 to 3.12.2 start no thread: if there is none yet, the loop has to wait.

        Raises NotRunningError after `end()`, RuntimeError if no thread can be started.
        """
        import asyncio  # here: a program without it is spared the 44 modules that come with it

        loop = asyncio.get_running_loop()
        future: asyncio.Future[_T] = loop.create_future()
        with self._lock:
            if self._ended:
                raise NotRunningError("the agent has been stopped")
            try:
                if self._thread is None:
                    self._launch()
            except RuntimeError as error:
                if "interpreter shutdown" not in str(error):
                    raise
                return function(*args, **kwargs)
            self._unfinished += 1
            self._jobs.put(_Job(partial(function, *args, **kwargs), future, loop))
        return await future

    def end(self) -> None:
        """Take no more work. What was taken is still done; nobody waits for it here."""
        with self._lock:
            self._ended = True
            self._dismiss()

    def before_fork(self) -> None:
        """Take the thread away if it is idle: from 3.12 on, fork warns of any other thread."""
        by_main = threading.get_ident() == threading.main_thread().ident
        self._about_to = self._forked_by_thread or not by_main
        # With time limits, as a fork that waits for ever is worse than one that meets the thread.
        if not self._lock.acquire(timeout=FORK_SECONDS):
            return
        try:
            thread = self._dismiss() if not self._unfinished else None
        finally:
            self._lock.release()
        if thread is not None and HIDDEN.get(threading.get_ident()) is not thread:
            thread.join(FORK_SECONDS)

    def after_fork(self, *, child: bool) -> None:
        """The child begins anew: the thread, and who waits for it, are not there.

        Raises RuntimeError if there are chores and no thread can be started for them.
        """
        if child:
            borrowed.forget_in_child()
            self._begin_anew()
            self._forked_by_thread = self._about_to
        self._about_to = False  # a fork that CPython is not told of says nothing
        self.start()

    def _launch(self) -> None:
        self._thread = HiddenThread(partial(self._work, self._jobs), WORKER_THREAD)
        try:
            self._thread.start()
        except BaseException:  # also a signal handler's, when it may run already
            self._dismiss()
            raise

    def _dismiss(self) -> HiddenThread | None:
        thread, self._thread = self._thread, None
        if thread is not None:
            self._jobs.put(None)
            self._jobs, self._unfinished = _Jobs(), 0
        return thread

    def _work(self, jobs: _Jobs) -> None:
        while (job := self._next(jobs)) is not None:
            job.run()
            del job  # not to keep a whole profile until the next one
            with self._lock:
                if jobs is self._jobs:
                    self._unfinished -= 1

    def _next(self, jobs: _Jobs) -> _Job | None:
        """What is to be done next; chores come first, when it is time. None is the end."""
        while jobs is self._jobs or jobs:  # else it was dismissed, or is one too many
            for chore in self._chores:
                if chore.due <= time.monotonic():
                    chore.run()
            if not jobs:
                jobs.wait(self._pause())
            if jobs:
                return jobs.get()
            if self._forked_by_thread and has_ended_but_for_us():
                return None
        return None

    def _pause(self) -> float | None:
        """Seconds to wait for a job at most; None is for ever."""
        waits = [chore.due - time.monotonic() for chore in self._chores]
        if self._forked_by_thread:
            waits.append(LONELY_SECONDS)
        return max(min(waits), 0.0) if waits else None
