"""HTTP to the outside world only: requests that cannot be led to addresses inside the operator's network."""

import asyncio
import ipaddress
import socket
from collections.abc import Collection

import httpx2

from tools.core.hosts import AllowedHosts, canonical

# What `is_global` lets through, or does in some versions of Python: for IETF protocols and Oracle's metadata, 6to4
# relays, Azure's metadata, local NAT64, Teredo and other protocols, documentation, segment routing.
_REFUSED = [
    ipaddress.ip_network(network)
    for network in (
        "192.0.0.0/24", "192.88.99.0/24", "168.63.129.16/32",
        "64:ff9b:1::/48", "2001::/23", "3fff::/20", "5f00::/16",
    )
]  # fmt: skip
# Where there is no IPv4, every public IPv4 host is reached through this network (RFC 6052), and private ones would be.
_NAT64 = ipaddress.ip_network("64:ff9b::/96")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class RefusedAddress(ValueError):
    """The host lies at an address that must not be reached from here. The message is a sentence."""


def is_public(address: Address) -> bool:
    """Whether `address` is on the public internet. An IPv6 address that stands for an IPv4 one is judged as that."""
    if isinstance(address, ipaddress.IPv6Address):
        if address in _NAT64:
            return is_public(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        if inner := address.ipv4_mapped or address.sixtofour:
            return is_public(inner)
        if address.is_site_local:
            return False
    refused = address.is_multicast or address.is_reserved or any(address in network for network in _REFUSED)
    return address.is_global and not refused


class GuardedTransport(httpx2.AsyncBaseTransport):
    """Looks a host up itself, checks every address found, and connects to one of exactly those.

    So a name that resolves to something else a moment later gains nothing: it is not looked up again. TLS still
    verifies the certificate for the host's name. No proxies, nothing from the environment, no connection kept.

    allowed_hosts: those that may lie anywhere, because the administrator said so, as in tools/core/hosts.py; with a
    port at that port only. setting: where the administrator says so.
    """

    def __init__(self, allowed_hosts: Collection[str] = (), *, setting: str = "FETCH_ALLOWED_HOSTS") -> None:
        self._setting = setting
        self._allowed = AllowedHosts(allowed_hosts)
        self._inner = httpx2.AsyncHTTPTransport(
            trust_env=False, limits=httpx2.Limits(max_keepalive_connections=0, max_connections=20)
        )

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Raises RefusedAddress, or what httpx2 raises."""
        host = canonical(request.url.raw_host.decode("ascii"))
        addresses = await self._resolve(host, request.url.port or (443 if request.url.scheme == "https" else 80))
        failure: httpx2.TransportError | None = None
        for address in addresses:
            try:
                return await self._inner.handle_async_request(_redirected(request, host, address))
            except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
                failure = error
        raise failure or httpx2.ConnectError(f"{host} has no address.")

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def _resolve(self, host: str, port: int) -> list[Address]:
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise httpx2.ConnectError(f"The host {host} cannot be found.") from error
        addresses = list(dict.fromkeys(ipaddress.ip_address(sockaddr[0]) for *_, sockaddr in found))
        if not self._allowed.allow(host, port) and not all(map(is_public, addresses)):
            # One private address among public ones is how rebinding begins, so the whole host is refused.
            raise RefusedAddress(
                f"The host {host} is not on the public internet, so it is not asked. "
                f"An administrator can allow it in {self._setting}."
            )
        return addresses


def _redirected(request: httpx2.Request, host: str, address: Address) -> httpx2.Request:
    """`request`, sent to `address`: its Host header and the name in TLS stay those of the host."""
    return httpx2.Request(
        request.method,
        request.url.copy_with(host=str(address)),
        headers=request.headers,
        stream=request.stream,
        extensions={**request.extensions, "sni_hostname": host},
    )
