"""A task as a document: everything that can be reviewed of it, as docs/task-json.md says."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any
from uuid import UUID

from django.urls import reverse

from conversations.models import Turn
from conversations.record import Record
from conversations.sub_tasks import SubTaskView
from executor.models import ASKS, Decision, Step, Task
from executor.usage import Use
from tools.models import Resource

#: The shape of the document.
VERSION = 1


def document(record: Record, turn: Turn | None) -> dict[str, Any]:
    """No keys, and nothing in a provider's own form."""
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
            "created_at": iso(task.created_at),
            "started_at": iso(task.started_at),
            "ended_at": iso(task.ended_at),
        },
        "usage": {
            **{name: getattr(task, name) for name in ("model_calls", "tool_calls", "failed_calls")},
            **{name: getattr(task, name) for name in ("input_tokens", "output_tokens", "unpriced_calls")},
            "cost": _money(task.cost),
            "below": _below(record.given.uses.get(task.pk)),
        },
        "steps": [_step_document(record, step) for step in record.steps],
        "decisions": [_decision_document(decision) for decision in record.asked],
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
        "started_at": iso(step.started_at),
        "ended_at": iso(step.ended_at),
        "checkpoint": {"counters": checkpoint.counters, "at": iso(checkpoint.created_at)} if checkpoint else None,
        "decisions": [_decision_document(decision) for decision in record.decisions.get(step.pk, ())],
    }
    if step.kind == Step.Kind.TOOL:
        return found | {
            "call_id": step.call_id,
            "arguments": step.arguments,
            "raw_arguments": step.raw_arguments,
            "effect": step.effect,
            "result": step.result,
            "output": step.output,
            "notes": step.notes,
            "made_at": iso(step.made_at),
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


def _below(use: Use | None) -> dict[str, Any] | None:
    """Of all tasks below this one that are over."""
    if use is None:
        return None
    return {
        "model_calls": use.answers,
        "input_tokens": use.input_tokens,
        "output_tokens": use.output_tokens,
        "unpriced_calls": use.unpriced,
        "cost": _money(use.cost),
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
        "created_at": iso(decision.created_at),
        "expires_at": iso(decision.expires_at),
        "decided_at": iso(decision.decided_at),
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


def iso(time: datetime | None) -> str | None:
    return time.isoformat() if time else None


def _money(cost: Any) -> str | None:
    return None if cost is None else f"{cost:f}"


def _id(pk: UUID | None) -> str | None:
    return str(pk) if pk else None


def written(found: dict[str, Any]) -> str:
    return json.dumps(found, ensure_ascii=False, indent=2)
