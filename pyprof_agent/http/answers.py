"""The answers' headers: what Go sends, and that nobody may store them."""

from __future__ import annotations

from starlette.responses import HTMLResponse, PlainTextResponse, Response

_ALWAYS = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}


def binary(content: bytes, filename: str) -> Response:
    """A profile as a download. The gzip is part of the file, not an encoding of the answer.

    `identity` says so. Go sends no Content-Encoding, but there a middleware that compresses would
    do so again, and look no further than at whether the header is there.
    """
    return Response(
        content,
        media_type="application/octet-stream",
        headers={
            **_ALWAYS,
            "Content-Disposition": f'attachment; filename="{filename}"',
            "Content-Encoding": "identity",
        },
    )


def text(content: str | bytes) -> Response:
    """A text answer."""
    return PlainTextResponse(content, headers=_ALWAYS)


def html(content: str) -> Response:
    """A page; it needs no script and loads nothing, and may not."""
    policy = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    return HTMLResponse(content, headers={**_ALWAYS, "Content-Security-Policy": policy})


def refusal(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    """An error in Go's manner: with X-Go-Pprof the pprof command prints the message."""
    return PlainTextResponse(
        message + "\n", status, headers={**_ALWAYS, "X-Go-Pprof": "1", **(headers or {})}
    )
