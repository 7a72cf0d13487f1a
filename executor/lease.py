"""Who has a task: one conditional UPDATE acquires it and raises its fence, heartbeats extend the lease.

Times are the database's. A message that wakes a worker twice, or not at all, does no harm.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from uuid import UUID

from django.db import transaction
from django.db.models import Case, Exists, F, OuterRef, Q, QuerySet, Value, When
from django.db.models.expressions import Combinable
from django.db.models.functions import Coalesce, Greatest, Now

from executor.models import ACTIVE, HELD, Status, Task
from executor.prepared import Param, update

LEASE = timedelta(seconds=20)


class LeaseLost(Exception):
    """Somebody else has the task now. Whoever gets this stops at once and writes nothing more."""


def claimable() -> Q:
    """Queued with nothing before it still at work, put off until now, or held by somebody whose lease ran out."""
    before_it = Task.objects.filter(pk=OuterRef("previous_id"), status__in=ACTIVE)
    is_due = Q(status=Status.RETRYING, not_before__lte=Now())
    return (Q(status=Status.QUEUED) & ~Exists(before_it)) | is_due | Q(status__in=HELD, lease_until__lt=Now())


def turn_came() -> Combinable:
    """When nothing was before a task any more that it had to wait for."""
    return Greatest("created_at", Coalesce("previous__ended_at", "created_at"))


def unless_stopping(status: Status) -> Case:
    """A task that was being stopped when it lost its worker is stopped by the next one, not begun again."""
    return Case(When(status=Status.STOPPING, then=Value(Status.STOPPING)), default=Value(status))


def deadline_from_now() -> Combinable:
    """The deadline of a task that was put off, if it goes on now: sooner or later than it was to."""
    return F("deadline_at") + (Now() - F("not_before"))


def go_on(waiting: QuerySet[Task]) -> int:
    """Queue tasks that waited for somebody or something. Within a transaction. Returns how many. What a person took is
    no part of the time that a task may take; what the tasks took that it gave, is."""
    deadline = Case(When(status=Status.WAITING, then=deadline_from_now()), default=F("deadline_at"))
    return waiting.update(status=Status.QUEUED, deadline_at=deadline, not_before=None)


_ACQUIRE = update(
    lambda: Task.objects.filter(claimable(), pk=Param("task")),
    status=unless_stopping(Status.RUNNING),
    owner=Param("owner"),
    fence=F("fence") + 1,
    attempts=F("attempts") + 1,
    stalled_attempts=F("stalled_attempts") + 1,
    lease_until=Now() + LEASE,
    started_at=Coalesce("started_at", Now()),
    deadline_at=Case(When(status=Status.RETRYING, then=deadline_from_now()), default=F("deadline_at")),
    not_before=None,
    error_kind="",
    error="",
    error_hint="",
)


def acquire(task_id: UUID, owner: str) -> bool:
    """Whether the task is `owner`'s from now on. It is not if it is somebody else's, over, or not its turn yet."""
    with transaction.atomic():  # Also around a single UPDATE: on SQLite it waits its turn then (agentsite/sqlite).
        return bool(_ACQUIRE.execute(task=task_id, owner=owner))


_RELEASE = update(
    lambda: Task.objects.filter(pk=Param("task")),
    status=unless_stopping(Status.QUEUED),
    owner="",
    # What is being stopped is taken up as what lost its worker is; what is queued has no lease.
    lease_until=Case(When(status=Status.STOPPING, then=Now()), default=None),
)


def give_back(task_id: UUID) -> None:
    """Let anybody acquire the task, in a transaction that made sure of it."""
    _RELEASE.execute(task=task_id)


def heartbeat(owner: str, task_ids: Iterable[UUID]) -> set[UUID]:
    """Extend the leases of `owner` in one UPDATE. Returns the tasks that are no longer its own."""
    ids = set(task_ids)
    if not ids:
        return set()
    mine: QuerySet[Task] = Task.objects.filter(pk__in=ids, owner=owner, status__in=HELD)
    with transaction.atomic():
        extended = mine.update(lease_until=Now() + LEASE)
    if extended == len(ids):
        return set()
    return ids - set(mine.values_list("pk", flat=True))


def extend(task_id: UUID, fence: int) -> bool:
    """Begin the lease of one acquisition anew. False if somebody acquired the task since."""
    with transaction.atomic():
        held = Task.objects.filter(pk=task_id, fence=fence, status__in=HELD)
        return bool(held.update(lease_until=Now() + LEASE))


def give_up(owner: str, task_ids: Iterable[UUID] | None = None) -> None:
    """End the leases of a worker that is dead, or of those of its tasks that it let fall, so that they can be taken up
    at once."""
    held = Task.objects.filter(owner=owner, status__in=HELD)
    with transaction.atomic():
        held.filter(**{} if task_ids is None else {"pk__in": set(task_ids)}).update(
            lease_until=Now() - timedelta(seconds=1)
        )
