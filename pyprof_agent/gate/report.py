"""What a gate has found, for people and for machines."""

from __future__ import annotations

import json
import math
from xml.etree import ElementTree

from pyprof_agent.leaks.trend import Trend
from pyprof_agent.leaks.verdict import FAILED, PASSED, Bounds, Suspect, Verdict

EXIT = {PASSED: 0, FAILED: 1}
"""Exit status by answer; 2 where it cannot be told."""

MOST_SUSPECTS = 10


def duration(seconds: float) -> str:
    """`90 s`, `5 min`, `2 h`: rounded up."""
    if seconds < 120:
        return f"{math.ceil(seconds)} s"
    if seconds < 7200:
        return f"{math.ceil(seconds / 60)} min"
    return f"{math.ceil(seconds / 3600)} h"


def size(count: float) -> str:
    """Bytes in the largest unit that leaves one or more."""
    for unit, name in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if abs(count) >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count:.0f} B"


def text(verdict: Verdict) -> str:
    """The answer in lines: what, how sure, who, and what to do next."""
    lines = [f"{verdict.answer}: {verdict.reason} than {verdict.limit}"]
    if verdict.answer not in EXIT:
        lines = [f"{verdict.answer}: {verdict.reason}; the limit is {verdict.limit}"]
    if verdict.bounds is not None:
        unit = "B a request" if verdict.limit.per_work else "%/h"
        bounds = verdict.bounds
        lines.append(
            f"  growth {bounds.estimate:.3g} {unit}, surely between {bounds.low:.3g} and "
            f"{bounds.high:.3g}, in {duration(verdict.seconds)}"
        )
    if verdict.needed is not None:
        lines.append(f"  a run of {duration(verdict.needed)} can tell: --duration")
    if verdict.suspects:
        lines.append("  lines that grow all the time:")
        lines += [f"    {_suspect(suspect)}" for suspect in verdict.suspects[:MOST_SUSPECTS]]
    return "\n".join(lines)


def _suspect(suspect: Suspect) -> str:
    line, growth = suspect.line, suspect.growth
    words = [f"{line.function} ({line.filename}:{line.line})"]
    if growth.hourly is not None:
        words.append(f"{size(growth.hourly.slope)} an hour")
    if growth.per_unit is not None:
        words.append(f"{growth.per_unit.slope:.0f} B a request")
    return ", ".join([*words, f"{suspect.share:.0%} of that growth"])


def as_json(verdict: Verdict) -> str:
    """All of it, with `null` for what is not known."""
    return json.dumps(
        {
            "answer": verdict.answer,
            "reason": verdict.reason,
            "limit": {
                "most": verdict.limit.most,
                "unit": "bytes/request" if verdict.limit.per_work else "%/h",
            },
            "seconds": verdict.seconds,
            "growth": _bounds(verdict.bounds),
            "needed_seconds": verdict.needed,
            "suspects": [
                {
                    "function": suspect.line.function,
                    "file": suspect.line.filename,
                    "line": suspect.line.line,
                    "bytes_per_hour": _bounds(suspect.growth.hourly),
                    "bytes_per_request": _bounds(suspect.growth.per_unit),
                    "share": suspect.share,
                }
                for suspect in verdict.suspects
            ],
        },
        indent=1,
    )


def _bounds(found: Bounds | Trend | None) -> dict[str, float | None] | None:
    if found is None:
        return None
    estimate = found.slope if isinstance(found, Trend) else found.estimate
    values = {"estimate": estimate, "low": found.low, "high": found.high}
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


def junit(verdict: Verdict) -> bytes:
    """One test case, which fails, is skipped where nothing can be told, or passes."""
    suite = ElementTree.Element(
        "testsuite",
        name="pyprof-agent gate",
        tests="1",
        failures=str(int(verdict.answer == FAILED)),
        skipped=str(int(verdict.answer not in EXIT)),
        time=f"{verdict.seconds:.1f}",
    )
    case = ElementTree.SubElement(
        suite,
        "testcase",
        classname="pyprof-agent.gate",
        name=f"the heap grows by less than {verdict.limit}",
        time=f"{verdict.seconds:.1f}",
    )
    if verdict.answer != PASSED:
        kind = "failure" if verdict.answer == FAILED else "skipped"
        ElementTree.SubElement(case, kind, message=verdict.reason).text = text(verdict)
    ElementTree.SubElement(case, "system-out").text = text(verdict)
    encoded: bytes = ElementTree.tostring(suite, encoding="utf-8", xml_declaration=True)
    return encoded
