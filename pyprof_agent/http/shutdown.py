"""Notices that the server which runs us is about to end, so that it need not wait for a capture.

uvicorn, on its own or as a worker of gunicorn, tells an application nothing before its last request
is answered: no http.disconnect, and lifespan.shutdown comes after. So we look at the flag that
it sets first, `Server.should_exit`. Nothing is changed in it. Other servers have their own time
limit.
"""

from __future__ import annotations

import asyncio
import weakref
from typing import Any

POLL_SECONDS = 0.2


class ServerEnd:
    """The end of the uvicorn that runs an event loop, if one does."""

    def __init__(self) -> None:
        # Found once a loop: there may be thousands of tasks. Weak, as a server knows its loop.
        self._servers: weakref.WeakKeyDictionary[
            asyncio.AbstractEventLoop, weakref.ref[Any] | None
        ] = weakref.WeakKeyDictionary()

    async def near(self) -> None:
        """Returns once the server of this loop begins to end; never, if there is none."""
        loop = asyncio.get_running_loop()
        if loop not in self._servers:
            server = _find_server()
            self._servers[loop] = None if server is None else weakref.ref(server)
        reference = self._servers[loop]
        if reference is None:
            await loop.create_future()
            return
        while (server := reference()) is not None and not server.should_exit:
            del server  # not to keep it while we sleep
            await asyncio.sleep(POLL_SECONDS)


def _find_server() -> Any:
    """The uvicorn.Server whose `serve` is a task of this loop, or is awaited by one."""
    for task in asyncio.all_tasks():
        awaited: Any = task.get_coro()
        while (frame := getattr(awaited, "cr_frame", None)) is not None:
            if frame.f_globals.get("__name__") == "uvicorn.server":
                server = frame.f_locals.get("self")
                if isinstance(getattr(server, "should_exit", None), bool):
                    return server
            awaited = awaited.cr_await
    return None
