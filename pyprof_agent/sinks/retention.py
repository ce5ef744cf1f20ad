"""Which files of a folder are kept, as pure functions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from pyprof_agent.sinks.names import Name

WRONG_CLOCK_SECONDS = 86400
"""What is further in the future than this was written while a clock was wrong. Hosts that share a
folder disagree by less."""


class File(NamedTuple):
    """A file: its name, when it was written (Unix time in nanoseconds), and its size in bytes."""

    name: Name
    written: int
    size: int


@dataclass(frozen=True, slots=True)
class Keep:
    """How much of one profile is kept in a folder, whoever has written it.

    count: files
    seconds: age, by the time in the name
    bytes: of all files together
    """

    count: int
    seconds: float
    bytes: int

    def expired(self, files: Iterable[File], now: float) -> list[File]:
        """The files that have to go, oldest first; never the newest.

        From the newest on files stay as long as all limits hold, and none stays behind one that
        goes. So a process that has not seen the latest files of others deletes too little, which
        they make up for, and never too much.

        now: Unix time
        """
        kept = size = 0
        ordered = newest_first(files, now)
        for file in ordered:
            size += file.size
            over = kept >= self.count or size > self.bytes or now - file.name.second > self.seconds
            if kept and over:
                break
            kept += 1
        return ordered[kept:][::-1]


def newest_first(files: Iterable[File], now: float) -> list[File]:
    """The files in the order of their time, those of a wrong clock last.

    Else a clock that was a year ahead for a day would have all files since then deleted, until
    that year is over. When a file was written settles what is of one second, and no more than
    that, as copies are made later.
    """

    def rank(file: File) -> tuple[bool, int, int, Name]:
        second = file.name.second
        return second <= now + WRONG_CLOCK_SECONDS, second, file.written, file.name

    return sorted(files, key=rank, reverse=True)
