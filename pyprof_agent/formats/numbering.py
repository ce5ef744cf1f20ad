"""Numbers for what frames have in common: 20,000 stacks have half a million frames."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from pyprof_agent.profile import Frame

_K = TypeVar("_K")


class Numbering(Generic[_K]):
    """Numbers the keys of frames in the order they are met.

    Frames are looked up by identity first, as to hash one costs ten times as much; so the
    profile they are of must live as long as this.

    key: what frames that are to have one number have in common
    """

    def __init__(self, key: Callable[[Frame], _K]) -> None:
        self._key = key
        self._number_of_key: dict[_K, int] = {}
        self._number_of_id: dict[int, int] = {}
        self.keys: list[_K] = []
        """By number."""
        self.frames: list[Frame] = []
        """By number: the frame of that key that was met first."""

    def stack(self, stack: tuple[Frame, ...]) -> tuple[int, ...]:
        """The numbers of the frames of a stack."""
        try:
            return tuple(map(self._number_of_id.__getitem__, map(id, stack)))
        except KeyError:
            return tuple(map(self._number, stack))

    def _number(self, frame: Frame) -> int:
        key = self._key(frame)
        number = self._number_of_key.get(key)
        if number is None:
            self._number_of_key[key] = number = len(self.keys)
            self.keys.append(key)
            self.frames.append(frame)
        self._number_of_id[id(frame)] = number
        return number
