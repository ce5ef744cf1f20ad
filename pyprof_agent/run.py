"""Profiling a whole program from outside, without touching its code.

`launch` replaces this process by the program, with an environment in which every Python
below it finds `_run/sitecustomize.py` first. That calls `begin`, which starts the agent and
has the profiles written when the process ends.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import os
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType

from pyprof_agent.config import RunSettings
from pyprof_agent.errors import ConfigError, PyprofAgentError
from pyprof_agent.process import current_agent, start

_INJECTED = str(Path(__file__).resolve().parent / "_run")


def launch(command: Sequence[str], output: str, environ: Mapping[str, str]) -> None:
    """Become `command`, profiled. Does not return.

    command: a program and its arguments; a first word that ends in `.py`, or is `-m`, is for
        this very Python
    output: folder the profiles are written to, made if it is missing
    environ: the environment, to which what is needed is added

    Raises ConfigError if there is no such program, it cannot be run, or the folder cannot be
    made.
    """
    if not command:
        raise ConfigError("nothing to run; give a script or a command, as in: run app.py")
    if command[0] == "-m" or command[0].endswith(".py"):
        command = [sys.executable, *command]
    program = shutil.which(command[0])
    if program is None:
        raise ConfigError(f"no program {command[0]!r} on PATH; check the name")
    try:
        os.makedirs(output, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"output folder {output!r} cannot be made: {error}") from error
    # The process keeps its id when it becomes the program.
    settings = RunSettings(os.path.abspath(output), os.getpid())
    path = os.pathsep.join(filter(None, [_INJECTED, environ.get("PYTHONPATH")]))
    try:
        os.execve(program, list(command), {**environ, **settings.to_environ(), "PYTHONPATH": path})
    except OSError as error:
        advice = ""
        if error.errno == errno.ENOEXEC:  # a shell would guess, and take it for a script of its own
            advice = "; if it is a script, its first line must say of what, as #!/bin/sh does"
        raise ConfigError(f"{program!r} cannot be run: {error.strerror}{advice}") from error


def begin() -> None:
    """Start the agent and have `heap.pb.gz` and `profile.pb.gz` written at the end.

    A trouble is told on standard error and the program goes on without.
    """
    settings = RunSettings.load()
    if settings is None:
        return
    try:
        agent = start()
    except PyprofAgentError as error:
        _say(f"not profiled: {error}")
        return
    # The heap last: naming what is alive would be most of a short program's CPU profile.
    names = [name for name in ("profile", "heap") if name in agent.profiles]
    finished: set[int] = set()  # a forked child inherits what its parent has finished

    def write() -> None:
        process = os.getpid()
        if process not in finished:
            finished.add(process)
            _write(names, settings)

    def terminated(number: int, frame: FrameType | None) -> None:
        try:
            write()
        finally:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    atexit.register(write)
    # The default action of SIGTERM skips all of Python's endings.
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, terminated)


def _write(names: Sequence[str], settings: RunSettings) -> None:
    process = os.getpid()
    suffix = "" if process == settings.process else f".{process}"
    written = []
    try:
        agent = current_agent()
        for name in names:
            path = os.path.join(settings.output, f"{name}{suffix}.pb.gz")
            agent.capture(name).write(path)
            written.append(path)
    except Exception as error:  # it may be a signal handler that called: the program goes on
        _say(f"profiles not written: {error}")
    if written:
        _say(f"wrote {' and '.join(written)}; to look: go tool pprof -top {written[-1]}")


def _say(message: str) -> None:
    with contextlib.suppress(OSError, ValueError, AttributeError):  # no standard error
        print(f"pyprof-agent: {message}", file=sys.stderr, flush=True)
