"""The path `leaks`: which of its formats is wanted, and the answer in it."""

from __future__ import annotations

from starlette.datastructures import Headers, QueryParams
from starlette.responses import Response

from pyprof_agent.http import answers, leak_page
from pyprof_agent.http.window import BadParameterError, first
from pyprof_agent.leaks import telling
from pyprof_agent.leaks.report import LeakReport

FORMATS = ("text", "json", "html")


def wanted(params: QueryParams, headers: Headers) -> str:
    """The format: that of the parameter, else a page for browsers and text for all others.

    Raises BadParameterError for one that there is not.
    """
    given = first(params, "format")
    if given and given not in FORMATS:
        raise BadParameterError(f'"format" is {given[:100]!r}; use one of: {", ".join(FORMATS)}')
    return given or ("html" if "text/html" in headers.get("accept", "") else "text")


def encode(report: LeakReport, kind: str, url: str) -> bytes:
    """The body, in UTF-8.

    url: of the debug endpoints, ending in `/`
    """
    if kind == "json":
        return telling.as_json(report).encode()
    return (leak_page.page if kind == "html" else telling.text)(report, url).encode(
        errors="backslashreplace"
    )


def answer(content: bytes, kind: str) -> Response:
    """The answer with that body."""
    if kind == "html":
        return answers.html(content)
    return answers.text(content) if kind == "text" else answers.json(content)
