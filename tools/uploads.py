"""Files that people send: taken in as they come, counted and looked at, and drafts until their message is sent."""

import hashlib
import tempfile
from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from django.conf import settings
from django.core.files.base import File
from django.db.models import QuerySet

from tools.core import peek
from tools.core.context import safe_name
from tools.models import Resource
from tools.resources import Quota, next_version

#: So many drafts a person may have in one place, which is what one message can bring.
MOST = 10
KINDS = "pictures (PNG, JPEG, GIF, WebP), PDF, text, tables (CSV, XLSX), ZIP, sound or film"


class Refused(ValueError):
    """The file is not taken; the message is a sentence for the person."""


def take_in(user: Any, thread: UUID | None, name: str, chunks: Iterable[bytes]) -> Resource:
    """A draft in `thread`, or for a new one. Nothing of what is refused stays. Raises Refused."""
    name = safe_name(name.encode("utf-8", "replace").decode())
    if drafts(user, thread).count() >= MOST:
        raise Refused(f"A message can bring {MOST} files. Send these first, or remove some.")
    quota = Quota.of(user)
    with tempfile.TemporaryFile() as body:
        digest, size, head = hashlib.sha256(), 0, b""
        for chunk in chunks:
            size += len(chunk)
            if size > settings.UPLOAD_MB * 1024**2:
                raise Refused(f"“{name}” is larger than {settings.UPLOAD_MB} MB, the most that can be sent.")
            if quota.left is not None and size > quota.left:
                raise Refused(quota.sentence)
            head += chunk[: peek.HEAD - len(head)] if len(head) < peek.HEAD else b""
            digest.update(chunk)
            body.write(chunk)
        if not size:
            raise Refused(f"“{name}” is empty.")
        if not (media_type := peek.media_type(name, head)):
            raise Refused(f"“{name}” is of a kind that cannot be used here. Send {KINDS}.")
        body.seek(0)
        draft = Resource(
            owner=user,
            source=Resource.Source.UPLOAD,
            thread=thread,
            name=name,
            media_type=media_type,
            size=size,
            sha256=digest.hexdigest(),
            preview=peek.preview(media_type, head, whole=size <= len(head)),
        )
        draft.file.save(name, File(body), save=False)
    draft.save(force_insert=True)
    return draft


def drafts(user: Any, thread: UUID | None) -> QuerySet[Resource]:
    """What was uploaded there and not sent yet, in that order."""
    mine = Resource.objects.filter(owner=user.pk, source=Resource.Source.UPLOAD, thread=thread, task_id=None)
    return mine.order_by("created_at", "id")


def attach(files: Sequence[Resource], task_id: UUID, thread: UUID) -> bool:
    """Send drafts with a task, in the caller's transaction. False if one is a draft no more: then nothing may be
    sent."""
    for file in files:
        changes = {"task_id": task_id, "thread": thread, "version": next_version(thread, file.name)}
        if not Resource.objects.filter(pk=file.pk, task_id=None).update(**changes):
            return False
    return True


def sent_with(task_id: UUID) -> QuerySet[Resource]:
    return Resource.objects.filter(task_id=task_id, source=Resource.Source.UPLOAD)


def detach(task_id: UUID) -> None:
    """What was sent with a message that is taken back is a draft again."""
    sent_with(task_id).update(task_id=None)
