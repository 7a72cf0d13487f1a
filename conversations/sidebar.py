"""What is listed beside every page: a person's conversations, with the state of each, in groups."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any
from uuid import UUID

from django.db.models import Case, OuterRef, QuerySet, Subquery, When
from django.db.models.functions import Coalesce
from django.utils import timezone

from conversations.models import Conversation
from executor.models import ACTIVE, Status, Task
from executor.prepared import Param, Select
from users.models import User

#: So many conversations are listed; the search finds the others.
SIDEBAR = 100
#: Of tasks at work side by side.
TOLD_FIRST = ("waiting", "working", "resuming", "retrying", "queued")


@dataclass(frozen=True, slots=True)
class ConversationView:
    id: UUID
    title: str
    pinned: bool
    url: str
    updated_at: datetime
    state: str
    unread: bool
    deleted: bool

    @classmethod
    def of(cls, conversation: Any, below: str = "") -> ConversationView:
        """Of one that knows the state of its newest task. `below` is how those stand to which that gave work."""
        ended_at, seen_at = conversation.task_ended_at, conversation.seen_at
        return cls(
            id=conversation.pk,
            title=conversation.title,
            pinned=conversation.pinned,
            url=conversation.get_absolute_url(),
            updated_at=conversation.active_at,
            state=below or _state(conversation),
            unread=bool(ended_at and (seen_at is None or ended_at > seen_at)),
            deleted=conversation.deleted_at is not None,
        )


def _with_newest_task(conversations: QuerySet[Conversation]) -> QuerySet[Any]:
    newest = Task.objects.filter(turn__conversation=OuterRef("pk"), turn__shown=True).order_by("-turn__position")
    # Those that wait for their turn come after the one that they wait for.
    waits = Case(When(status=Status.QUEUED, then=1), default=0)
    at_work = newest.filter(status__in=ACTIVE).order_by(waits, "turn__position")
    return conversations.only("title", "pinned", "active_at", "seen_at", "deleted_at").annotate(
        task_status=Coalesce(Subquery(at_work.values("status")[:1]), Subquery(newest.values("status")[:1])),
        task_lease=Subquery(at_work.values("lease_until")[:1]),
        task_ended_at=Subquery(newest.values("ended_at")[:1]),
    )


_LISTED = Select(
    lambda: _with_newest_task(Conversation.objects.filter(user=Param("user"), deleted_at=None)).order_by(
        "-pinned", "-active_at"
    )[:SIDEBAR]
)
_ONE = Select(lambda: _with_newest_task(Conversation.objects.filter(pk=Param("conversation"))))


def conversation_view(conversation_id: UUID) -> ConversationView | None:
    """Also of one in the bin; None if it is gone for good."""
    found = _ONE.first(conversation=conversation_id)
    return _views([found])[0] if found else None


def sidebar_groups(user: User) -> list[tuple[str, list[ConversationView]]]:
    return grouped(_views(_LISTED.all(user=user.pk)), timezone.localdate())


def _views(found: Sequence[Any]) -> list[ConversationView]:
    """One query more where tasks await others."""
    awaiting = [conversation.pk for conversation in found if conversation.task_status == Status.AWAITING]
    below = _states_below(awaiting) if awaiting else {}
    return [ConversationView.of(conversation, below.get(conversation.pk, "")) for conversation in found]


def _states_below(awaiting: Collection[UUID]) -> dict[UUID, str]:
    """Of conversations whose task awaits others: what is to be told first of these."""
    found: dict[UUID, set[str]] = defaultdict(set)
    tasks = Task.objects.filter(root__turn__conversation__in=awaiting, status__in=ACTIVE).order_by()
    for pk, status, lease in tasks.values_list("root__turn__conversation", "status", "lease_until"):
        found[pk].add(_state_of(status, lease))
    return {pk: next(state for state in TOLD_FIRST if state in states) for pk, states in found.items()}


def grouped(views: Sequence[ConversationView], today: date) -> list[tuple[str, list[ConversationView]]]:
    """Pinned ones first, then by age."""
    groups: dict[str, list[ConversationView]] = defaultdict(list)
    for view in views:
        groups["Pinned" if view.pinned else _age(view.updated_at, today)].append(view)
    order = ("Pinned", "Today", "Yesterday", "Last 7 days", "Older")
    return [(label, groups[label]) for label in order if label in groups]


def _age(when: datetime, today: date) -> str:
    days = (today - timezone.localdate(when)).days
    if days <= 0:
        return "Today"
    if days == 1:
        return "Yesterday"
    return "Last 7 days" if days <= 7 else "Older"


def _state(conversation: Any) -> str:
    """Of a conversation, by its task at work or, if there is none, by its newest. Where nobody works, nothing turns."""
    return _state_of(conversation.task_status, conversation.task_lease)


def _state_of(status: str | None, lease: datetime | None) -> str:
    match status:
        case Status.WAITING:
            return "waiting"
        case Status.RETRYING:
            return "retrying"
        case Status.QUEUED | Status.AWAITING:
            return "queued"
        case Status.RUNNING | Status.STOPPING:
            return "resuming" if lease and lease < timezone.now() else "working"
        case Status.FAILED | Status.NEEDS_ATTENTION:
            return "failed"
        case _:
            return "idle"
