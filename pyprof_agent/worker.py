"""The one thread that collects and encodes for asyncio programs, so that no loop has to wait."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ParamSpec, TypeVar

from pyprof_agent.errors import NotRunningError

THREAD = "pyprof-agent-worker"

FORK_SECONDS = 1.0
"""How long a fork waits for an idle thread to end."""

_P = ParamSpec("_P")
_T = TypeVar("_T")


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
        try:
            result = self.call()
        except BaseException as error:  # whatever it is, it belongs to who waits
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits any more
            self.loop.call_soon_threadsafe(_settle, self.future, result, failure)


def _settle(future: asyncio.Future[Any], result: object, failure: BaseException | None) -> None:
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


class Worker:
    """Runs functions one after the other in a daemon thread, started when first needed.

    No `ThreadPoolExecutor`: that takes no work once the main thread has ended, while other
    threads may go on to serve for days.
    """

    def __init__(self) -> None:
        self._ended = False
        self._begin_anew()

    def _begin_anew(self) -> None:
        # Guards all here. Re-entrant, as a signal handler may fork while a job is handed over.
        self._lock = threading.RLock()
        # By its full name, here and below: gevent replaces it, together with the threads.
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._unfinished = 0

    async def run(self, function: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """The result of `function` with these arguments, or what it raises.

        A call that is cancelled before its turn is skipped. Once the main thread has ended
        CPython 3.12.0 to 3.12.2 start no thread: if there is none yet, the loop has to wait.

        Raises NotRunningError after `end()`, RuntimeError if no thread can be started.
        """
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
        # With time limits, as a fork that waits for ever is worse than one that meets the thread.
        if not self._lock.acquire(timeout=FORK_SECONDS):
            return
        try:
            thread = self._dismiss() if not self._unfinished else None
        finally:
            self._lock.release()
        if thread is not None and thread is not threading.current_thread():
            thread.join(FORK_SECONDS)

    def after_fork(self, *, child: bool) -> None:
        """The child begins anew: the thread, and who waits for it, are not there."""
        if child:
            self._begin_anew()

    def _launch(self) -> None:
        thread = threading.Thread(target=self._work, args=(self._jobs,), name=THREAD, daemon=True)
        thread.start()
        self._thread = thread

    def _dismiss(self) -> threading.Thread | None:
        thread, self._thread = self._thread, None
        if thread is not None:
            self._jobs.put(None)
            self._jobs, self._unfinished = queue.SimpleQueue(), 0
        return thread

    def _work(self, jobs: queue.SimpleQueue[_Job | None]) -> None:
        while (job := jobs.get()) is not None:
            job.run()
            del job  # not to keep a whole profile until the next one
            with self._lock:
                if jobs is self._jobs:
                    self._unfinished -= 1
