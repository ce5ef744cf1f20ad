"""Heap profiles of a service."""

from __future__ import annotations

import base64
import http.client
from urllib.parse import unquote, urlsplit

from pyprof_agent.errors import GateError
from pyprof_agent.formats.pprof import decode
from pyprof_agent.profile import Profile

DEBUG_PATH = "/debug/pprof"

_SECONDS = 60


class Client:
    """The debug endpoints of one process.

    url: of the endpoints, or of the service, which then has them at `/debug/pprof`; it may have
        a user and a password in it

    Raises GateError for what is no such URL.
    """

    def __init__(self, url: str) -> None:
        try:
            parts = urlsplit(url if "//" in url else f"http://{url}")
            port = parts.port
            if parts.scheme not in ("http", "https") or not parts.hostname or not url.isascii():
                raise ValueError
        except ValueError:
            wanted = f"use one like http://localhost:8000{DEBUG_PATH}"
            raise GateError(f"the URL is {url!r}; {wanted}") from None
        kind = (
            http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        )
        self._connection = kind(parts.hostname, port, timeout=_SECONDS)
        self._where = f"{parts.hostname}:{self._connection.port}"
        self._path = parts.path.rstrip("/") or DEBUG_PATH
        self._headers = {"Accept-Encoding": "identity"}
        if parts.username is not None:
            secret = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
            self._headers["Authorization"] = f"Basic {base64.b64encode(secret).decode()}"

    def heap(self) -> Profile:
        """A heap profile.

        Raises GateError if there is no answer, or another than a profile.
        """
        path = f"{self._path}/heap"
        try:
            self._connection.request("GET", path, headers=self._headers)
            answer = self._connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise GateError(f"no answer from {self._where}{path}: {error}") from error
        finally:
            self._connection.close()  # by the next look the server has closed it
        if answer.status != 200:
            said = body[:200].decode("utf-8", "replace").strip()
            raise GateError(f"{self._where}{path} answers {answer.status}: {said}")
        return decode(body)
