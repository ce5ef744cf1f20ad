"""Programs that know where their time went, and which stacks they can have."""

from __future__ import annotations

import os

from tests.bench.oracle.programs import c_code, calls, event_loop, frames, loops, one_cpu, threads
from tests.bench.oracle.programs.program import Program

__all__ = ["PROGRAMS", "Program"]

_MODULES = (calls, loops, c_code, frames, event_loop, threads, one_cpu)

PROGRAMS = {
    module.PROGRAM.name: module.PROGRAM
    for module in _MODULES
    if module is not one_cpu or hasattr(os, "sched_setaffinity")
}
