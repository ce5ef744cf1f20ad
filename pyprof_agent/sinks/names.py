"""Names of profiles in a folder, both ways: `heap-20261123T070000Z-4242.pb.gz`."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import NamedTuple

from pyprof_agent.errors import SinkError

_ENDING = ".pb.gz"
_PART = ".part"

_PROFILE = re.compile(r"[A-Za-z0-9_]+")
_NAME = re.compile(
    rf"({_PROFILE.pattern})"
    r"-([0-9]{4})([0-9]{2})([0-9]{2})T([0-9]{2})([0-9]{2})([0-9]{2})Z"
    r"-([1-9][0-9]{0,8})"  # a process; more digits fit no system's
    r"(?:-([2-9]|[1-9][0-9]{1,8}))?" + re.escape(_ENDING)
)


class Name(NamedTuple):
    """What the name of a file says.

    profile: what it is a profile of, such as `heap`
    second: when that was taken, Unix time
    process: id of the process that wrote it
    number: 1, and from 2 on where a process has written others of the same second
    """

    profile: str
    second: int
    process: int
    number: int = 1

    @classmethod
    def first(cls, profile: str, time_nanos: int, process: int) -> Name:
        """The name that a process tries first.

        Raises SinkError for a profile that cannot be part of a name which is read back.
        """
        if not _PROFILE.fullmatch(profile):
            raise SinkError(f"the profile's name is {profile!r}; use letters, digits and _")
        return cls(profile, time_nanos // 10**9, process)

    @classmethod
    def of_file(cls, text: str) -> Name | None:
        """What the name of a finished file says; None for one that is not ours."""
        found = _NAME.fullmatch(text)
        if found is None:
            return None
        profile, *moment, process, number = found.groups()
        try:
            # Not strptime(), whose first call imports a module: see docs/architecture.md.
            year, month, day, hour, minute, second = map(int, moment)
            time = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
        except ValueError:  # the 31st of February
            return None
        return cls(profile, int(time.timestamp()), int(process), int(number or 1))

    @classmethod
    def of_part(cls, text: str) -> Name | None:
        """The name that an unfinished file was to have; None for a file that is none of ours."""
        if not (text.startswith(".") and text.endswith(_PART)):
            return None
        return cls.of_file(text.removeprefix(".").removesuffix(_PART))

    @property
    def file(self) -> str:
        """The name of the finished file."""
        time = datetime.fromtimestamp(self.second, UTC)
        number = f"-{self.number}" if self.number > 1 else ""
        return f"{self.profile}-{time:%Y%m%dT%H%M%SZ}-{self.process}{number}{_ENDING}"

    @property
    def part(self) -> str:
        """The name of the file while it is written: hidden, and no profile to anybody."""
        return f".{self.file}{_PART}"

    @property
    def next(self) -> Name:
        """The name to try where this one is taken."""
        return self._replace(number=self.number + 1)
