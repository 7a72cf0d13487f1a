"""The cards on which people decide: what they show, and what is read from them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.urls import reverse
from django.utils.dateparse import parse_datetime

from conversations import words
from conversations.sub_tasks import ALONE
from executor import money
from executor.decisions import WrongAnswer
from executor.models import Decision, Step, Task
from tools.registry import find_function

Kind, Choice = Decision.Kind, Decision.Choice

#: What the names of fields with arguments begin with.
ARGUMENT = "argument-"
#: Longer JSON stands in lines.
_A_LINE = 80


@dataclass(frozen=True, slots=True)
class FieldView:
    """An argument that can be changed. `kind` is "text", "number", "choice" or "json"."""

    name: str
    label: str
    help: str
    kind: str
    value: str
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DecidedView:
    """A line for the history: “Allowed by Ada at 14:03 · with {…}” is `what`, `at` and `more`."""

    what: str
    at: datetime | None = None
    more: str = ""


@dataclass(frozen=True, slots=True)
class DecisionView:
    id: int
    kind: str
    url: str
    function: str
    title: str
    description: str
    #: What the call is made with, or what the task did so far, as (name, value).
    facts: tuple[tuple[str, str], ...]
    fields: tuple[FieldView, ...]
    options: tuple[str, ...]
    lines: tuple[str, ...]
    can_always: bool
    said: str
    details: Mapping[str, Any]
    #: When a limit of a day starts anew.
    renews_at: datetime | None
    expires_at: datetime | None
    task_id: UUID
    #: Who asks, where that is not the agent to whom the person speaks.
    asker: str

    @classmethod
    def of(cls, decision: Decision) -> DecisionView:
        step = decision.step
        arguments = decision.arguments or (step.arguments if step else None) or {}
        function = find_function(step.name) if step else None
        is_call = decision.kind in (Kind.APPROVAL, Kind.UNKNOWN)
        schema = function.parameters["properties"] if function and decision.kind == Kind.APPROVAL else {}
        return cls(
            id=decision.pk,
            kind=decision.kind,
            url=reverse("decide", args=[decision.pk]),
            function=words.human_name(step.name) if step else "",
            title=_title(decision, arguments),
            description=function.description.splitlines()[0] if function and is_call else "",
            facts=_so_far(decision.task) if decision.kind == Kind.LIMIT else _facts(arguments) if is_call else (),
            fields=tuple(_field(name, rule, arguments) for name, rule in schema.items()),
            options=tuple(map(str, arguments.get("choices") or ()))[:6] if decision.kind == Kind.QUESTION else (),
            lines=tuple(map(str, arguments.get("steps") or ())) if decision.kind == Kind.PLAN else (),
            can_always=decision.kind == Kind.APPROVAL and not decision.details.get("each_time"),
            said=words.shorten(step.result) if step and decision.kind == Kind.UNKNOWN else "",
            details=decision.details,
            renews_at=parse_datetime(str(decision.details.get("renews_at", ""))),
            expires_at=decision.expires_at,
            task_id=decision.task_id,
            asker=_asker(decision.task),
        )


def decision_views(decisions: Iterable[Decision]) -> tuple[DecisionView, ...]:
    return tuple(map(DecisionView.of, decisions))


def changed_arguments(decision: Decision, data: Mapping[str, str]) -> dict[str, Any] | None:
    """The arguments as they stand in the card; None if it has no fields for them. Raises WrongAnswer."""
    step = decision.step
    if step is None:
        return None
    before: dict[str, Any] = step.arguments or {}
    if decision.kind == Kind.PLAN:
        if "steps" not in data:
            return None
        lines = [line.strip() for line in data["steps"].splitlines() if line.strip()]
        if not lines:
            raise WrongAnswer("A plan needs at least one step. Refuse it if you do not want it.")
        return before | {"steps": lines}
    return read_arguments(step, data)


def argument_fields(step: Step) -> tuple[FieldView, ...]:
    """Of a call whose arguments can be changed; none where nobody knows its function."""
    return fields_of(_schema(step), step.arguments or {})


def read_arguments(step: Step, data: Mapping[str, str]) -> dict[str, Any] | None:
    """The arguments of a call as its fields have them; None if there are none. Raises WrongAnswer."""
    return read_fields(_schema(step), step.arguments or {}, data)


def fields_of(schema: Mapping[str, Any], values: Mapping[str, Any]) -> tuple[FieldView, ...]:
    """A field for each property of an object, as it is in `values`."""
    return tuple(_field(name, rule, values) for name, rule in schema.items())


def read_fields(schema: Mapping[str, Any], before: Mapping[str, Any], data: Mapping[str, str]) -> dict[str, Any] | None:
    """The values as their fields have them, with those that have none as they were `before`; None if no field was
    sent. Raises WrongAnswer."""
    given = {name: data[ARGUMENT + name] for name in schema if ARGUMENT + name in data}
    if not given:
        return None
    values = dict(before)
    for name, text in given.items():
        field = _field(name, schema[name], before)
        if text.replace("\r\n", "\n") == field.value:
            continue  # As it was, also where it was left out.
        if text == "" and field.kind != "text":
            values.pop(name, None)
        else:
            values[name] = _read(field, text)
    return values


def read_object(text: str) -> dict[str, Any]:
    """Raises WrongAnswer unless it is a JSON object."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise WrongAnswer(f"This is not JSON: {error}.") from error
    if not isinstance(found, dict):
        raise WrongAnswer('Write a JSON object: {"name": value, …}.')
    return found


