"""Where the garbage collector may start.

Not in a thread of ours, as it would run finalizers and callbacks of the program's there: see
`_native/collector_hold.h`. Without the extension it may start anywhere.
"""

from __future__ import annotations

from collections.abc import Callable

from pyprof_agent._native import unusable as extension_unusable
from pyprof_agent.pauses import in_c

if not extension_unusable():
    from pyprof_agent._native import core


def kept_off(function: Callable[[], None]) -> tuple[Callable[..., None], tuple[object, ...]]:
    """What a thread of ours is to call, and with what, for it to call `function`.

    Green threads call it as it is: they share one real thread with the program's.
    """
    return (core.hold_collector, (function,)) if in_c() else (function, ())
