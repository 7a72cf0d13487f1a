"""Answers of a demanded form: what is wrong with one, what the model is told, when it is given up."""

from __future__ import annotations

from typing import Any

import pytest

from executor.core.messages import ToolCall, assistant, tool, user
from executor.core.messages import ToolResult as Result
from executor.core.validation import (
    CORRECTIONS,
    answer_problems,
    given_up,
    parse_answer,
    schema_problem,
    with_corrections,
)

CITY = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "people": {"type": "integer", "minimum": 0}},
    "required": ["name", "people"],
    "additionalProperties": False,
}
GOOD = '{"name": "Ulm", "people": 126000}'


@pytest.mark.parametrize("text", [GOOD, f"```json\n{GOOD}\n```", f"\n```\n{GOOD}\n```\n", f"  {GOOD}\n"])
def test_an_answer_of_the_demanded_form_has_no_problems(text: str) -> None:
    assert answer_problems(text, CITY) == []
    assert parse_answer(text) == {"name": "Ulm", "people": 126000}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("Ulm has 126,000 people.", "It is not JSON: Expecting value"),
        ("", "It is not JSON"),
        (f"Here it is:\n```json\n{GOOD}\n```", "It is not JSON"),
        ('{"name": "Ulm"}', "'people' is a required property"),
        ('{"name": "Ulm", "people": "many"}', "people: 'many' is not of type 'integer'"),
        ('{"name": "Ulm", "people": -1}', "people: -1 is less than the minimum of 0"),
        ('{"name": "Ulm", "people": NaN}', "It is not JSON: NaN is not JSON"),
        ("[]", "[] is not of type 'object'"),
        ("[" * 100_000, "It is not JSON"),
    ],
)
def test_each_problem_is_told_with_its_place(text: str, problem: str) -> None:
    (found,) = answer_problems(text, CITY)
    assert found.startswith(problem)


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({"items": {"$ref": "#"}, "type": "array"}, "[" * 400 + "]" * 400),
        ({"multipleOf": 0.5}, "1e999"),
        ({"multipleOf": 0.5}, "1" + "0" * 400),
    ],
)
def test_what_cannot_be_checked_is_a_problem_of_the_answer(schema: dict[str, Any], text: str) -> None:
    assert schema_problem(schema) == ""
    assert len(answer_problems(text, schema)) <= 1, "and never an exception"


def test_many_problems_are_counted_and_long_ones_cut() -> None:
    schema = {"type": "array", "items": {"type": "integer"}}
    found = answer_problems("[" + ",".join(['"' + "x" * 1000 + '"'] * 9) + "]", schema)
    assert len(found) == 6
    assert found[-1] == "… and 4 more"
    assert max(map(len, found)) == 300


def test_the_model_is_told_behind_each_wrong_answer_and_only_there() -> None:
    call = ToolCall("c", "look_up", {})
    transcript = [
        user("An earlier question."),
        assistant("An earlier answer, in words."),
        user("Which city?"),
        assistant("I look.", call),
        tool(Result("c", "look_up", "Ulm")),
        assistant("Ulm."),
        assistant('{"name": "Ulm"}'),
    ]
    told = with_corrections(transcript, CITY)
    assert [m.role for m in told] == [m.role for m in transcript[:6]] + ["user", "assistant", "user"]
    assert "It is not JSON" in told[6].text
    assert "'people' is a required property" in told[8].text
    assert with_corrections([user("?"), assistant(GOOD)], CITY) == [user("?"), assistant(GOOD)]
    assert with_corrections(transcript, CITY) == told, "the same words each time"


def test_it_is_given_up_after_so_many_corrections_and_not_before() -> None:
    transcript = [user("Which city?"), *[assistant("Ulm.")] * CORRECTIONS]
    assert given_up(transcript, CITY) is None
    transcript.append(assistant("Ulm!"))
    failure = given_up(transcript, CITY)
    assert failure is not None
    assert f"after {CORRECTIONS} corrections: It is not JSON" in failure.message
    assert failure.hint
    assert given_up([*transcript[:-1], assistant(GOOD)], CITY) is None
    assert given_up([*transcript, user("Again?"), assistant("Ulm.")], CITY) is None, "a new question begins anew"


@pytest.mark.parametrize(
    ("schema", "problem"),
    [
        (CITY, ""),
        ({"$defs": {"n": {"type": "number"}}, "$ref": "#/$defs/n"}, ""),
        ({}, "It must be a JSON Schema"),
        ([CITY], "It must be a JSON Schema"),
        ({"type": "objekt"}, "It is no JSON Schema: type: 'objekt' is not valid"),
        ({"properties": 3}, "It is no JSON Schema: properties: 3 is not of type 'object'"),
        ({"$ref": "#"}, "It refers to something that is not there, or to itself"),
        ({"properties": {"a": {"items": {"$ref": "#/$defs/nobody"}}}}, "It refers to something that is not there"),
        ({"$ref": "#/$defs/nobody"}, "It refers to something that is not there"),
        ({"properties": {"a": {"$ref": "http://elsewhere/schema"}}}, "It may not refer to other documents"),
    ],
)
def test_a_schema_is_checked_before_it_is_demanded(schema: Any, problem: str) -> None:
    found = schema_problem(schema)
    assert found.startswith(problem) if problem else found == ""
