"""Where requests may go.

A server that fetches on somebody's behalf must not become their way into its own network. A name is
resolved here, each of its addresses is judged, and the connection is made to a judged address: a
name that changes its mind between the look and the leap changes nothing.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import TYPE_CHECKING, Final

from holdfast.core.errors import EgressDeniedError, HostNotFoundError, NetworkError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from ipaddress import IPv4Network, IPv6Network

    Lookup = Callable[[str, int], Iterable[str]]

# Where clouds, beside 169.254.0.0/16, hand a machine's credentials to whoever asks from within.
_METADATA: Final = frozenset(
    map(
        ip_address,
        ("fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "168.63.129.16", "192.0.0.192"),
    )
)
_EMBEDDING: Final = (  # IPv6 prefixes that carry an IPv4 address, and the bits to its right
    (ip_network("::/96"), 0),
    (ip_network("::ffff:0:0:0/96"), 0),
    (ip_network("64:ff9b::/96"), 0),
    (ip_network("64:ff9b:1::/48"), 0),
    (ip_network("2002::/16"), 80),
)


@dataclass(frozen=True, slots=True)
class Egress:
    """What is reachable beside the public internet. Nothing ever opens link-local and metadata."""

    loopback: bool = False
    private: bool = False
    allowed: tuple[IPv4Network | IPv6Network, ...] = ()
    """Networks that are reachable although they are private or loopback."""


OWN_MACHINE: Final = Egress(loopback=True, private=True)
"""For somebody at their own command line, who could reach all of it anyway."""
PUBLIC_ONLY: Final = Egress()
"""For a server that acts on somebody's behalf."""


def reachable(egress: Egress, host: str, port: int, *, lookup: Lookup | None = None) -> list[str]:
    """The addresses of `host` that may be connected to, in the resolver's order; never empty.

    Raises:
        EgressDeniedError: none of its addresses may be.
        HostNotFoundError: the name has no address.
        NetworkError: the name server does not answer.
    """
    refused = ""
    permitted = []
    for text in (lookup or _resolve)(host, port):
        reason = _refusal(egress, ip_address(text))
        if reason:
            refused = reason
        else:
            permitted.append(text)
    if permitted:
        return permitted
    if refused:
        raise EgressDeniedError(f"{host} is {refused}, where requests may not go")
    raise HostNotFoundError(f"the name {host} has no address")


def _refusal(egress: Egress, address: IPv4Address | IPv6Address) -> str:
    """Why not, or nothing."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        return _refusal(egress, address.ipv4_mapped)
    for inner in _embedded(address):
        if reason := _refusal(egress, inner):
            return reason
    if address in _METADATA:
        return "a cloud's metadata service"
    if address.is_link_local:
        return "a link-local address"
    if address.is_multicast or address.is_unspecified or _is_future(address):
        return "no address of a machine"
    if any(address.version == network.version and address in network for network in egress.allowed):
        return ""
    if address.is_loopback:
        return "" if egress.loopback else "this machine itself"
    return "" if egress.private or address.is_global else "in a private network"


def _embedded(address: IPv4Address | IPv6Address) -> list[IPv4Address]:
    if isinstance(address, IPv4Address) or address.is_loopback or address.is_unspecified:
        return []
    found = [
        IPv4Address(int(address) >> shift & 0xFFFFFFFF)
        for network, shift in _EMBEDDING
        if address in network
    ]
    return [*found, *(address.teredo or ())]


def _is_future(address: IPv4Address | IPv6Address) -> bool:
    return address.version == 4 and address.is_reserved  # noqa: PLR2004  240.0.0.0/4


def _resolve(host: str, port: int) -> list[str]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:
        raise HostNotFoundError(f"{host!r} cannot be a host's name") from error
    except socket.gaierror as error:
        if error.errno == socket.EAI_AGAIN:
            raise NetworkError(f"no name server tells where {host} is") from error
        raise HostNotFoundError(f"there is no host named {host}") from error
    return [str(sockaddr[0]) for *_, sockaddr in found]
