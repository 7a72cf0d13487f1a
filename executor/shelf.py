"""Files and variables that the code of a task finds, and leaves behind.

Variables go along the line of tasks that a conversation shows: a fork begins with those of its base, as far as they are
from before the step at which it was forked; a retried or edited message with those of the message before it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.core.files.base import ContentFile
from django.db import transaction
from django.db.models import Exists, Max, OuterRef, QuerySet
from django.utils import timezone

from executor.lease import LeaseLost
from executor.models import OPEN, KeptVariables, Step, Task
from executor.stored import clean_json
from tools.models import Resource

#: The variables of so many tasks of a conversation are kept.
LAST = 3
#: Bytes of files that a session begins with.
MOST = 128 * 1024 * 1024


class TaskShelf:
    """Of one acquisition of a task. See `tools.workspace.Shelf`."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._fence = task.fence

    def files(self) -> Iterator[tuple[str, bytes]]:
        """The newest of each name, the newest first, as many as there is room for."""
        left, seen = MOST, set()
        for resource in self._resources():
            if resource.name in seen or resource.size > left:
                continue
            seen.add(resource.name)
            left -= resource.size
            try:
                with resource.file.open("rb") as file:
                    yield resource.name, file.read()
            except FileNotFoundError:
                continue

    def _resources(self) -> Any:
        task = self._task
        tasks = Task.objects.filter(thread=task.thread) if task.thread else Task.objects.filter(pk=task.pk)
        found = Resource.objects.filter(owner=task.user_id, task_id__in=tasks.values("pk"))
        return found.order_by("-created_at", "-id")

    def state(self) -> tuple[bytes, dict[str, str]] | None:
        kept = found(self._task)
        if kept is None:
            return None
        try:
            with kept.file.open("rb") as file:
                return bytes(file.read()), kept.lost
        except FileNotFoundError:
            return None

    def keep(self, state: bytes | None, lost: dict[str, str], call_id: str) -> None:
        """Raises LeaseLost if the task is somebody else's by now."""
        with transaction.atomic():
            mine = Task.objects.select_for_update().filter(pk=self._task.pk, fence=self._fence)
            if not mine.exists():
                raise LeaseLost(str(self._task.pk))
            seq = Step.objects.values_list("seq", flat=True).get(task=self._task.pk, call_id=call_id)
            kept = KeptVariables.objects.filter(task=self._task.pk, seq=seq).first()
            old = kept.file.name if kept else ""
            kept = kept or KeptVariables(task_id=self._task.pk, seq=seq)
            data = state or b""
            kept.size, kept.lost, kept.kept_at = len(data), clean_json(lost), timezone.now()
            kept.file.save("variables", ContentFile(data), save=False)
            kept.save()
            if old:
                transaction.on_commit(lambda: kept.file.storage.delete(old))
            _forget_older(self._task)


def found(task: Task) -> KeptVariables | None:
    """The variables with which the code of `task` begins; empty ones stand for variables that were lost."""
    family = Task.objects.filter(thread=task.thread) if task.thread else Task.objects.filter(pk=task.pk)
    kept = _kept(family)
    if not kept:
        return None
    rows = family.values_list("pk", "previous_id", "base_id", "base_seq")
    line = {pk: (previous, base, base_seq or 0) for pk, previous, base, base_seq in rows}
    at: UUID | None = task.pk
    upto: int | None = None  # Of a base, only what is from before the fork.
    seen: set[tuple[UUID, int | None]] = set()
    while at in line and (at, upto) not in seen:
        seen.add((at, upto))
        for one in kept.get(at, ()):
            if upto is None or one.seq <= upto:
                return one if one.size else None
        previous, base, base_seq = line[at]
        if base is not None:
            at, upto = base, base_seq if upto is None else min(base_seq, upto)
        else:
            at, upto = previous, None
    return None


def _kept(family: QuerySet[Task]) -> dict[UUID, list[KeptVariables]]:
    """By task, the newest first, without what a call left behind that is not over: it is run again."""
    at_work = Step.objects.filter(task=OuterRef("task"), seq=OuterRef("seq"), status__in=OPEN)
    found: dict[UUID, list[KeptVariables]] = defaultdict(list)
    for one in KeptVariables.objects.filter(~Exists(at_work), task__in=family.values("pk")).order_by("-seq"):
        found[one.task_id].append(one)
    return found


def forget_old() -> int:
    """Delete variables that nobody used for as long as files without a conversation are kept. Returns how many."""
    old = KeptVariables.objects.filter(kept_at__lt=timezone.now() - timedelta(days=settings.RESOURCE_DAYS))
    return old.delete()[0]


def _forget_older(task: Task) -> None:
    """The last two of a task are kept: its last call may be run again, with what was there before it."""
    for one in KeptVariables.objects.filter(task=task.pk).order_by("-seq")[2:]:
        one.delete()
    if task.thread is None:
        return
    mine = Task.objects.filter(thread=task.thread, kept_variables__isnull=False)
    newest = mine.annotate(kept_at=Max("kept_variables__kept_at")).order_by("-kept_at")[:LAST]
    for one in KeptVariables.objects.filter(task__thread=task.thread).exclude(task__in=[one.pk for one in newest]):
        one.delete()
