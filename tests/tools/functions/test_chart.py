import io
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from PIL import Image

from tools.core.context import Context
from tools.functions.chart import draw_chart

CALL: dict[str, Any] = {"kind": "bar", "title": "Fruit", "labels": ["Apples", "Pears"], "values": [3.0, 5.0]}


def draw(call_context: Context, **changes: Any) -> tuple[dict[str, Any], Image.Image]:
    result = draw_chart(**{**CALL, **changes}, context=call_context)
    return result, Image.open(io.BytesIO(call_context.files[-1].data))


def colours(image: Image.Image) -> int:
    """How many clearly different colours cover more than a speck."""
    counted: Any = image.convert("RGB").getcolors(1 << 24)
    return sum(1 for count, rgb in counted if count > 2000 and max(rgb) - min(rgb) > 40)


@pytest.mark.parametrize("kind", ["bar", "line", "pie"])
def test_a_chart_is_saved_as_an_image(call_context: Context, kind: str) -> None:
    result, image = draw(call_context, kind=kind, x_label="Kind", y_label="Number")
    assert result == {"file": "fruit.png", "kind": kind, "points": 2, "palette": "calm"}
    assert (image.format, image.size) == ("PNG", (1600, 900))
    [file] = call_context.files
    assert (file.name, file.media_type) == ("fruit.png", "image/png")


def test_colourful_has_more_colours_than_calm(call_context: Context) -> None:
    many = {"labels": list("abcdefgh"), "values": [4.0] * 8}
    _, calm = draw(call_context, **many)
    _, colourful = draw(call_context, **many, palette="colourful")
    assert colours(colourful) >= 8 > 2 >= colours(calm)


@pytest.mark.parametrize("kind", ["bar", "line", "pie"])
@pytest.mark.parametrize(
    "changes",
    [
        {"title": "🎉 日本 $\\frac{$ costs", "labels": ["$", "🎉🎉"]},
        {"title": "", "labels": ["", ""]},
        {"title": "x" * 500, "labels": ["y" * 500, "a\nb\0\ud800"]},
        {"labels": ["only"], "values": [1e15]},
        {"labels": [str(n) for n in range(60)], "values": [float(n) for n in range(60)]},
        {"values": [1e-12, 0.0]},
    ],
)
def test_odd_titles_labels_and_values_are_drawn(call_context: Context, kind: str, changes: dict[str, Any]) -> None:
    _, image = draw(call_context, kind=kind, **changes)  # Warnings are errors: a missing glyph would fail here.
    assert image.size == (1600, 900)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"labels": ["one"]}, "1 labels and 2 values"),
        ({"labels": [], "values": []}, "nothing to draw"),
        ({"labels": ["a"] * 61, "values": [1.0] * 61}, "more than 60"),
        ({"kind": "pie", "values": [1.0, -1.0]}, "no value may be negative"),
        ({"kind": "pie", "values": [0.0, 0.0]}, "one must be above zero"),
        ({"values": [1.0, 1e300]}, "Use a larger unit"),
    ],
)
def test_what_cannot_be_drawn_gets_a_sentence(call_context: Context, changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        draw(call_context, **changes)
    assert call_context.files == []


def test_charts_drawn_at_the_same_time_do_not_disturb_each_other() -> None:
    def image(number: int) -> bytes:
        served = Context(user_id=1, task_id="t", call_id="c", idempotency_key="k")
        draw_chart(**{**CALL, "title": f"Chart {number % 4}", "kind": ["bar", "line"][number % 2]}, context=served)
        return served.files[0].data

    alone = [image(number) for number in range(4)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(image, range(12)))
    assert together == alone * 3
