"""Putting results into Markdown. Whatever came from outside is escaped: it is shown, never obeyed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

_SPECIAL = re.compile(r"([\\`*_\[\]<>|~#$&])")


def clean(text: str) -> str:
    """`text` without what cannot be stored or sent: lone surrogates and control characters other than line breaks."""
    text = text.encode("utf-8", "replace").decode("utf-8")
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]", " ", text.replace("\r\n", "\n").replace("\r", "\n"))


def cleaned(value: Any) -> Any:
    """JSON in which every string is clean."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, list):
        return [cleaned(item) for item in value]
    if isinstance(value, dict):
        return {clean(str(key)): cleaned(item) for key, item in value.items()}
    return value


def plain(text: object, limit: int = 80) -> str:
    """`text` as one line of at most `limit` characters in which Markdown means nothing."""
    return _SPECIAL.sub(r"\\\1", shorten(str(text), limit))


def shorten(text: str, limit: int) -> str:
    """`text` on one line, cut at `limit` characters with an ellipsis."""
    line = " ".join(text[: limit * 8].split())
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def number(value: float | None) -> str:
    """A number as people write it: 27,948.28 · 0.0025 · 12."""
    if value is None:
        return "–"
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    if 0.01 <= abs(value) < 1e15:
        return f"{value:,.2f}".rstrip("0").rstrip(".")
    return f"{value:.4g}"


def money(value: float) -> str:
    return f"{value:,.2f}".removesuffix(".00")


def exact(value: float) -> str:
    """A number as a function's argument: nothing rounded, no separators."""
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(value)


def table(header: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[int] = (-1,)) -> str:
    """A Markdown table; the columns in `right` are aligned to the right."""
    columns = {index % len(header) for index in right}
    rule = ["--:" if index in columns else "---" for index in range(len(header))]
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, rule, *rows))


def listed(items: Sequence[str], word: str = "and") -> str:
    """a · a and b · a, b and c"""
    return f" {word} ".join(filter(None, (", ".join(items[:-1]), items[-1]))) if items else ""


def count(amount: int | float, one: str, many: str = "") -> str:
    """1 word · 9 words"""
    return f"{number(amount)} {one if amount == 1 else many or one + 's'}"
