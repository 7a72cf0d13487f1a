"""JSON at the border to a provider: what goes out is always valid, what comes in can always be stored.

Two things are legal in a Python string and refused further on: halves of a surrogate pair (no UTF-8) and NUL (not in
a PostgreSQL text). Both become U+FFFD, the replacement character.
"""

from __future__ import annotations

import json
from typing import Any

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def clean(text: str) -> str:
    """`text` with surrogate pairs joined, and lone halves and NULs replaced."""
    if text.isascii():
        return text.replace("\0", REPLACEMENT) if "\0" in text else text
    try:
        text.encode()
    except UnicodeEncodeError:
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text.replace("\0", REPLACEMENT)


def clean_value(value: Any) -> Any:
    """The JSON value with every string in it cleaned."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, list | tuple):
        return [clean_value(item) for item in value]
    if isinstance(value, dict):
        return {clean(str(key)): clean_value(item) for key, item in value.items()}
    return value


def dumps(value: Any) -> bytes:
    """Compact UTF-8 JSON. Raises ValueError for NaN and infinities, TypeError for what JSON does not know."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    try:
        if "\\u0000" not in text:
            return text.encode()
    except UnicodeEncodeError:
        pass
    text = json.dumps(clean_value(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode()


def parse_arguments(raw: str) -> dict[str, Any] | None:
    """The arguments of a call as the model wrote them; None when they are not a JSON object.

    Nothing and `null` mean no arguments. An object that was encoded twice is opened twice.
    """
    try:
        value = json.loads(raw.strip() or "{}", parse_constant=_refuse)
        if isinstance(value, str):
            value = json.loads(value, parse_constant=_refuse)
        value = {} if value is None else value
        return clean_value(value) if isinstance(value, dict) else None
    except (ValueError, RecursionError):
        return None


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
