"""What the watch says of a process: whether it leaks, by how much, and where."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from pyprof_agent.leaks.growth import INNOCENT, LEAK, UNSURE, Growth, judge
from pyprof_agent.leaks.history import History, Moment
from pyprof_agent.leaks.looks import error, most_unseen
from pyprof_agent.leaks.verdict import Suspect, suspicious
from pyprof_agent.leaks.words import percent, where
from pyprof_agent.leaks.work import done
from pyprof_agent.profile import Frame

MOST_LINES = 20
"""Lines that are judged, of those that have grown most: each takes two milliseconds."""

LEAST_RESIDENT = 16 * 2**20
"""Bytes that the resident set must have grown by to be spoken of: allocators take memory in pieces,
and the watch itself takes up to 5 MB."""

HIGHER = 1.05
"""What grows in the shorter span must be so much above the most that there was before it: of a
sawtooth of hours one hour looks like a leak."""

WHOLE = 0.95
"""Share of its length from which on a span counts as whole."""


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of time, and what grew in it.

    seconds: how long it is when it is whole
    moments: the looks in it, oldest first, without what each line has
    heap: what is in use, as the heap engine sees it
    resident: the resident set; None where that is not known
    suspects: lines that grow all the time, who grows most first
    unseen: bytes that may have come, at most, without a sample that tells of them
    """

    seconds: float
    moments: tuple[Moment, ...]
    heap: Growth
    resident: Growth | None
    suspects: tuple[Suspect, ...]
    unseen: float = 0.0

    @property
    def measured(self) -> float:
        """Seconds from its first look to its last."""
        return self.moments[-1].seconds - self.moments[0].seconds if self.moments else 0.0

    @property
    def whole(self) -> bool:
        """Whether all of it was seen, but for a little."""
        return self.measured >= WHOLE * self.seconds

    @property
    def base(self) -> float:
        """Bytes that the process had at its beginning, of which growth is a share; 1 at least."""
        first = self.moments[0]
        return max(first.in_use, first.resident or 0.0, 1.0)


@dataclass(frozen=True, slots=True)
class LeakReport:
    """The answer.

    verdict: `leak`, `no leak` or `cannot tell`
    alarms: what is beyond the limit, in words; empty if nothing is
    limit: per cent of the process's memory an hour
    spans: the last hour and the last day, as far as they were seen
    stacks: of suspects, the stack that holds most, innermost frame first
    """

    verdict: str
    alarms: tuple[str, ...]
    limit: float
    spans: tuple[Span, ...]
    stacks: Mapping[Frame, tuple[Frame, ...]] = field(default_factory=dict)

    @property
    def suspects(self) -> tuple[Suspect, ...]:
        """The lines that grow all the time in any of the spans, each once."""
        found = {one.line: one for span in reversed(self.spans) for one in span.suspects}
        return tuple(sorted(found.values(), key=_hourly, reverse=True))


def report(history: History, seconds: float, limit: float) -> LeakReport:
    """Judge a history.

    seconds: the length of its shorter span; the longer one is 24 times as long
    limit: per cent an hour
    """
    recent, past = history.recent, history.past
    before = tuple([each for each in past if recent and each.seconds < recent[0].seconds])
    if before and recent[0].seconds - before[0].seconds < seconds:
        before = ()  # too short to know what is usual
    spans = (_span(history, recent, seconds, before), _span(history, past, 24 * seconds, ()))
    # What is in the longer one alone is worth a word once that is longer than the shorter one.
    told = tuple([each for each in spans if each is spans[0] or each.measured > spans[0].measured])
    alarms = tuple([text for span in told for text in _alarms(span, seconds, limit)])
    if alarms or any(span.suspects for span in told):
        verdict = LEAK
    elif all(span.heap.verdict == UNSURE for span in told):
        verdict = UNSURE
    else:
        verdict = INNOCENT
    return LeakReport(verdict, alarms, limit, told)


def _span(
    history: History, moments: Sequence[Moment], seconds: float, before: Sequence[Moment]
) -> Span:
    # Without their lines: a report that is kept would else keep megabytes of a history gone by.
    seen = tuple([moment.only(()) for moment in moments])
    if len(moments) < 2:
        nothing = Growth(UNSURE, "there was no time to see anything yet")
        return Span(seconds, seen, nothing, None, ())
    looks, grown = history.looks(moments, MOST_LINES)
    times = [moment.seconds for moment in moments]
    work = done([moment.work for moment in moments])
    in_use = [moment.in_use for moment in moments]
    heap = judge(times, in_use, work, error=error(looks))
    heap = _unless_seen(heap, in_use[-1], [moment.in_use for moment in before])
    sizes = [moment.resident for moment in moments if moment.resident is not None]
    resident = None
    if len(sizes) == len(moments):
        resident = judge(times, sizes, work)
        resident = _unless_seen(resident, sizes[-1], [one.resident or 0 for one in before])
    suspects = [
        suspect
        for suspect in suspicious(looks, grown)
        if looks[-1].of(suspect.line).in_use > HIGHER * history.most_of(suspect.line, before)
    ]
    return Span(
        seconds,
        seen,
        heap,
        resident,
        tuple(suspects),
        most_unseen(looks[-1].sample_bytes),
    )


def _unless_seen(growth: Growth, now: float, before: Sequence[float]) -> Growth:
    """No leak if it has been as high before."""
    if growth.verdict == LEAK and now <= HIGHER * max(before, default=0.0):
        return replace(growth, verdict=INNOCENT, reason="it has been as high before")
    return growth


def _alarms(span: Span, window: float, limit: float) -> Iterator[str]:
    """What is beyond the limit, once there was a whole window to see it in."""
    if span.measured < WHOLE * window:
        return
    most = limit / 100 * span.base
    if span.heap.verdict == LEAK and _surely(span.heap) > most:
        yield f"memory in use grows by {_words(span.heap, span.base)}"
    else:
        for suspect in span.suspects:
            if _surely(suspect.growth) > most:
                yield f"{where(suspect.line)} grows by {_words(suspect.growth, span.base)}"
        resident = span.resident
        if (
            resident is not None
            and _surely(resident) > most + _at_most(span.heap)
            and _surely(resident) * span.measured / 3600 > LEAST_RESIDENT
        ):
            yield (
                f"the resident set grows by {_words(resident, span.base)}, and what Python "
                "allocates does not: C code does"
            )


def _surely(growth: Growth) -> float:
    """The least that a leak grows by, in bytes an hour."""
    return growth.hourly.low if growth.verdict == LEAK and growth.hourly is not None else 0.0


def _at_most(growth: Growth) -> float:
    """The most that it grows by."""
    return max(growth.hourly.high, 0.0) if growth.hourly is not None else 0.0


def _words(growth: Growth, base: float) -> str:
    assert growth.hourly is not None
    estimate, least = growth.hourly.slope / base, growth.hourly.low / base
    return f"{percent(100 * estimate)} of the process an hour, surely by {percent(100 * least)}"


def _hourly(suspect: Suspect) -> float:
    return suspect.growth.hourly.slope if suspect.growth.hourly is not None else 0.0
