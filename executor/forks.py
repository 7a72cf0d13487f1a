"""Trying again from a step of a task that is over, as it was or with something changed.

What comes of it is a task of its own. It shares the steps before with the one that it was forked from, by pointer; only
a call that is made again, or whose result was changed, has a row of its own.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from django.db import transaction
from django.db.models.functions import Now

from executor.decisions import WrongAnswer, checked
from executor.hints import wake
from executor.history import whole
from executor.models import AgentVersion, Decision, Step, Task
from executor.stored import clean, digest
from tools.registry import find_function


class StillAtWork(Exception):
    """What is at work cannot be branched off; the message is a sentence for the person."""

    def __init__(self) -> None:
        super().__init__("It is still at work. Stop it first, or wait until it is done.")


def steps_of(task: Task) -> list[Step]:
    """All steps of a task in order, with those that it shares with the one that it was forked from."""
    return whole([task], Step.objects.all())[task.pk]


def fork(
    task: Task,
    seq: int,
    *,
    arguments: dict[str, Any] | None = None,
    result: str | None = None,
    agent_version: AgentVersion | None = None,
) -> Task:
    """Go on from the step `seq` of `task` once more, in a new task that is queued.

    The model is asked again, with everything before that. A call is made again, with other `arguments` if they are
    given, or has the `result` that is given instead; results of calls beside it stay. Whoever changes arguments
    agrees to the call; otherwise it asks as it did before.

    Raises StillAtWork, and WrongAnswer if this cannot be done with that step.
    """
    with transaction.atomic():
        # Locked, so that it does not begin again meanwhile.
        if Task.objects.select_for_update().get(pk=task.pk).is_active:
            raise StillAtWork
        steps = steps_of(task)
        step = next((step for step in steps if step.seq == seq), None)
        if step is None or step.kind not in (Step.Kind.MODEL, Step.Kind.TOOL):
            raise WrongAnswer("There is no such step to go on from.")
        is_call = step.kind == Step.Kind.TOOL
        if not is_call and (arguments is not None or result is not None):
            raise WrongAnswer("Only a function call can be changed.")
        beside = [other.seq for other in steps if is_call and other.parent_seq == step.parent_seq]
        base_seq = max(beside, default=seq - 1)
        made = Task.objects.create(
            user_id=task.user_id,
            agent_version=agent_version or task.agent_version,
            previous_id=task.previous_id,
            base=task,
            base_seq=base_seq,
            head_seq=base_seq,
            thread=task.thread,
            input=task.input,
        )
        if is_call:
            _call_again(made, step, arguments, result)
        transaction.on_commit(partial(wake, made.pk))
    return made


def _call_again(fork: Task, step: Step, arguments: dict[str, Any] | None, result: str | None) -> None:
    """The row that takes the place of `step` in the fork."""
    function = find_function(step.name)
    edited = result is None and arguments is not None and arguments != step.arguments
    given = checked(step.name, arguments) if edited and arguments is not None else step.arguments
    mine = Step.objects.create(
        task=fork,
        seq=step.seq,
        parent_seq=step.parent_seq,
        kind=Step.Kind.TOOL,
        status=Step.Status.PENDING if result is None else Step.Status.DONE,
        fence=fork.fence,
        name=step.name,
        call_id=step.call_id,
        provider_call_id=step.provider_call_id,
        arguments=given,
        raw_arguments=step.raw_arguments if given is None else "",
        arguments_digest=digest(step.name, given),
        effect=function.effect if function else step.effect,
        result="" if result is None else clean(result),
        ended_at=None if result is None else Now(),
    )
    if edited and function is not None and function.answered_by == "function":
        Decision.objects.create(
            task=fork,
            step=mine,
            kind=Decision.Kind.APPROVAL,
            status=Decision.Status.DECIDED,
            choice=Decision.Choice.ALLOW,
            arguments_digest=mine.arguments_digest,
            decided_by_id=fork.user_id,
            decided_at=Now(),
        )
