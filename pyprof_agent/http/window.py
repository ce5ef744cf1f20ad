"""Parameters of a request, read as Go reads them, and the wait that a window means."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Coroutine
from typing import Any, TypeVar
from urllib.parse import parse_qsl

from starlette.datastructures import QueryParams
from starlette.types import Receive

from pyprof_agent.errors import CaptureError, ConfigError

_T = TypeVar("_T")

DEFAULT_SECONDS = 30
"""Length of a `profile` or `wall` window when `seconds` is missing or unusable, as in Go."""

REPEAT_SECONDS = 0.1

INVALID_SECONDS = 'invalid value for "seconds" - must be a positive integer'
UNSUPPORTED_SECONDS = '"seconds" parameter is not supported for this profile type'
_INTEGER = re.compile(r"[+-]?[0-9]+", re.ASCII)
_BROKEN = re.compile("%(?![0-9a-fA-F]{2})|;")
_INT64_MAX = 2**63 - 1


class BadParameterError(ConfigError):
    """A parameter cannot be used; the message is for the client."""


class EndingError(CaptureError):
    """The server is about to end, and does not wait for a capture."""


def parameters(query: str) -> QueryParams:
    """The parameters of a query. As in Go, what has a semicolon or a broken escape is none."""
    sound = "&".join(pair for pair in query.split("&") if not _BROKEN.search(pair))
    return QueryParams(parse_qsl(sound, keep_blank_values=True))


def integer(params: QueryParams, name: str) -> int | None:
    """The first value of a parameter as a 64-bit integer; None if missing or not one."""
    value = first(params, name)
    if not _INTEGER.fullmatch(value):
        return None
    number = int(value) if len(value) <= 100 else _INT64_MAX + 1
    return number if -_INT64_MAX <= number <= _INT64_MAX else None


def flag(params: QueryParams, name: str) -> int:
    """The first value of `debug` or `gc`: 0 if missing or no integer, any other if too large."""
    number = integer(params, name)
    if number is None and _INTEGER.fullmatch(first(params, name)):
        return -1 if first(params, name).startswith("-") else 1
    return number or 0


def first(params: QueryParams, name: str) -> str:
    """The first value of a parameter, "" if it is missing."""
    values = params.getlist(name)
    return values[0] if values else ""


def profile_seconds(params: QueryParams, longest: int) -> int:
    """Length of a window that is always one: Go takes 30 seconds for all it cannot use.

    longest: that is served; Go has no limit, here nobody can park a capture for days

    Raises BadParameterError for more.
    """
    seconds = integer(params, "seconds")
    if seconds is None or seconds <= 0:
        return min(DEFAULT_SECONDS, longest)
    return _limited(seconds, longest)


def delta_seconds(params: QueryParams, longest: int, *, supported: bool = True) -> int | None:
    """Length of the window over a snapshot profile; None where no window is wanted.

    longest: that is served
    supported: whether the profile can be of a window

    Raises BadParameterError for what is no positive integer, for more than is served, where it is
    not supported, and together with `debug`, in Go's order.
    """
    if not first(params, "seconds"):
        return None
    seconds = integer(params, "seconds")
    if seconds is None or seconds <= 0:
        raise BadParameterError(INVALID_SECONDS)
    if not supported:
        raise BadParameterError(UNSUPPORTED_SECONDS)
    if flag(params, "debug"):
        refuse_with_debug(params, ("seconds",))
    return _limited(seconds, longest)


def last_seconds(params: QueryParams, *, supported: bool) -> int | None:
    """Length of the window that has just ended, of `last`; None where it is not given.

    supported: whether the profile can be of such a window

    Raises BadParameterError for what is no positive integer, where it is not supported, and
    together with `seconds`.
    """
    if not first(params, "last"):
        return None
    last = integer(params, "last")
    if last is None or last <= 0:
        raise BadParameterError(f'"last" is {first(params, "last")!r}; use a positive integer')
    if not supported:
        raise BadParameterError(
            '"last" is not supported for this profile; heap, allocs, profile and wall have it'
        )
    if first(params, "seconds"):
        raise BadParameterError('"last" and "seconds" are of different windows; use one of them')
    return last


def refuse_with_debug(params: QueryParams, names: tuple[str, ...]) -> None:
    """Raise BadParameterError if one of these parameters is given; together with `debug` they mean
    nothing."""
    for name in names:
        if first(params, name):
            raise BadParameterError(f"{name} and debug params are incompatible")


def _limited(seconds: int, longest: int) -> int:
    if seconds > longest:
        raise BadParameterError(f'"seconds" is {seconds}; at most {longest} are served')
    return seconds


async def until_gone(
    receive: Receive, work: Coroutine[Any, Any, _T], server_end: Coroutine[Any, Any, None]
) -> _T | None:
    """The result of `work`, which is cancelled if the client or the server goes away first.

    server_end: returns when the server is about to end, or never

    None for a client that is gone; raises EndingError if the server goes.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_gone(receive))
    end = asyncio.ensure_future(server_end)
    waiting = {task, gone, end}
    try:
        while not task.done():
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if gone in done and gone.exception() is None and not task.done():
                return None
            if end in done and not task.done():
                raise EndingError("the service is shutting down")
            # Else: a middleware does not let us see whether the client is gone.
        return await task
    finally:
        for each in (task, gone, end):
            each.cancel()
        await asyncio.gather(task, gone, end, return_exceptions=True)


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
