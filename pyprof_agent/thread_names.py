"""Names of threads are looked up soon after these come: who asks for a profile may be too late."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable

LOOK_UP_SECONDS = 0.5
"""From one time to the next, at least."""


class ThreadNames:
    """A chore of the worker, whose wait ends when there are newcomers.

    newcomers: whether there are threads whose names were not looked up
    look_up: does so
    """

    def __init__(self, newcomers: Callable[[], bool], look_up: Callable[[], None]) -> None:
        self._newcomers = newcomers
        self._look_up = look_up
        self.begin()

    def begin(self) -> None:
        """Begin anew."""
        self._not_before = time.monotonic()

    @property
    def due(self) -> float:
        """When names are to be looked up next, by the monotonic clock."""
        return self._not_before if self._newcomers() else math.inf

    def run(self) -> None:
        """Look them up. What fails is done by the next profile."""
        self._not_before = time.monotonic() + LOOK_UP_SECONDS
        with contextlib.suppress(Exception):
            self._look_up()
