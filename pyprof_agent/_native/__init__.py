"""The C extension: whether this process can use it, and if not, why."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import cache
from types import CodeType, FrameType

try:
    from pyprof_agent._native import _core as core

    _import_error = ""
except ImportError as error:
    _import_error = str(error)

__all__ = ["core", "reads_stacks_right", "unusable"]

OLDEST, NEWEST = (3, 11), (3, 15)

_Position = tuple[CodeType, int]
_Reader = Callable[[int], list[_Position]]


@cache
def unusable() -> str:
    """Why the extension cannot be used here; empty if it can, and `core` is there then."""
    if sys.implementation.name != "cpython":
        return f"it is for CPython, and this is {sys.implementation.name}"
    if not sys.platform.startswith("linux"):
        return f"it is for Linux, and this is {sys.platform}"
    if "t" in sys.abiflags:
        return "this is a free-threaded build of CPython"
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        return (
            f"this version knows CPython {OLDEST[0]}.{OLDEST[1]} to {NEWEST[0]}.{NEWEST[1]}, "
            f"and this is {sys.version_info[0]}.{sys.version_info[1]}"
        )
    if "cannot import name '_core'" in _import_error:
        return (
            "it was not built, for want of a C compiler or Python's headers: get them, then "
            "pip install --force-reinstall --no-cache-dir --no-binary pyprof-agent pyprof-agent"
        )
    if _import_error:
        return f"it cannot be imported: {_import_error}"
    if not reads_stacks_right(core.own_stack):
        return "it does not read stacks right on this build of CPython"
    return ""


def reads_stacks_right(read: _Reader, depth: int = 5) -> bool:
    """Whether a reader sees what CPython shows: in calls, generators and comprehensions.

    read: gives the frames of the calling thread, leaf first, at most as many as it is told
    depth: of nested calls

    Raises RecursionError where there is no room for so many.
    """
    pairs = [_both(read), _nested(read, depth), *_generated(read), *(lambda: [_both(read)])()]
    return all(seen == shown for seen, shown in pairs)


def _nested(read: _Reader, depth: int) -> tuple[list[_Position], list[_Position]]:
    return _both(read) if depth == 0 else _nested(read, depth - 1)


def _generated(read: _Reader) -> Iterator[tuple[list[_Position], list[_Position]]]:
    yield _both(read)
    yield from (_both(read) for _ in range(2))


def _both(read: _Reader) -> tuple[list[_Position], list[_Position]]:
    # The caller's frames: this one's position moves between the two calls.
    seen = read(core.MAX_FRAMES)[1:]
    frame: FrameType | None = sys._getframe(1)
    shown: list[_Position] = []
    while frame is not None and len(shown) < core.MAX_FRAMES - 1:
        shown.append((frame.f_code, frame.f_lasti))
        frame = frame.f_back
    return seen, shown
