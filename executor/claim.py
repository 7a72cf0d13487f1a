"""To take up a task: acquire it, and open its journal."""

from __future__ import annotations

import time
from uuid import UUID

from django.db.models.functions import Now

from executor import shared
from executor.core.task_events import TaskBegun
from executor.declared_journal import DeclaredJournal
from executor.journal import Journal
from executor.lease import LEASE, acquire, turn_came
from executor.models import Task
from executor.task_events import event_of, publish


def claim(task_id: UUID, owner: str) -> Journal | None:
    """The journal of the task, or None if it is somebody else's, over, or not its turn yet."""
    began = time.monotonic()
    if not acquire(task_id, owner):
        return None
    rows = Task.objects.select_related("agent_version", "user", "declared__task")
    task = rows.annotate(now=Now(), turn_came=turn_came()).get(pk=task_id)
    if task.owner != owner or task.started_at is None:
        return None
    kind = Journal if task.declared is None else DeclaredJournal
    elapsed = (task.now - task.started_at).total_seconds()
    journal = kind(task, elapsed, shares=shared.shares(task))
    journal.shared_seconds = shared.seconds_left(task)
    journal.held_until = began + LEASE.total_seconds()
    if task.attempts == 1 and not task.parent_call:
        waited = (task.now - task.turn_came).total_seconds()
        publish(event_of(TaskBegun, task, journal.config, waited=max(0.0, waited)))
    return journal
