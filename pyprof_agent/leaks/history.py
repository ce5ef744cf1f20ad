"""What a process has held, from the last hour and the last day, in bounded memory."""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from pyprof_agent.leaks.looks import NOTHING, Counts, Look
from pyprof_agent.profile import Frame

RECENT_LOOKS = 60
"""Of the shorter span, one after the other."""

PAST_LOOKS = 144
"""Of the longer span."""

PAST_EVERY = 10
"""Of so many looks one is kept for the longer span: one in ten minutes, where they are a minute
apart."""

MAX_LINES = 2500
"""Lines that are known one by one; those that hold least share one row. 204 looks at two times four
bytes for each are 4 MB."""

OTHER_LINES = Frame("<other lines>", "", 0, 0)
"""Stands for the lines that are not told one by one."""


@dataclass(frozen=True, slots=True)
class Moment:
    """A look, as it is kept: the values of each line are at the line's place in both arrays.

    seconds: Unix time
    resident: bytes of the resident set; None where that is not known
    allocated, in_use: bytes of all lines
    """

    seconds: float
    resident: float | None
    work: int | None
    allocated: float
    in_use: float
    line_allocated: array[float]
    line_in_use: array[float]

    def of(self, place: int) -> Counts:
        """What the line of that place has; lines that came later had nothing."""
        if place >= len(self.line_in_use):
            return NOTHING
        return Counts(self.line_allocated[place], self.line_in_use[place])

    def only(self, places: Sequence[int]) -> Moment:
        """The same with these lines alone, in this order."""
        counts = [self.of(place) for place in places]
        return replace(
            self,
            line_allocated=array("f", [one.allocated for one in counts]),
            line_in_use=array("f", [one.in_use for one in counts]),
        )


class History:
    """The last looks at a heap. Not thread-safe.

    sample_bytes: mean number of bytes between two samples; 1 where all is seen
    """

    def __init__(self, sample_bytes: int) -> None:
        self._sample_bytes = sample_bytes
        self._places: dict[Frame, int] = {}
        self._recent: deque[Moment] = deque(maxlen=RECENT_LOOKS)
        self._past: deque[Moment] = deque(maxlen=PAST_LOOKS)
        self._added = 0
        self._forgets_at = 0

    @property
    def recent(self) -> tuple[Moment, ...]:
        """Looks of the shorter span, oldest first."""
        return tuple(self._recent)

    @property
    def past(self) -> tuple[Moment, ...]:
        """Looks of the longer span, oldest first."""
        return tuple(self._past)

    def add(self, look: Look, resident: float | None) -> None:
        """Keep a look, and forget the oldest."""
        self._make_places(look)
        counts = [look.of(line) for line in self._places]
        moment = Moment(
            look.seconds,
            resident,
            look.work,
            look.allocated,
            look.in_use,
            array("f", [one.allocated for one in counts]),
            array("f", [one.in_use for one in counts]),
        )
        self._recent.append(moment)
        if self._added % PAST_EVERY == 0:
            self._past.append(moment)
        self._added += 1

    def _make_places(self, look: Look) -> None:
        new = [line for line in look.lines if line not in self._places]
        if len(self._places) + len(new) > MAX_LINES:
            new.sort(key=lambda line: look.of(line).in_use, reverse=True)
            if self._places and self._added >= self._forgets_at:
                self._forget_the_least(look)
                self._forgets_at = self._added + RECENT_LOOKS  # as it goes through all that is kept
        for line in new[: MAX_LINES - len(self._places)]:
            self._places[line] = len(self._places)

    def looks(self, moments: Sequence[Moment], most: int) -> tuple[list[Look], list[Frame]]:
        """The looks at these moments, and the lines that have grown from the first to the last.

        The first look and the last are whole; those between tell of the lines that have grown, and
        have one row for all others, so that sums are right.

        most: lines that have grown to be told, those that have grown most
        """
        lines = list(self._places)
        first, last = moments[0], moments[-1]
        growth = [
            last.of(place).in_use - first.of(place).in_use for place in range(len(self._places))
        ]
        most_first = sorted(range(len(lines)), key=growth.__getitem__, reverse=True)
        grown = [place for place in most_first[:most] if growth[place] > 0]
        looks = [
            self._look(first, lines, range(len(lines))),
            *(self._look(moment, lines, grown) for moment in moments[1:-1]),
            self._look(last, lines, range(len(lines))),
        ]
        return looks, [lines[place] for place in grown]

    def most_of(self, line: Frame, moments: Sequence[Moment]) -> float:
        """The most that a line had in use at any of these moments; 0 for none."""
        place = self._places.get(line)
        if place is None:
            return 0.0
        return max((moment.of(place).in_use for moment in moments), default=0.0)

    def _look(self, moment: Moment, lines: Sequence[Frame], places: Iterable[int]) -> Look:
        told = {lines[place]: moment.of(place) for place in places}
        told[OTHER_LINES] = Counts(
            max(moment.allocated - sum(counts.allocated for counts in told.values()), 0),
            max(moment.in_use - sum(counts.in_use for counts in told.values()), 0),
        )
        return Look(moment.seconds, told, self._sample_bytes, moment.work)

    def _forget_the_least(self, look: Look) -> None:
        """Make room for lines that are larger by now than those which were there first."""
        lines = list(self._places)
        held = sorted(
            range(len(lines)), key=lambda place: look.of(lines[place]).in_use, reverse=True
        )
        kept = held[: MAX_LINES * 4 // 5]
        self._places = {lines[place]: number for number, place in enumerate(kept)}
        moved = {id(moment): moment.only(kept) for moment in (*self._past, *self._recent)}
        for moments in (self._past, self._recent):
            for number, moment in enumerate(moments):
                moments[number] = moved[id(moment)]
