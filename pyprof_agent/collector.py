"""Where the garbage collector may start.

Not in a thread of the agent, where it would run the program's finalizers and callbacks: see
`_native/collector_hold.h`. Without the extension it may start anywhere.
"""

from __future__ import annotations

from collections.abc import Callable

from pyprof_agent._native import unusable as extension_unusable
from pyprof_agent.pauses import in_c

if not extension_unusable():
    from pyprof_agent._native import core


def kept_off(function: Callable[[], None]) -> tuple[Callable[..., None], tuple[object, ...]]:
    """A function and its arguments: called in a thread of the agent, they call `function`.

    Green threads call it as it is: they share one real thread with the program's.
    """
    return (core.hold_collector, (function,)) if in_c() else (function, ())
