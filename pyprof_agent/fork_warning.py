"""CPython's warning of a fork beside other threads, where the only others are ours.

CPython from 3.12 on warns of it: of locks that they may have held. It counts the threads when the
fork is over, on 3.12 before and later after the hooks of the parent. Ours are away for the fork,
but on a busy machine the kernel may list them for a while, and then they are there again.
"""

from __future__ import annotations

import contextlib
import re
import sys
import warnings
from typing import Any

from pyprof_agent.own_process import is_single_threaded_but_for_us
from pyprof_agent.pauses import green_threads

_IGNORE = (
    "ignore",
    re.compile(r"This process \(pid=\d+\) is multi-threaded, use of \w+\(\) may lead to deadlocks"),
    DeprecationWarning,
    None,
    0,
)
"""As `warnings.filterwarnings` makes them, which would have Python show old warnings again."""


def keep_away(running: bool) -> None:
    """Ignore the warning, or stop ignoring it if the program has other threads.

    Call it before each fork, after the agent's threads have ended, and again in the parent, before
    they start again.

    running: whether an agent is running
    """
    if sys.version_info < (3, 12) or green_threads():
        return
    wished = running and is_single_threaded_but_for_us()
    filters: Any = getattr(warnings, "_get_filters", lambda: warnings.filters)()
    if wished and filters and filters[0] is _IGNORE:
        return
    with contextlib.suppress(ValueError):  # other threads change the list too
        filters.remove(_IGNORE)
    if wished:
        filters.insert(0, _IGNORE)
