"""A heap profile in a folder every hour, without anybody asking for it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import partial

from pyprof_agent.config import Config
from pyprof_agent.errors import ConfigError, NotRunningError, SinkError
from pyprof_agent.hidden_thread import apart
from pyprof_agent.profile import Profile
from pyprof_agent.sinks.directory import Directory

TELLING_THREAD = "pyprof-agent-files"
"""In which the log is told of failures."""

_DAY = 86400
_FAILED = "a heap profile could not be written"

_LOG = logging.getLogger("pyprof_agent")


class ProfileFiles:
    """A chore of the worker.

    directory: where they go
    every: seconds from one to the next; the first is written after as many
    heap: makes the profile
    """

    def __init__(self, directory: Directory, every: float, heap: Callable[[], Profile]) -> None:
        self._directory = directory
        self._every = every
        self._heap = heap
        self._written = self._failures = 0
        self.begin()

    def begin(self) -> None:
        """Begin anew: the next one is of an hour from now."""
        self._due = time.monotonic() + self._every

    @property
    def due(self) -> float:
        """When the next one is written, by the monotonic clock."""
        return self._due

    def run(self) -> None:
        """Write one. What cannot be written is told in the log, and tried again the next time."""
        self._due = time.monotonic() + self._every
        try:
            self._directory.write(self._heap())
            self._written += 1
        except NotRunningError:
            pass  # the agent was stopped in the middle
        except SinkError as error:
            self._failures += 1
            apart(partial(_LOG.warning, "%s", error), TELLING_THREAD)
        except Exception as error:
            self._failures += 1
            apart(partial(_LOG.error, _FAILED, exc_info=error), TELLING_THREAD)

    def stats(self) -> dict[str, float]:
        """Files written so far, and how many could not be."""
        return {"written": self._written, "failures": self._failures}


def files_of(config: Config, heap: Callable[[], Profile]) -> ProfileFiles | None:
    """What the options ask for; None if they ask for none.

    Raises ConfigError where there is no heap profile to write.
    """
    if config.profile_dir is None:
        return None
    if not config.heap:
        raise ConfigError(
            f"profile_dir is {config.profile_dir!r}, and heap is False; there is no heap profile "
            "to write"
        )
    directory = Directory(
        config.profile_dir,
        keep_count=config.profile_keep,
        keep_seconds=config.profile_keep_days * _DAY,
        keep_bytes=config.profile_keep_bytes,
    )
    return ProfileFiles(directory, config.profile_every, heap)
