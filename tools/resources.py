"""Resources: how files that functions made are stored, reached, served and cleaned up."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.core.files.base import ContentFile
from django.core.files.storage import Storage
from django.db import transaction
from django.http import HttpResponse
from django.utils import timezone
from django.utils.http import content_disposition_header

from tools.core.context import NewFile, safe_name
from tools.models import FOLDER, Resource

# Raster images cannot carry script. SVG and HTML can, so they are only ever downloaded.
INLINE_TYPES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})

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


def store(user_id: Any, task_id: str | UUID, call_id: str, files: Iterable[NewFile]) -> list[Resource]:
    """Keep `files` for their owner, inside the caller's transaction.

    When the transaction is rolled back the rows go with it; the files that stay behind are found by `clean`.
    """
    stored = []
    for new in files:
        resource = Resource(
            owner_id=user_id,
            task_id=UUID(str(task_id)),
            call_id=call_id,
            name=safe_name(new.name),
            media_type=new.media_type,
            size=len(new.data),
            sha256=hashlib.sha256(new.data).hexdigest(),
            description=new.description,
        )
        resource.file.save(resource.name, ContentFile(new.data), save=False)
        resource.save(force_insert=True)
        stored.append(resource)
    return stored


def get_resource(user: Any, resource_id: UUID | str) -> Resource:
    """The one door to a resource. Raises Resource.DoesNotExist alike for what is absent and what is not `user`'s."""
    if not (user.is_authenticated and user.is_active):
        raise Resource.DoesNotExist
    try:
        wanted = UUID(str(resource_id))
    except ValueError:
        raise Resource.DoesNotExist from None
    return Resource.objects.get(id=wanted, owner_id=user.pk)


def resource_response(resource: Resource, *, inline: bool = False) -> HttpResponse:
    """The file as a response that cannot do harm: whatever is in it, no browser runs it as a part of this site.

    `inline` holds for raster images only. Raises Resource.DoesNotExist where the file has gone.
    The file is read at once, as no resource is larger than `MAX_FILE_BYTES`, and an ASGI server would do so anyway.
    """
    try:
        with resource.file.open("rb") as file:
            content = file.read()
    except FileNotFoundError:
        raise Resource.DoesNotExist(f"The file of {resource.id} has gone.") from None
    shown = inline and resource.media_type in INLINE_TYPES
    return HttpResponse(
        content,
        content_type=resource.media_type if shown else "application/octet-stream",
        headers={
            "Content-Disposition": content_disposition_header(not shown, safe_name(resource.name)) or "attachment",
            "Content-Length": str(len(content)),
            "Content-Security-Policy": "sandbox; default-src 'none'",
            "X-Content-Type-Options": "nosniff",
            "Cache-Control": "private, max-age=3600",
        },
    )


def clean(*, dry_run: bool = False) -> Cleaned:
    """Remove resources older than RESOURCE_DAYS whose task is gone, then files that no row refers to.

    Safe to run at any time and twice at once. Sizes are in bytes.
    """
    resources = orphans = freed = 0
    storage: Storage = Resource._meta.get_field("file").storage
    for batch in _batches(_old_unused()):
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
    tasks = Resource.objects.filter(created_at__lt=limit).order_by().values_list("task_id", flat=True).distinct()
    for task_ids in _batches(tasks.iterator(_BATCH)):
        alive = set().union(*(still_there(task_ids) for still_there in IN_USE))
        gone = [task_id for task_id in task_ids if task_id not in alive]
        yield from Resource.objects.filter(created_at__lt=limit, task_id__in=gone)


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
