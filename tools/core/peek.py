"""What a file is, by its first bytes, and how it begins. Whoever sent it may say something else."""

from __future__ import annotations

import codecs
import csv
import io
from typing import Any

#: So much of a file is enough to tell.
HEAD = 64 * 1024

IMAGES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
AUDIO = frozenset({"audio/mpeg", "audio/wav", "audio/ogg", "audio/flac", "audio/mp4", "audio/webm"})
VIDEO = frozenset({"video/mp4", "video/webm", "video/ogg"})
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
TABLES = {"text/csv": ",", "text/tab-separated-values": "\t"}

_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"%PDF-", "application/pdf"),
    (b"ID3", "audio/mpeg"),
    (b"\xff\xfb", "audio/mpeg"),
    (b"\xff\xf3", "audio/mpeg"),
    (b"fLaC", "audio/flac"),
    (b"OggS", "audio/ogg"),
    (b"\x1aE\xdf\xa3", "video/webm"),
)
_IN_RIFF = {b"WEBP": "image/webp", b"WAVE": "audio/wav"}
_BY_ENDING = {
    "csv": "text/csv",
    "tsv": "text/tab-separated-values",
    "md": "text/markdown",
    "json": "application/json",
}
#: Control characters that texts have.
_PLAIN = frozenset(b"\t\n\f\r\x1b")

ROWS, COLUMNS, CELL = 8, 12, 60
LINES, CHARACTERS = 20, 1_200


def media_type(name: str, head: bytes) -> str:
    """Of the file `name` that begins with `head`; "" if it is none of those that we know. The name only tells kinds of
    text, and kinds of ZIP archives, from each other."""
    for signature, found in _SIGNATURES:
        if head.startswith(signature):
            return found
    ending = name.rpartition(".")[2].lower()
    if head[:4] == b"RIFF":
        return _IN_RIFF.get(head[8:12], "")
    if head[4:8] == b"ftyp":
        return "audio/mp4" if head[8:11] in (b"M4A", b"M4B") else "video/mp4"
    if head.startswith(b"PK\x03\x04"):
        return XLSX if ending == "xlsx" else "application/zip"
    if is_text(head):
        return _BY_ENDING.get(ending, "text/plain")
    return ""


def is_text(head: bytes) -> bool:
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return True
    return not any(byte < 32 and byte not in _PLAIN for byte in head)


def charset(head: bytes) -> str:
    """The encoding of a text that begins so: UTF-8 or UTF-16, else what Windows writes."""
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return "cp1252"
    return "utf-8-sig"


def preview(media_type: str, head: bytes, *, whole: bool) -> dict[str, Any] | None:
    """How a table or a text begins, for people: {"rows": […], "more": …} or {"text": …, "more": …}; None of all else.
    `whole`: `head` is all there is."""
    if not (media_type.startswith("text/") or media_type == "application/json"):
        return None
    text = codecs.getincrementaldecoder(charset(head))("replace").decode(head).replace("\0", "�")
    if media_type in TABLES:
        return _table(text, media_type, whole=whole)
    lines = text.splitlines()
    shown = "\n".join(lines[:LINES])
    return {"text": shown[:CHARACTERS], "more": not whole or len(lines) > LINES or len(shown) > CHARACTERS}


def _table(text: str, media_type: str, *, whole: bool) -> dict[str, Any]:
    rows: list[list[str]] = []
    more = not whole
    for row in rows_of(text, media_type):
        if len(rows) == ROWS:
            more = True
            break
        more = more or len(row) > COLUMNS
        rows.append([cell if len(cell) <= CELL else f"{cell[: CELL - 1]}…" for cell in row[:COLUMNS]])
    return {"rows": rows, "more": more}


def rows_of(text: str, media_type: str) -> Any:
    """The rows of a CSV, lazily. Its delimiter is a guess by the first line: semicolons are what some countries use."""
    first = text[: text.find("\n")] if "\n" in text else text
    delimiter = TABLES[media_type]
    if delimiter == ",":
        delimiter = max(",;\t|", key=first.count)
    csv.field_size_limit(HEAD * 16)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error:  # A cell without an end.
            return
        if row:
            yield row
