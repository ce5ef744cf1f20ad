"""TLS of the side port: its certificate, and whose certificates a client must have."""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass

from pyprof_agent.errors import ServeError


@dataclass(frozen=True, slots=True)
class Certificates:
    """Files in PEM format.

    certfile: the server's certificate, with those between it and its authority behind it
    keyfile: its key, without a password; None if it is in `certfile`
    client_ca: certificates of the authorities that clients must have theirs from; None asks
        clients for none
    """

    certfile: str | os.PathLike[str]
    keyfile: str | os.PathLike[str] | None = None
    client_ca: str | os.PathLike[str] | None = None

    def context(self) -> ssl.SSLContext:
        """What a server needs of them. Raises ServeError for a file that cannot be used."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        key = self.certfile if self.keyfile is None else self.keyfile
        for option, path in (("certfile", self.certfile), ("keyfile", key)):
            _check_readable(option, path)
        try:
            context.load_cert_chain(self.certfile, key, password=_no_password)
        except ServeError:
            raise
        except (OSError, ValueError) as error:
            raise ServeError(
                f"certfile {os.fspath(self.certfile)!r} and keyfile {os.fspath(key)!r} are no "
                f"certificate and its key in PEM format: {error}"
            ) from error
        if self.client_ca is not None:
            _check_readable("client_ca", self.client_ca)
            try:
                context.load_verify_locations(self.client_ca)
            except (OSError, ValueError) as error:
                raise ServeError(
                    f"client_ca {os.fspath(self.client_ca)!r} has no certificates in PEM format: "
                    f"{error}"
                ) from error
            context.verify_mode = ssl.CERT_REQUIRED
        return context


def _check_readable(option: str, path: str | os.PathLike[str]) -> None:
    try:
        with open(path, "rb"):
            pass
    except OSError as error:
        raise ServeError(
            f"{option} is {os.fspath(path)!r}, which cannot be read: {error.strerror}"
        ) from error


def _no_password() -> str:
    # Without this OpenSSL would ask for one on the terminal, and wait.
    raise ServeError("keyfile is encrypted; give a key without a password, readable by few")
