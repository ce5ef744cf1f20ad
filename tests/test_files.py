"""Profiles in a folder, written by the running agent."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import pytest

from pyprof_agent import Agent, Config, ConfigError, NotRunningError, SinkError, record
from pyprof_agent.files import ProfileFiles
from pyprof_agent.formats.pprof import decode
from pyprof_agent.profile import Profile, Sample
from pyprof_agent.sinks.directory import Directory
from tests.support import LEAF, ROOT_FRAME, heap_profile


def until(files: Path, count: int, pattern: str = "heap-*.pb.gz") -> list[Path]:
    deadline = time.monotonic() + 15
    while len(found := sorted(files.glob(pattern))) < count:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def test_an_agent_writes_one_every_so_often_and_keeps_as_many_as_it_shall(tmp_path: Path) -> None:
    agent = Agent(
        Config(stacks=False, profile_dir=tmp_path / "new", profile_every=1, profile_keep=2)
    )
    agent.start()
    agent.count(7)
    try:
        first = until(tmp_path / "new", 1)[0]
        assert "work done so far: 7" in decode(first.read_bytes()).comments
        deadline = time.monotonic() + 15
        while agent.stats()["files"]["written"] < 3 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert agent.stats()["files"] == {"written": 3, "failures": 0}
        assert len(until(tmp_path / "new", 2)) == 2
        assert not first.exists()
    finally:
        agent.stop()


class Broken(Directory):
    """A folder that nothing can be written to."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def write(self, profile: Profile, name: str = "heap") -> Path:
        raise self._error


def profile() -> Profile:
    return heap_profile(Sample((LEAF, ROOT_FRAME), (1, 2, 1, 2)))


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (SinkError("cannot write /x: No space left on device"), "cannot write /x: No space left"),
        (ZeroDivisionError("of a test"), "a heap profile could not be written"),
    ],
)
def test_what_cannot_be_written_is_logged_and_tried_again(
    error: Exception, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    files = ProfileFiles(Broken(error), 3600, profile)
    for _ in range(2):
        files.run()
    assert files.stats() == {"written": 0, "failures": 2}
    assert [record.levelno >= logging.WARNING for record in caplog.records] == [True, True]
    assert told in caplog.text
    assert 3590 < files.due - time.monotonic() <= 3600


def test_an_agent_that_is_stopped_in_the_middle_is_no_failure(tmp_path: Path) -> None:
    def stopped() -> Profile:
        raise NotRunningError("stopped")

    directory = Directory(tmp_path, keep_count=1, keep_seconds=1, keep_bytes=1)
    files = ProfileFiles(directory, 3600, stopped)
    files.run()
    assert files.stats() == {"written": 0, "failures": 0}


def test_without_the_heap_there_is_nothing_to_write() -> None:
    with pytest.raises(ConfigError, match="profile_dir is '/x', and heap is False"):
        Agent(Config(heap=False, profile_dir="/x"))


@pytest.mark.parametrize("value", ["", 7])
def test_a_path_is_a_path(value: object) -> None:
    with pytest.raises(ConfigError, match="use the path of a folder"):
        Config.load({"profile_dir": value}, {})


def test_a_block_that_is_recorded_writes_no_files_besides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYPROF_AGENT_PROFILE_DIR", str(tmp_path / "hourly"))
    with record(tmp_path / "block.pb.gz"):
        pass
    assert (tmp_path / "block.pb.gz").exists()
    assert not (tmp_path / "hourly").exists()
