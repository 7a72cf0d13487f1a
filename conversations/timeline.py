"""The time line of a task: every step with what was decided about it, what it cost, and how to try again from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from django.urls import reverse

from conversations import words
from conversations.cards import FieldView, argument_fields, what_was_decided
from conversations.models import Turn
from conversations.present import FileView, StepView
from conversations.record import Record
from executor.models import Step, Task
from tools.core.function import REPEATABLE


@dataclass(frozen=True, slots=True)
class Typed:
    """A form that was refused: at which step, which of its forms, why, and what was typed."""

    seq: int
    what: str
    problem: str
    data: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class AgainView:
    """How to try again from a step. `warns`: what ran may do harm when it runs again."""

    url: str
    is_call: bool
    warns: bool
    fields: tuple[FieldView, ...]
    arguments: str
    result: str
    problem: str
    open: str


@dataclass(frozen=True, slots=True)
class LineView:
    """`change` says what a fork did to this step; `base_url` leads to it in the task that it is shared with."""

    step: StepView
    change: str
    base_url: str
    decisions: tuple[str, ...]
    again: AgainView | None


def timeline(record: Record, turn: Turn | None, typed: Typed | None = None) -> list[LineView]:
    """Every step in order. Of a task that is over and has a `turn`, one can go on from each; a declared one begins
    again where it failed, or anew."""
    can_go_on = turn is not None and not record.task.is_active and record.task.declared_id is None
    return [
        LineView(
            step=_step(record, step),
            change=_change(record, step),
            base_url=_base_url(step) if step.task_id != record.task.pk else "",
            decisions=tuple(what_was_decided(decision) for decision in record.decisions.get(step.pk, ())),
            again=_again(record.task, step, typed) if can_go_on and step.kind in _FROM else None,
        )
        for step in record.steps
    ]


_FROM = (Step.Kind.MODEL, Step.Kind.TOOL)


def _step(record: Record, step: Step) -> StepView:
    files = map(FileView.of, record.files_of(step))
    view = StepView.of(
        step, files, tasks=record.given.of(step), checkpoint=(step.task_id, step.seq) in record.checkpoints
    )
    if step.kind != Step.Kind.MODEL or step.status != Step.Status.DONE:
        return view
    calls = [other for other in record.steps if other.parent_seq == step.seq]
    if not calls and step.text:
        return replace(view, title="Answered")
    if calls and not step.text:
        names = dict.fromkeys(words.human_name(call.name) for call in calls)
        return replace(view, title=f"Asked for {', '.join(names)}")
    return view


def _change(record: Record, step: Step) -> str:
    before = record.shared.get(step.seq)
    if before is None or step.task_id != record.task.pk:
        return ""
    if step.status == Step.Status.DONE and step.started_at is None:
        return "Result changed"
    return "Arguments changed" if step.arguments != before.arguments else "Run again"


def _base_url(step: Step) -> str:
    return f"{reverse('task', args=[step.task_id])}#step-{step.task_id}-{step.seq}"


def _again(task: Task, step: Step, typed: Typed | None) -> AgainView:
    is_call = step.kind == Step.Kind.TOOL
    mine = typed if typed and typed.seq == step.seq else None
    data = mine.data if mine else {}
    ran = step.started_at is not None or step.attempt > 1
    fields = argument_fields(step) if is_call else ()
    return AgainView(
        url=reverse("fork", args=[task.pk, step.seq]),
        is_call=is_call,
        warns=is_call and ran and step.effect not in REPEATABLE,
        fields=tuple(replace(field, value=data.get(field.name, field.value)) for field in fields),
        arguments=data.get("arguments", words.pretty(step.arguments or {})) if is_call else "",
        result=data.get("result", step.result),
        problem=mine.problem if mine else "",
        open=mine.what if mine else "",
    )
