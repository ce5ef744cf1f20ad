"""Imported by Python at its start, in every process below `pyprof-agent run`."""

import contextlib
import importlib
import os
import sys

_HERE = os.path.dirname(os.path.abspath(__file__))


def _import_the_one_we_hide() -> None:
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry) != _HERE]
    ours = sys.modules.pop("sitecustomize", None)
    try:
        importlib.import_module("sitecustomize")
    except ModuleNotFoundError as error:
        if error.name != "sitecustomize":
            raise
        if ours is not None:
            sys.modules["sitecustomize"] = ours


def _in_main_interpreter() -> bool:
    for name in ("_interpreters", "_xxsubinterpreters"):  # from 3.13 on; before
        with contextlib.suppress(ImportError):
            interpreters = importlib.import_module(name)
            return bool(interpreters.get_current() == interpreters.get_main())
    return True


def _begin() -> None:
    # Before anything is imported: some of what the agent needs crashes a subinterpreter.
    if not _in_main_interpreter():
        return
    try:
        from pyprof_agent.run import begin
    except ModuleNotFoundError as error:
        print(
            f"pyprof-agent: {sys.executable} cannot import {error.name}, so this program is not "
            "profiled; install pyprof-agent beside the program",
            file=sys.stderr,
        )
    else:
        begin()


_import_the_one_we_hide()
_begin()
