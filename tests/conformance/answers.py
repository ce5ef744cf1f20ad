"""An answer as what can be compared: its status, its headers, and what kind of body it has."""

from __future__ import annotations

import gzip
import http.client
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

import zstandard

from pyprof_agent.errors import ProfileError
from pyprof_agent.formats.pprof import decode

LONGER_THAN_ASKED_FOR = 1.5
"""Seconds after which a client is taken to wait for a longer window than the second of others."""

WAITED = 2.9
"""Seconds after which an answer to HEAD has waited for a window, which is of three."""

AT_ONCE = "no body, at once"
LATER = "no body, later"

WAITS = "waits for more than a second, then is left"

COMPARED = (
    "allow",
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-type",
    "location",
    "retry-after",
    "vary",
    "www-authenticate",
    "x-content-type-options",
    "x-go-pprof",
)

ADDED = MappingProxyType({"cache-control": "no-store"})
"""Sent with every answer of ours, and never by Go."""

ADDED_TO_PROFILES = MappingProxyType(
    {**ADDED, "content-encoding": "identity", "vary": "Accept-Encoding"}
)


@dataclass(frozen=True)
class Answer:
    """What is compared of an answer."""

    status: int
    headers: Mapping[str, str]
    body: str


def ask(
    address: str,
    method: str,
    path: str,
    headers: Mapping[str, str],
    body: str | None,
    patience: float,
) -> Answer:
    """The answer of the server at `HOST:PORT`.

    path: sent as it is
    patience: seconds to wait for it
    """
    connection = http.client.HTTPConnection(address, timeout=patience)
    begin = time.monotonic()
    try:
        connection.putrequest(method, path, skip_host="Host" in headers, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name, value)
        content = None if body is None else body.encode()
        if content is not None:
            connection.putheader("Content-Length", str(len(content)))
        connection.endheaders(content)
        response = connection.getresponse()
        data = response.read()
    except TimeoutError:
        return Answer(0, {}, WAITS)
    finally:
        connection.close()
    seconds = time.monotonic() - begin
    found = {name.lower(): value for name, value in response.getheaders()}
    kept = {name: found[name] for name in COMPARED if name in found}
    if "location" in kept:
        kept = {"location": urlsplit(kept["location"]).path}
    if "retry-after" in kept:
        kept["retry-after"] = re.sub(r"\d+", "N", kept["retry-after"])
    if method == "HEAD":
        return Answer(response.status, kept, AT_ONCE if seconds < WAITED else LATER)
    return Answer(response.status, kept, kind(response.status, data))


def kind(status: int, data: bytes) -> str:
    """What a body is, so that it can be compared: of an error it is the text itself."""
    if 300 <= status < 400:
        return "a redirect"
    if status >= 400:
        return re.sub(r"\d+ s$", "N s", data.decode().removesuffix("\n"))
    if data[:2] == b"\x1f\x8b":
        return profile_kind(data)
    if data[:4] == b"\x28\xb5\x2f\xfd":
        return f"zstd of {profile_kind(zstandard.decompress(data))}"
    if data.startswith(b"go 1.") and b"trace" in data[:16]:
        return "a trace"
    text = data.decode()
    for name, pattern in TEXTS.items():
        if re.fullmatch(pattern, text):
            return name
    return f"something else: {text[:300]!r}"


def profile_kind(data: bytes) -> str:
    """The kind of a profile: its columns, its period, whether it is of a window."""
    try:
        profile = decode(data)
    except ProfileError as error:
        return f"no profile: {error}, {gzip.decompress(data)[:100]!r}"
    columns = [f"{column.type}/{column.unit}" for column in profile.sample_types]
    # Without a default, readers show the last one.
    shown = profile.default_sample_type or profile.sample_types[-1].type
    window = ", of a window" if profile.duration_nanos else ""
    assert profile.time_nanos > 0
    period = f"{profile.period_type.type}/{profile.period_type.unit}"
    return f"profile {' '.join(columns)} [{shown}] per {period}{window}"


_FRAMES = r"(?:#\t0x[0-9a-f]+(?:\t.*)?\n)*"
_COMMENTS = r"(?:#.*\n|\n)*"
_COUNTS = r"\d+: \d+ \[\d+: \d+\] @"


def _counted(name: str) -> str:
    rows = rf"(?:\d+ @(?: 0x[0-9a-f]+)+\n(?:# labels: .*\n)?{_FRAMES}\n*)+"
    return rf"{name} profile: total \d+\n{rows}{_COMMENTS}"


_SYMBOL = r"0x[0-9a-f]+ \S.*\n"

TEXTS: dict[str, str] = {
    "heap text": rf"heap profile: {_COUNTS} heap/\d+\n"
    rf"(?:{_COUNTS}(?: 0x[0-9a-f]+)+\n{_FRAMES}\n*)+{_COMMENTS}",
    "goroutine text": _counted("goroutine"),
    "threadcreate text": _counted("threadcreate"),
    "own text": _counted("own"),
    "goroutineleak text": r"goroutineleak profile: total 0\n",
    "block text": rf"--- contention:\ncycles/second=\d+\n{_COMMENTS}",
    "mutex text": rf"--- mutex:\ncycles/second=\d+\nsampling period=\d+\n{_COMMENTS}",
    "a panic's dump": r"goroutine \d+ \[.*\]:\n(?:.*\n)+",
    "a dump of threads and tasks": r'\d+ stacks\n\nthread \d+ ".*":\n(?:.*\n)+',
    "no symbol": r"num_symbols: 1\n",
    "one symbol": rf"num_symbols: 1\n{_SYMBOL}",
    "arguments": r"\S+python\S*\x00(?s:.)*uvicorn(?s:.)*|\S+reference\x00serve",
    "a page of links": r"(?s:.)*<html(?s:.)*<a href=(?s:.)*heap\?debug=1(?s:.)*</html>\n?",
    "a flame graph": r"<!DOCTYPE html>(?s:.)*d3-flame-graph(?s:.)*</html>\n?",
    "a file of speedscope": r'\{"\$schema": ?"[^"]*speedscope(?s:.)*\}\n?',
    "a table": r"File: .*\n(?s:.)*\n +flat +flat% +sum% +cum +cum%\n(?:.*%.*%.*\n)+",
    "folded stacks": r"(?:\S.* \d+\n)+",
}


def expected(wanted: Answer, *, ours: bool) -> Answer:
    """What is wanted, with the headers that we always add."""
    if not ours or wanted.body == WAITS or "location" in wanted.headers:
        return wanted
    binary = wanted.headers.get("content-type") == "application/octet-stream"
    return Answer(
        wanted.status,
        {**(ADDED_TO_PROFILES if binary else ADDED), **wanted.headers},
        wanted.body,
    )


def as_text(answer: Answer) -> dict[str, Any]:
    """For messages of tests."""
    return {"status": answer.status, "headers": dict(answer.headers), "body": answer.body}
