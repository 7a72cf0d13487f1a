"""What people do with conversations: a verb, one transaction, and what others must hear once it is committed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from itertools import pairwise
from typing import Any
from uuid import UUID

from django.db import DatabaseError, transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet
from django.db.models.functions import Now

from conversations.branches import close_gap
from conversations.forms import FILES_GONE
from conversations.models import TITLE_LENGTH, Conversation, Turn
from executor import queue
from executor.actions import ANSWERED_BELOW, NotNow, create_task, start_declared
from executor.actions import retry as retry_task
from executor.core.messages import user as user_message
from executor.files import reference
from executor.hints import notify_soon, tell_pages_soon
from executor.models import ACTIVE, Agent, DeclaredTask, Status, Task
from executor.prepared import Param, Select
from executor.queue import UNBEGUN
from tools import uploads
from tools.models import Resource
from tools.resources import delete as delete_files
from tools.resources import delete_thread
from users.models import User

logger = logging.getLogger(__name__)

#: How long a deleted conversation can still be had back.
BIN_DAYS = 7

ANSWERED_ABOVE = "Something further up is being answered once more. Send this when that is done."
ANOTHER_SHOWN = "Another variant of this is shown. Show this one first, then try again."

_LOCKED = Select(lambda: Conversation.objects.select_for_update().filter(pk=Param("conversation")).only("pk"))
_AT_WORK = Task.objects.filter(thread=OuterRef("conversation"), status__in=ACTIVE)


def _turns_from_the_last(conversation: Param) -> QuerySet[Any]:
    shown = Turn.objects.filter(conversation=conversation, shown=True).order_by("-position")
    return shown.annotate(is_busy=Exists(_AT_WORK)).select_related("task").only("position", "task__status")


_LAST_TURN = Select(lambda: _turns_from_the_last(Param("conversation"))[:1])
_NEWS = Task.objects.filter(turn__conversation=OuterRef("pk"), ended_at__gt=OuterRef("seen_at"))
_UNSEEN = Select(
    lambda: Conversation.objects.filter(Q(seen_at=None) | Q(Exists(_NEWS)), pk=Param("conversation")).only("pk")
)


class AlreadySent(Exception):
    """This message was sent before; `turn` is what came of it."""

    def __init__(self, turn: Turn) -> None:
        self.turn = turn


def send(
    user: User,
    agent: Agent,
    text: str,
    conversation: Conversation | None = None,
    key: str = "",
    files: Sequence[Resource] = (),
) -> Turn:
    """Say something: in `conversation`, or in a new one. Sent twice with the same `key`, it is still one turn.

    Raises NotNow while something further up is being answered once more: this would be answered beside it. Also if one
    of `files`, which were uploaded, was sent with another message a moment ago.
    """
    message = user_message(text, *map(reference, files))

    def make(previous: Task | None, thread: UUID) -> tuple[Task, bool]:
        task, created = create_task(user, agent.current_version(), message, previous, key or None, thread)
        if created and not uploads.attach(files, task.pk, thread):
            raise NotNow(FILES_GONE)
        return task, created

    return _send(user, agent, text, conversation, make)


def start(
    user: User,
    agent: Agent,
    declared: DeclaredTask,
    data: Mapping[str, Any],
    conversation: Conversation | None = None,
    key: str = "",
) -> Turn:
    """Start a declared task, as `send` says something. `agent` works on it if it has none of its own.

    Raises what `executor.actions.start_declared` does, and NotNow.
    """

    def make(previous: Task | None, thread: UUID) -> tuple[Task, bool]:
        return start_declared(user, declared, data, agent, previous, key or None, thread)

    return _send(user, agent, "", conversation, make, declared.title)


def _send(
    user: User,
    agent: Agent,
    text: str,
    conversation: Conversation | None,
    make: Callable[[Task | None, UUID], tuple[Task, bool]],
    title: str = "",
) -> Turn:
    """What `make` gives (the task, and whether it is new), in its place. Without a `text`, the task says what was
    said."""
    try:
        with transaction.atomic():
            if conversation is None:
                title = title or first_words(text)
                conversation = Conversation.objects.create(user=user, agent=agent, title=title, active_at=Now())
            return _placed(agent, text, conversation, make)
    except AlreadySent as again:
        return again.turn


def _placed(
    agent: Agent, text: str, conversation: Conversation, make: Callable[[Task | None, UUID], tuple[Task, bool]]
) -> Turn:
    # One at a time, so that two messages sent at once follow each other.
    _LOCKED.first(conversation=conversation.pk)
    parent = _LAST_TURN.first(conversation=conversation.pk)
    if parent and parent.is_busy and not parent.task.is_active:
        raise NotNow(ANSWERED_ABOVE)
    task, created = make(parent.task if parent else None, conversation.pk)
    if not created:
        raise AlreadySent(Turn.objects.select_related("conversation", "task__agent_version").get(task=task))
    turn = Turn.objects.create(
        conversation=conversation,
        parent=parent,
        task=task,
        position=parent.position + 1 if parent else 1,
        text=text or task.text,
    )
    Conversation.objects.filter(pk=conversation.pk).update(active_at=Now(), seen_at=Now(), agent=agent)
    _tell(task)
    return turn


def retry(turn: Turn, agent: Agent | None = None) -> bool:
    """Try again what failed or was stopped, with `agent` if there is one. See `executor.actions.retry`."""
    with transaction.atomic():
        if not retry_task(turn.task, agent.current_version() if agent else None):
            return False
        if agent:
            Conversation.objects.filter(pk=turn.conversation_id).update(agent=agent)
    return True


def lock_line(task: Task, **_: Any) -> None:
    """A task is about to be tried again. Raises NotNow where another variant is shown: what is at work is always on the
    page."""
    if (turn := Turn.objects.filter(task=task).first()) is None:
        return
    _LOCKED.first(conversation=turn.conversation_id)
    if not Turn.objects.filter(pk=turn.pk, shown=True).exists():
        raise NotNow(ANOTHER_SHOWN)


def take_place(task: Task, **_: Any) -> None:
    """Let a task that is tried again, and those that wait behind it, follow each other as their turns do. Raises NotNow
    if two tasks could be at work at once then."""
    if (turn := Turn.objects.filter(task=task).first()) is None:
        return
    path = Turn.objects.filter(conversation=turn.conversation_id, shown=True).select_related("task")
    path = path.only("task__status", "task__attempts", "task__previous").order_by("position")
    line = [each.task for each in path if each.task.is_active or each.task.attempts]
    active = [each for each in line if each.is_active]
    begun = [each for each in active[1:] if each.attempts and each != task]
    if len(active) > 1 and (begun or active != line[-len(active) :]):
        raise NotNow(ANSWERED_BELOW)
    movable = Task.objects.filter(UNBEGUN | Q(pk=task.pk))
    for before, after in pairwise(active):
        if after.previous_id != before.pk and not movable.filter(pk=after.pk).update(previous=before.pk):
            raise NotNow(ANSWERED_BELOW)


def take_back(turn: Turn, *, keep_files: bool = False) -> bool:
    """Remove a message that waits; what came with it too, or it is a draft again. False, and nothing is changed, if
    somebody has begun to answer it."""
    with transaction.atomic():
        _LOCKED.first(conversation=turn.conversation_id)
        files = list(uploads.sent_with(turn.task_id))
        if not queue.take_out(turn.task):
            return False
        if not keep_files:
            delete_files(files)
        return True


def send_now(turn: Turn) -> bool:
    """Let a message that waits go first, into the task at work if that can take it in. False, and nothing is changed,
    if somebody has begun to answer it."""
    with transaction.atomic():
        _LOCKED.first(conversation=turn.conversation_id)
        if not queue.steer(turn.task):
            return False
        _move_up(turn)
    return True


def _move_up(turn: Turn) -> None:
    """Put a turn in front of the one whose task waits for its task now, with all that were between them behind it."""
    shown = Turn.objects.filter(conversation=turn.conversation_id, shown=True)
    turn.refresh_from_db(fields=["parent", "position"])
    behind = shown.filter(task__previous=turn.task_id, task__status=Status.QUEUED, position__lt=turn.position).first()
    if behind is None:
        return
    passed = list(shown.filter(position__gte=behind.position, position__lt=turn.position).order_by("position"))
    Turn.objects.filter(parent=turn).update(parent=passed[-1])
    parent, place = behind.parent_id, behind.position
    for at, each in enumerate([turn, *passed]):
        each.parent_id, each.position = parent, place + at
        parent = each.pk
    Turn.objects.bulk_update([turn, *passed], ["parent", "position"])


def leave_line(task: Task, **_: Any) -> None:
    """The turn of a task that is taken out of its line goes with it; those after it close up."""
    found = Turn.objects.filter(task=task).select_related("conversation")
    if (seen := found.first()) is None:
        return
    _LOCKED.first(conversation=seen.conversation_id)
    turn = found.first()
    if turn is None:  # Somebody was quicker.
        return
    behind = [turn.pk]
    while behind:
        behind = list(Turn.objects.filter(parent__in=behind).values_list("pk", flat=True))
        Turn.objects.filter(pk__in=behind).update(position=F("position") - 1)
    Turn.objects.filter(parent=turn).update(parent=turn.parent_id)
    turn.delete()
    uploads.detach(task.pk)
    close_gap(turn)
    transaction.on_commit(partial(_tell_pages, turn.conversation, "conversation.changed"))


def rename(conversation: Conversation, title: str) -> None:
    _change(conversation, title=title)
    conversation.refresh_from_db(fields=["title"])


def toggle_pin(conversation: Conversation) -> None:
    _change(conversation, pinned=~F("pinned"))
    conversation.refresh_from_db(fields=["pinned"])


def delete(conversation: Conversation) -> None:
    """Into the bin; `restore` takes it out again."""
    _change(conversation, deleted_at=Now())


def restore(conversation: Conversation) -> None:
    _change(conversation, deleted_at=None)


def mark_seen(conversation: Conversation) -> None:
    """The person looks at it. Written, and told to their other pages, only where there was something new."""
    if _UNSEEN.first(conversation=conversation.pk):  # Most looks find nothing new, and need not wait to write.
        _change(conversation, "conversation.seen", seen_at=Now())


def empty_bin() -> int:
    """Remove for good what was deleted long ago, with its tasks. Returns how many conversations."""
    expired = Conversation.objects.filter(deleted_at__lt=Now() - timedelta(days=BIN_DAYS))
    count = 0
    for conversation_id in expired.values_list("pk", flat=True):
        try:
            count += _remove(expired, conversation_id)
        except DatabaseError:  # The others need not wait for this one; it is tried again the next time.
            logger.exception("Conversation %s could not be removed", conversation_id)
    return count


@transaction.atomic
def _remove(expired: QuerySet[Conversation], conversation_id: UUID) -> bool:
    """False if it is not `expired` any more: somebody took it out of the bin a moment ago."""
    conversation = expired.select_for_update().filter(pk=conversation_id).first()
    if conversation is None:
        return False
    tasks = list(conversation.turns.values_list("task", flat=True))
    conversation.delete()
    delete_thread(conversation_id)
    Task.objects.filter(pk__in=tasks).delete()
    return True


def first_words(text: str) -> str:
    """A title made of the first words of a message."""
    words = text.split()
    title = " ".join(words[:6])
    return f"{title[: TITLE_LENGTH - 1]}…" if len(words) > 6 or len(title) > TITLE_LENGTH else title


def _change(conversation: Conversation, event: str = "conversation.changed", /, **changes: Any) -> None:
    with transaction.atomic():
        if Conversation.objects.filter(pk=conversation.pk).update(**changes):
            transaction.on_commit(partial(_tell_pages, conversation, event))


def _tell(task: Task) -> None:
    transaction.on_commit(partial(notify_soon, task.user_id, task.pk))


def _tell_pages(conversation: Conversation, event: str) -> None:
    tell_pages_soon(conversation.user_id, {"type": event, "conversation": str(conversation.pk)})
