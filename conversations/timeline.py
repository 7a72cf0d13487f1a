"""The time line of a task: every step with what was decided about it, what it cost, and how to try again from it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from django.urls import reverse

from conversations import words
from conversations.again import AgainView, Typed, again_view
from conversations.cards import DecidedView, what_was_decided
from conversations.code_cells import edit_view
from conversations.models import Turn
from conversations.outputs import code_of
from conversations.present import FileView, StepView
from conversations.record import Record
from executor.core.executor import TaskExecutor
from executor.forks import can_go_on_from
from executor.models import Step


@dataclass(frozen=True, slots=True)
class LineView:
    """`change` says what a fork did to this step; `base_url` leads to it in the task that it is shared with."""

    step: StepView
    change: str
    base_url: str
    decisions: tuple[DecidedView, ...]
    again: AgainView | None


def timeline(record: Record, turn: Turn | None, typed: Typed | None = None) -> list[LineView]:
    """Every step in order. Of a task that is over and has a `turn`, one can go on from each."""
    can_go_on = turn is not None and not record.task.is_active
    code = code_of(record.task) if can_go_on else None
    return [
        LineView(
            step=_with_edit(_step(record, step), record, step, typed) if can_go_on else _step(record, step),
            change=_change(record, step),
            base_url=_base_url(step) if step.task_id != record.task.pk else "",
            decisions=tuple(what_was_decided(decision) for decision in record.decisions.get(step.pk, ())),
            again=_again(record, step, code, typed) if can_go_on and can_go_on_from(record.task, step) else None,
        )
        for step in record.steps
    ]


def _again(record: Record, step: Step, code: type[TaskExecutor] | None, typed: Typed | None) -> AgainView:
    again = again_view(record.task, step, record.steps, code, typed)
    # A cell has a form of its own for its code.
    return replace(again, arguments=None) if edit_view(record.task, step, record.steps) else again


def _with_edit(view: StepView, record: Record, step: Step, typed: Typed | None) -> StepView:
    if view.cell is None:
        return view
    return replace(view, cell=replace(view.cell, edit=edit_view(record.task, step, record.steps, typed)))


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
    if step.kind == Step.Kind.STEP:
        return "Gone on with"
    return "Arguments changed" if step.arguments != before.arguments else "Run again"


def _base_url(step: Step) -> str:
    return f"{reverse('task', args=[step.task_id])}#step-{step.task_id}-{step.seq}"
