"""What the verbs `gate` and `diff` of the command line do."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from pyprof_agent.formats import flamegraph, top
from pyprof_agent.formats.pprof import decode
from pyprof_agent.gate import report
from pyprof_agent.gate.client import Client
from pyprof_agent.gate.run import Outcome, Plan, run
from pyprof_agent.leaks.looks import Look
from pyprof_agent.leaks.verdict import Limit
from pyprof_agent.leaks.words import duration, size
from pyprof_agent.profile import subtract

_BAR = 30
_PAGE = ".html"


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
        length = duration(plan.duration)
        print(f"pyprof-agent: watching for {length}", file=sys.stderr, flush=True)
        return lambda share, look: None

    def tell(share: float, look: Look) -> None:
        bar = "#" * round(share * _BAR)
        warming = ", warming up" if share < plan.warm_up / plan.duration else ""
        line = f"[{bar:<{_BAR}}] {share:4.0%} {size(look.in_use)} in use{warming}"
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
    if options.output and options.output.endswith(_PAGE):
        title = f"{options.before} to {options.after}"
        Path(options.output).write_bytes(flamegraph.page(growth, title))
    elif options.output:
        growth.write(options.output)
    else:
        print(top.encode(growth).decode(), end="")
    return 0
