"""Which schemas of an answer OpenAI's formats can hold strictly."""

from __future__ import annotations

from typing import Any

import pytest

from executor.core.llms._strict_schema import is_strict
from tests.fakes import schemas

N = {"type": "integer"}
CLOSED = {"type": "object", "properties": {"n": N}, "required": ["n"], "additionalProperties": False}


def holding(inner: Any, **more: Any) -> dict[str, Any]:
    return CLOSED | {"properties": {"n": inner}} | more


@pytest.mark.parametrize(
    "schema",
    [
        CLOSED,
        holding(CLOSED),
        holding({"type": "array", "items": CLOSED}),
        holding({"anyOf": [CLOSED, {"type": "null"}]}),
        holding({"$ref": "#/$defs/one"}, **{"$defs": {"one": CLOSED}}),
        holding({"type": ["string", "null"], "enum": ["a", None], "description": "A letter."}),
        {"type": "object", "properties": {}, "additionalProperties": False},
    ],
)
def test_closed_objects_are_held_strictly_and_a_server_agrees(schema: dict[str, Any]) -> None:
    assert is_strict(schema)
    assert schemas.objection({"name": "answer", "schema": schema, "strict": True}) == ""


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"type": "array", "items": N},
        {"type": "object"},
        CLOSED | {"additionalProperties": True},
        CLOSED | {"required": []},
        CLOSED | {"required": "n"},
        CLOSED | {"properties": []},
        CLOSED | {"anyOf": [CLOSED]},
        holding({"type": "object", "properties": {"m": N}}),
        holding({"type": ["object", "null"]}),
        holding({"type": "array"}),
        holding({"type": "array", "items": {"type": "object"}}),
        holding({"anyOf": [{"type": "object"}]}),
        holding({"$ref": "#/$defs/one"}, **{"$defs": {"one": {"type": "object"}}}),
        holding({"type": "string", "default": "a"}),
        holding(True),
        holding(holding(holding(holding(holding(holding(N)))))),
    ],
)
def test_anything_else_is_only_wished_for(schema: dict[str, Any]) -> None:
    assert not is_strict(schema)
