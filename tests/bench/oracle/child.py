"""What runs in a process that is judged: a program below a profiler."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict

from tests.bench.oracle.programs import PROGRAMS
from tests.bench.oracle.samplers import SAMPLERS


def main(sampler: str, program: str, seconds: float) -> None:
    """Run a program for so long.

    A line `ready` is printed once the profiler is on, and the program waits for a line. Then
    it prints what it and the profiler measured, as JSON in one line, and waits for the end of
    its input: a profiler outside may still be looking.
    """
    work = PROGRAMS[program]
    session = SAMPLERS[sampler].session(work)
    print("ready", flush=True)
    sys.stdin.readline()
    session.open()
    wall, cpu = time.monotonic(), time.process_time()
    spent = work.run(wall + seconds)
    wall, cpu = time.monotonic() - wall, time.process_time() - cpu
    session.close()
    measured = {
        "spent": asdict(spent),
        "seconds": wall,
        "process_cpu": cpu,
        "python": sys.version.partition(" ")[0],
        "readings": [asdict(reading) for reading in session.read()],
    }
    print(json.dumps(measured), flush=True)
    sys.stdin.read()
