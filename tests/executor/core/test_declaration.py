"""Declarations: plain data, the class that runs it, and what is said of those that are wrong."""

from __future__ import annotations

import json
from typing import Any

import pytest

from executor.core.declaration import DeclarationError, declaration_of, executor_class
from executor.core.executor import ExecutionStatus, TaskExecutor
from executor.core.messages import user
from executor.core.steps import TaskInput, TaskStep
from tests.executor.conftest import MakeScript
from tests.executor.scripted import say

TIDES: dict[str, Any] = {
    "name": "tide-report",
    "title": "Report on tides",
    "description": "Two steps.",
    "agent": "helper",
    "inputs": [
        {"name": "place", "label": "Which place?"},
        {"name": "tone", "kind": "choice", "choices": ["dry", "warm"], "default": "dry", "required": False},
    ],
    "steps": [
        {
            "id": "facts",
            "instruction": "Find the facts.",
            "required_info": ["place"],
            "output": {"type": "object", "properties": {"high": {"type": "string"}}, "required": ["high"]},
            "retries": 0,
        },
        {"id": "text", "name": "Write", "instruction": "Write it.", "required_info": ["facts"], "timeout": 60},
    ],
    "answer": "# Tides\n\nHigh water: {facts.high}\n\n{text}\n\n`{{text}}` and `{ code }`",
}


async def test_what_is_declared_without_code_runs_as_a_class_does(scripted: MakeScript) -> None:
    script = scripted(say('{"high": "06:12"}'), say("It comes twice."))
    cls = executor_class(TIDES)
    task = cls(script.llm())
    result = await task.execute({"place": "Brest"})
    assert result.status == ExecutionStatus.DONE
    assert result.output == {"facts": {"high": "06:12"}, "text": "It comes twice."}
    assert task.answer(result.output) == ("# Tides\n\nHigh water: 06:12\n\nIt comes twice.\n\n`{text}` and `{ code }`")
    assert script.asked[0] == (user('Find the facts.\n\n{"place": "Brest", "tone": "dry"}'),)


def test_a_declaration_survives_the_way_through_its_class() -> None:
    once = declaration_of(executor_class(TIDES))
    assert declaration_of(executor_class(json.loads(json.dumps(once)))) == once
    assert (once["steps"][0]["name"], once["inputs"][0]["label"]) == ("Facts", "Which place?")


def test_what_steps_require_is_asked_for_where_nothing_is_said() -> None:
    bare = {"name": "x", "steps": [{"id": "text", "instruction": "Write.", "required_info": ["topic"]}]}
    cls = executor_class(bare)
    assert (cls.title, cls.asks_for()) == ("X", (TaskInput("topic"),))


class TideTable(TaskExecutor):
    """Tables of tides,
    for sailors.

    Not told.
    """

    task_steps = (TaskStep("table", "Table"),)


def test_a_class_is_named_and_described_by_its_own_words() -> None:
    declaration = declaration_of(TideTable)
    assert declaration["class"] == f"{__name__}.TideTable"
    told = [declaration[name] for name in ("name", "title", "description", "agent")]
    assert told == ["tide-table", "Tide table", "Tables of tides, for sailors.", ""]


def changed(**fields: Any) -> dict[str, Any]:
    return {**TIDES, **fields}


STEP = {"id": "text", "instruction": "Write."}


@pytest.mark.parametrize(
    ("declaration", "mistake"),
    [
        ({}, "name: is missing: give it a name of small letters, digits and dashes."),
        (changed(name="No Good"), 'name: must be a name of small letters, digits and dashes, not "No Good".'),
        (changed(steps=[]), "steps: must not be empty."),
        (
            changed(stepz=1),
            "stepz: there is no such field. Use: name, title, description, agent, inputs, steps, answer.",
        ),
        (changed(inputs=["place"]), 'inputs[0]: must be a mapping of fields, not "place".'),
        (
            changed(inputs=[{"name": "place", "kind": "colour"}]),
            'inputs[0].kind: must be one of: text, long_text, number, choice, boolean, not "colour".',
        ),
        (
            changed(inputs=[{"name": "place", "kind": "choice"}]),
            "inputs[0].choices: is missing: list what can be chosen.",
        ),
        (
            changed(inputs=[{"name": "place", "choices": ["a"]}]),
            "inputs[0].choices: is only for kind: choice. Leave it out, or change the kind.",
        ),
        (
            changed(inputs=[{"name": "place", "kind": "number", "default": "many"}]),
            "inputs[0].default: does not fit: “Place” must be a number.",
        ),
        (
            changed(inputs=[{"name": "place"}, {"name": "place"}]),
            'inputs[1].name: "place" is there already. Give it another name.',
        ),
        (
            changed(inputs=[{"name": "place"}, {"name": "text"}]),
            'steps[1].id: "text" is the name of an input already. Give the step another one.',
        ),
        (
            changed(inputs=[{"name": "where"}]),
            'steps[0].required_info[0]: no input and no earlier step is called "place". There is: where.',
        ),
        (
            changed(answer="{tect}"),
            "answer: there is no step {tect}. Use {facts}, {text}, or write {{tect}} for these very words.",
        ),
        (changed(answer="{facts.low}"), 'answer: the output of facts has no "low". It has: high.'),
        (changed(answer="{text.low}"), "answer: text gives text, so {text.low} is nothing. Write {text}."),
        (changed(answer="", steps=[STEP, STEP]), 'steps[1].id: "text" is there already. Give it another name.'),
        (changed(answer="", steps=[{"id": "text"}]), "steps[0].instruction: is missing: say what the model is to do."),
        (
            changed(answer="", steps=[{**STEP, "retries": True}]),
            "steps[0].retries: must be a whole number from 0 to 10, not true.",
        ),
        (changed(answer="", steps=[{**STEP, "timeout": 0}]), "steps[0].timeout: must be seconds, more than 0, not 0."),
        (
            changed(answer="", steps=[{**STEP, "functions": [1]}]),
            "steps[0].functions[0]: must be a text, not 1. Put it in quotes.",
        ),
        (
            changed(answer="", steps=[{**STEP, "output": {"type": "nothing"}}]),
            "steps[0].output: It is no JSON Schema: type: 'nothing' is not valid under any of the given schemas.",
        ),
    ],
)
def test_a_mistake_is_told_with_its_place(declaration: dict[str, Any], mistake: str) -> None:
    with pytest.raises(DeclarationError) as raised:
        executor_class(declaration)
    assert mistake in raised.value.mistakes


async def test_an_answer_shows_values_as_people_write_them(scripted: MakeScript) -> None:
    schema = {"type": "object"}
    step = {"id": "it", "instruction": "Go.", "output": schema}
    cls = executor_class(
        {"name": "x", "steps": [step], "answer": "{it.list}\n\n{it.yes} {it.number}{it.none}\n\n{it.more}"}
    )
    values = {"list": ["a", 2], "yes": True, "number": 2.5, "more": {"a": 1}}
    task = cls(scripted(say(json.dumps(values))).llm())
    result = await task.execute({})
    assert task.answer(result.output) == '- a\n- 2\n\nyes 2.5\n\n```json\n{\n  "a": 1\n}\n```'
