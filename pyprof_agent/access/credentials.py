"""Rules about what a request brings along: a bearer token, or a user name and password.

Compared in constant time, and kept out of every repr and error.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, field
from typing import ClassVar

from pyprof_agent.access.request import Scope, credential
from pyprof_agent.access.rules import Refusal, Rule
from pyprof_agent.errors import ConfigError

try:
    # What hmac has where there is no OpenSSL: to load that takes 3.4 MB.
    from _operator import _compare_digest as compare_digest
except ImportError:
    from hmac import compare_digest  # type: ignore[no-redef]

TOKEN_NEEDED = "a valid bearer token is needed: send the header Authorization: Bearer TOKEN"
PASSWORD_NEEDED = "a valid user name and password are needed, as in http://USER:PASSWORD@HOST/"

_TOKEN = re.compile(r"[!-~]+", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True, eq=False)
class Token(Rule):
    """Who sends `Authorization: Bearer TOKEN`. `go tool pprof` cannot; see Basic.

    token: visible ASCII characters without spaces

    Raises ConfigError, without the token in it.
    """

    token: str = field(repr=False)
    order: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if not isinstance(self.token, str) or not _TOKEN.fullmatch(self.token):
            raise ConfigError(
                "the token is empty or has characters that a header cannot carry; use visible "
                "ASCII characters without spaces, as of secrets.token_urlsafe()"
            )

    async def check(self, scope: Scope) -> Refusal | None:
        given = credential(scope, "bearer")
        if given is not None and compare_digest(given, self.token.encode()):
            return None
        return Refusal(401, TOKEN_NEEDED, ('Bearer realm="pprof"',))


@dataclass(frozen=True, slots=True, eq=False)
class Basic(Rule):
    """Who sends this user name and password, as `go tool pprof http://USER:PASSWORD@HOST/` does.

    user: without a colon
    password: any characters but control characters

    Raises ConfigError, without the password in it.
    """

    user: str
    password: str = field(repr=False)
    order: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if not isinstance(self.user, str) or not self.user or ":" in self.user:
            raise ConfigError("the user name is empty or has a colon; use a name without one")
        if not isinstance(self.password, str) or not self.password:
            raise ConfigError("the password is empty; use one that nobody guesses")
        if _CONTROL.search(self.user + self.password):
            raise ConfigError("the user name or password has a control character; leave it out")

    async def check(self, scope: Scope) -> Refusal | None:
        given = credential(scope, "basic")
        wanted = f"{self.user}:{self.password}".encode("utf-8", "surrogateescape")
        if given is not None and compare_digest(_decoded(given), wanted):
            return None
        return Refusal(401, PASSWORD_NEEDED, ('Basic realm="pprof", charset="UTF-8"',))


def _decoded(text: bytes) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        return b""  # no user name and password is empty
