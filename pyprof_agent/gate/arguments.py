"""The words of the verbs `gate` and `diff`; what they do is apart, and loaded for them only."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from typing import Any

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
    diff.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        help="write a profile, or a flame graph to a file named *.html, and print nothing",
    )
    diff.add_argument("--sample", metavar="TYPE", help="the column to print, such as inuse_objects")
