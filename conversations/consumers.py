"""The socket that every page opens. It only speaks: what a person does is an ordinary POST.

Connecting, reconnecting and a second tab are one path: the page was rendered from rows; the socket repaints what may
have changed since then and goes on from there. The client says which conversation its page shows and when that was
rendered, and nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from urllib.parse import parse_qs
from uuid import UUID

from channels.generic.websocket import AsyncWebsocketConsumer
from django.contrib.sessions.backends.base import SessionBase
from django.db import Error
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.db.models.functions import Now
from django.http import Http404
from django.urls import reverse
from redis.exceptions import RedisError

from conversations import fragments
from conversations.access import conversations_of, get_conversation, get_task
from conversations.actions import mark_seen
from conversations.hub import get_hub
from conversations.models import Conversation, Turn
from conversations.task_live import TaskPage
from executor.database import in_database
from executor.hints import user_group
from executor.models import ACTIVE, HELD, Status, Task
from executor.prepared import Param, Select
from executor.sub_tasks import is_below
from users.models import User

logger = logging.getLogger(__name__)

#: Close codes of our own. A page that gets one of these does not come back by itself …
LOGGED_OUT, NO_SUCH_CONVERSATION = 4401, 4404
#: … and with this one it does, and is looked at anew.
COME_AGAIN = 4000
#: Seconds between two looks whether a socket may still listen.
CHECK_EVERY = 30.0
#: After so many seconds without an echo we call again.
ECHO_WITHIN = 1.0
#: The clock that wrote the page and the database's may differ by this much.
CLOCKS_DIFFER = timedelta(seconds=30)


class LiveConsumer(AsyncWebsocketConsumer):
    """`/live/` for any page, `/live/?conversation=<id>` for that of a conversation, `/live/?task=<id>` for that of a
    task."""

    def __init__(self) -> None:
        super().__init__()
        self._pieces: list[str] = []
        self._more = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._refreshing = asyncio.Lock()
        self._heard = asyncio.Event()
        self._over: set[UUID] = set()
        self._conversation_id: UUID | None = None
        self._task_page: TaskPage | None = None
        self._group = ""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """From the first word to the end, whatever that is: a page that left, an error, or the end of the server."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._leave()

    async def _leave(self) -> None:
        try:
            mine = list(self._tasks)
            for task in mine:
                task.cancel()
            await asyncio.gather(*mine, return_exceptions=True)
            if self._group:
                await self.channel_layer.group_discard(self._group, self.channel_name)
        finally:
            get_hub().leave(self)  # Last, because until then a task of ours may have begun to follow.
            if self._task_page:
                get_hub().leave(self._task_page)

    async def connect(self) -> None:
        # A refusal must be accepted first: browsers do not tell a page why a handshake failed.
        await self.accept()
        user = cast(User, self.scope["user"])
        if not user.is_authenticated or not user.is_active:
            await self.close(LOGGED_OUT)
            return
        self._user = user
        asked = {key: values[0] for key, values in parse_qs(self.scope["query_string"].decode("latin-1")).items()}
        self._since = _parse_time(asked.get("since", "")) - CLOCKS_DIFFER
        if "conversation" in asked:
            conversation = await in_database(_find_conversation, user, asked["conversation"])
            if conversation is None:
                await self.close(NO_SUCH_CONVERSATION)
                return
            self._conversation_id = conversation.pk
        task = await in_database(_find_task, user, asked["task"]) if "task" in asked else None
        if task is not None:
            self._task_page = TaskPage(task.pk, self, self._begin)
        # Listen first, look then: what happens in between is seen twice rather than not at all.
        self._group = user_group(user.pk)
        await self.channel_layer.group_add(self._group, self.channel_name)
        self._begin(self._send_forever(), "socket sender")
        # The same for rights: whoever lost them before we listened was told nothing.
        if not await in_database(_may_listen, user, self.scope["session"]):
            await self.close(LOGGED_OUT)
            return
        self._begin(self._check_forever(), "socket check")
        turns, pieces = await in_database(_news_since, user, self._conversation_id, self._since)
        for piece in pieces:
            self.show(piece)
        for turn in turns:
            await self._follow(turn)
        if task is not None and (task.ended_at is None or task.ended_at >= self._since):
            await self._follow_page(task.pk)

    # --- what the hub tells ------------------------------------------------------------------------------------------

    def show(self, html: str) -> None:
        """Pieces wait for the sender, so that nobody waits for a slow socket."""
        if html:
            self._pieces.append(html)
            self._more.set()

    def rows_read(self) -> None:
        """`show` was told what that brought."""

    def task_over(self, task_id: UUID) -> None:
        if task_id in self._over:
            return
        self._over.add(task_id)
        self._begin(self._refresh(task_id), "socket refresh")

    def task_stands(self, task_id: UUID) -> None:
        self._begin(self._refresh(task_id), "socket refresh")

    # --- what other processes tell -----------------------------------------------------------------------------------

    async def task_changed(self, event: dict[str, Any]) -> None:
        """A task of this person began, ended or was stopped somewhere."""
        task_id = UUID(event["task"])
        if not event["over"]:
            self._over.discard(task_id)
        await self._follow_page(task_id, below=True)
        # Of an end the hub tells whoever follows the task: it has done so already, or does when it has looked.
        if task_id not in self._over and not (event["over"] and get_hub().look_again(task_id, self)):
            await self._refresh(task_id)

    async def conversation_changed(self, event: dict[str, Any]) -> None:
        """A conversation of this person was renamed, deleted, pinned …"""
        async with self._refreshing:
            for piece in await in_database(_renamed, self._user, UUID(event["conversation"]), self._conversation_id):
                self.show(piece)

    async def branch_changed(self, event: dict[str, Any]) -> None:
        """Another variant of something in a conversation is shown now."""
        conversation_id = UUID(event["conversation"])
        async with self._refreshing:
            turns, pieces = await in_database(_branch, self._user, conversation_id, self._conversation_id)
            for piece in pieces:
                self.show(piece)
            get_hub().repaint(self)  # Before anything else is sent, for the pieces know only what is in the rows.
            for turn in turns:
                await get_hub().follow(turn.task_id, self)

    async def file_deleted(self, event: dict[str, Any]) -> None:
        self.show(fragments.file_gone(event["file"]))

    async def conversation_seen(self, event: dict[str, Any]) -> None:
        """The person has looked at what was new in a conversation. Pages that show it have looked themselves."""
        conversation_id = UUID(event["conversation"])
        if conversation_id != self._conversation_id:
            async with self._refreshing:
                self.show(await in_database(fragments.conversation_changed, conversation_id, self._conversation_id))

    async def rights_changed(self, event: dict[str, Any]) -> None:
        """The person was suspended, or a session of theirs ended. Whoever may still listen connects again."""
        await self.close(COME_AGAIN)

    async def page_came(self, event: dict[str, Any]) -> None:
        """A page of this person called: this one, or another."""
        self._heard.set()

    # --- inside ------------------------------------------------------------------------------------------------------

    def _begin(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Do `work` beside everything else, until the socket closes."""
        task = asyncio.get_running_loop().create_task(self._try(work), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _try(self, work: Coroutine[Any, Any, None]) -> None:
        """If `work` fails, the page comes again: nobody tells it a second time what it was to show."""
        try:
            await work
        except Exception:
            logger.exception("A page has to come again")
            await self.close(COME_AGAIN)

    async def _check_forever(self) -> None:
        """Nobody tells that a session has expired, and a hint that rights have changed may get lost.

        The look in `connect` came when our subscription was sent. What Redis told before it arrived, we did not hear:
        look again as soon as we hear ourselves.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CHECK_EVERY):
                await self._be_heard()
        while True:
            try:
                if not await in_database(_may_listen, self._user, self.scope["session"]):
                    await self.close(LOGGED_OUT)
                    return
                self.show(await in_database(_standstill, self._user, self._conversation_id))
            except Error as error:
                logger.warning("Whether somebody may still listen could not be looked up: %s", error)
            await asyncio.sleep(CHECK_EVERY)

    async def _be_heard(self) -> None:
        """Call into our group until we hear it."""
        while not self._heard.is_set():
            try:
                await self.channel_layer.group_send(self._group, {"type": "page.came"})
            except (RedisError, OSError) as error:
                logger.warning("Redis does not answer: %s", error)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ECHO_WITHIN):
                    await self._heard.wait()

    async def _refresh(self, task_id: UUID) -> None:
        """Show what a task's change means for this page: its turn, Send or Stop, the sidebar."""
        async with self._refreshing:  # So that what was read first is shown first.
            turn, waiting, pieces = await in_database(_news_of, self._user, task_id, self._conversation_id)
            # A task may be over before we hear of its beginning. Only what was seen to end needs no further look.
            if turn is not None and (turn.task.is_active or turn.task_id not in self._over):
                if not turn.task.is_active:
                    self._over.add(turn.task_id)
                await self._follow(turn)
            for other in waiting:  # Where they stand in the line may have changed.
                if other != turn:
                    await self._follow(other)
            for piece in pieces:
                self.show(piece)

    async def _follow(self, turn: Any) -> None:
        # Of a variant, `branch_changed` tells: it does not go below the others, but in place of one.
        is_new = turn.created_at >= self._since and not turn.is_variant
        await get_hub().follow(turn.task_id, self, turn if is_new else None)

    async def _follow_page(self, task_id: UUID, *, below: bool = False) -> None:
        """If the page is that of the task, or of one above it."""
        page = self._task_page
        if page and (page.task_id == task_id or (below and await in_database(is_below, task_id, page.task_id))):
            await get_hub().follow(page.task_id, page)

    async def _send_forever(self) -> None:
        """Everything that waits in one message. static/js/live.js puts its pieces in one after the other."""
        with contextlib.suppress(asyncio.CancelledError):
            while True:
                await self._more.wait()
                self._more.clear()
                pieces, self._pieces = self._pieces, []
                await self.send("".join(pieces))


