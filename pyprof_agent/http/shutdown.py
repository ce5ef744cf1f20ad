"""Notices that the server which runs us is about to end, so that it need not wait for a capture.

uvicorn and gunicorn tell an application nothing before its last request is answered: no
http.disconnect, and lifespan.shutdown comes after. So we look at the flag that they set first.
Nothing is changed in them. Other servers have their own time limit.
"""

from __future__ import annotations

import asyncio
import weakref
from dataclasses import dataclass
from typing import Any

from pyprof_agent.awaited import awaited_by, frame_of

POLL_SECONDS = 0.2

# By the module whose method runs the server: the flag, and its value once the server ends.
_FLAGS = {
    "uvicorn.server": ("should_exit", True),  # also as a worker of gunicorn
    "gunicorn.workers.gasgi": ("alive", False),
}


@dataclass(frozen=True, slots=True)
class _Flag:
    server: weakref.ref[Any]
    name: str
    at_end: bool

    def is_set(self) -> bool:
        server = self.server()
        return server is None or getattr(server, self.name) is self.at_end


class ServerEnd:
    """The end of the server that runs an event loop, where that can be seen."""

    def __init__(self) -> None:
        # Found once a loop: there may be thousands of tasks. Weak, as a server knows its loop.
        self._flags: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Flag | None] = (
            weakref.WeakKeyDictionary()
        )

    async def near(self) -> None:
        """Returns once the server of this loop begins to end; never, if that cannot be seen."""
        loop = asyncio.get_running_loop()
        if loop not in self._flags:
            self._flags[loop] = _find_flag()
        flag = self._flags[loop]
        if flag is None:
            await loop.create_future()
            return
        while not flag.is_set():
            await asyncio.sleep(POLL_SECONDS)


def _find_flag() -> _Flag | None:
    """The flag of the server whose method is a task of this loop, or is awaited by one."""
    for task in asyncio.all_tasks():
        awaited: Any = task.get_coro()
        while (frame := frame_of(awaited)) is not None:
            name, at_end = _FLAGS.get(frame.f_globals.get("__name__", ""), ("", True))
            server = frame.f_locals.get("self") if name else None
            if isinstance(getattr(server, name, None), bool):
                return _Flag(weakref.ref(server), name, at_end)
            awaited = awaited_by(awaited)
    return None
