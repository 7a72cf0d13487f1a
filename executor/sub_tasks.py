"""Tasks that a task gives to other agents, and what comes back.

A call that other tasks answer makes them, in the transaction that lets it wait. Each is an ordinary task in the same
queue. The transaction that ends one tells the tasks that await it, and the last of a call answers that call; nobody
holds a worker meanwhile. Whoever changes two tasks locks the one that was given first, then the one that gave it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import partial
from types import MappingProxyType
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q, Sum
from django.db.models.functions import Now

from executor.core.errors import TaskExecutionError
from executor.core.messages import message_to_json
from executor.core.messages import user as user_message
from executor.declared import class_for, in_words, offered_to, read_given
from executor.hints import notify_soon, wake
from executor.lease import go_on
from executor.models import ACTIVE, Agent, Status, Step, Task
from executor.stored import clean, clean_json
from executor.task_events import tell_ended
from users.models import User

#: How deep tasks may be given on, how many one task may give, and how many there may be below the one at the top.
MAX_DEPTH = 3
MAX_GIVEN = 24
MAX_BELOW = 60
#: Why a task that awaited others was not begun.
DEPENDENCY = "dependency"

NOT_BEGUN = "It was not begun: a task that it needs did not succeed."
_RESULTS = "\n\nWhat the tasks before this one came up with:\n"


NONE_KNOWN: Mapping[str, UUID] = MappingProxyType({})


class CannotGive(Exception):
    """The message is a sentence for the model."""


def give(parent: Task, call_id: str, wanted: Sequence[Mapping[str, Any]]) -> None:
    """Make the tasks of one call: each has an `id`, the name of an `agent`, what it is to do (`task`), and in `after`
    the ids of those that have to succeed before; one that is `declared`, by name, has its `data` instead. Within a
    transaction. Raises CannotGive, and nothing is made then."""
    if not wanted:
        raise CannotGive("There is no task to give.")
    ids = [entry["id"] for entry in wanted]
    if len(set(ids)) < len(ids):
        raise CannotGive("Two tasks have the same id.")
    if problem := order_problem({entry["id"]: set(entry["after"]) for entry in wanted}):
        raise CannotGive(problem)
    if _depth(parent) >= MAX_DEPTH:
        raise CannotGive(f"Tasks are given on {MAX_DEPTH} times at most. Do this one yourself.")
    if parent.sub_tasks.count() + len(wanted) > MAX_GIVEN:
        raise CannotGive(f"One task gives {MAX_GIVEN} others at most. Do the rest yourself.")
    root = parent.root_id or parent.pk
    if Task.objects.filter(root=root).count() + len(wanted) > MAX_BELOW:
        raise CannotGive(f"There are {MAX_BELOW} tasks at most below one. Do the rest yourself.")
    make(parent.user, call_id, wanted, parent=parent, root_id=root, thread=parent.thread)


def make(
    user: User, call_id: str, wanted: Sequence[Mapping[str, Any]], known: Mapping[str, UUID] = NONE_KNOWN, **more: Any
) -> dict[str, Task]:
    """The tasks that belong together by `call_id`, by their ids. Those that they come after may be `known` already.
    Within a transaction. Raises CannotGive."""
    agents = {agent.name: agent for agent in Agent.objects.usable_by(user)}
    if missing := sorted({entry["agent"] for entry in wanted if "declared" not in entry} - set(agents)):
        raise CannotGive(f"There is no agent {', '.join(missing)}. There are: {', '.join(sorted(agents))}.")
    made = {
        entry["id"]: Task.objects.create(
            user=user,
            parent_call=call_id,
            name=clean(entry["id"])[:60],
            status=Status.AWAITING if entry["after"] else Status.QUEUED,
            **(_declared(user, entry, more) if "declared" in entry else _told(entry, agents)),
            **more,
        )
        for entry in wanted
    }
    ids: dict[str, Any] = {**known, **{name: task.pk for name, task in made.items()}}
    for entry in wanted:
        task = made[entry["id"]]
        task.awaits.set([ids[name] for name in entry["after"]])
        if not entry["after"]:
            transaction.on_commit(partial(wake, task.pk))
        elif not known.keys().isdisjoint(entry["after"]):  # They may be over by now.
            _settle(Task.objects.select_for_update().get(pk=task.pk))
    return made


def _told(entry: Mapping[str, Any], agents: Mapping[str, Agent]) -> dict[str, Any]:
    said = clean_json(message_to_json(user_message(entry["task"])))
    return {"agent_version": agents[entry["agent"]].current_version(), "input": said}


def _declared(user: User, entry: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Of a declared task, by the agent of the task that gives it unless it has one of its own."""
    agent = more["parent"].agent_version.agent
    offered = {one.name: one for one in offered_to(user, agent)} if agent else {}
    if not (declared := offered.get(entry["declared"])):
        there = f"There are: {', '.join(sorted(offered))}." if offered else "There are none."
        raise CannotGive(f"There is no task {entry['declared']} that can be started. {there}")
    version = declared.current_version()
    try:
        cls = class_for(version)
        data = read_given(cls, entry["data"])
    except TaskExecutionError as error:
        raise CannotGive(error.message) from error
    said = clean_json(message_to_json(user_message(in_words(cls, data))))
    worker = (declared.agent or agent).current_version()
    return {"agent_version": worker, "input": said, "declared": version, "data": clean_json(data)}


