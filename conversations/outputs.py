"""The form of what a declared step gave: a field for each of its values, and what is read from them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from conversations.cards import FieldView, fields_of, read_fields, read_object
from executor.core.errors import TaskExecutionError
from executor.core.executor import TaskExecutor
from executor.declared import class_for
from executor.models import Step, Task

_KINDS = {str: "string", bool: "boolean", int: "number", float: "number"}


@dataclass(frozen=True, slots=True)
class _Shape:
    """What there are fields for: these properties, with their `values`. `within`: they are those of an object which is
    all that the output has, under this name."""

    properties: Mapping[str, Any]
    values: Mapping[str, Any]
    within: str = ""


def code_of(task: Task) -> type[TaskExecutor] | None:
    """What runs a declared task; None if there is no such code any more."""
    try:
        return class_for(task.declared) if task.declared else None
    except TaskExecutionError:
        return None


def output_fields(code: type[TaskExecutor] | None, step: Step) -> tuple[FieldView, ...]:
    """None where nobody knows what the step may give: then it is written as JSON."""
    shape = _shape(code, step)
    return fields_of(shape.properties, shape.values)


def read_output(code: type[TaskExecutor] | None, step: Step, data: Mapping[str, str]) -> dict[str, Any]:
    """What the step gave, as its form says. Raises WrongAnswer."""
    shape = _shape(code, step)
    if (values := read_fields(shape.properties, shape.values, data)) is None:
        return read_object(data.get("output", ""))
    return {shape.within: values} if shape.within else values


def _shape(code: type[TaskExecutor] | None, step: Step) -> _Shape:
    given = json.loads(step.result) if step.result else {}
    declared = next((one for one in code.task_steps if one.id == step.name), None) if code else None
    schema = (declared.response_schema if declared else None) or {}
    if code is None or declared is None or code.has_handler(declared):
        return _Shape(_rules(schema, given), given)
    value = given.get(step.name, {})
    if schema.get("properties") and isinstance(value, dict):
        return _Shape(_rules(schema, value), value, step.name)
    return _Shape({step.name: schema or {"type": "string"}}, given)


def _rules(schema: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """How each value is written: as the schema says, and what that does not speak of, as it is."""
    said = {name: rule if isinstance(rule, dict) else {} for name, rule in schema.get("properties", {}).items()}
    return said | {name: {"type": _KINDS.get(type(value))} for name, value in values.items() if name not in said}