def _parse_time(seconds: str) -> datetime:
    """Seconds since 1970, or now where there is nothing sensible."""
    try:
        return datetime.fromtimestamp(max(int(seconds), 0), UTC)
    except (ValueError, OverflowError, OSError):
        return datetime.now(UTC)


def _find_conversation(user: User, conversation_id: str) -> Conversation | None:
    try:
        return get_conversation(user, UUID(conversation_id))
    except (Http404, ValueError):
        return None


def _find_task(user: User, task_id: str) -> Task | None:
    try:
        return get_task(user, UUID(task_id))
    except (Http404, ValueError):
        return None


def _may_listen(user: User, session: SessionBase) -> bool:
    """Whether the person, and the session that they came with, are still what they were."""
    unchanged = User.objects.filter(pk=user.pk, is_active=True, password=user.password).exists()
    return unchanged and bool(session.load())  # Of a session that is gone or has expired there is nothing.


def _standstill(user: User, current_id: UUID | None) -> str:
    """The sidebar, where a task lost its worker: then nobody tells."""
    lost = Task.objects.filter(user=user, status__in=HELD, lease_until__lt=Now())
    return _sidebar(user, current_id) if lost.exists() else ""


_ENDED = Task.objects.filter(turn__conversation=OuterRef("pk"), ended_at__gte=Param("since"))
_TOUCHED = Select(
    lambda: Conversation.objects.filter(
        Q(active_at__gte=Param("since")) | Exists(_ENDED), user=Param("user"), deleted_at=None
    ).only("pk")[:1]
)
_BESIDE = Turn.objects.filter(
    Q(parent=OuterRef("parent")) | Q(parent=None, position=1),
    conversation=OuterRef("conversation"),
    position=OuterRef("position"),
    shown=False,
)


