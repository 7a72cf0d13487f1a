"""Branches: turns with one parent are variants of each other, and exactly one path through them is shown.

Regenerating, editing and forking add a variant beside a turn and show it; nothing is changed or copied. What is at work
stays on the page: until it is over, no other variant can be made or shown.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models.functions import Now

from conversations.models import Conversation, Turn
from executor import forks, queue
from executor.actions import NotNow, create_task
from executor.core.messages import File, message_from_json
from executor.core.messages import user as user_message
from executor.forks import steps_of
from executor.hints import tell_pages_soon
from executor.models import ACTIVE, Agent, AgentVersion, Step, Task

AGENT_GONE = "This agent is not available any more. Choose another one."


@dataclass(frozen=True, slots=True)
class Variants:
    """Where a turn stands among its variants, in the order in which they were made: `number` of `count`. `earlier` and
    `later` are the tasks of the ones next to it."""

    number: int
    count: int
    earlier: UUID | None
    later: UUID | None


@transaction.atomic
def regenerate(turn: Turn, agent: Agent | None = None) -> Turn:
    """Answer the same words once more, by `agent` if there is one. What was said to the task while it was at work waits
    behind it, to go in as it did before. Raises NotNow."""
    message = message_from_json(turn.task.input)
    version = _version(turn, agent)
    made = _beside(turn, turn.text, lambda: _task(turn, message, version, same=True), agent)
    last = made
    for step in steps_of(turn.task):
        if step.kind == Step.Kind.MESSAGE:
            last = _meanwhile(last, step.text)
    return made


def edit(turn: Turn, text: str, agent: Agent | None = None) -> Turn:
    """Say something else instead, to `agent` if there is one, with the same files. Raises NotNow."""
    version = _version(turn, agent)
    files = [part for part in message_from_json(turn.task.input).parts if isinstance(part, File)]
    return _beside(turn, text, lambda: _task(turn, user_message(text, *files), version), agent)


def fork(turn: Turn, seq: int, **changes: Any) -> Turn:
    """Go on from a step once more, with the `changes` of `executor.forks.fork`. Raises NotNow, and WrongAnswer for what
    does not fit."""
    _version(turn, None)  # It goes on with the version that it ran with, as long as the agent may be used.
    return _beside(turn, turn.text, lambda: forks.fork(turn.task, seq, **changes))


@transaction.atomic
def choose(turn: Turn) -> None:
    """Show this variant, and of what was said after it the newest. Raises NotNow."""
    _lock(turn)
    if not Turn.objects.filter(pk=turn.pk, shown=True).exists():
        _check_quiet(turn)
        _show(turn)
        _tell(turn)


def close_gap(gone: Turn) -> None:
    """A turn that was shown is gone. Where nothing took its place, the newest of those beside it is shown."""
    beside = Turn.objects.filter(conversation=gone.conversation_id, parent=gone.parent_id, position=gone.position)
    if gone.shown and not beside.filter(shown=True).exists() and (newest := beside.order_by("created_at", "pk").last()):
        _show(newest)
        _tell(newest)


def variants(turns: Sequence[Turn]) -> dict[UUID, Variants]:
    """Of those of `turns`, all of one conversation, that have others beside them. One query."""
    if not turns:
        return {}
    beside: dict[tuple[UUID | None, int], list[UUID]] = defaultdict(list)
    places = Turn.objects.filter(
        conversation=turns[0].conversation_id, position__in={turn.position for turn in turns}
    ).order_by("created_at", "pk")
    for parent, position, task in places.values_list("parent", "position", "task"):
        beside[parent, position].append(task)
    found = {}
    for turn in turns:
        tasks = beside[turn.parent_id, turn.position]
        if len(tasks) > 1 and turn.task_id in tasks:
            at = tasks.index(turn.task_id)
            after = tasks[at + 1] if at + 1 < len(tasks) else None
            found[turn.pk] = Variants(at + 1, len(tasks), tasks[at - 1] if at else None, after)
    return found


def _meanwhile(before: Turn, text: str) -> Turn:
    """What is to go into the task at work as soon as that can take it in, behind all that is."""
    version = before.task.agent_version
    task, _ = create_task(before.task.user, version, user_message(text), before.task, thread=before.task.thread)
    turn = Turn.objects.create(
        conversation=before.conversation, parent=before, task=task, position=before.position + 1, text=text
    )
    queue.steer(task)
    return turn


# --- what they have in common ----------------------------------------------------------------------------------------


@transaction.atomic
def _beside(turn: Turn, text: str, make: Callable[[], Task], agent: Agent | None = None) -> Turn:
    """A variant of `turn`, which is shown instead."""
    _lock(turn)
    _check_quiet(turn)
    made = Turn.objects.create(
        conversation=turn.conversation, parent_id=turn.parent_id, task=make(), position=turn.position, text=text
    )
    _show(made)
    chosen = {"agent": agent} if agent else {}
    Conversation.objects.filter(pk=turn.conversation_id).update(active_at=Now(), seen_at=Now(), **chosen)
    _tell(made)
    return made


def _lock(turn: Turn) -> None:
    """One at a time, as with messages that are sent."""
    Conversation.objects.select_for_update().only("pk").get(pk=turn.conversation_id)


def _check_quiet(turn: Turn) -> None:
    at_work = Task.objects.filter(turn__conversation=turn.conversation_id, status__in=ACTIVE)
    if at_work.exists():
        raise NotNow("Something is still at work here. Stop it first, or wait until it is done.")


def _show(turn: Turn) -> None:
    """The path from the first turn to this one, and on along the newest."""
    every = Turn.objects.filter(conversation=turn.conversation_id)
    parents = dict(every.order_by("created_at", "pk").values_list("pk", "parent"))
    newest = {parent: pk for pk, parent in parents.items() if parent}
    path = {turn.pk}
    for ways in (parents, newest):
        at = ways.get(turn.pk)
        while at and at not in path:
            path.add(at)
            at = ways.get(at)
    every.filter(shown=True).exclude(pk__in=path).update(shown=False)
    every.filter(shown=False, pk__in=path).update(shown=True)


def _task(turn: Turn, message: Any, version: AgentVersion, *, same: bool = False) -> Task:
    """In place of the task of `turn`. The `same` message starts what is declared anew, with what was filled in."""
    before = turn.task
    declared, data = (before.declared, before.data) if same else (None, None)
    thread = before.thread or turn.conversation_id
    task, _ = create_task(before.user, version, message, before.previous, thread=thread, declared=declared, data=data)
    return task


def _version(turn: Turn, agent: Agent | None) -> AgentVersion:
    """Of `agent`, or of the one that answered before as it is now. Raises NotNow if that may not be used any more."""
    if agent is None and (before := turn.task.agent_version.agent):
        agent = Agent.objects.usable_by(turn.task.user).filter(pk=before.pk).first()
    if agent is None:
        raise NotNow(AGENT_GONE)
    return agent.current_version()


def _tell(turn: Turn) -> None:
    event = {"type": "branch.changed", "conversation": str(turn.conversation_id)}
    transaction.on_commit(partial(tell_pages_soon, turn.conversation.user_id, event))
