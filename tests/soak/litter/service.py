"""Run an example with threads in it that leave garbage on the C stack.

python -m tests.soak.litter.service LIBRARY STATS PROGRAM ARGUMENTS...

PROGRAM is a file, or the name of a module. Every second what the stack sampler has done is written
to the file STATS, as JSON.
"""

from __future__ import annotations

import ctypes
import json
import runpy
import sys
import threading
import time
from pathlib import Path

import pyprof_agent

LITTERING = 2
"""Threads that do it."""


def leave_litter(library: ctypes.PyDLL) -> None:
    """For ever, for some of the time: the service has to go on."""
    library.litter_calls.restype = ctypes.py_object
    library.litter_calls.argtypes = [ctypes.py_object, ctypes.c_uint]
    numbers = list(range(20))

    def calls_again() -> None:
        sorted(numbers, key=lambda number: -number)

    def through(limit: int) -> int:
        return sum(number for number in range(limit))

    def generates() -> None:
        through(10)

    while True:
        for function in (calls_again, generates):
            library.litter_calls(function, 200)
            time.sleep(0.01)


def write_stats(path: Path) -> None:
    """Once a second, whole."""
    while True:
        stats = pyprof_agent.start().stats()["stacks"]
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps(stats))
        fresh.replace(path)
        time.sleep(1)


def main() -> None:
    """Litter, and become the program."""
    library, stats, program = sys.argv[1:4]
    pyprof_agent.start()
    for _ in range(LITTERING):
        threading.Thread(
            target=leave_litter, args=(ctypes.PyDLL(library),), daemon=True, name="litter"
        ).start()
    threading.Thread(target=write_stats, args=(Path(stats),), daemon=True, name="stats").start()
    sys.argv = sys.argv[3:]
    if program.endswith(".py"):
        sys.path.insert(0, str(Path(program).parent))
        runpy.run_path(program, run_name="__main__")
    else:
        runpy.run_module(program, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
