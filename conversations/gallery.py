"""The files of a conversation: which there are, where each comes from, and its versions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db.models import QuerySet

from conversations import words
from conversations.models import Conversation
from conversations.present import FileView
from executor.models import Step
from tools.models import Resource
from users.models import User


@dataclass(frozen=True, slots=True)
class Kept:
    """A file, how many bytes it has, and who made it when."""

    file: FileView
    bytes: int
    source: str
    created_at: datetime

    @property
    def files(self) -> tuple[FileView]:
        """As the templates of files take it."""
        return (self.file,)

    @classmethod
    def of(cls, resource: Resource, made_by: str) -> Kept:
        return cls(FileView.of(resource), resource.size, made_by, resource.created_at)


@dataclass(frozen=True, slots=True)
class Line:
    """The files of one name."""

    newest: Kept
    older: tuple[Kept, ...]


def files_of(user: User, conversation: Conversation) -> QuerySet[Resource]:
    """The newest first; without those that are not sent yet."""
    mine = Resource.objects.filter(owner=user.pk, thread=conversation.pk).exclude(task_id=None)
    return mine.defer("told").order_by("-created_at", "-id")


def gallery(user: User, conversation: Conversation) -> list[Line]:
    found = list(files_of(user, conversation))
    calls = Step.objects.filter(task__in={file.task_id for file in found}, call_id__in={file.call_id for file in found})
    names: dict[tuple[UUID | None, str | None], str] = {
        (task, call): name for task, call, name in calls.values_list("task", "call_id", "name")
    }
    by_name: dict[str, list[Kept]] = defaultdict(list)
    for file in found:
        by_name[file.name].append(Kept.of(file, _source(file, names.get((file.task_id, file.call_id), ""))))
    return [Line(newest, tuple(older)) for newest, *older in by_name.values()]


def _source(file: Resource, function: str) -> str:
    if file.source == Resource.Source.UPLOAD:
        return "Sent by you"
    return f"Made by “{words.human_name(function)}”" if function else "Made by a function"


def named(files: Iterable[Resource]) -> Iterator[tuple[str, Resource]]:
    """Each with a name of its own: that of the newest is its own, others have their number in theirs."""
    taken: set[str] = set()
    for file in files:
        stem, dot, ending = file.name.rpartition(".")
        name, number = file.name, file.version
        while name.casefold() in taken:  # Some systems take upper and lower case for the same.
            name = f"{stem} (v{number}){dot}{ending}" if stem else f"{ending} (v{number})"
            number += 1
        taken.add(name.casefold())
        yield name, file
