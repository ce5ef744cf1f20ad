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


def has_ended_but_for_us() -> bool:
    """Whether the calling thread is all that is left of the process, whose main thread is over.

    A process that was forked by another thread than the main one ends with the last of its
    threads, so that must not be ours. False where that cannot be known.
    """
    try:
        with open("/proc/self/stat", "rb") as stat:
            main_is_over = stat.read().rpartition(b")")[2].startswith(b" Z")  # it stays listed
        return main_is_over and len(os.listdir("/proc/self/task")) == 2
    except OSError:
        return False
