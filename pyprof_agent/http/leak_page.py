"""What the watch knows, as a page: the verdict, a picture of the memory, the suspects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from pyprof_agent.http.document import document
from pyprof_agent.leaks import telling
from pyprof_agent.leaks.growth import LEAK
from pyprof_agent.leaks.report import LeakReport, Span
from pyprof_agent.leaks.verdict import Suspect
from pyprof_agent.leaks.words import duration, size, suspect_text, where

_WIDTH, _HEIGHT = 720, 180  # of the picture, without its margins
_LEFT, _TOP, _RIGHT, _BOTTOM = 80, 10, 10, 26

_STYLE = """\
body { overflow-wrap: anywhere; }
.verdict { border-left: .4rem solid light-dark(#188038, #81c995); font-size: 1.2rem;
  padding-left: .8rem; }
.verdict.leak { border-color: light-dark(#c5221f, #f28b82); }
svg { height: auto; max-width: 100%; }
svg text { fill: currentColor; font: 12px system-ui, sans-serif; }
.grid { stroke: var(--line); }
.heap, .resident { fill: none; stroke-width: 2; }
.heap { stroke: light-dark(#0b57d0, #8ab4f8); }
.resident { stroke: light-dark(#b06000, #fdd663); stroke-dasharray: 6 3; }
.key { margin-right: 1.2rem; }
.key svg { vertical-align: middle; width: 2rem; }
.stack { color: color-mix(in srgb, currentColor 70%, transparent); font-size: .9rem; margin: 0;
  padding-left: 1.2rem; }
"""


def page(report: LeakReport, url: str) -> str:
    """The page as HTML.

    url: of the debug endpoints, ending in `/`
    """
    return document(f"{url}leaks", "\n".join(_parts(report, url)), _STYLE)


def _parts(report: LeakReport, url: str) -> Iterator[str]:
    kind = "verdict leak" if report.verdict == LEAK else "verdict"
    headline = escape(telling.headline(report))
    yield f'<p class="{kind}"><strong>{escape(report.verdict)}</strong>: {headline}</p>'
    if report.alarms:
        items = "".join(f"<li>{escape(alarm)}</li>" for alarm in report.alarms)
        yield f"<h2>Beyond {report.limit:g} % an hour</h2>\n<ul>{items}</ul>"
    if report.suspects:
        yield "<h2>Lines that grow all the time</h2>"
        yield "<ol>" + "".join(_suspect(report, suspect) for suspect in report.suspects) + "</ol>"
    for span in report.spans:
        yield f"<h2>{escape(telling.title(span))}</h2>"
        if len(span.moments) > 1:
            yield _picture(span)
        rows = "".join(
            f'<tr><th scope="row">{name}</th><td class="number">{escape(now)}</td>'
            f"<td>{escape(growth)}</td></tr>"
            for name, now, growth in telling.measures(span)
        )
        yield f"<table><tbody>{rows}</tbody></table>"
        if span.unseen:
            yield f"<p>{escape(telling.unseen_text(span))}</p>"
    yield "<h2>What to do next</h2>"
    yield f"<pre>{escape(chr(10).join(telling.commands(report, url)))}</pre>"
    if not telling.counts_work(report):
        yield f"<p>{escape(telling.NOTHING_COUNTED)}</p>"
    yield (
        '<p><a href="leaks?format=text">text</a>, <a href="leaks?format=json">JSON</a>, '
        '<a href="./">all profiles</a></p>'
    )


def _suspect(report: LeakReport, suspect: Suspect) -> str:
    callers = report.stacks.get(suspect.line, ())[1 : telling.MOST_FRAMES]
    items = "".join(f"<li>{escape(where(frame))}</li>" for frame in callers)
    stack = f'<ul class="stack" aria-label="called from">{items}</ul>' if items else ""
    return f"<li>{escape(suspect_text(suspect))}{stack}</li>"


def _picture(span: Span) -> str:
    """Both sizes over time, from zero, so that a slope looks as large as it is."""
    moments = span.moments
    lines = [("heap", "heap in use", [moment.in_use for moment in moments])]
    resident = [moment.resident for moment in moments]
    if None not in resident:
        lines.append(("resident", "resident set", [float(value or 0) for value in resident]))
    most = max(max(values) for _, _, values in lines) or 1.0
    begin, length = moments[0].seconds, span.measured or 1.0

    def points(values: Sequence[float]) -> str:
        return " ".join(
            f"{_LEFT + _WIDTH * (moment.seconds - begin) / length:.1f},"
            f"{_TOP + _HEIGHT * (1 - value / most):.1f}"
            for moment, value in zip(moments, values, strict=True)
        )

    grid = "".join(
        f'<line class="grid" x1="{_LEFT}" x2="{_LEFT + _WIDTH}" y1="{y:g}" y2="{y:g}"/>'
        f'<text x="{_LEFT - 6}" y="{y + 4:g}" text-anchor="end">{size(most * share)}</text>'
        for share in (0, 0.5, 1)
        for y in [_TOP + _HEIGHT * (1 - share)]
    )
    bottom = _TOP + _HEIGHT + 18
    times = (
        f'<text x="{_LEFT}" y="{bottom}">{duration(span.measured)} ago</text>'
        f'<text x="{_LEFT + _WIDTH}" y="{bottom}" text-anchor="end">now</text>'
    )
    drawn = "".join(
        f'<polyline class="{kind}" points="{points(values)}"/>' for kind, _, values in lines
    )
    told = "; ".join(
        f"{name} from {size(values[0])} to {size(values[-1])}" for _, name, values in lines
    )
    size_of_all = f"0 0 {_LEFT + _WIDTH + _RIGHT} {_TOP + _HEIGHT + _BOTTOM}"
    key = "".join(
        f'<span class="key"><svg viewBox="0 0 32 8" aria-hidden="true">'
        f'<line class="{kind}" x2="32" y1="4" y2="4"/></svg> {name}</span>'
        for kind, name, _ in lines
    )
    return (
        f'<svg viewBox="{size_of_all}" role="img" aria-label="{told}">{grid}{times}{drawn}</svg>'
        f"\n<p>{key}</p>"
    )
