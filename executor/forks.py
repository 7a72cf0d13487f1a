"""Trying again from a step of a task that is over, as it was or with something changed.

What comes of it is a task of its own. It shares the steps before with the one that it was forked from, by pointer; only
what is done again, or whose result was changed, has a row of its own. See declared_forks.py for declared tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from django.db import transaction
from django.db.models.functions import Now

from executor import declared_forks
from executor.decisions import WrongAnswer, checked
from executor.hints import wake
from executor.history import owners, whole
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


def can_go_on_from(task: Task, step: Step) -> bool:
    """Whether a task that is over can be forked at `step`."""
    if step.kind == Step.Kind.MODEL:  # At a limit, the summary of a declared task belongs to none of its steps.
        return task.declared_id is None or step.parent_seq is not None
    return step.kind in (Step.Kind.TOOL, Step.Kind.STEP)


def fork(
    task: Task,
    seq: int,
    *,
    arguments: dict[str, Any] | None = None,
    result: str | None = None,
    output: dict[str, Any] | None = None,
    agent_version: AgentVersion | None = None,
) -> Task:
    """Go on from the step `seq` of `task` once more, in a new task that is queued.

    The model is asked again, with everything before that. A call is made again, with other `arguments` if they are
    given, or has the `result` that is given instead; results of calls beside it stay. Whoever changes arguments
    agrees to the call; otherwise it asks as it did before. A declared step is begun anew, or gave the `output`.

    Raises StillAtWork, and WrongAnswer if this cannot be done with that step.
    """
    with transaction.atomic():
        # Locked, so that it does not begin again meanwhile.
        if Task.objects.select_for_update().get(pk=task.pk).is_active:
            raise StillAtWork
        steps = steps_of(task)
        step = next((step for step in steps if step.seq == seq), None)
        if step is None or not can_go_on_from(task, step):
            raise WrongAnswer("There is no such step to go on from.")
        if step.kind != Step.Kind.TOOL and (arguments is not None or result is not None):
            raise WrongAnswer("Only a function call can be changed.")
        if step.kind != Step.Kind.STEP and output is not None:
            raise WrongAnswer("Only a declared step has an output that can be changed.")
        owner = owners(steps).get(seq)
        base_seq = max(_settled(steps, step, owner, is_given=output is not None), default=seq - 1)
        made = Task.objects.create(
            user_id=task.user_id,
            agent_version=agent_version or task.agent_version,
            previous_id=task.previous_id,
            base=task,
            base_seq=base_seq,
            head_seq=base_seq,
            thread=task.thread,
            input=task.input,
            declared_id=task.declared_id,
            data=task.data,
        )
        if owner is not None and owner != seq:
            declared_forks.go_on_in(made, steps, owner, seq)
        if output is not None:
            declared_forks.give(made, step, output)
        elif owner is not None and step.parent_seq == owner:
            declared_forks.do_again(made, step, arguments, result)
        elif step.kind == Step.Kind.TOOL:
            _call_again(made, step, arguments, result)
        transaction.on_commit(partial(wake, made.pk))
    return made


def _settled(steps: Sequence[Step], step: Step, owner: int | None, *, is_given: bool) -> list[int]:
    """What stays although it came with `step` or after it: the calls beside it, or how it came to what it gave, though
    that is changed. What the code of a declared step (`owner`) does after one of its parts, it does again."""
    if step.kind == Step.Kind.TOOL:
        beside = [other.seq for other in steps if other.parent_seq == step.parent_seq]
        return [step.seq] if step.parent_seq == owner else beside
    return [seq for seq, its_owner in owners(steps).items() if its_owner == step.seq] if is_given else []


def _call_again(fork: Task, step: Step, arguments: dict[str, Any] | None, result: str | None) -> None:
    """The row that takes the place of `step` in the fork."""
    function = find_function(step.name)
    edited = result is None and arguments is not None and arguments != step.arguments
    given = checked(step.name, arguments) if edited and arguments is not None else step.arguments
    done = {} if result is None else {"status": Step.Status.DONE, "result": clean(result), "ended_at": Now()}
    mine = step.replaced_in(
        fork,
        arguments=given,
        raw_arguments=step.raw_arguments if given is None else "",
        arguments_digest=digest(step.name, given),
        effect=function.effect if function else step.effect,
        **done,
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
