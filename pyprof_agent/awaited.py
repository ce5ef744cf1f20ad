"""What a coroutine or a generator awaits, asked without a crash and without code of the program.

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

_PREFIXES = ("cr", "gi", "ag")
_namespace = type.__dict__["__dict__"].__get__  # vars() may run code of a metaclass
_AWAITED = {"cr": "cr_await", "gi": "gi_yieldfrom", "ag": "ag_await"}


def frame_of(awaitable: Any) -> FrameType | None:
    """Its frame; None if it is over, or is not made of frames."""
    prefix = _prefix(type(awaitable))
    frame: FrameType | None = getattr(awaitable, f"{prefix}_frame") if prefix else None
    return frame


def awaited_by(awaitable: Any) -> Any:
    """What it waits for; None if it runs, is over, or waits for nothing that it says."""
    kind = type(awaitable)
    if kind is CoroutineType:
        return awaitable.cr_await if awaitable.cr_suspended else None
    if kind is GeneratorType:
        return awaitable.gi_yieldfrom if awaitable.gi_suspended else None
    if kind is AsyncGeneratorType:
        return _awaited_by_generator(awaitable)
    prefix = _prefix(kind)
    return getattr(awaitable, _AWAITED[prefix]) if prefix else None


def _prefix(kind: type) -> str:
    """Of a type in C, such as Cython's coroutine: to ask others for an attribute may run code."""
    for prefix in _PREFIXES:
        if isinstance(_namespace(kind).get(f"{prefix}_frame"), GetSetDescriptorType):
            return prefix
    return ""


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
