"""Parameters of a request, read as Go reads them, and the wait that a window means."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.datastructures import QueryParams
from starlette.types import Receive

from pyprof_agent.errors import ConfigError

_T = TypeVar("_T")

DEFAULT_SECONDS = 30
"""Length of a `profile` or `wall` window when `seconds` is missing or unusable, as in Go."""

MAX_SECONDS = 300
"""Longest window served. Go has no limit; here nobody can park a capture for days."""

REPEAT_SECONDS = 0.1

INVALID_SECONDS = 'invalid value for "seconds" - must be a positive integer'
_INTEGER = re.compile(r"[+-]?[0-9]+", re.ASCII)
_INT64_MAX = 2**63 - 1


class BadParameterError(ConfigError):
    """A parameter cannot be used; the message is for the client."""


def integer(params: QueryParams, name: str) -> int | None:
    """The first value of a parameter as a 64-bit integer; None if missing or not one."""
    value = first(params, name)
    if not _INTEGER.fullmatch(value):
        return None
    number = int(value) if len(value) <= 100 else _INT64_MAX + 1
    return number if -_INT64_MAX <= number <= _INT64_MAX else None


def first(params: QueryParams, name: str) -> str:
    """The first value of a parameter, "" if it is missing."""
    values = params.getlist(name)
    return values[0] if values else ""


def profile_seconds(params: QueryParams) -> int:
    """Length of a window that is always one: Go takes 30 seconds for all it cannot use.

    Raises BadParameterError for more than MAX_SECONDS.
    """
    seconds = integer(params, "seconds")
    return _limited(seconds if seconds is not None and seconds > 0 else DEFAULT_SECONDS)


def delta_seconds(params: QueryParams) -> int | None:
    """Length of the window over a snapshot profile; None where no window is wanted.

    Raises BadParameterError for what is no positive integer, for more than MAX_SECONDS, and
    together with `debug`, as Go does.
    """
    if not first(params, "seconds"):
        return None
    seconds = integer(params, "seconds")
    if seconds is None or seconds <= 0:
        raise BadParameterError(INVALID_SECONDS)
    if integer(params, "debug"):
        raise BadParameterError("seconds and debug params are incompatible")
    return _limited(seconds)


def _limited(seconds: int) -> int:
    if seconds > MAX_SECONDS:
        raise BadParameterError(f'"seconds" is {seconds}; at most {MAX_SECONDS} are served')
    return seconds


async def until_gone(receive: Receive, work: Coroutine[Any, Any, _T]) -> _T | None:
    """The result of `work`, or None if the client goes away first: then it is cancelled."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if gone.done() and gone.exception() is None and not task.done():
            return None
        return await task  # also where a middleware does not let us see whether it is gone
    finally:
        for waiting in (task, gone):
            waiting.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _gone(receive: Receive) -> None:
    complete = False
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        if complete:
            # A middleware that repeats the request at once, whenever asked: without a pause the
            # loop would do nothing else.
            await asyncio.sleep(REPEAT_SECONDS)
        complete = not message.get("more_body", False)
