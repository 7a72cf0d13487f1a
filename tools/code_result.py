"""What a call of code gave: files for the person, and words for the model."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Collection, Sequence
from html.parser import HTMLParser
from typing import TYPE_CHECKING

from tools.core.context import Context

if TYPE_CHECKING:
    from tools.sandbox.base import CodeError, Result

#: Characters of each part that the model reads.
PRINTED, SHOWN, TRACEBACK = 8_000, 4_000, 3_000
_IMAGES = {"image/png": "png", "image/jpeg": "jpg"}
_ENDED = {
    "interrupted": "It was interrupted. Its variables are as they were then.",
    "time": "It took too long and was interrupted. Its variables are as they were then.",
    "output": "It printed far too much and was interrupted.",
    "memory": "It used too much memory.",
    "died": "Python ended.",
    "killed": "It did not stop and was ended.",
}


def keep_outputs(result: Result, context: Context, taken: Collection[str] = ()) -> list[str]:
    """Save the pictures and tables that were shown, under names that are not `taken`. Returns what was shown in words,
    one for each."""
    said = []
    names = _Names(taken)
    for output in result.outputs:
        text = str(output.data.get("text/plain", ""))
        kind = next((kind for kind in _IMAGES if isinstance(output.data.get(kind), bytes)), "")
        if kind:
            said.append(_saved(context, names.new("figure", _IMAGES[kind]), output.data[kind], kind))
            continue
        if rows := table(str(output.data.get("text/html", ""))):
            _saved(context, names.new("table", "csv"), _csv(rows).encode(), "text/csv")
        said.append(cut(text, SHOWN))
        context.write(_line(text))
    return said


class _Names:
    def __init__(self, taken: Collection[str]) -> None:
        self._taken = set(taken)

    def new(self, stem: str, ending: str) -> str:
        name = next(name for n in itertools.count(1) if (name := f"{stem}-{n}.{ending}") not in self._taken)
        self._taken.add(name)
        return name


def in_words(result: Result, shown: Sequence[str]) -> str:
    """For the model."""
    parts = [cut(result.stdout.rstrip("\n"), PRINTED)]
    if result.stderr.strip():
        parts.append(f"[stderr]\n{cut(result.stderr.rstrip(), PRINTED // 2)}")
    parts += shown
    if result.error:
        parts.append(trimmed(result.error))
    if not result.notes and (said := _ENDED.get(result.ended)):
        parts.append(f"[{said}]")
    if result.files:
        files = ", ".join(f"{file.name} ({file.size:,} bytes)" for file in result.files)
        parts.append(f"[Files made or changed: {files}]")
    parts += [f"[{note}]" for note in result.notes]
    return "\n".join(part for part in parts if part) or "It ran and showed nothing. Print what you want to see."


def trimmed(error: CodeError) -> str:
    """A traceback without what lies in libraries: where in the code it began, and what went wrong."""
    parts = error.traceback.strip().split("\n\n")
    own = [part for part in parts if not part.lstrip().startswith("File ")]
    if left := len(parts) - len(own):
        own.insert(-1, f"[… {left} frames in libraries are left out …]")
    return cut("\n\n".join(own) or f"{error.name}: {error.value}", TRACEBACK)


def cut(text: str, limit: int) -> str:
    """The beginning and the end of a text that is too long."""
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n[… {len(text) - 2 * half:,} characters are left out …]\n{text[-half:]}"


def table(html: str) -> list[list[str]]:
    """The rows of the first table in a piece of HTML that nobody trusts: text only. Empty if there is none."""
    parser = _Table()
    parser.feed(html[:2_000_000])
    rows = parser.rows
    # pandas gives the name of an index a row of its own.
    if len(rows) > 2 and all(rows[:2]) and rows[1][0] and not any(rows[1][1:]):
        rows[0][0] = rows.pop(1)[0]
    return rows if len(rows) > 1 else []


class _Table(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self._cell: list[str] | None = None
        self._done = False

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if self._done:
            return
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th") and self.rows:
            self._cell = []

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th") and self._cell is not None:
            self.rows[-1].append("".join(self._cell).strip())
            self._cell = None
        elif tag == "table":
            self._done = True

    def handle_data(self, data: str) -> None:
        if self._cell is not None:
            self._cell.append(data)


def _csv(rows: Sequence[Sequence[str]]) -> str:
    found = io.StringIO()
    csv.writer(found, lineterminator="\n").writerows(rows)
    return found.getvalue()


def _saved(context: Context, name: str, data: str | bytes, kind: str) -> str:
    try:
        context.save(name, data if isinstance(data, bytes) else data.encode(), kind)
    except ValueError as error:
        return f"[{name} was shown but not kept: {error}]"
    return f"[The person sees the picture {name}.]"


def _line(text: str) -> str:
    return text if text.endswith("\n") or not text else f"{text}\n"
