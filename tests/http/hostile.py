"""Requests that no honest client sends, as values for hypothesis, and what every answer has."""

from __future__ import annotations

import asyncio
import gc
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st
from starlette.types import ASGIApp, Message

from pyprof_agent.profile import Frame, Sample
from pyprof_agent.sources.stack_rows import Row

NAMES = (
    *("", "heap", "allocs", "goroutine", "threadcreate", "block", "mutex", "symbol", "cmdline"),
    *("delta_heap", "delta_block", "delta_mutex", "profile", "cpu", "wall", "fgprof"),
    *("trace", "nosuch", "Heap", "heap/", "heap/x", "..", "%2e%2e/heap", "heap\n", "debug/fgprof"),
)

METHODS = (*("GET",) * 9, "HEAD", "POST", "PUT", "OPTIONS", "TRACE", "QUERY", "get", "")

VALUES = (
    *("", "0", "1", "2", "-1", "+1", "1.5", "1e3", "abc", "٣", "9" * 30, "9" * 5000, "0x10", "1_0"),
    *("%zz", "%", "%00", "%ff", ";", "1;debug=1", "&", "=", "+", "\x00", "\xff"),
    *("proto", "folded", "speedscope", "html", "top", "svg", "inuse_space", "cpu", "threadcreate"),
)


@dataclass(frozen=True)
class Request:
    """An HTTP request as an ASGI server hands it on, with whatever a client may put there."""

    method: str
    path: str
    query: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    body: tuple[bytes, ...]
    root_path: str
    whole: bool  # whether the body comes to its end

    def scope(self) -> dict[str, Any]:
        """As of uvicorn, from a client on the loopback interface."""
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": self.method,
            "scheme": "http",
            "path": self.path,
            "raw_path": self.path.encode("utf-8", "surrogatepass"),
            "root_path": self.root_path,
            "query_string": self.query,
            "headers": list(self.headers),
            "client": ("127.0.0.1", 50000),
            "server": ("127.0.0.1", 8000),
        }


@dataclass
class Answer:
    """What the application sent."""

    messages: list[Message] = field(default_factory=list)

    @property
    def status(self) -> int:
        status: int = self.messages[0]["status"]
        return status

    @property
    def headers(self) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self.messages[0]["headers"]}

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.messages[1:])


async def answer_to(
    app: ASGIApp, request: Request, *, hang_up_after: float | None = None
) -> Answer:
    """What `app` answers to a client that stays, or that is gone after some seconds."""
    parts = list(request.body) or [b""]
    answer = Answer()

    async def receive() -> Message:
        if parts:
            part = parts.pop(0)
            more = bool(parts) or not request.whole
            return {"type": "http.request", "body": part, "more_body": more}
        if hang_up_after is None:
            await asyncio.get_running_loop().create_future()
        await asyncio.sleep(hang_up_after or 0)
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        answer.messages.append(message)

    await app(request.scope(), receive, send)
    return answer


def requests(*, host: st.SearchStrategy[bytes]) -> st.SearchStrategy[Request]:
    """Requests of all kinds: most nearly right, as only these get far.

    host: values of the Host header
    """
    text = st.text(max_size=20)
    number = st.one_of(
        st.sampled_from(("0", "1", "2", "-1", "7", "")),
        st.sampled_from(VALUES),
        st.integers(-(10**20), 10**20).map(str),
    )
    known = st.sampled_from(("seconds", "debug", "gc", "format", "sample", "last"))
    parameter = st.one_of(
        st.tuples(known, number).map("=".join),
        st.tuples(known, number).map("=".join),
        st.tuples(known, text).map("=".join),
        st.tuples(text, number).map("=".join),
    )
    parameters = st.lists(parameter, max_size=3).map("&".join).map(_encoded)
    query = st.one_of(parameters, parameters, st.binary(max_size=40))
    named = st.sampled_from(NAMES).map("/{}".format)
    path = st.one_of(named, named, named, st.sampled_from(NAMES), text.map("/{}".format))
    value = st.one_of(
        st.sampled_from((b"gzip", b"zstd", b"*;q=0", b"same-origin", b"cross-site", b"text/html")),
        st.sampled_from((b"Basic Og==", b"Bearer secret", b"http://evil.example", b"null")),
        st.binary(max_size=30),
    )
    sent = st.sampled_from((b"accept", b"accept-encoding", b"authorization", b"x-forwarded-for"))
    name = st.one_of(
        sent,
        sent,
        st.sampled_from((b"content-length", b"range", b"content-type", b"origin", b"host")),
        st.sampled_from((b"sec-fetch-site", b"transfer-encoding", b"expect")),
        st.from_regex(rb"[a-z-]{1,12}", fullmatch=True),
    )
    return st.builds(
        Request,
        method=st.sampled_from(METHODS),
        path=path,
        query=query,
        headers=st.builds(
            lambda host, others: (*(((b"host", host),) if host else ()), *others),
            host,
            st.lists(st.tuples(name, value), max_size=3),
        ),
        body=st.lists(st.binary(max_size=40), max_size=2).map(tuple),
        root_path=st.sampled_from(("", "", "/debug/pprof", "/", "/a/", "/é", "/heap")),
        whole=st.sampled_from((True, True, False)),
    )


def _encoded(query: str) -> bytes:
    return query.encode("utf-8", "surrogatepass")


OURS = {200, 307, 400, 401, 403, 404, 405, 413, 429, 501, 503}
"""Statuses that are meant. 500 is not: nothing fails to be collected here."""


def check(request: Request, answer: Answer) -> None:
    """What holds for every answer, whatever was asked."""
    start, *rest = answer.messages
    assert start["type"] == "http.response.start"
    assert rest
    assert not rest[-1].get("more_body", False)
    headers, status = answer.headers, answer.status
    assert status in OURS, (status, answer.body)
    assert b"Traceback" not in answer.body
    for value in headers.values():
        assert "\n" not in value
        assert "\r" not in value
    if status == 307:
        return
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"
    if status == 200:
        assert "x-go-pprof" not in headers
    else:
        assert headers["x-go-pprof"] == "1"
        assert headers["content-type"] == "text/plain; charset=utf-8"
        assert "content-disposition" not in headers
    if request.method != "HEAD" and status != 200:
        assert answer.body.endswith(b"\n")


def left_over() -> int:
    """How many objects there are, but for what the agent's tables of stacks are made of.

    Those grow with each stack that is new, and every request has some.
    """
    gc.collect()
    return sum(type(each) not in (tuple, Frame, Sample, Row) for each in gc.get_objects())
