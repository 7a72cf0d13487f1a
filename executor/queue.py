"""Messages that were sent while a task was at work: tasks that wait in its line, until it is their turn.

A line is a chain of tasks along `previous`, the first of them at work. What waits in it can be taken out, or told to
the task at work itself as soon as that can take it in. All of that holds only while nobody has begun it: who comes too
late changes nothing.
"""

from __future__ import annotations

from functools import partial

from django.db import transaction
from django.db.models import Q
from django.dispatch import Signal

from executor.files import has_files
from executor.hints import notify_soon, wake
from executor.models import ACTIVE, Status, Task
from executor.prepared import Param, Select

#: Sent with `task` when it is about to be taken out of its line, in that transaction and before any of its rows is
#: touched. Who keeps a row about it removes that, after locking what all its changes of the line lock first.
leaving = Signal()

UNBEGUN = Q(status=Status.QUEUED, attempts=0)

_BEFORE = Select(lambda: Task.objects.filter(next_tasks=Param("task")).only("status", "steers", "ended_at"))


class _Begun(Exception):
    """Somebody was quicker, so everything that was done is undone."""


def take_out(task: Task, when: Q = UNBEGUN) -> bool:
    """Remove a task that nobody has begun, as if it had never been there: those that wait for it wait for the one
    before it. False, and nothing is changed, if somebody has begun it."""
    try:
        with transaction.atomic():
            leaving.send(sender=Task, task=task)
            # Who claims it at the same moment has it before this, or finds nothing after it.
            if not Task.objects.filter(when & UNBEGUN, pk=task.pk).update(status=Status.STOPPED):
                raise _Begun
            task.refresh_from_db(fields=["previous"])
            followers = Task.objects.filter(previous=task.pk)
            for follower in followers.filter(status=Status.QUEUED).values_list("pk", flat=True):
                transaction.on_commit(partial(wake, follower))
            followers.update(previous=task.previous_id)
            Task.objects.filter(pk=task.pk).delete()
            transaction.on_commit(partial(notify_soon, task.user_id, task.pk))
    except _Begun:
        return False
    return True


def steer(task: Task) -> bool:
    """Let the message of a waiting task go first, into the task at work at its next step; if that ends before, it is
    the next to be answered. False, and nothing is changed, if somebody has begun it, or if it is more than words: a
    declared task has steps of its own, and files are read before a task begins."""
    if has_files(task.input):
        return False
    try:
        with transaction.atomic():
            if not Task.objects.filter(UNBEGUN, pk=task.pk, declared=None).update(steers=True):
                raise _Begun
            _move_up(task)
            transaction.on_commit(partial(notify_soon, task.user_id, task.pk))
            transaction.on_commit(partial(wake, task.pk))  # The one before it may be over by now.
    except _Begun:
        return False
    return True


def line_before(task: Task) -> list[Task]:
    """The tasks that `task` waits for, the one at work first."""
    line: list[Task] = []
    before = task_before(task)
    while before is not None and before.status in ACTIVE:
        line.insert(0, before)
        before = task_before(before)
    return line


def task_before(task: Task) -> Task | None:
    """The one that `task` goes on from, as it is now."""
    return _BEFORE.first(task=task.pk)


def _move_up(task: Task) -> None:
    """Behind the task at work and those that go into it already."""
    line = line_before(task)
    place = next((at for at, before in enumerate(line) if at and not before.steers), None)
    if place is None:
        return
    task.refresh_from_db(fields=["previous"])
    Task.objects.filter(previous=task.pk).update(previous=task.previous_id)
    if not Task.objects.filter(UNBEGUN, pk=line[place].pk).update(previous=task.pk):
        raise _Begun
    Task.objects.filter(pk=task.pk).update(previous=line[place - 1].pk)
    task.refresh_from_db(fields=["previous"])
