"""A shelf that lies in memory: for scripts, tests, and code whose variables nobody needs later."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass
class MemoryShelf:
    """See `tools.workspace.Shelf`. `own` are the files, by name."""

    own: dict[str, bytes] = field(default_factory=dict)
    _state: tuple[bytes, dict[str, str]] | None = None

    def files(self) -> Iterable[tuple[str, bytes]]:
        return list(self.own.items())

    def state(self) -> tuple[bytes, dict[str, str]] | None:
        return self._state

    def keep(self, state: bytes | None, lost: dict[str, str], call_id: str) -> None:
        self._state = None if state is None else (state, lost)
