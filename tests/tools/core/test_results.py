"""What a function returned, as text."""

import dataclasses
import json
from datetime import date
from decimal import Decimal
from typing import Any

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from tools.core.context import Context, safe_name
from tools.core.results import render


@dataclasses.dataclass
class Point:
    x: int
    y: float


class Line(BaseModel):
    end: Point


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("as it is", "as it is"),
        ("", "(empty text)"),
        (None, "Done. The function returned nothing."),
        (Line(end=Point(1, 2.5)), '{"end": {"x": 1, "y": 2.5}}'),
        ([date(2024, 2, 29), Decimal("1.10")], '["2024-02-29", "1.10"]'),
        ({1: {7}}, '{"1": [7]}'),
        ([float("nan"), float("-inf")], '["NaN", "-Infinity"]'),
        (numpy.float64(1.5), "1.5"),
        (numpy.array([[1, 2]]), "[[1, 2]]"),
        ("é", "é"),
        ({"é": "日本"}, '{"é": "日本"}'),
    ],
)
def test_values_become_text(value: Any, text: str) -> None:
    assert render(value) == text


def test_an_object_without_a_json_form_is_shown_as_its_text() -> None:
    assert json.loads(render({"where": slice(1, 2)})) == {"where": "slice(1, 2, None)"}


@given(
    st.recursive(
        st.text(st.characters(codec=None)) | st.floats(), lambda s: st.lists(s) | st.dictionaries(st.text(), s)
    )
)
def test_whatever_comes_out_can_be_stored_by_postgresql(value: Any) -> None:
    text = render(value)
    assert "\0" not in text
    assert text.encode()
    if not isinstance(value, str):
        assert "\\u0000" not in text.replace("\\\\", "")
        json.loads(text)


def test_a_result_is_cut_at_its_limit_with_a_note() -> None:
    assert render("é" * 50, limit=100) == "é" * 50
    assert render("é" * 51, limit=101) == (
        "é" * 50 + "\n[Cut: the first 101 of 102 bytes are shown. Ask for less to see the rest.]"
    )


@pytest.mark.parametrize(
    ("given_name", "safe"),
    [
        ("chart.png", "chart.png"),
        ("../../etc/passwd", "passwd"),
        ("C:\\temp\\x.txt", "x.txt"),
        ("invoice\u202efdp.exe", "invoicefdp.exe"),
        ("a\r\nSet-Cookie: b", "aSet-Cookie: b"),
        ("..", "file"),
        ("", "file"),
        ("n" * 300 + ".png", "n" * 116 + ".png"),
    ],
)
def test_file_names_are_made_safe(given_name: str, safe: str) -> None:
    assert safe_name(given_name) == safe


def test_a_file_must_have_a_media_type_and_a_bearable_size(call_context: Context) -> None:
    for media_type in ("", "image", "image/png\r\nX: y", "text/html; charset=x"):
        with pytest.raises(ValueError, match="not a media type"):
            call_context.save("a", b"", media_type)
    with pytest.raises(ValueError, match="larger than 20 MB"):
        call_context.save("a", bytes(20 * 1024**2 + 1), "image/png")
    for _ in range(20):
        call_context.save("a", b"", "image/png")
    with pytest.raises(ValueError, match="20 files at most"):
        call_context.save("a", b"", "image/png")
