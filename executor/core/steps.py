"""What a declared task is made of: its steps, and the input that it asks for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from executor.core.errors import StepValidationError

InputKind = Literal["text", "long_text", "number", "choice", "boolean"]


@dataclass(frozen=True, slots=True)
class TaskStep:
    """One declared step. `required_info` names the keys that must be there when it begins.

    Without a `handle_<id>` method the model is asked with the `instruction`: with `functions` (names) it may call them,
    with a `response_schema` (JSON Schema) what it answers must be JSON that fits it. A handler's result is held to the
    schema too. A step that fails is begun again up to `retries` times, and so is one that takes longer than `timeout`
    seconds. `agent` names who works on it if not the task's own agent.
    """

    id: str
    name: str
    instruction: str = ""
    required_info: tuple[str, ...] = ()
    response_schema: dict[str, Any] | None = None
    functions: tuple[str, ...] = ()
    retries: int = 1
    timeout: float | None = None
    agent: str = ""


@dataclass(frozen=True, slots=True)
class TaskInput:
    """One thing that a task wants to know before it begins."""

    name: str
    label: str = ""
    kind: InputKind = "text"
    help: str = ""
    required: bool = True
    choices: tuple[str, ...] = ()
    default: Any = None

    @property
    def title(self) -> str:
        return self.label or self.name.replace("_", " ").capitalize()

    def read(self, value: Any) -> Any:
        """`value` as the task gets it, also from a form; None if there is none. Raises StepValidationError."""
        if value is None or (isinstance(value, str) and not value.strip()):
            value = self.default
        if value is None and self.kind == "boolean":
            return False  # As forms say it: by leaving it out.
        if value is None:
            if self.required:
                raise StepValidationError(f"“{self.title}” is missing.")
            return None
        match self.kind:
            case "number":
                return _number(self, value)
            case "boolean":
                return value if isinstance(value, bool) else str(value).lower() in ("1", "true", "on", "yes")
            case "choice" if value not in self.choices:
                raise StepValidationError(f"“{self.title}” must be one of: {', '.join(self.choices)}.")
            case "text" | "long_text" if isinstance(value, dict | list | bool):
                raise StepValidationError(f"“{self.title}” must be a text.")
            case "text" | "long_text":
                return str(value)
        return value


def _number(asked: TaskInput, value: Any) -> int | float:
    try:
        number = float(value)
        if not math.isfinite(number):
            raise ValueError
        return int(number) if number.is_integer() else number
    except (TypeError, ValueError, OverflowError) as error:
        raise StepValidationError(f"“{asked.title}” must be a number.") from error


def inputs_of(steps: Sequence[TaskStep]) -> tuple[TaskInput, ...]:
    """What the steps require and no earlier step is named after, for a task that does not say what it asks for."""
    made: set[str] = set()
    wanted: dict[str, TaskInput] = {}
    for step in steps:
        wanted |= {name: TaskInput(name) for name in step.required_info if name not in made and name not in wanted}
        made.add(step.id)
    return tuple(wanted.values())


def read_input(inputs: Sequence[TaskInput], data: Mapping[str, Any]) -> dict[str, Any]:
    """The input as the steps get it, with what the task does not ask for left as it is. Raises StepValidationError."""
    asked = {entry.name: entry.read(data.get(entry.name)) for entry in inputs}
    return {**data, **{name: value for name, value in asked.items() if value is not None}}
