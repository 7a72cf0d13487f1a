"""What a model is told of a file, as words: its text, or the columns and first rows of a table. Made in a process of
its own (see tools/core/apart.py).

    python -m tools.core.reading application/pdf < report.pdf
"""

from __future__ import annotations

import io
import itertools
import json
import sys
from collections.abc import Iterable
from typing import Any

from tools.core import apart
from tools.core.peek import HEAD, IMAGES, TABLES, XLSX, charset, rows_of

CPU_SECONDS = 15
#: A model is told so much of a file at the most; how much of that, what it can read decides.
CHARACTERS = 100_000
PAGES = 300
ROWS, CELLS, CELL = 5, 40, 120
SHEETS = 8


async def read(media_type: str, body: bytes) -> str:
    """Raises apart.Unreadable."""
    told = await apart.run("tools.core.reading", media_type, body=body, seconds=CPU_SECONDS)
    return told.decode()


def is_readable(media_type: str) -> bool:
    """Whether there is more to tell of it than its name."""
    return (
        media_type.startswith("text/")
        or media_type in ("application/json", "application/pdf", XLSX)
        or media_type in IMAGES
    )


def main() -> None:
    apart.limit(CPU_SECONDS)
    told = _told(sys.argv[1], sys.stdin.buffer.read())
    sys.stdout.buffer.write(told.replace("\0", "�").encode("utf-8", "replace"))


def _told(media_type: str, body: bytes) -> str:
    if media_type == "application/pdf":
        return _pdf(body)
    if media_type == XLSX:
        return _workbook(body)
    if media_type in IMAGES:
        return _picture(body)
    text = body.decode(charset(body[:HEAD]), "replace")
    return _csv(text, media_type) if media_type in TABLES else _cut(text)


def _cut(text: str) -> str:
    if len(text) <= CHARACTERS:
        return text
    return f"{text[:CHARACTERS]}\n[The first {CHARACTERS:,} of {len(text):,} characters.]"


def _pdf(body: bytes) -> str:
    from pypdf import PdfReader
    from pypdf.errors import PyPdfError

    try:
        document = PdfReader(io.BytesIO(body))
        if document.is_encrypted and not document.decrypt(""):
            return "It is protected by a password, so nobody has read it."
        count = len(document.pages)
    except (PyPdfError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return "It is damaged, so nobody could read it."
    texts: list[str] = []
    length = 0
    for number in range(min(count, PAGES)):
        try:
            text = document.pages[number].extract_text().strip()
        except Exception:  # What is in a page can go wrong in every way; the others may be fine.
            text = "[This page could not be read.]"
        texts.append(f"[Page {number + 1}]\n{text}")
        length += len(text)
        if length > CHARACTERS:
            break
    pages = f"{count} page{'' if count == 1 else 's'}"
    if not any(text.partition("\n")[2] for text in texts):
        return f"{pages}, without text: perhaps pictures of pages."
    left = f"\n[{count - len(texts)} more pages were not read.]" if len(texts) < count else ""
    return f"{pages}.\n{_cut(chr(10).join(texts))}{left}"


def _csv(text: str, media_type: str) -> str:
    rows = rows_of(text, media_type)
    head = next(rows, None)
    if head is None:
        return "It is empty."
    first = list(itertools.islice(rows, ROWS))
    count = len(first) + sum(1 for _ in rows)
    return _described(head, first, f"{count:,}")


def _workbook(body: bytes) -> str:
    import warnings

    import openpyxl

    warnings.simplefilter("ignore")  # It has much to say of what it leaves out.
    try:
        book = openpyxl.load_workbook(io.BytesIO(body), read_only=True, data_only=True)
    except Exception:
        return "It is damaged, or no workbook, so nobody could read it."
    said = []
    for sheet in book.worksheets[:SHEETS]:
        rows = ([*row] for row in sheet.iter_rows(values_only=True, max_row=ROWS + 1))
        head = next(rows, None)
        told = "It is empty." if head is None else _described(head, list(rows), f"about {(sheet.max_row or 1) - 1:,}")
        said.append(f"Sheet {json.dumps(sheet.title, ensure_ascii=False)}: {told}")
    more = len(book.worksheets) - len(said)
    return "\n".join([*said, *([f"{more} more sheets."] if more > 0 else [])])


def _described(head: Iterable[Any], rows: list[list[Any]], count: str) -> str:
    names = list(head)
    lines = [_row(row) for row in rows]
    shown = f"\nFirst rows:\n{chr(10).join(lines)}" if lines else ""
    return f"A table with {count} rows below its first one and {len(names)} columns: {_row(names)}{shown}"


def _row(cells: Iterable[Any]) -> str:
    shown = ["" if cell is None else str(cell) for cell in itertools.islice(cells, CELLS)]
    return json.dumps([cell if len(cell) <= CELL else f"{cell[:CELL]}…" for cell in shown], ensure_ascii=False)


def _picture(body: bytes) -> str:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(body)) as picture:
            return f"A picture of {picture.width} × {picture.height} pixels."
    except Exception:
        return "It is damaged, so it cannot be shown."


if __name__ == "__main__":
    main()
