"""Server-sent events, as servers really write them: bytes in, the `data` of each complete event out.

Follows the WHATWG algorithm (line ends LF, CRLF and CR, a leading BOM, comments, several `data` lines per event) but
works on bytes, so that a character split between two reads is never looked at before it is whole.
"""

from __future__ import annotations

MAX_EVENT_BYTES = 32 * 1024 * 1024
_FIELDS = (b":", b"event", b"id", b"retry")
_MAX_STRAY_LINES = 1000


class SseDecoder:
    """Feed it what arrives; it gives back the payloads that became complete."""

    def __init__(self, *, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max = max_event_bytes
        self._line: list[bytes] = []
        self._data: list[bytes] = []
        self._size = 0
        #: Lines that belong to no event stream. A server that fails in mid-answer may say so in plain JSON.
        self.stray: list[bytes] = []
        self._at_start = True
        self._after_cr = False

    def feed(self, chunk: bytes) -> list[bytes]:
        """The payloads that `chunk` completes. Raises ValueError when an event grows beyond the maximum."""
        if self._is_plain_event(chunk):
            return [chunk[6:-2]]
        if self._after_cr and chunk:
            # A CR has ended the line already; an LF behind it belongs to the same line end.
            self._after_cr = False
            chunk = chunk.removeprefix(b"\n")
        self._size += len(chunk)
        if self._size > self._max:
            raise ValueError(f"an event is larger than {self._max} bytes")
        if b"\n" not in chunk and b"\r" not in chunk:
            if chunk:
                self._line.append(chunk)
            return []
        lines = b"".join((*self._line, chunk)).splitlines(keepends=True)
        self._line = [] if lines[-1].endswith((b"\n", b"\r")) else [lines.pop()]
        self._after_cr = not self._line and lines[-1].endswith(b"\r")
        events: list[bytes] = []
        for line in lines:
            self._take(line.rstrip(b"\r\n"), events)
        return events

    def close(self) -> list[bytes]:
        """What is left at the end of the stream. Some servers leave out the last empty line, or the last line end."""
        events: list[bytes] = []
        self._take(b"".join(self._line), events)
        self._take(b"", events)
        self._line = []
        return events

    def _is_plain_event(self, chunk: bytes) -> bool:
        """Whether nothing is pending and `chunk` is one event in the usual form. Nearly all are, and it saves time."""
        if self._at_start or self._after_cr or self._line or self._data:
            return False
        end = len(chunk) - 2
        return (
            chunk.startswith(b"data: ") and chunk.find(b"\n") == end and chunk.endswith(b"\n\n") and b"\r" not in chunk
        )

    def _take(self, line: bytes, events: list[bytes]) -> None:
        if self._at_start:
            self._at_start = False
            line = line.removeprefix(b"\xef\xbb\xbf")
        if not line:
            if self._data:
                events.append(self._data[0] if len(self._data) == 1 else b"\n".join(self._data))
                self._data = []
            self._size = sum(map(len, self._line))
        elif line.startswith(b"data:"):
            self._data.append(line[6:] if line[5:6] == b" " else line[5:])
        elif not line.startswith(_FIELDS) and len(self.stray) < _MAX_STRAY_LINES:
            self.stray.append(line)
