"""How a fake wire format finds fault with a request: `must` raises the sentence, `objection_to` catches it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any


class Refused(Exception):
    pass


def must(condition: object, sentence: str) -> None:
    if not condition:
        raise Refused(sentence)


def objection_to(check: Callable[[], None]) -> str:
    """What `check` refuses, "" when it is content."""
    try:
        check()
    except Refused as refused:
        return str(refused)
    return ""


def check_strings(value: Any) -> None:
    """Every text in a JSON value must be one that can be written down anywhere."""
    if isinstance(value, str):
        must("\0" not in value, "invalid character: NUL")
        must(not re.search("[\ud800-\udfff]", value), "invalid unicode: a lone surrogate")
    elif isinstance(value, dict):
        for key, item in value.items():
            check_strings(key)
            check_strings(item)
    elif isinstance(value, list):
        for item in value:
            check_strings(item)
