"""One piece of work for all who ask for the same thing at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

_T = TypeVar("_T")


class Shared(Generic[_T]):
    """Joins requests for the same key: a hundred at once cost two runs, not a hundred.

    A request never gets what was begun before it came. It starts a run if none is under
    way; otherwise all that come during a run share the next one.
    """

    def __init__(self) -> None:
        self._waiting: dict[object, asyncio.Task[_T]] = {}
        self._running: dict[object, asyncio.Task[_T]] = {}

    async def run(self, key: object, work: Callable[[], Awaitable[_T]]) -> _T:
        """The result of `work`, which may have been another caller's.

        A caller that is cancelled does not cancel the others' run. Raises what `work` raises.
        """
        key = (asyncio.get_running_loop(), key)
        task = self._waiting.get(key)
        if task is None or task.done():
            task = asyncio.ensure_future(self._run_next(key, work))
            self._waiting[key] = task
        return await asyncio.shield(task)

    async def _run_next(self, key: object, work: Callable[[], Awaitable[_T]]) -> _T:
        before = self._running.get(key)
        if before is not None:
            await asyncio.wait({before})
        task = self._waiting.pop(key)
        self._running[key] = task
        try:
            return await work()
        finally:
            if self._running.get(key) is task:
                del self._running[key]
