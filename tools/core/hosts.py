"""Hosts that an administrator allows although they are not on the public internet."""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address

_ENTRY = re.compile(r"(?:\[(?P<v6>[^\[\]]*)\]|(?P<name>[^\[\]:]*))(?::(?P<port>[0-9]{1,5}))?")
_NAME = re.compile(r"[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?")


def canonical(host: str) -> str:
    """A name or a literal address, without brackets and port, in the one spelling in which hosts are compared."""
    host = host.strip().strip("[]")
    with suppress(UnicodeError):  # No host has such a name, so it is not found.
        host = host.encode("idna").decode("ascii")
    host = host.rstrip(".").lower()
    with suppress(ValueError):
        host = str(ip_address(host))
    return host


@dataclass(frozen=True, slots=True)
class Host:
    """`name` as `canonical` spells it. Without a `port` at any."""

    name: str
    port: int | None = None

    def __str__(self) -> str:
        """As in an address."""
        name = f"[{self.name}]" if ":" in self.name else self.name
        return f"{name}:{self.port}" if self.port else name

    @classmethod
    def parse(cls, entry: str) -> Host:
        """Of "ollama", "10.0.0.7:8000", "::1" or "[::1]:8080".

        Raises:
            ValueError: It is none of those. The message is a sentence.
        """
        entry = entry.strip()
        with suppress(ValueError):
            return cls(str(ip_address(entry)))
        if found := _ENTRY.fullmatch(entry):
            name, port = canonical(found["name"] or found["v6"] or ""), found["port"]
            named = _is_v6(name) if found["v6"] else _NAME.fullmatch(name)
            if named and (port is None or 1 <= int(port) <= 65535):
                return cls(name, int(port) if port else None)
        raise ValueError(
            f"“{entry}” is no host. Write a name or an address without http://, with a port from 1 to 65535 or none: "
            "ollama, 10.0.0.7:8000 or [::1]:8080."
        )


class AllowedHosts:
    """The `hosts` of a setting, in its order, and the `problems` with entries that are none: those allow nothing."""

    def __init__(self, entries: Iterable[str]) -> None:
        self.hosts: list[Host] = []
        self.problems: list[str] = []
        for entry in filter(str.strip, entries):
            try:
                self.hosts.append(Host.parse(entry))
            except ValueError as error:
                self.problems.append(str(error))

    def allow(self, host: str, port: int) -> bool:
        """Whether `host`, however it is spelled, may be asked at `port` wherever it lies."""
        name = canonical(host)
        return bool(name) and (Host(name) in self.hosts or Host(name, port) in self.hosts)


def _is_v6(text: str) -> bool:
    try:
        return isinstance(ip_address(text), IPv6Address)
    except ValueError:
        return False
