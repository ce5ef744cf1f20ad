"""How much at once: captures under way, and how often garbage is collected for a profile.

Beyond a limit the answer is 429 and not 503: who watches a service counts its 5xx, and proxies take
an instance that sends them for ill. Scrapers only log either, and `curl --retry` heeds both.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator

GARBAGE_SECONDS = 10.0
"""Shortest time between two collections of garbage that requests ask for."""


class TooManyError(Exception):
    """A limit is reached; the message is for the client.

    seconds: when it may ask again
    """

    def __init__(self, message: str, seconds: float) -> None:
        self.retry_after = max(1, math.ceil(seconds))
        super().__init__(f"{message}; try again in {self.retry_after} s")


class Captures:
    """Captures of windows that are under way; each holds a snapshot until its end.

    most: as many are let in at once
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._ends: dict[object, float] = {}

    @contextlib.contextmanager
    def hold(self, seconds: float) -> Iterator[None]:
        """Be one of them.

        seconds: length of the window

        Raises TooManyError.
        """
        now = time.monotonic()
        if len(self._ends) >= self._most:
            raise TooManyError(
                f"{len(self._ends)} captures are under way, and no more are served at once",
                min(self._ends.values()) - now,
            )
        key = object()
        self._ends[key] = now + seconds
        try:
            yield
        finally:
            del self._ends[key]


class Garbage:
    """Lets a collection of garbage through once in GARBAGE_SECONDS: it stops all of Python."""

    def __init__(self) -> None:
        self._next = -math.inf

    def collect(self) -> None:
        """Note that garbage is collected now. Raises TooManyError if that is too soon."""
        now = time.monotonic()
        if now < self._next:
            raise TooManyError(
                f"gc=1 is served once in {GARBAGE_SECONDS:g} s, and it was less since the last one",
                self._next - now,
            )
        self._next = now + GARBAGE_SECONDS