def what_was_decided(decision: Decision) -> DecidedView:
    who = decision.decided_by.get_full_name() if decision.decided_by else ""
    if decision.status != Decision.Status.DECIDED:
        return DecidedView(str(decision.get_status_display()))
    more = [f"with {json.dumps(decision.arguments, ensure_ascii=False)}"] if decision.arguments is not None else []
    if decision.note and decision.kind != Kind.QUESTION:
        more.append(f"“{decision.note}”")
    what = f"{decision.get_choice_display()}{f' by {who}' if who else ''}"
    return DecidedView(what, decision.decided_at, "".join(f" · {said}" for said in more))


def _asker(task: Task) -> str:
    """The agent of a task that another agent gave, and what that calls it."""
    if task.parent_id is None:
        return ""
    agent = str(task.agent_version.config["title"])
    return agent if task.name == ALONE else f"{agent} ({task.name})"


def _facts(arguments: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    return tuple((name, _shown(value)) for name, value in arguments.items())


def _so_far(task: Task) -> tuple[tuple[str, str], ...]:
    """What somebody wants to know who is asked whether it may use more."""
    told = {
        "Function calls": f"{task.tool_calls:,}" + (f", {task.failed_calls} failed" if task.failed_calls else ""),
        "Tokens": f"{task.input_tokens + task.output_tokens:,}",
        "Cost": money.cost(task.cost, task.unpriced_calls),
    }
    return tuple((name, value) for name, value in told.items() if value)


def _title(decision: Decision, arguments: Mapping[str, Any]) -> str:
    name = words.human_name(decision.step.name) if decision.step else ""
    match decision.kind:
        case Kind.QUESTION:
            return str(arguments.get("question", ""))
        case Kind.PLAN:
            return str(arguments.get("goal", ""))
        case Kind.UNKNOWN:
            return f"“{name}” may have run"
        case Kind.LIMIT:
            return str(decision.details.get("sentence", "A limit is reached."))
        case _:
            return f"May “{name}” run?"


def _schema(step: Step) -> dict[str, Any]:
    function = find_function(step.name)
    return function.parameters["properties"] if function else {}


def _field(name: str, rule: Mapping[str, Any], arguments: Mapping[str, Any]) -> FieldView:
    value = arguments.get(name)
    kind = _kind(rule)
    options: tuple[str, ...] = ()
    if kind == "choice":
        options = tuple(map(str, rule["enum"])) if "enum" in rule else ("true", "false")
        options = options if name in arguments else ("", *options)
    if kind == "text" and not isinstance(value, str | None):
        kind = "json"
    text = value if isinstance(value, str) and kind != "json" else json.dumps(value, ensure_ascii=False)
    if kind == "json" and len(text) > _A_LINE:
        text = words.pretty(value)
    return FieldView(
        name=ARGUMENT + name,
        label=name.replace("_", " "),
        help=str(rule.get("description", "")),
        kind=kind,
        value=(text if name in arguments else "").replace("\r\n", "\n"),
        options=options,
    )


def _kind(rule: Mapping[str, Any]) -> str:
    if "enum" in rule and all(isinstance(value, str) for value in rule["enum"]):
        return "choice"
    match rule.get("type"):
        case "string":
            return "text"
        case "boolean":
            return "choice"
        case "integer" | "number":
            return "number"
        case _:
            return "json"


def _read(field: FieldView, text: str) -> Any:
    if field.kind == "text" or (field.kind == "choice" and text not in ("true", "false")):
        return text.replace("\r\n", "\n")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        wanted = "a number" if field.kind == "number" else "JSON, such as [1, 2] or “text” in double quotes"
        raise WrongAnswer(f"{field.label.capitalize()}: write {wanted}.") from error


def _shown(value: Any) -> str:
    return words.shorten(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2))
