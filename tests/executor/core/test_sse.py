"""Server-sent events: every dialect, cut anywhere, gives the same payloads."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor.core.llms._sse import SseDecoder

DIALECTS = {
    "plain": b'data: {"a":1}\n\ndata: {"b":"\xc3\xa9"}\n\ndata: [DONE]\n\n',
    "CRLF": b'data: {"a":1}\r\n\r\ndata: {"b":"\xc3\xa9"}\r\n\r\ndata: [DONE]\r\n\r\n',
    "CR": b'data: {"a":1}\r\rdata: {"b":"\xc3\xa9"}\r\rdata: [DONE]\r\r',
    "mixed ends": b'data: {"a":1}\r\n\ndata: {"b":"\xc3\xa9"}\n\r\ndata: [DONE]\r\r\n',
    "no space": b'data:{"a":1}\n\ndata:{"b":"\xc3\xa9"}\n\ndata:[DONE]\n\n',
    "BOM": b'\xef\xbb\xbfdata: {"a":1}\n\ndata: {"b":"\xc3\xa9"}\n\ndata: [DONE]\n\n',
    "comments": b': hi\n\n:\ndata: {"a":1}\n: x\n\n\n\ndata: {"b":"\xc3\xa9"}\n\n: y\n\ndata: [DONE]\n\n',
    "other fields": b'id: 1\nretry: 5\n\nevent: x\ndata: {"a":1}\n\nid\ndata: {"b":"\xc3\xa9"}\nz\n\ndata: [DONE]\n\n',
    "no last empty line": b'data: {"a":1}\n\ndata: {"b":"\xc3\xa9"}\n\ndata: [DONE]\n',
    "no last line end": b'data: {"a":1}\n\ndata: {"b":"\xc3\xa9"}\n\ndata: [DONE]',
}
PAYLOADS = [b'{"a":1}', b'{"b":"\xc3\xa9"}', b"[DONE]"]


def decode(*chunks: bytes) -> list[bytes]:
    decoder = SseDecoder()
    return [*(data for chunk in chunks for data in decoder.feed(chunk)), *decoder.close()]


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_every_dialect_gives_the_same_payloads_however_it_is_cut(dialect: str, size: int) -> None:
    stream = DIALECTS[dialect]
    assert decode(*(stream[i : i + size] for i in range(0, len(stream), size))) == PAYLOADS


@given(st.sampled_from(sorted(DIALECTS)), st.lists(st.integers(0, 90)))
def test_cuts_at_any_places_change_nothing(dialect: str, places: list[int]) -> None:
    stream = DIALECTS[dialect]
    cuts = [0, *sorted(places), len(stream)]
    assert decode(*(stream[a:b] for a, b in itertools.pairwise(cuts))) == PAYLOADS


def test_several_data_lines_are_one_payload() -> None:
    assert decode(b'data: {\ndata: "a": 1\ndata:}\n\n') == [b'{\n"a": 1\n}']


def test_a_line_end_of_two_bytes_may_arrive_in_two_pieces() -> None:
    assert decode(b"data: {\r", b"\ndata: }\r", b"\n\r", b"\n") == [b"{\n}"]


def test_an_event_comes_out_as_soon_as_its_empty_line_is_there() -> None:
    decoder = SseDecoder()
    assert decoder.feed(b"data: 1\n") == []
    assert decoder.feed(b"\n") == [b"1"]
    assert decoder.feed(b"data: 2\r\r") == [b"2"]


def test_an_event_without_end_is_refused_before_it_fills_the_memory() -> None:
    decoder = SseDecoder(max_event_bytes=1000)
    for _ in range(100):
        decoder.feed(b"data: small\n\n" + b"data: " + b"x" * 100 + b"\n\n")
    decoder.feed(b"x" * 900)
    with pytest.raises(ValueError, match="larger"):
        decoder.feed(b"x" * 200)
