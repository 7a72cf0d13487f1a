"""The socket that every page opens. It only speaks: what a person does is an ordinary POST.

Connecting, reconnecting and a second tab are one path: the page was rendered from rows; the socket repaints what may
have changed since then and goes on from there. The client says which conversation its page shows and when that was
rendered, and nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from urllib.parse import parse_qs
from uuid import UUID

from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer
from django.db.models import Q
from django.http import Http404
from django.urls import reverse

from conversations import fragments
from conversations.access import conversations_of, get_conversation
from conversations.actions import mark_seen
from conversations.hub import get_hub
from conversations.models import Conversation, Turn
from executor.hints import user_group
from executor.models import ACTIVE, Status
from users.models import User

logger = logging.getLogger(__name__)

in_thread = functools.partial(database_sync_to_async, thread_sensitive=False)

#: Close codes of our own. A page that gets one of these does not come back by itself …
LOGGED_OUT, NO_SUCH_CONVERSATION = 4401, 4404
#: … and with this one it does, and is looked at anew.
COME_AGAIN = 4000
#: The clock that wrote the page and the database's may differ by this much.
CLOCKS_DIFFER = timedelta(seconds=30)


class LiveConsumer(AsyncWebsocketConsumer):
    """`/live/` for any page, `/live/?conversation=<id>` for that of a conversation."""

    async def connect(self) -> None:
        self._pieces: list[str] = []
        self._more = asyncio.Event()
        self._sender: asyncio.Task[None] | None = None
        self._refreshing = asyncio.Lock()
        self._refreshes: set[asyncio.Task[None]] = set()
        self._over: set[UUID] = set()
        self._conversation_id: UUID | None = None
        self._group = ""
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
            conversation = await _find_conversation(user, asked["conversation"])
            if conversation is None:
                await self.close(NO_SUCH_CONVERSATION)
                return
            self._conversation_id = conversation.pk
        # Listen first, look then: what happens in between is seen twice rather than not at all.
        self._group = user_group(user.pk)
        await self.channel_layer.group_add(self._group, self.channel_name)
        self._sender = asyncio.create_task(self._send_forever(), name="socket sender")
        self.show(await _sidebar(user, self._conversation_id, self._since))
        if self._conversation_id is not None:
            for turn in await _turns_changed(self._conversation_id, self._since):
                await self._follow(turn)
            self.show(await _composer_actions(self._conversation_id))

    async def disconnect(self, code: int) -> None:
        get_hub().leave(self)
        if self._group:
            await self.channel_layer.group_discard(self._group, self.channel_name)
        mine = [task for task in (self._sender, *self._refreshes) if task is not None]
        for task in mine:
            task.cancel()
        await asyncio.gather(*mine, return_exceptions=True)

    # --- what the hub tells ------------------------------------------------------------------------------------------

    def show(self, html: str) -> None:
        """Pieces wait for the sender, so that nobody waits for a slow socket."""
        if html:
            self._pieces.append(html)
            self._more.set()

    def task_over(self, task_id: UUID) -> None:
        self._over.add(task_id)
        task = asyncio.get_running_loop().create_task(self._refresh(task_id), name="socket refresh")
        self._refreshes.add(task)
        task.add_done_callback(self._refreshes.discard)

    # --- what other processes tell -----------------------------------------------------------------------------------

    async def task_changed(self, event: dict[str, Any]) -> None:
        """A task of this person began, ended or was stopped somewhere."""
        turn = await _turn_of(self._user, UUID(event["task"]))
        if turn is None:
            return
        # A task may be over before we hear of its beginning. Only what was seen to end needs no further look.
        if turn.conversation_id == self._conversation_id and (turn.task.is_active or turn.task_id not in self._over):
            await self._follow(turn)
        await self._refresh(turn.task_id)

    async def conversation_changed(self, event: dict[str, Any]) -> None:
        """A conversation of this person was renamed, deleted, pinned, read …"""
        async with self._refreshing:
            self.show(await _sidebar(self._user, self._conversation_id))
            if self._conversation_id and event["conversation"] == str(self._conversation_id):
                self.show(await _title(self._user, self._conversation_id))

    async def rights_changed(self, event: dict[str, Any]) -> None:
        """The person was suspended, or a session of theirs ended. Whoever may still listen connects again."""
        await self.close(COME_AGAIN)

    # --- inside ------------------------------------------------------------------------------------------------------

    async def _follow(self, turn: Turn) -> None:
        if turn.created_at >= self._since and not get_hub().is_followed(turn.task_id, self):
            self.show(await _turn_html(turn))
        await get_hub().follow(turn.task_id, self)

    async def _refresh(self, task_id: UUID) -> None:
        """The sidebar's line of the conversation that the task belongs to and, on its page, Send or Stop."""
        async with self._refreshing:  # So that what was read first is shown first.
            turn = await _turn_of(self._user, task_id)
            if turn is None:
                return
            if turn.conversation_id == self._conversation_id:
                await _mark_seen(turn.conversation)
                self.show(await _composer_actions(turn.conversation_id))
            if turn.task.status == Status.QUEUED:  # A new message brings its conversation to the top.
                self.show(await _sidebar(self._user, self._conversation_id))
            else:
                self.show(await _sidebar_item(turn.conversation_id, self._conversation_id))

    async def _send_forever(self) -> None:
        """One message for each piece: htmx finds the places of a whole message before it changes any."""
        with contextlib.suppress(asyncio.CancelledError):
            while True:
                await self._more.wait()
                self._more.clear()
                pieces, self._pieces = self._pieces, []
                for piece in pieces:
                    await self.send(piece)


