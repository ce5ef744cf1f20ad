"""The command `pyprof-agent`: thin, every verb is one call into the package."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import sys
from collections.abc import Sequence

from pyprof_agent.doctor import examine
from pyprof_agent.errors import PyprofAgentError
from pyprof_agent.gate.arguments import add_verbs
from pyprof_agent.run import launch

_RUN = """\
Run a program with the agent in it, and write heap.pb.gz and profile.pb.gz when it ends.
Its other processes write files of their own, with the process id in the name.

  pyprof-agent run app.py --port 80
  pyprof-agent run -m http.server
  pyprof-agent run -- gunicorn shop:app

The agent's options come from the environment, as in PYPROF_AGENT_STACK_HZ=100.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status. Errors go to standard error."""
    words, command = _split(sys.argv[1:] if arguments is None else arguments)
    parser = _parser()
    options = parser.parse_args(words)
    if options.verb is None:
        parser.print_help()
        return 2
    try:
        if options.verb == "doctor":
            return _doctor()
        if options.verb in ("gate", "diff"):
            return _gate(options)
        launch(command, options.output, os.environ)
    except (PyprofAgentError, OSError) as error:
        print(f"pyprof-agent: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        return 130  # as shells say it
    return 2


def _doctor() -> int:
    healthy, report = examine()
    print("\n".join(report))
    return 0 if healthy else 1


def _gate(options: argparse.Namespace) -> int:
    from pyprof_agent.gate import command

    return command.main(options) if options.verb == "gate" else command.diff(options)


def _split(words: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    """Our own words, and the command to run, which stays as it is.

    Not left to argparse: it takes a `--` and what follows for its own, wherever that stands.
    """
    for place, word in enumerate(words):
        if place == 0 and word != "run":
            break
        if word == "--":
            return words[:place], words[place + 1 :]
        if word.startswith("-m"):
            return words[:place], ["-m", *filter(None, [word[2:]]), *words[place + 1 :]]
        if place and not word.startswith("-") and words[place - 1] not in ("-o", "--output"):
            return words[:place], words[place:]
    return words, []


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pyprof-agent", description="Continuous profiling for Python, in pprof's format."
    )
    version = importlib.metadata.version("pyprof-agent")
    parser.add_argument("--version", action="version", version=f"pyprof-agent {version}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB")
    run = verbs.add_parser(
        "run",
        allow_abbrev=False,  # _split knows the whole names
        usage="pyprof-agent run [-h] [-o DIR] [--] (COMMAND | SCRIPT | -m MODULE) ...",
        help="run a program and write its heap and CPU profiles when it ends",
        description=_RUN,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    run.add_argument(
        "-o", "--output", default=".", metavar="DIR", help="folder for the profiles (default: .)"
    )
    verbs.add_parser(
        "doctor",
        help="say which engines can be used here, and why not others",
        description="Say which engines the agent can use in this environment, and why not others. "
        "Exit status 1 if the native heap engine is wished for and cannot be used.",
    )
    add_verbs(verbs)
    return parser
