"""What heap profiles tell whoever compares them: the process they are of, and the work done."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterable, Sequence

from pyprof_agent.profile import Profile, changed

_PROCESS = re.compile(r"process: (\d+)")
_WORK = re.compile(r"work done so far: (\d+)")


class WorkCounter:
    """Counts units of work, from any thread, and without a lock that a fork could find held."""

    def __init__(self) -> None:
        # Each thread writes to a place of its own; the number of one that ended is given out again.
        self._by_thread: dict[int, int] = {}

    def add(self, units: int) -> None:
        """So many more are done."""
        thread = threading.get_ident()
        self._by_thread[thread] = self._by_thread.get(thread, 0) + units

    def tell(self, profile: Profile) -> Profile:
        """The profile with comments that `process` and `units` read."""
        comments = [f"process: {os.getpid()}"]
        if self._by_thread:
            comments.append(f"work done so far: {self._done()}")
        return changed(profile, comments=(*profile.comments, *comments))

    def stats(self) -> dict[str, float]:
        """`units` done so far; nothing where none was counted yet."""
        return {"units": self._done()} if self._by_thread else {}

    def _done(self) -> int:
        return sum(list(self._by_thread.values()))


def process(comments: Iterable[str]) -> int | None:
    """The process that a profile is of; None if it does not tell."""
    return _number(_PROCESS, comments)


def units(comments: Iterable[str]) -> int | None:
    """How much work was done; None where none is counted."""
    return _number(_WORK, comments)


def done(counted: Sequence[int | None]) -> list[float] | None:
    """Units done at each of some moments; None if none is counted by the last of them.

    Before the first is counted a process does not tell that it has done none.
    """
    if not counted or counted[-1] is None:
        return None
    return [float(units or 0) for units in counted]


def _number(form: re.Pattern[str], comments: Iterable[str]) -> int | None:
    for text in comments:
        found = form.fullmatch(text)
        if found:
            return int(found[1])
    return None
