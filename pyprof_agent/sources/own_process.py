"""What the kernel knows of this process: how much memory it holds, and how long it has lived."""

from __future__ import annotations

import os
import time


def resident_bytes() -> int:
    """The resident set size. Raises OSError where there is no /proc, or no descriptor left."""
    with open("/proc/self/statm", "rb") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGESIZE")


def age_seconds() -> float:
    """Seconds since the process was started. Raises OSError like `resident_bytes`."""
    with open("/proc/self/stat", "rb") as stat:
        after_name = stat.read().rpartition(b")")[2].split()  # the name may hold anything
    started = int(after_name[19]) / os.sysconf("SC_CLK_TCK")
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started
