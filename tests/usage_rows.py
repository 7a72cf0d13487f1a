"""Tasks and answers with the tokens and prices that a test wants."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

from conversations.actions import send
from conversations.models import Conversation, Turn
from executor.models import Agent, Status, Step, Task
from users.models import ApiKey, User


def make_agent(name: str = "helper", **fields: Any) -> Agent:
    return Agent.objects.create(**{"name": name, "title": name.title(), "provider": "gpt", "model": "gpt-x"} | fields)


def make_key(owner: User | None, fingerprint: str = "…wxyz", **fields: Any) -> ApiKey:
    return ApiKey.objects.create(owner=owner, provider="gpt", secret="unreadable", fingerprint=fingerprint, **fields)


def asked(user: User, agent: Agent, text: str, when: datetime, conversation: Conversation | None = None) -> Turn:
    """A question of that time, answered with nothing yet."""
    turn = send(user, agent, text, conversation)
    Task.objects.filter(pk=turn.task_id).update(created_at=when, status=Status.DONE, started_at=when, ended_at=when)
    return turn


def answered(turn: Turn, cost: str | None, seq: int = 1, **fields: Any) -> Step:
    """One answer of the model. Its task counts it as a worker does."""
    config = turn.task.agent_version.config
    usual: dict[str, Any] = {"status": Step.Status.DONE, "finish_reason": "stop", "text": "An answer."}
    usual |= {"input_tokens": 1000, "output_tokens": 100, "cache_read_tokens": 400, "reasoning_tokens": 30}
    usual |= {"provider": config["provider"], "model": config["model"]}
    price = None if cost is None else Decimal(cost)
    step: Step = Step.objects.create(
        **{"task": turn.task, "seq": seq, "kind": Step.Kind.MODEL, "fence": 1, "cost": price} | usual | fields
    )
    task = Task.objects.get(pk=turn.task_id)
    task.model_calls += 1
    task.head_seq = seq
    task.input_tokens += step.input_tokens
    task.output_tokens += step.output_tokens
    if step.cost is None:
        task.unpriced_calls += 1
    else:
        task.cost = (task.cost or Decimal(0)) + step.cost
    task.save()
    return step