def _parse_time(seconds: str) -> datetime:
    """Seconds since 1970, or now where there is nothing sensible."""
    try:
        return datetime.fromtimestamp(int(seconds), UTC)
    except (ValueError, OverflowError, OSError):
        return datetime.now(UTC)


@in_thread
def _find_conversation(user: User, conversation_id: str) -> Conversation | None:
    try:
        return get_conversation(user, UUID(conversation_id))
    except (Http404, ValueError):
        return None


@in_thread
def _turns_changed(conversation_id: UUID, since: datetime) -> list[Turn]:
    """Those whose task is at work, or was after `since`."""
    changed = Q(task__status__in=ACTIVE) | Q(task__ended_at__gte=since)
    turns = Turn.objects.filter(changed, conversation=conversation_id).order_by("position")
    return list(turns.select_related("task__agent_version"))


@in_thread
def _turn_of(user: User, task_id: UUID) -> Turn | None:
    turns = Turn.objects.filter(task=task_id, conversation__user=user)
    return turns.select_related("conversation", "task__agent_version").first()


@in_thread
def _turn_html(turn: Turn) -> str:
    return fragments.turn_added(fragments.turn_views([turn])[0])


@in_thread
def _composer_actions(conversation_id: UUID) -> str:
    return fragments.composer_actions(conversation_id)


@in_thread
def _sidebar(user: User, current_id: UUID | None, since: datetime | None = None) -> str:
    """All of it; with `since` only if it may have changed after that time."""
    if since is not None:
        touched = Q(active_at__gte=since) | Q(turns__task__ended_at__gte=since)
        if not conversations_of(user).filter(touched).exists():
            return ""
    return fragments.sidebar(user, reverse("conversation", args=[current_id]) if current_id else "")


@in_thread
def _sidebar_item(conversation_id: UUID, current_id: UUID | None) -> str:
    return fragments.conversation_changed(conversation_id, current_id)


@in_thread
def _title(user: User, conversation_id: UUID) -> str:
    conversation = conversations_of(user).filter(pk=conversation_id).first()
    return fragments.title_changed(conversation) if conversation else ""


@in_thread
def _mark_seen(conversation: Conversation) -> None:
    mark_seen(conversation)
