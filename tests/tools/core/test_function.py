"""What a model gets to know about a function."""

import dataclasses
import enum
from collections.abc import Callable
from datetime import date
from typing import Annotated, Any, Literal, Optional

import pytest
from pydantic import BaseModel, Field

from tools.core.context import Context
from tools.core.effects import NotDone
from tools.core.function import describe, function
from tools.core.schema import SignatureError


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0


class Line(BaseModel):
    """From one point to another."""

    start: Point
    end: Point
    title: str = ""


class Tree(BaseModel):
    name: str
    children: list["Tree"] = []


def google(city: str, days: int = 3) -> str:
    """Forecast the weather.

    Says rain or shine.

    Args:
        city: Where,
            by its English name.
        days (int): How far ahead.

    Returns:
        One line a day.

    Raises:
        ValueError: Never mind.
    """
    return city


def numpy(city: str, days: int = 3) -> str:
    """Forecast the weather.

    Says rain or shine.

    Parameters
    ----------
    city : str
        Where,
        by its English name.
    days
        How far ahead.

    Returns
    -------
    str
        One line a day.
    """
    return city


def sphinx(city: str, days: int = 3) -> str:
    """Forecast the weather.

    Says rain or shine.

    :param city: Where,
        by its English name.
    :param int days: How far ahead.
    :returns: One line a day.
    """
    return city


@pytest.mark.parametrize("call", [google, numpy, sphinx])
def test_every_docstring_style_gives_the_same_description_and_schema(call: Callable[..., Any]) -> None:
    described = describe(call)
    assert described.description == "Forecast the weather.\n\nSays rain or shine.\n\nReturns: One line a day."
    assert described.parameters == {
        "type": "object",
        "properties": {
            "city": {"type": "string", "description": "Where, by its English name."},
            "days": {"type": "integer", "default": 3, "description": "How far ahead."},
        },
        "required": ["city"],
        "additionalProperties": False,
    }


def test_a_name_becomes_a_title_for_people() -> None:
    def draw_chart() -> None:
        """Draw."""

    assert (describe(draw_chart).name, describe(draw_chart).title) == ("draw_chart", "Draw chart")


def test_rich_types_are_written_out_where_they_are_used() -> None:
    def rich(
        title: str,
        colour: Colour,
        when: date,
        line: Line,
        number: Optional[int] = None,  # noqa: UP045 — both spellings must work.
        kind: Literal["a", "b"] = "a",
        bounded: Annotated[int, Field(ge=1, description="Its own words.")] = 3,
        points: list[Point] = [],  # noqa: B006
    ) -> None:
        """Do.

        Args:
            line: What to draw.
        """

    schema = describe(rich).parameters
    point = {
        "type": "object",
        "properties": {"x": {"type": "integer"}, "y": {"type": "integer", "default": 0}},
        "required": ["x"],
    }
    assert "$defs" not in schema
    assert schema["properties"] == {
        "title": {"type": "string"},
        "colour": {"type": "string", "enum": ["red", "blue"]},
        "when": {"type": "string", "format": "date"},
        "line": {
            "type": "object",
            "description": "What to draw.",
            "properties": {"start": point, "end": point, "title": {"type": "string", "default": ""}},
            "required": ["start", "end"],
        },
        "number": {"anyOf": [{"type": "integer"}, {"type": "null"}], "default": None},
        "kind": {"type": "string", "enum": ["a", "b"], "default": "a"},
        "bounded": {"type": "integer", "minimum": 1, "default": 3, "description": "Its own words."},
        "points": {"type": "array", "items": point, "default": []},
    }


def test_only_a_type_that_contains_itself_stays_a_definition() -> None:
    def plant(tree: Tree, point: Point) -> None:
        """Plant."""

    schema = describe(plant).parameters
    assert schema["properties"]["tree"] == {"$ref": "#/$defs/Tree"}
    assert list(schema["$defs"]) == ["Tree"]
    assert schema["$defs"]["Tree"]["properties"]["children"]["items"] == {"$ref": "#/$defs/Tree"}


def test_a_parameter_may_have_a_name_that_pydantic_uses_itself() -> None:
    def awkward(json: int, schema: str, model_id: str, copy: bool = False, _hidden: int = 1) -> None:
        """Do."""

    assert list(describe(awkward).parameters["properties"]) == ["json", "schema", "model_id", "copy", "_hidden"]