def _turns() -> QuerySet[Any]:
    return Turn.objects.annotate(is_variant=Exists(_BESIDE))


#: … and those that are not shown, all in one query: a page asks for it whenever it connects.
_CHANGED_TURNS = Select(
    lambda: (
        _turns()
        .filter(
            Q(task__status__in=ACTIVE) | Q(task__ended_at__gte=Param("since")) | Q(shown=False),
            conversation=Param("conversation"),
        )
        .select_related("task")
        .only("conversation", "parent", "text", "position", "shown", "created_at", "task__status", "task__steers")
        .order_by("position")
    )
)
_WAITING_TURNS = Select(
    lambda: (
        _turns()
        .filter(conversation=Param("conversation"), task__status=Status.QUEUED)
        .select_related("task__agent_version")
        .order_by("position")
    )
)
#: What happens to a task that another agent gave happens to the one at the top.
_TOP = Task.objects.filter(pk=Param("task")).values("root")
_TURN = Select(
    lambda: (
        _turns()
        .filter(Q(task=Param("task")) | Q(task__in=_TOP), conversation__user=Param("user"))
        .select_related("conversation", "parent", "task")
        .only("text", "position", "shown", "created_at", "conversation__user", "parent__created_at", "task__status")
    )
)
_ABOVE = Select(
    lambda: (
        Conversation.objects.filter(user=Param("user"), deleted_at=None, active_at__gt=Param("before"))
        .exclude(pk=Param("conversation"))
        .only("pk")[:1]
    )
)


