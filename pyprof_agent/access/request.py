"""What rules look at in an ASGI connection: the peer's address, Authorization and Host.

X-Forwarded-For and its like are never read: anybody may write them.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Any, TypeAlias

Scope: TypeAlias = Mapping[str, Any]
Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

_HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9._-]+))(?::[0-9]{0,5})?", re.ASCII)


def peer(scope: Scope) -> Address | None:
    """The address of the other side; IPv4 also where it is written as IPv6.

    None where it is not known: on a Unix socket, which ASGI servers tell as no client or as an
    empty name, and for a server that says nothing.
    """
    client = scope.get("client")
    if not client:
        return None
    try:
        address = ipaddress.ip_address(client[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def header(scope: Scope, name: bytes) -> list[bytes]:
    """Every value of a header.

    name: in lower case
    """
    return [value for key, value in scope["headers"] if key.lower() == name]


def host_name(value: bytes) -> str | None:
    """The name or address in a Host header, in lower case and without port; None if malformed."""
    match = _HOST.fullmatch(value.decode("latin-1").lower())
    return (match[1] or match[2].removesuffix(".")) if match else None


def credential(scope: Scope, scheme: str) -> bytes | None:
    """What follows the scheme in the Authorization header; None if that is not there, once.

    scheme: in lower case
    """
    values = header(scope, b"authorization")
    if len(values) != 1:
        return None
    given, _, rest = values[0].strip(b" \t").partition(b" ")
    return rest.strip(b" ") if given.lower() == scheme.encode() else None
