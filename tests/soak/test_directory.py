"""A thousand kills of processes that write profiles to a folder: every file is whole."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.conftest import GoPprof
from tests.sinks.kills import killed

ROUNDS = 1000
AT_ONCE = 100


@pytest.mark.timeout(600)
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_every_file_opens_after_a_thousand_kills(tmp_path: Path, go_pprof: GoPprof) -> None:
    begin = time.monotonic()
    found = killed(tmp_path, ROUNDS, timeout=500)
    seconds = time.monotonic() - begin
    print(f"\n{ROUNDS} kills in {seconds:.0f} s: {found.opened} finished files, all whole,", end="")
    print(f" {found.unfinished} unfinished ones, {found.torn} of them torn")
    assert found.torn > 0  # else no kill was in the middle of a write
    assert len(found.samples) == found.opened
    for start in range(0, found.opened, AT_ONCE):
        paths = found.samples[start : start + AT_ONCE]
        assert "Type: inuse_space" in go_pprof("-top", "-nodecount=1", *paths)  # their sum
