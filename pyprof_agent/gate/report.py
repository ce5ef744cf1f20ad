"""What a gate has found, for people and for machines."""

from __future__ import annotations

import json
from xml.etree import ElementTree

from pyprof_agent.leaks.verdict import FAILED, PASSED, Verdict
from pyprof_agent.leaks.words import bounds_object, duration, suspect_object, suspect_text

EXIT = {PASSED: 0, FAILED: 1}
"""Exit status by answer; 2 where it cannot be told."""

MOST_SUSPECTS = 10

LONGEST = 24 * 3600.0
"""Seconds of the longest run that is recommended."""


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
        lines.append(f"  {_longer(verdict.needed)}")
    if verdict.suspects:
        lines.append("  lines that grow all the time:")
        lines += [f"    {suspect_text(suspect)}" for suspect in verdict.suspects[:MOST_SUSPECTS]]
    return "\n".join(lines)


def _longer(needed: float) -> str:
    if needed <= LONGEST:
        return f"a run of {duration(needed)} can tell: --duration"
    return (
        "no run of a day can tell; the bounds are closer with a lower heap_sample_bytes in the "
        "service, and a limit in bytes a request is told sooner: --max-per-request"
    )


def as_json(verdict: Verdict) -> str:
    """All of it, with `null` for what is not known."""
    bounds = verdict.bounds
    return json.dumps(
        {
            "answer": verdict.answer,
            "reason": verdict.reason,
            "limit": {
                "most": verdict.limit.most,
                "unit": "bytes/request" if verdict.limit.per_work else "%/h",
            },
            "seconds": verdict.seconds,
            "growth": None if bounds is None else bounds_object(bounds.estimate, bounds),
            "needed_seconds": verdict.needed,
            "suspects": [suspect_object(suspect) for suspect in verdict.suspects],
        },
        indent=1,
    )


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
