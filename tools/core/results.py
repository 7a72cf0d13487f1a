"""What a function returned, as text that a model can read and a database can store."""

import json
import math
from dataclasses import dataclass
from typing import Any

from pydantic_core import to_jsonable_python

DEFAULT_LIMIT = 32 * 1024
# Some providers refuse an empty answer, and a model makes more of a word.
NOTHING = "Done. The function returned nothing."
EMPTY = "(empty text)"


@dataclass(frozen=True)
class Failure:
    """What a function returns where it failed in a way of its own: its words are for the model, and what it saved is
    kept, unlike that of a function that raises."""

    content: Any


def render(value: Any, limit: int = DEFAULT_LIMIT) -> str:
    """`value` as text of at most `limit` bytes of UTF-8, plus a note where something was cut.

    Text stays text; everything else becomes JSON. NaN and infinities become strings, because JSON has no word for
    them. Raises ValueError or TypeError for what has no JSON form, such as a structure that contains itself.
    """
    if value is None:
        return NOTHING
    if isinstance(value, str):
        return cut(value, limit) or EMPTY
    plain = to_jsonable_python(value, bytes_mode="base64", fallback=_fallback)
    return cut(json.dumps(_harmless(plain), ensure_ascii=False), limit)


def harmless(text: str) -> str:
    """`text` without NUL, which PostgreSQL refuses, and without lone surrogates, which are no UTF-8."""
    return text.replace("\0", "�").encode("utf-8", "replace").decode("utf-8")


def cut(text: str, limit: int) -> str:
    """`text`, harmless; where it does not fit into `limit` bytes, its beginning and a note of how much is missing."""
    text = harmless(text)
    data = text.encode("utf-8")
    if len(data) <= limit:
        return text
    kept = data[:limit].decode("utf-8", "ignore")
    return f"{kept}\n[Cut: the first {limit:,} of {len(data):,} bytes are shown. Ask for less to see the rest.]"


def _fallback(value: Any) -> Any:
    """numpy values, arrays and the like know their plain form; for anything else its text has to do."""
    plain = getattr(value, "tolist", None)
    return plain() if callable(plain) else str(value)


def _harmless(value: Any) -> Any:
    if isinstance(value, str):
        return harmless(value)
    if isinstance(value, list):
        return [_harmless(item) for item in value]
    if isinstance(value, dict):
        return {harmless(str(key)): _harmless(item) for key, item in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value
