"""How one can try again from a step of the time line: as it was, or with something changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from django.urls import reverse

from conversations import words
from conversations.cards import FieldView, argument_fields
from conversations.outputs import output_fields
from executor.core.executor import TaskExecutor
from executor.history import owners
from executor.models import Step, Task
from tools.core.function import REPEATABLE

AGAIN, ALL_AGAIN, THE_REST_AGAIN = (
    "It will run again.",
    "It will run again, and so will what comes after it.",
    "What comes after it will run again.",
)
MODEL_IS_TOLD = "What the model is told instead. Nothing is run."
CODE_IS_GIVEN = "What the code of the step gets instead, as JSON. This is not run."


@dataclass(frozen=True, slots=True)
class Typed:
    """A form that was refused: at which step, which of its forms, why, and what was typed."""

    seq: int
    what: str
    problem: str
    data: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class AgainView:
    """How to try again from a step. `arguments`, `result` and `output` are what can be changed, None where it cannot;
    the first and the last have `fields` where these are known.

    `warning` says what will run that may do harm when it runs twice, `result_warning` what will so with a changed
    result or output.
    """

    url: str
    warning: str
    result_warning: str
    arguments: str | None
    result: str | None
    result_label: str
    output: str | None
    fields: tuple[FieldView, ...]
    problem: str
    open: str


def again_view(
    task: Task, step: Step, steps: Sequence[Step], code: type[TaskExecutor] | None, typed: Typed | None
) -> AgainView:
    """`steps` are all of the task, and `code` runs it if it is declared."""
    mine = typed if typed and typed.seq == step.seq else None
    data = mine.data if mine else {}
    is_call, is_step = step.kind == Step.Kind.TOOL, step.kind == Step.Kind.STEP
    is_part = is_call and owners(steps).get(step.seq) == step.parent_seq
    can_change = is_call and not is_part
    fields = argument_fields(step) if can_change else output_fields(code, step) if is_step else ()
    before = words.pretty_text(step.result) if is_part or is_step else step.result
    place = f"#again-{step.task_id}-{step.seq}"  # Where it is told why a form was refused.
    return AgainView(
        url=reverse("fork", args=[task.pk, step.seq]) + place,
        warning=_warning(task, step, steps),
        result_warning=THE_REST_AGAIN if task.declared_id and _may_harm(_after(step, steps)) else "",
        arguments=data.get("arguments", words.pretty(step.arguments or {})) if can_change else None,
        result=data.get("result", before) if is_call else None,
        result_label=CODE_IS_GIVEN if is_part else MODEL_IS_TOLD,
        output=data.get("output", before or "{}") if is_step else None,
        fields=tuple(replace(field, value=data.get(field.name, field.value)) for field in fields),
        problem=mine.problem if mine else "",
        open=mine.what if mine else "",
    )


def _warning(task: Task, step: Step, steps: Sequence[Step]) -> str:
    if not task.declared_id:
        return AGAIN if _may_harm([step]) else ""
    return ALL_AGAIN if _may_harm(other for other in steps if other.seq >= step.seq) else ""


def _after(step: Step, steps: Sequence[Step]) -> list[Step]:
    """What comes after `step`, and after what belongs to it."""
    owner = owners(steps)
    return [other for other in steps if other.seq > step.seq and owner.get(other.seq) != step.seq]


def _may_harm(steps: Iterable[Step]) -> bool:
    """Whether one of these ran, and does harm when it runs twice."""
    return any(
        step.kind == Step.Kind.TOOL
        and (step.started_at is not None or step.attempt > 1)
        and step.effect not in REPEATABLE
        for step in steps
    )
