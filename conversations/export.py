"""A conversation as a whole: every turn with all its variants, and everything that the tasks did, a turn at a time.

What was summarised is there as it was said, for a summary changes no row. Docs/conversation-export.md tells the shape.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

from django.db.models import F, Q
from django.utils import timezone

from conversations import export_markdown
from conversations.document import document, iso
from conversations.models import Conversation, Turn
from conversations.record import Record
from executor.models import Task

VERSION = 1
#: So many turns are looked for at once. Their steps are read in portions of so many, or of one turn that has more.
TURNS = 20
STEPS = 200

JsonDict = dict[str, Any]


def as_json(conversation: Conversation) -> Iterator[str]:
    """One document, in pieces; each turn is a line of it."""
    yield _dumped({"v": VERSION, "conversation": head(conversation)})[:-1] + ', "turns": ['
    comma = ""
    for told in turns(conversation):
        yield f"{comma}\n{_dumped(told)}"
        comma = ","
    yield "\n]}\n"


def as_markdown(conversation: Conversation) -> Iterator[str]:
    """The same to be read by people, in pieces."""
    yield export_markdown.opening(head(conversation))
    for told in turns(conversation):
        yield export_markdown.turn(told)


def head(conversation: Conversation) -> JsonDict:
    agent = conversation.agent
    return {
        "id": str(conversation.pk),
        "title": conversation.title,
        "person": conversation.user.username,
        "agent": {"name": agent.name, "title": agent.title} if agent else None,
        "created_at": iso(conversation.created_at),
        "active_at": iso(conversation.active_at),
        "exported_at": iso(timezone.now()),
    }


def turns(conversation: Conversation) -> Iterator[JsonDict]:
    """First those that the page shows, then all other variants, each in their order.

    Only their ids are known from the beginning: so each is there once, whatever happens to the conversation meanwhile.
    A few turns are in memory at a time, and a portion takes the same number of queries wherever it is.
    """
    ids = list(conversation.turns.order_by("-shown", "position", "created_at", "pk").values_list("pk", flat=True))
    for first in range(0, len(ids), TURNS):
        some = ids[first : first + TURNS]
        found = Turn.objects.in_bulk(some)
        kept = [found[pk] for pk in some if pk in found]
        for portion in _portions(kept, _tasks(kept)):
            yield from _documents(portion)


#: A turn, the task that answers it, and those that were given for that.
Whole = tuple[Turn, list[Task]]


def _tasks(kept: Sequence[Turn]) -> Mapping[UUID, list[Task]]:
    """By the task of the turn: that, and what it gave to others, and these to others.

    Not `turn.task`: turn and task would hold each other, and stay in memory until that is tidied up.
    """
    tops = [turn.task_id for turn in kept]
    tasks: dict[UUID, list[Task]] = defaultdict(list)
    together = Task.objects.filter(Q(pk__in=tops) | Q(root__in=tops)).select_related("agent_version", "declared")
    for task in together.order_by(F("root").asc(nulls_first=True), "pk"):
        tasks[task.root_id or task.pk].append(task)
    return tasks


def _portions(kept: Iterable[Turn], tasks: Mapping[UUID, list[Task]]) -> Iterator[list[Whole]]:
    portion: list[Whole] = []
    size = 0
    for turn in kept:
        steps = sum(task.head_seq for task in tasks[turn.task_id])
        if portion and size + steps > STEPS:
            yield portion
            portion, size = [], 0
        portion.append((turn, tasks[turn.task_id]))
        size += steps
    if portion:
        yield portion


def _documents(portion: Sequence[Whole]) -> Iterator[JsonDict]:
    records = Record.many([task for _, tasks in portion for task in tasks])
    for turn, (answer, *below) in portion:
        yield {
            "id": str(turn.pk),
            "parent": str(turn.parent_id) if turn.parent_id else None,
            "position": turn.position,
            "shown": turn.shown,
            "text": turn.text,
            "created_at": iso(turn.created_at),
            "answer": document(records[answer.pk], turn),
            "below": [document(records[task.pk], None) for task in below],
        }


def _dumped(found: JsonDict) -> str:
    return json.dumps(found, ensure_ascii=False)
