"""The event loop of a side port: the garbage collector does not start in its thread.

It waits in the extension (`_native/waker.h`), and then asks the selector without waiting.
"""

from __future__ import annotations

import asyncio
import selectors

from pyprof_agent import pauses


def own_loop() -> asyncio.AbstractEventLoop:
    """A new loop; an ordinary one where waits are not in C."""
    if not pauses.in_c():
        return asyncio.SelectorEventLoop()

    class Selector(selectors.EpollSelector):
        def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
            pauses.wait_readable(self.fileno(), timeout)
            return super().select(0)

    return asyncio.SelectorEventLoop(Selector())
