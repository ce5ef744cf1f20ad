"""A report of the watch as text and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator

from pyprof_agent.leaks.growth import Growth
from pyprof_agent.leaks.report import LeakReport, Span
from pyprof_agent.leaks.words import (
    duration,
    growth_object,
    percent,
    rate,
    size,
    suspect_object,
    suspect_text,
    where,
)

MOST_FRAMES = 5
"""Frames of a suspect's stack, from its line outwards, in the text."""

NOTHING_COUNTED = (
    "no work is counted, so that traffic which grows looks like a leak; "
    "pyprof_agent.count_requests or count() counts it"
)


def text(report: LeakReport, url: str) -> str:
    """The report in lines.

    url: of the debug endpoints, ending in `/`
    """
    return "\n".join(_lines(report, url)) + "\n"


def _lines(report: LeakReport, url: str) -> Iterator[str]:
    yield f"{report.verdict}: {headline(report)}"
    for alarm in report.alarms:
        yield f"  beyond {report.limit:g} % an hour: {alarm}"
    for span in report.spans:
        yield ""
        yield title(span)
        for name, now, growth in measures(span):
            yield f"  {name:<13} {now:>10}, {growth}"
        if span.unseen:
            yield f"  {unseen_text(span)}"
    if report.suspects:
        yield ""
        yield "Lines that grow all the time"
    for suspect in report.suspects:
        yield f"  {suspect_text(suspect)}"
        for frame in report.stacks.get(suspect.line, ())[1:MOST_FRAMES]:
            yield f"    from {where(frame)}"
    yield ""
    yield "What to do next"
    for command in commands(report, url):
        yield f"  {command}"
    if not counts_work(report):
        yield f"  {NOTHING_COUNTED}"


def headline(report: LeakReport) -> str:
    """The verdict's reason in a few words."""
    if report.alarms:
        return f"memory grows by more than {report.limit:g} % of the process an hour"
    first = report.spans[0]
    if report.suspects and not first.whole:
        return f"some lines grow all the time; warnings begin after {duration(first.seconds)}"
    if report.suspects:
        return f"some lines grow all the time, by less than the limit of {report.limit:g} % an hour"
    return first.heap.reason


def title(span: Span) -> str:
    """How much of a span was seen."""
    part = "" if span.whole else f" of {duration(span.seconds)}"
    return f"The last {duration(span.measured)}{part}, in {len(span.moments)} looks"


def measures(span: Span) -> Iterator[tuple[str, str, str]]:
    """What is measured of the process: its name, its size now, how it grows."""
    if not span.moments:
        return
    last = span.moments[-1]
    yield "heap in use", size(last.in_use), growth_text(span.heap, span.base)
    if last.resident is not None and span.resident is not None:
        yield "resident set", size(last.resident), growth_text(span.resident, span.base)


def unseen_text(span: Span) -> str:
    """What cannot be seen, at the rate at which the heap is sampled."""
    return f"growth below {size(span.unseen)} in that time may go unseen, as the heap is sampled"


def growth_text(growth: Growth, base: float) -> str:
    """How much something grows and how sure that is.

    base: bytes that the percentage is of
    """
    if growth.hourly is None:
        return growth.reason
    hourly = growth.hourly
    words = [
        f"{rate(hourly.slope)} an hour",
        f"{rate(hourly.low)} to {rate(hourly.high)}",
        f"{percent(100 * hourly.slope / base)} of the process",
        "" if growth.per_unit is None else f"{growth.per_unit.slope:.4g} B a request",
    ]
    return ", ".join(word for word in words if word) + f": {growth.reason}"


def commands(report: LeakReport, url: str) -> Iterator[str]:
    """What to run to see more."""
    if report.suspects:
        yield f"go tool pprof -http=: '{url}heap'"
        yield f"curl '{url}heap?last=600&format=top'   # what has changed in ten minutes"
    service = url.removesuffix("debug/pprof/")
    yield f"pyprof-agent gate '{service}' --duration 10m   # beside a load test"


def counts_work(report: LeakReport) -> bool:
    """Whether the service says how much work it does."""
    moments = report.spans[0].moments
    return not moments or moments[-1].work is not None


def as_json(report: LeakReport) -> str:
    """All of it; `null` for what is not known. Times are Unix times, sizes bytes."""
    return json.dumps(
        {
            "verdict": report.verdict,
            "alarms": list(report.alarms),
            "limit_percent_per_hour": report.limit,
            "spans": [_span(span) for span in report.spans],
            "suspects": [
                {
                    **suspect_object(suspect),
                    "stack": [
                        {"function": frame.function, "file": frame.filename, "line": frame.line}
                        for frame in report.stacks.get(suspect.line, ())
                    ],
                }
                for suspect in report.suspects
            ],
        },
        indent=1,
    )


def _span(span: Span) -> dict[str, object]:
    return {
        "seconds": span.seconds,
        "seconds_seen": span.measured,
        "unseen_bytes": span.unseen,
        "heap": _growth(span.heap),
        "resident": None if span.resident is None else _growth(span.resident),
        "times": [moment.seconds for moment in span.moments],
        "heap_bytes": [moment.in_use for moment in span.moments],
        "resident_bytes": [moment.resident for moment in span.moments],
        "work": [moment.work for moment in span.moments],
    }


def _growth(growth: Growth) -> dict[str, object]:
    return {"verdict": growth.verdict, "reason": growth.reason, **growth_object(growth)}
