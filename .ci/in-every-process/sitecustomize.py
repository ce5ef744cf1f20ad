"""Imported by every Python of `.ci/cpython-tests` at its start: the agent, if it is asked for."""

import contextlib
import importlib
import os
import sys


def _in_main_interpreter() -> bool:
    with contextlib.suppress(ImportError):
        interpreters = importlib.import_module("_xxsubinterpreters")
        return bool(interpreters.get_current() == interpreters.get_main())
    return True


def _start(site_packages: str) -> None:
    # On the path for the import only: the tests must not find what the agent needs.
    sys.path.append(site_packages)
    try:
        import pyprof_agent

        pyprof_agent.start()
    finally:
        sys.path.remove(site_packages)


# Before anything is imported: some of what the agent needs crashes a subinterpreter.
if "CPYTHON_TESTS_WITH" in os.environ and _in_main_interpreter():
    _start(os.environ["CPYTHON_TESTS_WITH"])