def _news_since(user: User, current_id: UUID | None, since: datetime) -> tuple[list[Turn], list[str]]:
    """The turns of the page's conversation that changed after `since` or will, and what else did."""
    pieces = [_sidebar(user, current_id)] if _TOUCHED.first(user=user.pk, since=since) else []
    if current_id is None:
        return [], pieces
    found = _CHANGED_TURNS.all(conversation=current_id, since=since)
    turns = [turn for turn in found if turn.shown]
    # Of another variant that was chosen meanwhile, the rows do not tell when; what the page shows does.
    pieces.append(fragments.branch(Conversation(pk=current_id), [turn.pk for turn in found if not turn.shown]))
    pieces += [fragments.turns_gone([turn.pk for turn in turns]), fragments.composer_actions(current_id)]
    steering = [turn for turn in turns if turn.task.status == Status.QUEUED and turn.task.steers]
    return turns, [*pieces, *map(fragments.turn_moved, steering)]


def _news_of(user: User, task_id: UUID, current_id: UUID | None) -> tuple[Turn | None, list[Turn], list[str]]:
    """The turn that the task answers, if it is on the page, those that wait there, and what changed around it."""
    turn = _TURN.first(task=task_id, user=user.pk)
    waiting = _WAITING_TURNS.all(conversation=current_id) if current_id else []
    if turn is None:  # It was taken back, or went into the task at work.
        gone = [fragments.turn_gone(task_id), fragments.composer_actions(current_id)] if current_id else []
        return None, waiting, gone
    is_here = turn.conversation_id == current_id
    pieces = []
    if is_here:
        if not turn.task.is_active:  # What only begins is nothing new to see.
            mark_seen(turn.conversation)
        pieces.append(fragments.composer_actions(turn.conversation_id))
        if any(other.task_id == task_id and other.task.steers for other in waiting):
            pieces += [fragments.turn_moved(other) for other in waiting if other.task.steers]
    if turn.task.status == Status.QUEUED and _was_below(turn):  # A new message brings its conversation to the top.
        pieces.append(_sidebar(user, current_id))
    else:
        pieces.append(fragments.conversation_changed(turn.conversation_id, current_id))
    return turn if is_here and turn.shown else None, waiting if is_here else [], pieces


def _branch(user: User, conversation_id: UUID, current_id: UUID | None) -> tuple[list[Turn], list[str]]:
    """What is at work in the conversation, if the page is that one's, and the turns as they are now."""
    pieces = [_sidebar(user, current_id)]
    if conversation_id != current_id or not conversations_of(user).filter(pk=current_id).exists():
        return [], pieces
    pieces += [
        fragments.branch(Conversation(pk=conversation_id), changed=True),
        fragments.composer_actions(conversation_id),
    ]
    return list(Turn.objects.filter(conversation=conversation_id, shown=True, task__status__in=ACTIVE)), pieces


def _was_below(turn: Turn) -> bool:
    """Whether the turn's conversation was not the first one in the sidebar before."""
    if turn.parent is None:
        return True
    user, before = turn.conversation.user_id, turn.parent.created_at
    return _ABOVE.first(user=user, conversation=turn.conversation_id, before=before) is not None


def _renamed(user: User, conversation_id: UUID, current_id: UUID | None) -> list[str]:
    pieces = [_sidebar(user, current_id)]
    if conversation_id == current_id and (current := conversations_of(user).filter(pk=current_id).first()):
        pieces.append(fragments.title_changed(current))
    return pieces


def _sidebar(user: User, current_id: UUID | None) -> str:
    return fragments.sidebar(user, reverse("conversation", args=[current_id]) if current_id else "")
