"""Reads what a coroutine or a generator awaits, without running code of the program.

Up to CPython 3.12 `cr_await` and its like must not be read while another thread executes the
coroutine: `_PyGen_yf` takes what follows the current instruction for a RESUME, which may be a cache
with the same bits, and then reads a value stack that is not there. So only what is suspended is
asked. Between the two questions there is no call and no jump backwards: only at these does the
interpreter give the GIL away.
"""

from __future__ import annotations

import opcode
import sys
from types import AsyncGeneratorType, CoroutineType, FrameType, GeneratorType, GetSetDescriptorType
from typing import Any

_YIELD_VALUE = opcode.opmap["YIELD_VALUE"]

_ATTRIBUTES = (
    ("cr_frame", "cr_await"),
    ("gi_frame", "gi_yieldfrom"),
    ("ag_frame", "ag_await"),
)
_namespace = type.__dict__["__dict__"].__get__  # vars() may run code of a metaclass


def frame_of(awaitable: Any) -> FrameType | None:
    """Its frame; None if it has finished, or has no Python frame."""
    kind = type(awaitable)
    frame: FrameType | None
    if kind is CoroutineType:
        frame = awaitable.cr_frame
    elif kind is GeneratorType:
        frame = awaitable.gi_frame
    elif kind is AsyncGeneratorType:
        frame = awaitable.ag_frame
    else:
        names = _attributes(kind)
        frame = getattr(awaitable, names[0]) if names else None
    return frame


def awaited_by(awaitable: Any) -> Any:
    """The object it awaits; None if it is running, has finished, or awaits nothing."""
    kind = type(awaitable)
    if kind is CoroutineType:
        return awaitable.cr_await if awaitable.cr_suspended else None
    if kind is GeneratorType:
        return awaitable.gi_yieldfrom if awaitable.gi_suspended else None
    if kind is AsyncGeneratorType:
        return _awaited_by_generator(awaitable)
    names = _attributes(kind)
    return getattr(awaitable, names[1]) if names else None


def _attributes(kind: type) -> tuple[str, str] | None:
    """Of a type in C, such as Cython's coroutine: to ask others for an attribute may run code."""
    namespace = _namespace(kind)
    for names in _ATTRIBUTES:
        if names[0] in namespace and isinstance(namespace[names[0]], GetSetDescriptorType):
            return names
    return None


if sys.version_info >= (3, 12):

    def _awaited_by_generator(generator: Any) -> Any:
        return generator.ag_await if generator.ag_suspended else None

else:

    def _awaited_by_generator(generator: Any) -> Any:
        frame = generator.ag_frame
        if frame is None:
            return None
        # Suspended, it is at this instruction and has no caller. While an exception is thrown into
        # it, it is there too, and runs.
        code = frame.f_code.co_code
        suspended = frame.f_back is None and code[frame.f_lasti] == _YIELD_VALUE
        return generator.ag_await if suspended else None