def test_the_context_is_passed_in_and_not_shown_to_the_model() -> None:
    def save(text: str, call: Context) -> None:
        """Save."""

    def save_perhaps(text: str, call: Context | None = None) -> None:
        """Save."""

    for described in (describe(save), describe(save_perhaps)):
        assert list(described.parameters["properties"]) == ["text"]
        assert described.context_parameter == "call"


def test_what_is_not_declared_is_unsafe_and_needs_approval() -> None:
    def send() -> None:
        """Send."""

    @function
    def send_too() -> None:
        """Send."""

    for call in (send, send_too):
        described = describe(call)
        assert (described.effect, described.approval, described.timeout, described.cache) == ("unsafe", True, 60, None)


def test_what_is_declared_holds_and_the_function_stays_callable() -> None:
    @function(effect="read", timeout=5, cache=30)
    def look() -> int:
        """Look."""
        return 7

    described = describe(look)
    assert (described.effect, described.approval, described.timeout, described.cache) == ("read", False, 5, 30)
    assert look() == 7


def test_approval_can_be_asked_for_and_waived() -> None:
    @function(effect="read", approval=True)
    def look() -> None:
        """Look."""

    @function(approval=False)
    def send() -> None:
        """Send."""

    assert describe(look).approval
    assert not describe(send).approval


def test_approval_may_depend_on_the_arguments_and_who_cannot_tell_asks() -> None:
    @function(approval=lambda arguments: arguments["amount"] > 100)
    def pay(amount: int) -> None:
        """Pay."""

    described = describe(pay)
    assert described.needs_approval({"amount": 101})
    assert not described.needs_approval({"amount": 100})
    assert described.needs_approval({})
    assert described.agreement == "asks first, depending on the arguments"


def test_a_check_and_the_effect_that_it_is_for_go_together() -> None:
    with pytest.raises(ValueError, match="go together"):
        function(effect="verifiable")
    with pytest.raises(ValueError, match="go together"):
        function(effect="unsafe", verify=lambda arguments, key: NotDone())

    @function(effect="verifiable", verify=lambda arguments, key: NotDone())
    def send() -> None:
        """Send."""

    assert describe(send).approval


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"effect": "harmless"}, "Use one of: read, transactional"),
        ({"timeout": 0}, "greater than zero"),
        ({"cache": 10}, "only makes sense with effect='read'"),
        ({"cache": 10, "effect": "read", "answered_by": "person"}, "only makes sense with effect='read'"),
        ({"cache_shared": True, "effect": "read"}, "Say with cache= how long"),
    ],
)
def test_a_wrong_declaration_says_what_is_right(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        function(**options)


def undocumented(a: int) -> None: ...


def unhinted(a) -> None:  # type: ignore[no-untyped-def]
    """Do."""


def variadic(*numbers: int) -> None:
    """Do."""


def positional(a: int, /) -> None:
    """Do."""


def generator(a: int) -> Any:
    """Do."""
    yield a


def unreadable(a: "Missing") -> None:  # type: ignore[name-defined]  # noqa: F821
    """Do."""


def indescribable(a: Callable[[], None]) -> None:
    """Do."""


def opaque(a: Exception) -> None:
    """Do."""


def münze(a: int) -> None:
    """Do."""


@function(effect="transactional")
async def async_transactional() -> None:
    """Do."""


@function(effect="read", cache=10, cache_shared=True)
def shared_but_personal(context: Context) -> None:
    """Do."""


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        (shared_but_personal, "Leave out cache_shared or the Context"),
        (undocumented, "no docstring"),
        (unhinted, "'a' has no type hint"),
        (variadic, "cannot be given by name"),
        (positional, "cannot be given by name"),
        (generator, "Return a list"),
        (unreadable, "hints cannot be read"),
        (indescribable, "no JSON schema"),
        (opaque, "cannot be described"),
        (münze, "ASCII letters"),
        (async_transactional, "must be a plain `def`"),
    ],
)
def test_a_function_that_cannot_be_described_says_what_to_change(call: Callable[..., Any], complaint: str) -> None:
    with pytest.raises(SignatureError, match=complaint):
        describe(call)
