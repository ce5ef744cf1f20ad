"""Numbers for what frames have in common: 20,000 stacks have half a million frames."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import chain
from typing import Generic, TypeVar

from pyprof_agent.batches import batches
from pyprof_agent.profile import Frame, Sample

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

    def stacks(self, samples: Sequence[Sample]) -> Iterator[tuple[int, ...]]:
        """For each sample the numbers of the frames of its stack."""
        for start, stop in batches(0, len(samples)):
            stacks = [sample.stack for sample in samples[start:stop]]
            yield from cut(self.numbers(stacks), stacks)

    def numbers(self, stacks: Collection[tuple[Frame, ...]]) -> tuple[int, ...]:
        """The numbers of the frames of stacks, one stack after the other."""
        known = self._number_of_id
        try:
            return tuple(map(known.__getitem__, map(id, chain.from_iterable(stacks))))
        except KeyError:
            for frame in chain.from_iterable(stacks):
                if id(frame) not in known:
                    known[id(frame)] = self._number(frame)
            return self.numbers(stacks)

    def _number(self, frame: Frame) -> int:
        key = self._key(frame)
        number = self._number_of_key.get(key)
        if number is None:
            self._number_of_key[key] = number = len(self.keys)
            self.keys.append(key)
            self.frames.append(frame)
        return number


def cut(numbers: tuple[int, ...], stacks: Iterable[tuple[Frame, ...]]) -> Iterator[tuple[int, ...]]:
    """What belongs to each stack of numbers that stand one stack after the other."""
    start = 0
    for stack in stacks:
        stop = start + len(stack)
        yield numbers[start:stop]
        start = stop
