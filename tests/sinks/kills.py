"""Kills processes that write to a folder, at random moments, and opens all they have left."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import NamedTuple
from unittest import mock

from pyprof_agent.formats.pprof import decode
from pyprof_agent.profile import Frame, Profile, Sample
from pyprof_agent.sinks.directory import Directory
from pyprof_agent.sinks.names import Name
from tests.support import ROOT_FRAME, heap_profile, run_python

KEPT = 5
LONGEST_SECONDS = 0.02
STACKS = 1000


class Killed(NamedTuple):
    """What came of some kills.

    opened: finished files, all of which are whole
    unfinished: files that stayed behind, and those among them that lack data
    samples: copies of all finished files
    """

    opened: int
    unfinished: int
    torn: int
    samples: tuple[str, ...]


def killed(folder: Path, rounds: int, timeout: float = 60) -> Killed:
    """Kill at least this many processes, one by one; another one then cleans up after them."""
    profiles, samples = folder / "profiles", folder / "samples"
    profiles.mkdir()
    samples.mkdir()
    code = "from tests.sinks.kills import main\nmain()"
    result = run_python(code, str(profiles), str(samples), str(rounds), timeout=timeout)
    found = json.loads(result.stdout)
    for path in profiles.glob(".*"):
        os.utime(path, (0, 0))
    last = directory(profiles).write(heap_profile(time_nanos=time.time_ns()))
    names = [path.name for path in profiles.iterdir()]
    assert last.name in names
    assert len(names) == KEPT
    assert all(Name.of_file(name) for name in names)
    return Killed(**found, samples=tuple(map(str, sorted(samples.iterdir()))))


def main() -> None:
    """Fork children, all imports being done, and kill them after up to 20 ms.

    On a busy machine few of them come to write a file: then more, until there are some to delete.
    """
    folder, samples, rounds = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    dice, written = random.Random(rounds), profile()
    data, total = written.to_bytes(), written.total("inuse_space")
    seen: set[str] = set()
    while rounds > 0 or len(seen) < KEPT:
        rounds -= 1
        child = os.fork()
        if child == 0:
            try:
                write_for_ever(folder, written, data)
            finally:
                os._exit(1)  # nothing but a kill ends it
        time.sleep(dice.uniform(0, LONGEST_SECONDS))
        os.kill(child, signal.SIGKILL)
        assert os.waitpid(child, 0)[1] == signal.SIGKILL
        files = [path for path in folder.iterdir() if Name.of_file(path.name)]
        for path in files:
            if path.name not in seen:
                seen.add(path.name)
                assert decode(path.read_bytes()).total("inuse_space") == total
                shutil.copy(path, samples)  # before it is deleted for later ones
    parts = [path for path in folder.iterdir() if Name.of_part(path.name)]
    assert {*parts, *files} == {*folder.iterdir()}
    torn = sum(path.stat().st_size < len(data) for path in parts)
    print(json.dumps({"opened": len(seen), "unfinished": len(parts), "torn": torn}))


def write_for_ever(folder: Path, written: Profile, data: bytes) -> None:
    """Write without a pause, and without encoding, which is not what is to be interrupted."""
    with mock.patch.object(Profile, "to_bytes", return_value=data):
        while True:
            directory(folder).write(dataclasses.replace(written, time_nanos=time.time_ns()))


def directory(folder: Path) -> Directory:
    return Directory(folder, keep_count=KEPT, keep_seconds=3600, keep_bytes=2**30)


def profile() -> Profile:
    """A heap profile of some 50 KB."""
    dice = random.Random(7)
    samples = []
    for line in range(1, STACKS + 1):
        frame = Frame(f"shop.f{line}", "/srv/shop.py", 1, line)
        samples.append(
            Sample((frame, ROOT_FRAME), tuple(float(dice.getrandbits(40)) for _ in range(4)))
        )
    return heap_profile(*samples)
