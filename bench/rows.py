"""What was measured, as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    what: str
    floor: str
    measured: str
    bar: str = ""


def table(rows: Sequence[Row], floor: str) -> str:
    """In Markdown. `floor` says what the second column is."""
    lines = [f"| What | {floor} | AgentSite | Bar |", "|---|---|---|---|"]
    lines += [f"| {row.what} | {row.floor} | {row.measured} | {row.bar} |" for row in rows]
    return "\n".join(lines)