def order_problem(after: Mapping[str, set[str]]) -> str:
    """Why tasks that come `after` others can never all begin, a sentence; "" if they can."""
    for name, before in after.items():
        if unknown := before - after.keys():
            return f"{name} comes after {', '.join(sorted(unknown))}, which is not among the tasks."
    return "The tasks wait for each other in a circle." if _has_circle(after) else ""


def _has_circle(after: Mapping[str, set[str]]) -> bool:
    left = dict(after)
    while ready := [name for name, before in left.items() if not before & left.keys()]:
        for name in ready:
            del left[name]
    return bool(left)


def _depth(task: Task) -> int:
    depth, above = 0, task.parent
    while above is not None:
        depth, above = depth + 1, above.parent
    return depth


def as_given(task: Task) -> str:
    """What a task was given to do, without the results of others that it was told later."""
    return task.text.partition(_RESULTS)[0]


# --- the end of one --------------------------------------------------------------------------------------------------


def report(task: Task) -> None:
    """Tell those that await `task`, which is over, within the transaction that ended it."""
    if not task.parent_call:
        return
    _settle_awaiting(task)
    if task.parent_id:
        answer(Task.objects.select_for_update().get(pk=task.parent_id), task.parent_call)


def _settle_awaiting(task: Task) -> None:
    for waiting in Task.objects.select_for_update().filter(awaits=task.pk, status=Status.AWAITING).order_by("pk"):
        _settle(waiting)


def _settle(waiting: Task) -> None:
    """Begin a task that awaits others, if all of these are done; do not if one of them is not."""
    before = list(waiting.awaits.order_by("pk"))
    if any(other.status not in (*ACTIVE, Status.DONE) for other in before):
        ended = {"status": Status.STOPPED, "stop_reason": DEPENDENCY, "error": NOT_BEGUN, "ended_at": Now()}
        Task.objects.filter(pk=waiting.pk).update(**ended)
        waiting.status, waiting.stop_reason = Status.STOPPED, DEPENDENCY
        tell_ended(waiting)
        _settle_awaiting(waiting)
    elif not any(other.is_active for other in before):
        results = "\n".join(f"{other.name}: {outcome(other)}" for other in before)
        told = clean_json(message_to_json(user_message(waiting.text + _RESULTS + results)))
        Task.objects.filter(pk=waiting.pk).update(status=Status.QUEUED, input=told)
        transaction.on_commit(partial(wake, waiting.pk))


def answer(parent: Task, call_id: str) -> None:
    """Give the call its result if all its tasks are over, and let the task go on that made it if nothing else is open.
    Within a transaction that holds its row."""
    given = list(parent.sub_tasks.filter(parent_call=call_id).order_by("pk"))
    transaction.on_commit(partial(notify_soon, parent.user_id, parent.pk))
    if any(task.is_active for task in given):
        return
    failed = not any(task.status == Status.DONE for task in given)
    said = json.dumps({task.name: outcome(task) for task in given}, ensure_ascii=False)
    if len(given) == 1:
        said = outcome(given[0])
    Step.objects.filter(task=parent, call_id=call_id, status=Step.Status.WAITING).update(
        status=Step.Status.FAILED if failed else Step.Status.DONE,
        result=said if given else "The tasks were deleted.",
        error_kind="sub_task" if failed else "",
        error=said[:500] if failed else "",
        ended_at=Now(),
    )
    if not parent.sub_tasks.filter(status__in=ACTIVE).exists():
        _let_go_on(parent)


def _let_go_on(parent: Task) -> None:
    if go_on(Task.objects.filter(pk=parent.pk, status=Status.AWAITING)):
        transaction.on_commit(partial(wake, parent.pk))


def outcome(task: Task) -> str:
    """What came of a task that is over, in words for the model that gave it."""
    said = last_words(task)
    match task.status:
        case Status.DONE:
            return said or "It is done, and said nothing."
        case Status.STOPPED:
            return (task.error or "It was stopped.") + (f" By then it had said: {said}" if said else "")
        case _:
            return f"It failed: {task.error}"


def last_words(task: Task) -> str:
    said = task.steps.filter(kind__in=(Step.Kind.NOTE, Step.Kind.MODEL)).exclude(text="").order_by("-seq").first()
    return said.text if said else ""


# --- all of them -----------------------------------------------------------------------------------------------------


def find_forgotten() -> int:
    """Let tasks go on that await others of which none is at work any more. Returns how many. Who ends a task tells
    those that await it; this is for tasks that were deleted."""
    below = Task.objects.filter(parent=OuterRef("pk"), status__in=ACTIVE)
    before = Task.objects.filter(awaited_by=OuterRef("pk"))
    forgotten = Task.objects.filter(~Exists(below), ~Exists(before), status=Status.AWAITING)
    with transaction.atomic():
        return go_on(forgotten)


def is_below(task_id: UUID, above: UUID) -> bool:
    """Whether a task was given by `above`, or by one below that."""
    givers = Q(parent=above) | Q(parent__parent=above) | Q(root=above)
    return Task.objects.filter(givers, pk=task_id).exists()


def active_below(task: Task) -> list[Task]:
    """The tasks that `task` gave and that are not over."""
    return list(Task.objects.filter(parent=task.pk, status__in=ACTIVE))


def used_together(top: Task) -> tuple[int, Decimal]:
    """Tokens and dollars of a task and all below it."""
    together = Task.objects.filter(Q(root=top) | Q(pk=top.pk)).aggregate(
        tokens=Sum(F("input_tokens") + F("output_tokens")), cost=Sum("cost")
    )
    return together["tokens"] or 0, together["cost"] or Decimal(0)
