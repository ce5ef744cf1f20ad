"""The verbs `gate` and `diff` of the command line."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from pyprof_agent.formats import top
from pyprof_agent.formats.pprof import decode
from pyprof_agent.gate import report
from pyprof_agent.gate.client import Client
from pyprof_agent.gate.run import Outcome, Plan, run
from pyprof_agent.leaks.looks import Look
from pyprof_agent.leaks.verdict import Limit
from pyprof_agent.profile import subtract

_GATE = """\
Watch the heap of a running service while a load test runs, and answer by its growth:
exit status 0 if it surely grows by less than the limit, 1 if it surely grows by more,
and 2 if that cannot be told in this time, or nothing can be seen.

  pyprof-agent gate http://localhost:8000 --duration 1h --max-growth 1%/h
  pyprof-agent gate http://localhost:8000 --duration 5m --max-per-request 16B

The service must be one process, with the agent mounted.
"""

_DIFF = """\
What has changed from one heap profile to another, as a table of functions or a profile.

  pyprof-agent diff before.pb.gz after.pb.gz
  pyprof-agent diff before.pb.gz after.pb.gz -o growth.pb.gz
"""

_BAR = 30


def seconds(text: str) -> float:
    """A time like `90s`, `5m` or `1h`, in seconds.

    Raises ArgumentTypeError for another.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text)
    if not found or float(found[1]) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no time; use one like 90s, 5m or 1h")
    return float(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2]]


def add_verbs(verbs: Any) -> None:
    """Add both to the verbs of a parser."""
    form: Callable[[str], argparse.HelpFormatter] = argparse.RawDescriptionHelpFormatter
    gate = verbs.add_parser(
        "gate",
        help="pass or fail a load test by how much memory grows",
        description=_GATE,
        formatter_class=form,
    )
    gate.add_argument("url", metavar="URL", help="of the service, or of its debug endpoints")
    gate.add_argument(
        "--duration", type=seconds, default=3600.0, metavar="TIME", help="default: 1h"
    )
    limit = gate.add_mutually_exclusive_group()
    limit.add_argument("--max-growth", default="1%/h", metavar="LIMIT", help="default: 1%%/h")
    limit.add_argument("--max-per-request", metavar="BYTES", help="such as 16B")
    gate.add_argument(
        "--warm-up",
        type=seconds,
        metavar="TIME",
        help="at the beginning, that does not count; default: a fifth",
    )
    gate.add_argument("--every", type=seconds, metavar="TIME", help="between two looks")
    gate.add_argument(
        "-o",
        "--output",
        metavar="DIR",
        help="folder for before.pb.gz, after.pb.gz and growth.pb.gz; default: they are not kept",
    )
    gate.add_argument("--json", metavar="FILE", help="write the answer as JSON")
    gate.add_argument("--junit", metavar="FILE", help="write it as JUnit XML")
    diff = verbs.add_parser(
        "diff", help="compare two heap profiles", description=_DIFF, formatter_class=form
    )
    diff.add_argument("before", metavar="BEFORE", help="a file of pprof's format")
    diff.add_argument("after", metavar="AFTER", help="a later one")
    diff.add_argument("-o", "--output", metavar="FILE", help="write a profile, and print nothing")
    diff.add_argument("--sample", metavar="TYPE", help="the column to print, such as inuse_objects")


def main(options: argparse.Namespace) -> int:
    """Run a gate; the exit status.

    Raises GateError, ConfigError for a limit that cannot be used, OSError for a file.
    """
    plan = Plan.of(options.duration, options.warm_up, options.every)
    if options.max_per_request is not None:
        limit = Limit.per_request(options.max_per_request)
    else:
        limit = Limit.hourly(options.max_growth)
    outcome = run(Client(options.url), plan, limit, tell=_progress(sys.stderr.isatty(), plan))
    print(report.text(outcome.verdict))
    _keep(outcome, options)
    return report.EXIT.get(outcome.verdict.answer, 2)


def _progress(terminal: bool, plan: Plan) -> Callable[[float, Look], None]:
    if not terminal:
        length = report.duration(plan.duration)
        print(f"pyprof-agent: watching for {length}", file=sys.stderr, flush=True)
        return lambda share, look: None

    def tell(share: float, look: Look) -> None:
        bar = "#" * round(share * _BAR)
        warming = ", warming up" if share < plan.warm_up / plan.duration else ""
        line = f"[{bar:<{_BAR}}] {share:4.0%} {report.size(look.in_use)} in use{warming}"
        print(f"\r{line:<70}", end="\n" if share == 1 else "", file=sys.stderr, flush=True)

    return tell


def _keep(outcome: Outcome, options: argparse.Namespace) -> None:
    if options.json:
        Path(options.json).write_text(report.as_json(outcome.verdict) + "\n")
    if options.junit:
        Path(options.junit).write_bytes(report.junit(outcome.verdict))
    if options.output:
        folder = Path(options.output)
        folder.mkdir(parents=True, exist_ok=True)
        outcome.first.write(folder / "before.pb.gz")
        outcome.last.write(folder / "after.pb.gz")
        subtract(outcome.last, outcome.first).write(folder / "growth.pb.gz")


def diff(options: argparse.Namespace) -> int:
    """Print or write what has changed; the exit status.

    Raises ProfileError for files that are no profiles or do not go together, OSError.
    """
    before, after = (decode(Path(path).read_bytes()) for path in (options.before, options.after))
    growth = subtract(after, before)
    if options.sample:
        growth.column(options.sample)
        growth = replace(growth, default_sample_type=options.sample)
    if options.output:
        growth.write(options.output)
    else:
        print(top.encode(growth).decode(), end="")
    return 0
