"""The demonstration as the model of declared tasks: honest quotes, JSON of every form, and calls that it is told."""

from __future__ import annotations

import json
from typing import Any

import pytest

from executor.core.llms.base import Endpoint
from executor.core.llms.demo import Demo
from executor.core.llms.demo.model import answer
from executor.core.messages import ToolSpec, user
from executor.core.validation import answer_problems

KNOWN = {"topic": "Tides", "page": "The moon pulls the water. High water comes twice a day."}
QUESTION = f"Write a short report. Be brief.\n\n{json.dumps(KNOWN)}"
TOOLS = [ToolSpec("draw_chart", "Draw.", {"type": "object"}), ToolSpec("calculate", "Count.", {"type": "object"})]


@pytest.mark.parametrize("tools", [[], TOOLS])
def test_it_quotes_what_it_was_given_and_says_what_it_cannot_do(tools: list[ToolSpec]) -> None:
    assert answer([user(QUESTION)], tools).text == (
        "*A language model would do this now: Write a short report. "
        "The demonstration only quotes what it was given (`topic`, `page`).*\n\n"
        "> The moon pulls the water.\n>\n> High water comes twice a day."
    )


def test_it_does_not_quote_itself() -> None:
    draft = answer([user(QUESTION)], []).text
    again = answer([user(f"Improve it.\n\n{json.dumps({'draft': draft})}")], []).text
    assert again.endswith("> The moon pulls the water.\n>\n> High water comes twice a day.")


def test_it_quotes_what_the_person_gave_rather_than_what_was_taken_for_granted_or_made_of_it() -> None:
    known = {
        "outline": "- why compost\n- what goes in\n- when is it ready",
        "audience": "people who are interested and know nothing about it yet, of any age, wherever they live",
        "draft": "It is well known. Compost is good. It helps. Much more could be said about every part of it.",
    }
    said = answer([user(f"Write.\n\n{json.dumps(known)}")], []).text
    assert said.endswith("> why compost\n>\n> what goes in\n>\n> when is it ready")


def test_what_it_understands_by_itself_it_still_does() -> None:
    question = user('Read the page and say what it is about.\n\n{"address": "https://news.example/"}')
    (call,) = answer([question], [ToolSpec("fetch_page", "Read.", {"type": "object"})]).tool_calls
    assert (call.name, call.arguments) == ("fetch_page", {"url": "https://news.example/"})


def test_people_who_paste_json_are_answered_as_ever() -> None:
    assert "demonstration agent" in answer([user('{"a": 1}')], TOOLS).text
    assert "demonstration agent" in answer([user('Hello\n\n{"a": 1')], TOOLS).text


def test_a_call_that_is_written_down_is_made_as_it_is() -> None:
    arguments = {"kind": "bar", "labels": ["2024-01", "b"], "values": [1.5, 2]}
    told = json.dumps({"function": "draw_chart", "arguments": arguments})
    (call,) = answer([user(f"Call it.\n\n{told}")], TOOLS).tool_calls
    assert (call.name, call.arguments) == ("draw_chart", arguments)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"a": {"type": "string", "maxLength": 5}, "b": {"type": "boolean"}}},
        {"type": "object", "properties": {"n": {"type": "integer", "minimum": 3}}, "required": ["n"]},
        {"type": "object", "properties": {"n": {"type": "number", "exclusiveMinimum": 3, "maximum": 9}}},
        {"type": "array", "items": {"enum": ["x", "y"]}, "minItems": 2},
        {"type": "array", "items": {"$ref": "#/$defs/one"}, "$defs": {"one": {"type": "object", "required": []}}},
        {"anyOf": [{"const": 7}, {"type": "string"}]},
        {"type": ["string", "null"], "minLength": 300},
        {"type": "null"},
    ],
)
async def test_json_of_a_demanded_form_fits_it(schema: dict[str, Any]) -> None:
    for text in (QUESTION, "Say something."):
        done = await Demo(Endpoint(""), pause=0).generate_content_async([user(text)], response_schema=schema)
        assert answer_problems(done.message.text, schema) == []
