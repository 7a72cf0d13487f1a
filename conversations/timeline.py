"""The time line of a task: every step with what was decided about it, what it cost, and how to try again from it."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from django.urls import reverse

from conversations import words
from conversations.cards import FieldView, argument_fields, what_was_decided
from conversations.models import Turn
from conversations.present import FileView, StepView
from conversations.sub_tasks import Given, SubTaskView
from executor.history import folded, inherited
from executor.models import ASKS, Checkpoint, Decision, Step, Task
from tools.core.function import REPEATABLE
from tools.models import Resource

#: The shape of the document below; see docs/task-json.md.
VERSION = 1


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


@dataclass(frozen=True, slots=True)
class Record:
    """All rows of a task that can be reviewed. `shared` are the steps of a fork before it changed any."""

    task: Task
    shared: Mapping[int, Step]
    steps: Sequence[Step]
    checkpoints: Mapping[tuple[UUID, int], Checkpoint]
    decisions: Mapping[int | None, Sequence[Decision]]
    files: Mapping[tuple[UUID, str], Sequence[Resource]]
    given: Given

    @classmethod
    def of(cls, task: Task) -> Record:
        shared = inherited(task, Step.objects.defer("native")) if task.base_id else []
        steps = folded(shared, task.steps.defer("native").order_by("seq"))
        makers = {task.pk} | {step.task_id for step in steps}
        decisions: dict[int | None, list[Decision]] = defaultdict(list)
        for decision in Decision.objects.filter(task__in=makers).select_related("decided_by"):
            decisions[decision.step_id if decision.step_id or decision.task_id == task.pk else 0].append(decision)
        files: dict[tuple[UUID, str], list[Resource]] = defaultdict(list)
        for file in Resource.objects.filter(task_id__in=makers).order_by("created_at", "id"):
            files[file.task_id, file.call_id].append(file)
        checkpoints = {(mark.task_id, mark.seq): mark for mark in Checkpoint.objects.filter(task__in=makers)}
        given = Given.by({task.pk: steps}, (), steps)
        return cls(task, {step.seq: step for step in shared}, steps, checkpoints, decisions, files, given)

    def files_of(self, step: Step) -> Sequence[Resource]:
        return self.files.get((step.task_id, step.call_id), ()) if step.call_id else ()


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


# --- the document ----------------------------------------------------------------------------------------------------


def document(record: Record, turn: Turn | None) -> dict[str, Any]:
    """Everything that can be reviewed of a task, as docs/task-json.md says. No keys, and no provider's own forms."""
    task, config = record.task, record.task.agent_version.config
    return {
        "v": VERSION,
        "task": {
            "id": str(task.pk),
            "conversation": str(turn.conversation_id) if turn else None,
            "previous": _id(task.previous_id),
            "parent": {"task": str(task.parent_id), "call_id": task.parent_call, "name": task.name}
            if task.parent_id
            else None,
            "base": {"task": str(task.base_id), "seq": task.base_seq} if task.base_id else None,
            "agent": {"name": config["name"], "title": config["title"], "version": task.agent_version.number},
            "provider": config["provider"],
            "model": config["model"],
            "input": task.input,
            "declared": _declared(task),
            "data": task.data,
            "status": task.status,
            "stop_reason": task.stop_reason,
            "error": _error(task.error_kind, task.error, task.error_hint),
            "attempts": task.attempts,
            "created_at": _time(task.created_at),
            "started_at": _time(task.started_at),
            "ended_at": _time(task.ended_at),
        },
        "usage": {
            **{name: getattr(task, name) for name in ("model_calls", "tool_calls", "failed_calls")},
            **{name: getattr(task, name) for name in ("input_tokens", "output_tokens", "unpriced_calls")},
            "cost": _money(task.cost),
        },
        "steps": [_step_document(record, step) for step in record.steps],
        "decisions": [_decision_document(decision) for decision in record.decisions.get(None, ())],
    }


def _declared(task: Task) -> dict[str, Any] | None:
    if task.declared is None:
        return None
    told = task.declared.declaration
    return {"name": told.get("name", ""), "title": told.get("title", ""), "version": task.declared.number}


def _step_document(record: Record, step: Step) -> dict[str, Any]:
    checkpoint = record.checkpoints.get((step.task_id, step.seq))
    found: dict[str, Any] = {
        "seq": step.seq,
        "task": str(step.task_id),
        "kind": step.kind,
        "parent_seq": step.parent_seq,
        "status": step.status,
        "attempt": step.attempt,
        "name": step.name,
        "error": _error(step.error_kind, step.error),
        "started_at": _time(step.started_at),
        "ended_at": _time(step.ended_at),
        "checkpoint": {"counters": checkpoint.counters, "at": _time(checkpoint.created_at)} if checkpoint else None,
        "decisions": [_decision_document(decision) for decision in record.decisions.get(step.pk, ())],
    }
    if step.kind == Step.Kind.TOOL:
        return found | {
            "call_id": step.call_id,
            "arguments": step.arguments,
            "raw_arguments": step.raw_arguments,
            "effect": step.effect,
            "result": step.result,
            "made_at": _time(step.made_at),
            "tasks": [_given_document(given) for given in record.given.of(step)],
            "files": [_file_document(file) for file in record.files_of(step)],
        }
    if step.kind == Step.Kind.STEP:
        output = json.loads(step.result) if step.result else None
        return found | {"title": step.text, "output": output}
    if step.kind not in ASKS:
        return found | {"text": step.text}
    if step.kind == Step.Kind.COMPACTION:
        covers = {"task": str(step.covers_task or step.task_id), "seq": step.covers_seq}
        found["covers"] = covers if step.covers_seq is not None else None
    tokens = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens")
    return found | {
        "provider": step.provider,
        "model": step.model,
        "text": step.text,
        "reasoning": step.reasoning,
        "finish_reason": step.finish_reason,
        "response_id": step.response_id,
        "first_token_ms": step.first_token_ms,
        "usage": {**{name: getattr(step, name) for name in tokens}, "cost": _money(step.cost)},
    }


def _given_document(given: SubTaskView) -> dict[str, Any]:
    """One of the tasks that answer a call; what it did is in a document of its own."""
    return {
        "id": str(given.id),
        "name": given.name,
        "agent": given.agent,
        "status": given.status,
        "after": list(given.after),
        "tasks": [_given_document(other) for other in given.tasks],
    }


def _decision_document(decision: Decision) -> dict[str, Any]:
    return {
        "kind": decision.kind,
        "status": decision.status,
        "choice": decision.choice or None,
        "details": decision.details,
        "arguments": decision.arguments,
        "note": decision.note,
        "decided_by": decision.decided_by.username if decision.decided_by else None,
        "created_at": _time(decision.created_at),
        "expires_at": _time(decision.expires_at),
        "decided_at": _time(decision.decided_at),
    }


def _file_document(file: Resource) -> dict[str, Any]:
    return {
        "name": file.name,
        "media_type": file.media_type,
        "size": file.size,
        "sha256": file.sha256,
        "url": reverse("file", args=[file.pk]),
    }


def _error(kind: str, message: str, hint: str = "") -> dict[str, str] | None:
    return {"kind": kind, "message": message, **({"hint": hint} if hint else {})} if kind or message else None


def _time(time: datetime | None) -> str | None:
    return time.isoformat() if time else None


def _money(cost: Any) -> str | None:
    return None if cost is None else f"{cost:f}"


def _id(pk: UUID | None) -> str | None:
    return str(pk) if pk else None


def written(found: dict[str, Any]) -> str:
    return json.dumps(found, ensure_ascii=False, indent=2)
