"""What a task and those that it gave to others share: the tokens, the dollars, the function calls and the time that the
task at the top may use. Rounds are each task's own: who gives work to many needs few of them itself.

Who looks at what is left keeps the row of the task at the top until their transaction ends, so tasks side by side
cannot pass a limit together.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

from django.db.models import DateTimeField, F, Q, QuerySet, Sum, Value
from django.db.models.functions import Now

from executor import allowance
from executor.allowance import Bound, BudgetUsedUp
from executor.core.errors import LimitReached
from executor.models import Status, Step, Task

_REACHED = "It and the tasks that were given for it reached the limit of {}."


def shares(task: Task) -> bool:
    """Whether it was given by another task, or gives any itself: then it was taken up anew after that."""
    return task.root_id is not None or (task.attempts > 1 and task.sub_tasks.exists())


def bounds(task: Task) -> list[Bound]:
    """What the tasks of a tree may still use together, as far as the one at the top is limited. Within a
    transaction."""
    top = _top(task)
    limits = top.agent_version.agent_config().limits.raised(top.allowed)
    if limits.tokens is None and limits.cost is None:
        return []
    found = _tree(top).aggregate(
        tokens=Sum(F("input_tokens") + F("output_tokens")),
        cost=Sum("cost", default=Decimal(0)),
        held_tokens=Sum("reserved_tokens"),
        held_cost=Sum("reserved", default=Decimal(0)),
    )
    held = {"tokens": Decimal(found["held_tokens"]), "cost": found["held_cost"]}
    return [
        replace(own, held=held[own.limit], is_shared=True, is_top=task.root_id is None)
        for own in allowance.bounds(limits, found["tokens"], found["cost"])
    ]


def refusal_of_calls(task: Task, count: int) -> LimitReached | BudgetUsedUp | None:
    """Why `count` more function calls would be too many for all together. Within a transaction."""
    top = _top(task)
    allowed = top.agent_version.agent_config().limits.raised(top.allowed).tool_calls
    if allowed is None:
        return None
    at_work = Step.objects.filter(task__in=_tree(top), kind=Step.Kind.TOOL, status=Step.Status.STARTED).count()
    used = (_tree(top).aggregate(used=Sum("tool_calls"))["used"] or 0) + at_work
    if used + count <= allowed:
        return None
    return _reached(task, "tool_calls", f"{allowed} function calls", used, allowed, used + count - allowed)


def seconds_left(task: Task) -> float | None:
    """Of the time of the task at the top, for one that was given. None: as many as it likes. What its people took to
    decide something does not count."""
    if task.root_id is None:
        return None
    top = Task.objects.annotate(now=Now()).select_related("agent_version").get(pk=task.root_id)
    limit = top.agent_version.agent_config().limits.raised(top.allowed).seconds
    if limit is None or top.started_at is None:
        return None
    deadline = top.deadline_at or top.started_at + timedelta(seconds=limit)
    return max(0.0, (deadline - top.now).total_seconds())


def out_of_time() -> BudgetUsedUp:
    """The time of the task at the top is over before that of one that was given for it."""
    return BudgetUsedUp("The time that it shares with the task which gave it is over.")


def was_decided(task: Task) -> None:
    """A person took their time: that is no part of the time of the tasks above, which await this one. Within a
    transaction that holds its row, before it goes on."""
    above = task.parent
    while task.not_before and above is not None:
        waited = Now() - Value(task.not_before, DateTimeField())
        Task.objects.filter(pk=above.pk, status=Status.AWAITING).update(deadline_at=F("deadline_at") + waited)
        above = above.parent


def _top(task: Task) -> Task:
    """The row at the top, which nobody else looks at meanwhile."""
    rows = Task.objects.select_for_update(of=("self",)).select_related("agent_version")
    return rows.get(pk=task.root_id or task.pk)


def _tree(top: Task) -> QuerySet[Task]:
    return Task.objects.filter(Q(root=top.pk) | Q(pk=top.pk)).order_by()


def _reached(
    task: Task, limit: str, words: str, used: int | None, allowed: int | None, short: int
) -> LimitReached | BudgetUsedUp:
    said = _REACHED.format(words)
    if task.root_id is None:
        return LimitReached(limit, said, used=used, allowed=allowed, short=short)
    return BudgetUsedUp(said)
