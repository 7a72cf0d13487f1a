"""How any wire format is written: at which pace, in which dialect of server-sent events, and how it breaks off."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from tests.fakes.script import Turn

#: What is written next: seconds to wait, then bytes; None breaks the connection off.
Frame = tuple[float, bytes | None]

_TICK = 0.02


def paced(turn: Turn, events: Iterator[bytes], error_event: bytes) -> Iterator[Frame]:
    """The events of an answer at the pace of the turn, until its fault; `error_event` is what that fault writes."""
    every = 1 / turn.rate if turn.rate else 0.0
    wait = turn.first_token
    for number, data in enumerate(events):
        if number == turn.after and turn.fault:
            yield from _broken(turn, data, error_event)
            return
        yield wait, data
        wait = every
    if "open_end" in turn.quirks:
        yield from silence()


def silence() -> Iterator[Frame]:
    while True:
        yield _TICK, b""


def _broken(turn: Turn, data: bytes, error_event: bytes) -> Iterator[Frame]:
    match turn.fault:
        case "drop":
            yield 0, None
        case "half_frame":
            yield 0, data[: len(data) // 2]
        case "malformed":
            yield 0, b'data: {"choices": [{"delta": {"content": \n\n'
        case "error_event":
            yield 0, error_event
        case "stall":
            yield from silence()
        case _:
            assert turn.fault == "clean_end", turn.fault


class Dialect:
    """Puts a payload into a server-sent event, in the dialect that the quirks describe."""

    def __init__(self, turn: Turn) -> None:
        self._quirks = turn.quirks
        self._first = True
        self._end = b"\r\n" if "crlf" in turn.quirks else b"\r" if "cr" in turn.quirks else b"\n"
        self._plain = not turn.quirks & {"crlf", "cr", "bom", "comments", "extra_fields", "multi_line"}

    def __call__(self, payload: bytes, *, event: str = "", last: bool = False) -> bytes:
        """`event` is the event's name, for formats that write it."""
        name = [b"event: " + event.encode()] if event else []
        if last and "no_last_newline" in self._quirks:
            return self._end.join([*name, b"data: " + payload])
        if self._plain:
            return b"event: %b\ndata: %b\n\n" % (event.encode(), payload) if event else b"data: %b\n\n" % payload
        lines = [b"data: " + payload]
        if "multi_line" in self._quirks and not last:
            lines = [b"data: " + line for line in json.dumps(json.loads(payload), indent=1).encode().split(b"\n")]
        if "extra_fields" in self._quirks:
            named = name or [b"event: message"]
            lines = [b"id: 1", b"retry: 500", b"", *named, b"data:" + lines[0][6:], *lines[1:], b"nonsense"]
        else:
            lines = [*name, *lines]
        if "comments" in self._quirks:
            lines = [b": keep-alive", b"", b":", *lines]
        bom = b"\xef\xbb\xbf" if self._first and "bom" in self._quirks else b""
        self._first = False
        return bom + self._end.join(lines) + self._end * 2


def pieces(text: str, size: int) -> list[str]:
    """Words with the space before them, or pieces of `size` characters."""
    if not text:
        return []
    if size:
        return [text[i : i + size] for i in range(0, len(text), size)]
    return re.findall(r"\s*\S+\s*$|\s*\S+|\s+$", text)
