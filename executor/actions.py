"""What people do with tasks. Each is one transaction; workers and pages hear of it when it is committed."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Literal
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import Case, Exists, F, OuterRef, Q, Value, When
from django.db.models.functions import Now
from django.dispatch import Signal

from executor.claim import claim
from executor.core.messages import Message, message_to_json
from executor.core.messages import user as user_message
from executor.declared import class_for, in_words, offer, read_given
from executor.hints import notify_soon, wake
from executor.lease import deadline_from_now, give_up
from executor.models import ACTIVE, OPEN, Agent, AgentVersion, DeclaredTask, DeclaredTaskVersion, Status, Step, Task
from executor.owner import is_dead, owner_name
from executor.statements import CLOSE_STEPS, WITHDRAW
from executor.stored import clean_json
from executor.sub_tasks import active_below, report
from executor.task_events import tell_ended
from users.models import User

ANSWERED_BELOW = "What was said after it is being answered. Try again when that is done."

#: Sent with `task` when it is about to be tried again, in that transaction and before any of its rows is touched: who
#: knows its line locks what all changes of the line lock first. Then when it is queued, to be put in its place there.
#: Both may raise NotNow.
retrying, retried = Signal(), Signal()

RETRYABLE = Q(status__in=(Status.FAILED, Status.NEEDS_ATTENTION)) | Q(status=Status.STOPPED, stop_reason="person")
PUT_OFF = Q(status=Status.RETRYING)
#: Nobody works on it: it waits for its turn, for somebody, or for its provider.
IDLE = (Status.QUEUED, Status.WAITING, Status.AWAITING, Status.RETRYING)


class NotNow(Exception):
    """It cannot be done as things are; the message is a sentence for the person."""


class _NothingChanged(Exception):
    """What was done with it is undone."""


def create_task(
    user: User,
    agent_version: AgentVersion,
    message: Message,
    previous: Task | None = None,
    idempotency_key: str | None = None,
    thread: UUID | None = None,
    declared: DeclaredTaskVersion | None = None,
    data: dict[str, Any] | None = None,
) -> tuple[Task, bool]:
    """Queue a task, in the `thread` of those it belongs to. With a key that this person used before, that task is
    returned instead, and False. For one that is `declared` see `start_declared`."""
    try:
        with transaction.atomic():
            task = Task.objects.create(
                user=user,
                agent_version=agent_version,
                previous=previous,
                thread=thread,
                input=clean_json(message_to_json(message)),
                declared=declared,
                data=clean_json(data),
                idempotency_key=idempotency_key or None,
            )
    except IntegrityError:
        if not idempotency_key:
            raise
        return Task.objects.get(user=user, idempotency_key=idempotency_key), False
    transaction.on_commit(partial(wake, task.pk))
    return task, True


def start_declared(
    user: User,
    declared: DeclaredTask,
    data: Mapping[str, Any],
    agent: Agent,
    previous: Task | None = None,
    idempotency_key: str | None = None,
    thread: UUID | None = None,
) -> tuple[Task, bool]:
    """Queue a declared task with `data`, what it asks for, as people or models fill that in; else as `create_task`.

    `agent` works on it if it has no agent of its own. Raises TaskExecutionError with a sentence for the person if it
    is not offered, and StepValidationError if the data does not fit.
    """
    offer(user, declared, agent)
    version = declared.current_version()
    cls = class_for(version)
    given = read_given(cls, data)
    return create_task(
        user,
        (declared.agent or agent).current_version(),
        user_message(in_words(cls, given)),
        previous,
        idempotency_key,
        thread,
        version,
        given,
    )


def stop(task: Task, by: Literal["person", "administrator", "expired"] = "person") -> bool:
    """Stop a task, wherever it is. False if it was over already.

    One UPDATE for all states, so that a task that a worker is just giving back cannot slip through.
    """
    is_idle = Q(status__in=IDLE)
    with transaction.atomic():
        changed = _change(
            task,
            Q(status__in=(*IDLE, Status.RUNNING)),
            status=Case(When(is_idle, then=Value(Status.STOPPED)), default=Value(Status.STOPPING)),
            ended_at=Case(When(is_idle, then=Now()), default=F("ended_at")),
            not_before=None,
            stop_reason=by,
            stop_requested_at=Now(),
        )
        if changed and not task.is_active:
            _count_unanswered(task)
            CLOSE_STEPS.execute(task=task.pk, partial="")
            WITHDRAW.execute(task=task.pk)
            _close_up(task)
            report(task)
            tell_ended(task)
    for below in active_below(task):
        stop(below, by)
    ended = _end_for_its_worker(task)
    if changed or ended:
        _wake_followers(task)
    return changed or ended


def _count_unanswered(task: Task) -> None:
    """An answer that its provider keeps and that nobody will fetch has to be paid for: nobody knows how much."""
    if asked := task.steps.filter(kind=Step.Kind.MODEL, status__in=OPEN).count():
        Task.objects.filter(pk=task.pk).update(unpriced_calls=F("unpriced_calls") + asked)


def _close_up(task: Task) -> None:
    """Those that waited for a task which was stopped in the line wait for the one before it, as it did."""
    if not task.attempts and task.previous is not None and task.previous.is_active:
        Task.objects.filter(previous=task, status=Status.QUEUED).update(previous=task.previous_id)


def _end_for_its_worker(task: Task) -> bool:
    """End a task that is to stop and that nobody works on any more, so that nobody waits until a worker finds it."""
    lost = Task.objects.filter(pk=task.pk, status=Status.STOPPING)
    if task.owner and is_dead(task.owner):
        give_up(task.owner, [task.pk])
    if not lost.filter(lease_until__lt=Now()).exists():
        return False
    journal = claim(task.pk, owner_name())
    if journal is None:
        return False
    journal.end(Status.STOPPED)
    transaction.on_commit(partial(notify_soon, task.user_id, task.pk))
    task.refresh_from_db()
    return True


def retry(task: Task, agent_version: AgentVersion | None = None) -> bool:
    """Let a task that failed, or that its person stopped, go on from there, and one that was put off go on now.

    With an `agent_version` that one goes on with it, unless it was only put off. False if there is nothing to go on
    from. Raises NotNow while a task that goes on from this one is at work, which would not know of what comes of this,
    and where who knows its line refuses (`retrying`).
    """
    if not Task.objects.filter(RETRYABLE | PUT_OFF, pk=task.pk).exists():
        return False
    try:
        with transaction.atomic():
            retrying.send(sender=Task, task=task)
            if not (_go_on_now(task) or _begin_again(task, agent_version)):
                raise _NothingChanged
            retried.send(sender=Task, task=task)
            transaction.on_commit(partial(wake, task.pk))
    except _NothingChanged:
        if Task.objects.filter(RETRYABLE, pk=task.pk).exists():
            raise NotNow(ANSWERED_BELOW) from None
        return False  # Somebody was quicker.
    return True


def _go_on_now(task: Task) -> bool:
    return _change(task, PUT_OFF, deadline_at=deadline_from_now(), not_before=Now())


def _begin_again(task: Task, agent_version: AgentVersion | None) -> bool:
    at_work_after_it = Task.objects.filter(previous=OuterRef("pk"), status__in=ACTIVE)
    return _change(
        task,
        RETRYABLE & Q(~Exists(at_work_after_it)),
        status=Status.QUEUED,
        agent_version=agent_version or task.agent_version,
        not_before=None,
        postponements=0,
        deadline_at=None,
        error="",
        error_kind="",
        error_hint="",
        stop_reason="",
        stop_requested_at=None,
        stalled_attempts=0,
        started_at=None,
        ended_at=None,
    )


def _change(task: Task, when: Q, **changes: Any) -> bool:
    with transaction.atomic():
        if not Task.objects.filter(when, pk=task.pk).update(**changes):
            return False
        transaction.on_commit(partial(notify_soon, task.user_id, task.pk))
    task.refresh_from_db()
    return True


def _wake_followers(task: Task) -> None:
    if not task.is_active:
        for follower in Task.objects.filter(previous=task, status=Status.QUEUED):
            transaction.on_commit(partial(wake, follower.pk))
