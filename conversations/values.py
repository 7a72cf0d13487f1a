"""JSON as people read it: texts as Markdown, records as tables, the rest as lists."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe

from conversations import words
from conversations.markdown import render

#: So many entries of a list or a record are shown, and so many columns of a table.
MOST_ENTRIES = 50
MOST_COLUMNS = 6
#: What lies deeper is shown as JSON.
DEEPEST = 5
#: Longer texts are rendered as Markdown, shorter ones stand as they are.
SHORT = 80


@lru_cache(maxsize=256)  # A page that is watched shows the same results at each look.
def output_html(name: str, result: str) -> SafeString:
    """What a declared step gave, as its row has it. Where that is only what the step is called (`name`), it stands
    alone."""
    try:
        output = json.loads(result)
    except ValueError:
        return SafeString("")
    return value_html(output[name] if isinstance(output, dict) and output.keys() == {name} else output)


def value_html(value: Any, depth: int = 0) -> SafeString:
    """HTML that is safe to show. Never longer than a screen or some, however large the value."""
    match value:
        case str() if depth == 0 or len(value) > SHORT or "\n" in value:
            return format_html('<div class="markdown">{}</div>', render(words.shorten(value)))
        case dict() | list() if not value:
            return format_html('<span class="quiet">{}</span>', "nothing")
        case dict() | list() if depth >= DEEPEST:
            return format_html('<pre tabindex="0">{}</pre>', words.shorten(words.pretty(value)))
        case dict():
            return _record(value, depth)
        case list() if columns := _columns(value):
            return _table(value, columns)
        case list():
            items = format_html_join("", "<li>{}</li>", ((value_html(item, depth + 1),) for item in _first(value)))
            return format_html('<ul class="values">{}</ul>{}', items, _more(value))
    return format_html("<span>{}</span>", _in_line(value))


def _record(value: Mapping[str, Any], depth: int) -> SafeString:
    pairs = _first(list(value.items()))
    rows = ((words.human_name(str(name)), value_html(entry, depth + 1)) for name, entry in pairs)
    body = format_html_join("", "<div><dt>{}</dt><dd>{}</dd></div>", rows)
    return format_html('<dl class="values">{}</dl>{}', body, _more(value))


def _columns(value: Sequence[Any]) -> list[str]:
    """Of records that are alike and flat; none if this is no table."""
    if not all(isinstance(record, dict) and record for record in value):
        return []
    names = list(dict.fromkeys(name for record in _first(value) for name in record))
    flat = all(not isinstance(entry, dict | list) for record in _first(value) for entry in record.values())
    return names if flat and len(names) <= MOST_COLUMNS else []


def _table(value: Sequence[Mapping[str, Any]], columns: list[str]) -> SafeString:
    head = format_html_join("", '<th scope="col">{}</th>', ((words.human_name(name),) for name in columns))
    lines = (
        (format_html_join("", "<td>{}</td>", ((_in_line(record.get(name)),) for name in columns)),)
        for record in _first(value)
    )
    body = format_html_join("", "<tr>{}</tr>", lines)
    return format_html(
        '<div class="table-scroll" tabindex="0" role="region" aria-label="{}"><table>'
        "<thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>{}",
        "Result",
        head,
        body,
        _more(value),
    )


def _in_line(value: Any) -> str:
    match value:
        case None:
            return "–"
        case bool():
            return "yes" if value else "no"
        case str():
            return words.shorten(value)
    return json.dumps(value, ensure_ascii=False)


def _first(value: Sequence[Any]) -> Sequence[Any]:
    return value[:MOST_ENTRIES]


def _more(value: Sequence[Any] | Mapping[str, Any]) -> SafeString:
    left = len(value) - MOST_ENTRIES
    return format_html('<p class="hint">… and {} more</p>', left) if left > 0 else mark_safe("")
