"""Values as every database stores them, and the digest by which a call is known again."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def digest(name: str, arguments: Any) -> str:
    """Identifies a call with these arguments, however they were ordered."""
    return hashlib.sha256(json.dumps([name, arguments], sort_keys=True).encode()).hexdigest()[:32]


def clean(text: str) -> str:
    """Text that every database stores: without NUL, lone surrogates replaced."""
    return text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode("utf-8")


def clean_json(value: Any) -> Any:
    match value:
        case str():
            return clean(value)
        case dict():
            return {clean(str(key)): clean_json(item) for key, item in value.items()}
        case list() | tuple():
            return [clean_json(item) for item in value]
        case float() if value != value or value in (float("inf"), float("-inf")):
            return str(value)
        case _:
            return value
