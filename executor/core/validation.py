"""Answers that must be JSON of a given form: whether they are, and what the model is told when they are not."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from executor.core.errors import TaskExecutionError
from executor.core.messages import Message, user

#: How often a model is told what is wrong with its answer before the task fails.
CORRECTIONS = 2
_PROBLEMS_TOLD = 5
_PROBLEM_CHARS = 300
_FENCED = re.compile(r"\s*```(?:json)?\s*\n(.*?)\n?```\s*", re.DOTALL | re.IGNORECASE)


class ResponseInvalid(TaskExecutionError):
    """The model did not come up with an answer of the demanded form."""

    kind = "response_invalid"


def schema_problem(schema: Any) -> str:
    """Why `schema` is no JSON Schema that an answer can be held to, as a sentence; "" when it is one."""
    from jsonschema import Draft202012Validator, SchemaError

    if not isinstance(schema, dict) or not schema:
        return "It must be a JSON Schema: an object such as {“type”: “object”, “properties”: …}."
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        return f"It is no JSON Schema: {_place(error.absolute_path)}{error.message[:_PROBLEM_CHARS]}."
    if not all(reference.startswith("#") for reference in _references(schema)):
        return "It may not refer to other documents: use “#/$defs/…”."
    try:
        _look_up_references(schema)
        list(Draft202012Validator(schema).iter_errors(None))
    except Exception:  # What it refers to is missing, or is itself.
        return "It refers to something that is not there, or to itself without end."
    return ""


def parse_answer(text: str) -> Any:
    """The JSON value of an answer, also where the model put a code fence around it. Raises ValueError."""
    fenced = _FENCED.fullmatch(text)
    return json.loads(fenced[1] if fenced else text, parse_constant=_refuse)


def answer_problems(text: str, schema: dict[str, Any]) -> list[str]:
    """What is wrong with an answer, a line each with the place; nothing when it is as demanded."""
    from jsonschema import Draft202012Validator

    try:
        value = parse_answer(text)
    except (ValueError, RecursionError) as error:
        return [f"It is not JSON: {error}"[:_PROBLEM_CHARS]]
    try:
        errors = sorted(Draft202012Validator(schema).iter_errors(value), key=lambda error: list(map(str, error.path)))
    except Exception as error:  # Numbers beyond counting, nesting beyond following: the answer's fault, not the task's.
        return [f"It cannot be checked ({type(error).__name__}): its numbers or its nesting are out of all bounds."]
    told = [f"{_place(error.absolute_path)}{error.message}"[:_PROBLEM_CHARS] for error in errors[:_PROBLEMS_TOLD]]
    return [*told, f"… and {len(errors) - _PROBLEMS_TOLD} more"] if len(errors) > _PROBLEMS_TOLD else told


def with_corrections(transcript: Sequence[Message], schema: dict[str, Any]) -> list[Message]:
    """`transcript` with what the model was told behind each answer that was not as demanded.

    These words are in no row: they follow from the answer, so they are the same after a restart.
    """
    last_question = max((i for i, message in enumerate(transcript) if message.role == "user"), default=-1)
    told: list[Message] = []
    for position, message in enumerate(transcript):
        told.append(message)
        is_answer = position > last_question and message.role == "assistant" and not message.tool_calls
        if is_answer and (problems := answer_problems(message.text, schema)):
            told.append(_correction(problems))
    return told


def given_up(transcript: Sequence[Message], schema: dict[str, Any]) -> ResponseInvalid | None:
    """The failure of a task whose model was corrected often enough, None while it may try again."""
    last_question = max((i for i, message in enumerate(transcript) if message.role == "user"), default=-1)
    answers = [m.text for m in transcript[last_question + 1 :] if m.role == "assistant" and not m.tool_calls]
    if len(answers) <= CORRECTIONS or not (problems := answer_problems(answers[-1], schema)):
        return None
    return ResponseInvalid(
        f"The answer does not have the demanded form, also after {CORRECTIONS} corrections: {problems[0]}",
        hint="Try again, or ask an administrator to choose another model or a simpler form.",
    )


def _correction(problems: Sequence[str]) -> Message:
    listed = "\n".join(f"- {problem}" for problem in problems)
    return user(
        "This answer does not have the form that is demanded. What is wrong:\n"
        f"{listed}\nAnswer again with the corrected JSON and nothing else."
    )


def _place(path: Any) -> str:
    where = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).lstrip(".")
    return f"{where}: " if where else ""


def _references(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        yield from (value for name in ("$ref", "$dynamicRef") if isinstance(value := schema.get(name), str))
        for value in schema.values():
            yield from _references(value)
    elif isinstance(schema, list):
        for item in schema:
            yield from _references(item)


def _look_up_references(schema: dict[str, Any]) -> None:
    """Raises what `referencing` raises if one leads nowhere: no answer need ever come near it while it is checked."""
    from referencing import Registry
    from referencing.jsonschema import DRAFT202012

    resource = DRAFT202012.create_resource(schema)
    resolver = Registry().with_resource(resource.id() or "", resource).resolver(resource.id() or "")
    for reference in _references(schema):
        resolver.lookup(reference)


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")
