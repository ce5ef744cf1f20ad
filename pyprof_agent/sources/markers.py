"""All the frames that stand for what is no Python function."""

from __future__ import annotations

from pyprof_agent.sources.heap_tracemalloc import AGENT
from pyprof_agent.sources.naming import TRUNCATED
from pyprof_agent.sources.native_rows import NO_GIL, NO_PYTHON, UNREADABLE
from pyprof_agent.sources.stack_counters import NATIVE_THREADS, OVERFLOW, SAMPLER, UNSAMPLED
from pyprof_agent.sources.tasks import NO_FRAMES

MARKERS = (
    AGENT,
    NATIVE_THREADS,
    NO_FRAMES,
    NO_GIL,
    NO_PYTHON,
    OVERFLOW,
    SAMPLER,
    TRUNCATED,
    UNREADABLE,
    UNSAMPLED,
)
