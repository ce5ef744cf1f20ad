"""The answers' headers: what Go sends, and that nobody may store them."""

from __future__ import annotations

from starlette.responses import HTMLResponse, PlainTextResponse, Response

_ALWAYS = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}


def file(
    content: bytes, name: str, media_type: str, *, coding: str, inline: bool, policy: str
) -> Response:
    """A profile as a file, saved or shown by a browser.

    There is always a Content-Encoding, where Go has none: without one, a middleware that
    compresses would do so on the event loop, and to a profile that is gzip already.

    coding: what the content is compressed with besides; `identity` if it is not
    policy: its Content-Security-Policy; "" if it needs none
    """
    headers = {
        **_ALWAYS,
        "Content-Disposition": f'{"inline" if inline else "attachment"}; filename="{name}"',
        "Content-Encoding": coding,
        "Vary": "Accept-Encoding",
    }
    if policy:
        headers["Content-Security-Policy"] = policy
    return Response(content, media_type=media_type, headers=headers)


def text(content: str | bytes) -> Response:
    """A text answer."""
    return PlainTextResponse(content, headers=_ALWAYS)


def json(content: bytes) -> Response:
    """JSON that is encoded already."""
    return Response(content, media_type="application/json", headers=_ALWAYS)


def html(content: str | bytes) -> Response:
    """A page; it needs no script and loads nothing, and may not."""
    policy = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    return HTMLResponse(content, headers={**_ALWAYS, "Content-Security-Policy": policy})


def refusal(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    """An error in Go's manner: with X-Go-Pprof the pprof command prints the message."""
    return PlainTextResponse(
        message + "\n", status, headers={**_ALWAYS, "X-Go-Pprof": "1", **(headers or {})}
    )
