"""What a server says of its tools, as it is kept: cleaned, bounded, and only what is needed."""

from __future__ import annotations

import json
import unicodedata
from typing import Any

from tools.core import results

MOST_TOOLS = 100
LONGEST_DESCRIPTION = 2_000
LARGEST_SCHEMA = 16 * 1024


def clean(text: str) -> str:
    """`text` without what cannot be seen: controls but line breaks and tabs, marks that turn or hide text."""
    return "".join(
        char
        for char in results.harmless(text)
        if char in "\n\t" or unicodedata.category(char) not in {"Cc", "Cf", "Co"}
    )


def kept(tools: list[Any]) -> tuple[list[dict[str, Any]], str]:
    """Of the library's `Tool`s the first hundred, and a sentence on those that are left out."""
    found = [described for tool in tools[:MOST_TOOLS] if (described := _described(tool))]
    left_out = len(tools) - len(found)
    note = f"{left_out} of its {len(tools)} tools are left out: too many, or with a description that is too large."
    return found, note if left_out else ""


def _described(tool: Any) -> dict[str, Any] | None:
    schema = tool.input_schema
    if not isinstance(schema, dict) or len(json.dumps(schema)) > LARGEST_SCHEMA or not 0 < len(tool.name) <= 64:
        return None
    properties = schema.get("properties")
    hints = tool.annotations
    return {
        "name": tool.name,
        "title": " ".join(clean(tool.title or (hints.title if hints else "") or "").split())[:80],
        "description": clean(tool.description or "")[:LONGEST_DESCRIPTION],
        "schema": {**schema, "type": "object", "properties": properties if isinstance(properties, dict) else {}},
        "read_only": bool(hints and hints.read_only_hint),
    }
