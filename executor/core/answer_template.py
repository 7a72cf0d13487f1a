"""The answer of a task that is declared without code: Markdown in which {step} stands for what that step gave.

Only names are looked up, and fields of what is a mapping (`{facts.title}`): nothing is called or formatted.
Everything else in braces is left as it is, so that code and formulas need no care; {{step}} is {step} itself.
"""

from __future__ import annotations

import json
import re
from typing import Any

_NAME = r"[a-z][a-z0-9_]*(?:\.[A-Za-z0-9_]+)*"
_BRACES = re.compile(rf"\{{\{{(?P<literal>{_NAME})\}}\}}|\{{(?P<name>{_NAME})\}}")


def placeholders(template: str) -> list[tuple[str, ...]]:
    """("facts", "title") for each {facts.title}."""
    return [tuple(found["name"].split(".")) for found in _BRACES.finditer(template) if found["name"]]


def fill(template: str, output: dict[str, Any]) -> str:
    """`template` with what the steps gave. What is not there leaves nothing behind."""

    def replace(found: re.Match[str]) -> str:
        if found["literal"]:
            return f"{{{found['literal']}}}"
        value: Any = output
        for part in found["name"].split("."):
            value = value.get(part) if isinstance(value, dict) else None
        return in_words(value)

    return _BRACES.sub(replace, template).strip()


def in_words(value: Any) -> str:
    """A value as Markdown: text as it is, a list of plain values with bullets, all else as JSON."""
    match value:
        case None:
            return ""
        case str():
            return value
        case bool():
            return "yes" if value else "no"
        case int() | float():
            return f"{value}"
        case list() if all(isinstance(item, str | int | float) for item in value):
            return "\n".join(f"- {in_words(item)}" for item in value)
        case _:
            return f"```json\n{json.dumps(value, ensure_ascii=False, indent=2)}\n```"
