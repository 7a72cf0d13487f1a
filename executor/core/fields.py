"""Fields of a file: what they may hold, and sentences that say what to write instead of what is wrong."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from pydantic_core import ErrorDetails

#: Where in a file something stands: ("agents", 1, "limits", "iterations").
Place = tuple[str | int, ...]

_SHOWN = 60


def no_flag(value: Any) -> Any:
    """YAML's `yes` is True, and True would pass as the number 1."""
    if isinstance(value, bool):
        raise ValueError
    return value


def plain_json(value: Any) -> Any:
    """Dates and infinities are YAML, but nothing that a provider can be sent."""
    try:
        json.dumps(value, allow_nan=False)
    except TypeError as error:
        raise ValueError from error
    return value


def path_text(place: Place) -> str:
    """E.g. `agents[1].limits.iterations`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".")


def value_text(value: Any) -> str:
    if value is None:
        return "nothing"
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


def field_sentence(error: ErrorDetails, wanted: str, fields: Sequence[str], shown: str | None) -> str:
    """`wanted` is what must stand there, `fields` are those there are; `shown` is what does stand there, if it may be
    told."""
    match error["type"]:
        case "missing":
            return f"is missing: give it {wanted}."
        case "extra_forbidden":
            return f"there is no such field. Use: {', '.join(fields)}."
        case "string_too_long":
            return f"must have at most {error['ctx']['max_length']} characters, not {len(error['input'])}."
        case "string_too_short" | "too_short":
            return "must not be empty."
        case "less_than_equal":
            return f"must be at most {error['ctx']['le']}, not {error['input']}."
    if shown is None:
        return f"must be {wanted}."
    hint = " Put it in quotes." if wanted == "a text" and isinstance(error["input"], int | float) else ""
    return f"must be {wanted}, not {shown}.{hint}"
