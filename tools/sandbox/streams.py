"""What code prints, as text: decoded, without the colours and tricks of terminals, its beginning and end kept."""

from __future__ import annotations

import codecs
import re
import time

from tools.sandbox.base import OnOutput

EVERY = 0.1
#: What is printed together arrives in pieces, so the first one waits so long for the next.
TOGETHER = 0.03
#: Sequences that move the cursor, change colours or set titles; what is left of an incomplete one waits for its rest.
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]{0,200}(?:\x07|\x1b\\)|[ -/]*[0-OQ-WYZ\\^_`a-~])")
_OPEN_ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*|\][^\x07\x1b]{0,200}|[ -/]*)?$")
_CONTROLS = re.compile("[\x00-\x07\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def plain(text: str) -> str:
    """Without escape sequences and control characters; \\b, \\t, \\n and \\r stay."""
    return _CONTROLS.sub("", _ESCAPES.sub("", text))


class Stream:
    """One of the two. `limit` is in characters, of the whole text that is kept."""

    def __init__(self, name: str, limit: int, on_output: OnOutput | None) -> None:
        self.name = name
        self.total = 0  # Bytes.
        self._limit = limit
        self._on_output = on_output
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._pending = ""
        self._head: list[str] = []
        self._room = limit * 3 // 4
        self._tail = ""
        self._cut = 0
        self._waiting: list[str] = []
        self._told = 0
        self._next = 0.0

    def feed(self, data: bytes) -> None:
        self.total += len(data)
        self._take(self._decoder.decode(data))

    def finish(self) -> None:
        """Nothing more comes."""
        self._take(self._decoder.decode(b"", final=True))
        self._keep(plain(self._pending))
        self._pending = ""
        self.tell(at_once=True)

    def tell(self, at_once: bool = False) -> None:
        """Hand on what waits, unless that was done a moment ago."""
        now = time.monotonic()
        if self._on_output is None or not self._waiting or (now < self._next and not at_once):
            return
        text = "".join(self._waiting)
        self._waiting.clear()
        self._next = now + EVERY
        self._on_output(self.name, text)

    def text(self) -> str:
        head = "".join(self._head)
        if not self._cut:
            return head + self._tail
        return f"{head}\n[… {self._cut:,} characters are left out here …]\n{self._tail}"

    def _take(self, text: str) -> None:
        text = self._pending + text
        self._pending = ""
        if found := _OPEN_ESCAPE.search(text[-256:]):
            keep = len(found.group())
            self._pending, text = text[len(text) - keep :], text[: len(text) - keep]
        self._keep(plain(text))

    def _keep(self, text: str) -> None:
        if not text:
            return
        if self._told < self._limit:
            if not self._waiting:
                self._next = max(self._next, time.monotonic() + TOGETHER)
            piece = text[: self._limit - self._told]
            self._told += len(piece)
            self._waiting.append(piece)
        head, rest = text[: self._room], text[self._room :]
        if head:
            self._head.append(head)
            self._room -= len(head)
        tail = self._tail + rest
        most = self._limit - self._limit * 3 // 4
        if len(tail) > most:
            self._cut += len(tail) - most
            tail = tail[-most:]
        self._tail = tail
