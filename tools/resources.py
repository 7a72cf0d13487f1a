"""Resources: how files of people and functions are stored, reached and cleaned up. (serving.py sends them out.)"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from itertools import chain
from typing import Any
from uuid import UUID

from django.conf import settings
from django.core.files.base import ContentFile
from django.core.files.storage import Storage
from django.db import transaction
from django.db.models import Max, Sum
from django.utils import timezone

from tools.core import peek
from tools.core.context import NewFile, safe_name
from tools.models import FOLDER, Resource

# A file is written before its row is committed, so one without a row may still be about to get it.
ORPHAN_AGE = timedelta(hours=1)

# Who can say which tasks still exist. The layers above register here, because this one cannot look up at them: a
# function that takes ids of tasks and returns those that are still there. While nobody is registered, no resource is
# too old.
IN_USE: list[Callable[[Iterable[UUID]], set[UUID]]] = []

_BATCH = 500


@dataclass(frozen=True)
class Cleaned:
    """What a cleaning removed, or would remove: resources that nothing refers to, and files without a resource."""

    resources: int
    orphans: int
    bytes: int


def store(
    user_id: Any, task_id: str | UUID, call_id: str, files: Iterable[NewFile], thread: UUID | None = None
) -> list[Resource]:
    """Keep `files` that a call made for their owner, inside the caller's transaction. One with the name of another of
    the same `thread` is a newer version of it.

    When the transaction is rolled back the rows go with it; the files that stay behind are found by `clean`.
    """
    stored = []
    for new in files:
        resource = Resource(
            owner_id=user_id,
            thread=thread,
            task_id=UUID(str(task_id)),
            call_id=call_id,
            name=safe_name(new.name),
            version=next_version(thread, safe_name(new.name)),
            media_type=new.media_type,
            size=len(new.data),
            sha256=hashlib.sha256(new.data).hexdigest(),
            description=new.description,
            preview=peek.preview(new.media_type, new.data[: peek.HEAD], whole=len(new.data) <= peek.HEAD),
        )
        resource.file.save(resource.name, ContentFile(new.data), save=False)
        resource.save(force_insert=True)
        stored.append(resource)
    return stored


def next_version(thread: UUID | None, name: str) -> int:
    if thread is None:
        return 1
    same = Resource.objects.filter(thread=thread, name=name).exclude(task_id=None)
    return (same.aggregate(last=Max("version"))["last"] or 0) + 1


# --- how much a person may keep --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Quota:
    """In bytes. `allowed` None is as much as they like."""

    allowed: int | None
    used: int

    @classmethod
    def of(cls, user: Any) -> "Quota":
        used = Resource.objects.filter(owner=user.pk).aggregate(used=Sum("size"))["used"] or 0
        return cls(user.bytes_of_files, used)

    @property
    def left(self) -> int | None:
        return None if self.allowed is None else max(0, self.allowed - self.used)

    @property
    def sentence(self) -> str:
        return (
            f"Your files take as much as they may, {(self.allowed or 0) // 1024**2:,} MB. "
            "Delete some that you do not need any more, or ask an administrator for more."
        )


def fitting(user: Any, files: Iterable[NewFile]) -> tuple[list[NewFile], str]:
    """Those of `files` that the person may still keep, and a sentence for them about the others."""
    left, kept, refused = Quota.of(user).left, [], []
    for new in files:
        if left is not None and len(new.data) > left:
            refused.append(safe_name(new.name))
            continue
        left = None if left is None else left - len(new.data)
        kept.append(new)
    names = ", ".join(refused)
    return kept, f"Not kept, as your files take as much as they may: {names}." if refused else ""


# --- one of them -----------------------------------------------------------------------------------------------------


def get_resource(user: Any, resource_id: UUID | str) -> Resource:
    """The one door to a resource. Raises Resource.DoesNotExist alike for what is absent and what is not `user`'s."""
    if not (user.is_authenticated and user.is_active):
        raise Resource.DoesNotExist
    try:
        wanted = UUID(str(resource_id))
    except ValueError:
        raise Resource.DoesNotExist from None
    return Resource.objects.get(id=wanted, owner_id=user.pk)


def delete(resources: Iterable[Resource]) -> None:
    """For good. Their bytes go when the transaction is committed."""
    gone = list(resources)
    Resource.objects.filter(pk__in=[resource.pk for resource in gone]).delete()
    for resource in gone:
        transaction.on_commit(partial(resource.file.storage.delete, str(resource.file.name)), robust=True)


def delete_thread(thread: UUID) -> None:
    """All files of a thread that is gone, for good."""
    delete(Resource.objects.filter(thread=thread).only("file"))


# --- cleaning up -----------------------------------------------------------------------------------------------------


def clean(*, dry_run: bool = False) -> Cleaned:
    """Remove resources older than RESOURCE_DAYS whose task is gone, and drafts older than DRAFT_DAYS; then files that
    no row refers to.

    Safe to run at any time and twice at once. Sizes are in bytes.
    """
    resources = orphans = freed = 0
    storage: Storage = Resource._meta.get_field("file").storage
    for batch in _batches(chain(_old_unused(), _old_drafts())):
        resources += len(batch)
        freed += sum(resource.size for resource in batch)
        if not dry_run:
            with transaction.atomic(durable=True):  # A file must not be deleted for a row that then comes back.
                Resource.objects.filter(id__in=[resource.id for resource in batch]).delete()
            for resource in batch:
                storage.delete(resource.file.name)
    for names in _batches(_old_files(storage)):
        known = set(Resource.objects.filter(file__in=names).values_list("file", flat=True))
        for name in names:
            if name not in known:
                orphans += 1
                freed += storage.size(name)
                if not dry_run:
                    storage.delete(name)
    return Cleaned(resources, orphans, freed)


def _old_unused() -> Iterator[Resource]:
    if not IN_USE:
        return
    limit = timezone.now() - timedelta(days=settings.RESOURCE_DAYS)
    old = Resource.objects.filter(created_at__lt=limit).exclude(task_id=None)
    tasks = old.order_by().values_list("task_id", flat=True).distinct()
    for task_ids in _batches(tasks.iterator(_BATCH)):
        alive = set().union(*(still_there(task_ids) for still_there in IN_USE))
        gone = [task_id for task_id in task_ids if task_id not in alive]
        yield from Resource.objects.filter(created_at__lt=limit, task_id__in=gone)


def _old_drafts() -> Iterator[Resource]:
    limit = timezone.now() - timedelta(days=settings.DRAFT_DAYS)
    yield from Resource.objects.filter(created_at__lt=limit, task_id=None)


def _old_files(storage: Storage) -> Iterator[str]:
    """The names of all files that are old enough to have a row if they will ever have one."""
    for folder in _listed(storage, FOLDER)[0]:
        for file in _listed(storage, f"{FOLDER}/{folder}")[1]:
            name = f"{FOLDER}/{folder}/{file}"
            written: datetime = storage.get_modified_time(name)
            if written < timezone.now() - ORPHAN_AGE:
                yield name


def _listed(storage: Storage, folder: str) -> tuple[list[str], list[str]]:
    try:
        return storage.listdir(folder)
    except FileNotFoundError:
        return [], []


def _batches(items: Iterable[Any]) -> Iterator[list[Any]]:
    batch: list[Any] = []
    for item in items:
        batch.append(item)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
