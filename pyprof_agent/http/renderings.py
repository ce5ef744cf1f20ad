"""What a profile is answered as: the parameters `format` and `sample`, and the client's codings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from starlette.datastructures import Headers, QueryParams
from starlette.responses import Response

from pyprof_agent.formats import flamegraph, folded, pprof, speedscope, top
from pyprof_agent.http import answers
from pyprof_agent.http.codings import GZIP, IDENTITY, ZSTD, Coding, chosen
from pyprof_agent.http.window import BadParameterError, first
from pyprof_agent.profile import Profile, changed

PARAMETERS = ("format", "sample")


@dataclass(frozen=True, slots=True)
class _Format:
    """encode: the content, of a profile and a title
    ending: of the file's name
    inline: a browser shows it, and does not save it
    policy: gives the Content-Security-Policy
    """

    encode: Callable[[Profile, str], bytes]
    media_type: str
    ending: str
    inline: bool = True
    policy: Callable[[], str] | None = None


_TEXT = "text/plain; charset=utf-8"
_PROTO = _Format(
    lambda profile, _: pprof.encode(profile), "application/octet-stream", "", inline=False
)
_RAW_PROTO = replace(_PROTO, encode=lambda profile, _: pprof.encode_raw(profile))

FORMATS = {
    "proto": _PROTO,
    "folded": _Format(lambda profile, _: folded.encode(profile), _TEXT, ".folded"),
    "speedscope": _Format(speedscope.encode, "application/json", ".speedscope.json", inline=False),
    "html": _Format(flamegraph.page, "text/html; charset=utf-8", ".html", policy=flamegraph.policy),
    "top": _Format(lambda profile, _: top.encode(profile), _TEXT, ".txt"),
}
"""By the value of `format`."""


@dataclass(frozen=True, slots=True)
class Rendering:
    """How one request wants a profile; equal ones give equal bytes of a profile."""

    format: _Format
    coding: Coding
    sample: str
    title: str

    def encode(self, profile: Profile) -> bytes:
        """The body of the answer. Takes long; for the worker."""
        if self.sample:
            profile = changed(profile, default_sample_type=self.sample)
        return self.coding.compress(self.format.encode(profile, self.title))

    def answer(self, content: bytes, filename: str) -> Response:
        """The answer with that body."""
        return answers.file(
            content,
            filename + self.format.ending,
            self.format.media_type,
            coding=self.coding.name,
            inline=self.format.inline,
            policy=self.format.policy() if self.format.policy else "",
        )


def rendering(
    params: QueryParams, headers: Headers, name: str, sample_types: Sequence[str]
) -> Rendering:
    """How a request wants the profile `name`, which has these sample types.

    Raises BadParameterError for a format or a sample type that there is not.
    """
    wanted = first(params, "format") or "proto"
    if wanted not in FORMATS:
        raise BadParameterError(f'"format" is {wanted[:100]!r}; use one of: {", ".join(FORMATS)}')
    sample = first(params, "sample")
    if sample and sample not in sample_types:
        raise BadParameterError(
            f'"sample" is {sample[:100]!r}; {name} has: {", ".join(sample_types)}'
        )
    accepted = ",".join(headers.getlist("accept-encoding"))
    kind, title = FORMATS[wanted], ""
    if kind is not _PROTO:
        coding = chosen(accepted, (ZSTD, GZIP))
        title = f"{name} of {headers.get('host', 'this process')}"
    elif headers.get("sec-fetch-mode") == "navigate":
        coding = IDENTITY  # a browser that saves a file would take the coding off, and so the gzip
    else:
        coding = chosen(accepted, (ZSTD,))
        kind = _RAW_PROTO if coding is ZSTD else _PROTO
    return Rendering(kind, coding, sample, title)
