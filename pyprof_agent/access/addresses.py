"""Rules about where a request comes from: this machine, or certain networks."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import TypeAlias

from pyprof_agent.access.request import Scope, header, host_name, peer
from pyprof_agent.access.rules import Refusal, Rule
from pyprof_agent.errors import ConfigError

_Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

LOOPBACK_ONLY = "pprof endpoints answer clients on the loopback interface only"
NETWORKS_ONLY = "pprof endpoints answer clients of certain networks only; you are in none of them"

_NAME = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*", re.ASCII)


@dataclass(frozen=True, slots=True, init=False)
class Loopback(Rule):
    """Clients of this very machine that ask for it by one of its own names.

    The name, in the Host header, is what a browser believes it talks to: a page of another site
    can make its own name lead to 127.0.0.1, but cannot make the browser say `localhost`.

    hosts: further names that this machine is reached by, without a port

    Raises ConfigError for what is no name.
    """

    hosts: tuple[str, ...]

    def __init__(self, *hosts: str) -> None:
        for host in hosts:
            if not isinstance(host, str) or not _NAME.fullmatch(host.lower()):
                raise ConfigError(
                    f"Loopback({host!r}) is no host name; use a name without port, as 'shop.local'"
                )
        object.__setattr__(self, "hosts", tuple([host.lower() for host in hosts]))

    async def check(self, scope: Scope) -> Refusal | None:
        address = peer(scope)
        if address is None or not address.is_loopback:
            return Refusal(403, LOOPBACK_ONLY)
        values = header(scope, b"host")
        host = host_name(values[0]) if len(values) == 1 else None
        if host is not None and (host in self.hosts or _names_loopback(host)):
            return None
        shown = b", ".join(values)[:100].decode("latin-1")
        return Refusal(
            403,
            f"the Host header {shown!r} is no name of the loopback interface; ask for localhost "
            "or 127.0.0.1, or name it in access=Loopback(...)",
        )


@dataclass(frozen=True, slots=True, init=False)
class Networks(Rule):
    """Clients with an address in one of these networks.

    networks: CIDR texts, as `10.0.0.0/8`, `fd00::/8`; an address alone is a network of one

    Raises ConfigError for what is no network, and for none at all.
    """

    networks: tuple[_Network, ...]

    def __init__(self, *networks: str) -> None:
        if not networks:
            raise ConfigError("Networks() would let nobody in; name one, as Networks('10.0.0.0/8')")
        object.__setattr__(self, "networks", tuple([_network(text) for text in networks]))

    async def check(self, scope: Scope) -> Refusal | None:
        address = peer(scope)
        if address is not None and any(address in network for network in self.networks):
            return None
        return Refusal(403, NETWORKS_ONLY)


def _names_loopback(host: str) -> bool:
    # Nobody can register a name below .localhost, and browsers do not look it up (RFC 6761).
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return bool((getattr(address, "ipv4_mapped", None) or address).is_loopback)


def _network(text: str) -> _Network:
    try:
        network = ipaddress.ip_network(text)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{text!r} is no network ({error}); use CIDR, as 10.0.0.0/8") from None
    mapped = getattr(network.network_address, "ipv4_mapped", None)
    if mapped is not None and network.prefixlen >= 96:  # peers are compared as IPv4
        return ipaddress.IPv4Network((mapped, network.prefixlen - 96))
    return network
