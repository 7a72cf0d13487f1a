"""The socket that every page opens. It only speaks: what a person does is an ordinary POST.

Connecting, reconnecting and a second tab are one path: the page was rendered from rows; the socket repaints what is at
work and goes on from there. Nothing is taken from the client but the conversation that the page shows.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from typing import Any, cast
from urllib.parse import parse_qs
from uuid import UUID

from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer
from django.contrib.sessions.models import Session
from django.http import Http404

from conversations import fragments
from conversations.access import get_conversation
from conversations.actions import mark_seen
from conversations.hub import get_hub
from conversations.models import Conversation, Turn
from executor.hints import user_group
from executor.models import ACTIVE
from users.models import User

logger = logging.getLogger(__name__)

in_thread = functools.partial(database_sync_to_async, thread_sensitive=False)

#: Close codes of our own. A page that gets one does not come back by itself.
LOGGED_OUT, NO_SUCH_CONVERSATION = 4401, 4404


class LiveConsumer(AsyncWebsocketConsumer):
    """`/live/` for any page, `/live/?conversation=<id>` for that of a conversation."""

    async def connect(self) -> None:
        self._pieces: list[str] = []
        self._more = asyncio.Event()
        self._sender: asyncio.Task[None] | None = None
        self._conversation_id: UUID | None = None
        self._group = ""
        user = cast(User, self.scope["user"])
        if not user.is_authenticated or not user.is_active:
            await self.close(LOGGED_OUT)
            return
        self._user = user
        asked = parse_qs(self.scope["query_string"].decode("latin-1")).get("conversation", [])
        if asked:
            conversation = await _find_conversation(user, asked[0])
            if conversation is None:
                await self.close(NO_SUCH_CONVERSATION)
                return
            self._conversation_id = conversation.pk
        # Listen first, look then: what happens in between is seen twice rather than not at all.
        self._group = user_group(user.pk)
        await self.channel_layer.group_add(self._group, self.channel_name)
        await self.accept()
        self._sender = asyncio.create_task(self._send_forever(), name="socket sender")
        if self._conversation_id is not None:
            for turn in await _active_turns(self._conversation_id):
                await self._follow(turn)
            self.show(await _composer_actions(self._conversation_id))

    async def disconnect(self, code: int) -> None:
        get_hub().leave(self)
        if self._group:
            await self.channel_layer.group_discard(self._group, self.channel_name)
        if self._sender is not None:
            self._sender.cancel()
            await asyncio.gather(self._sender, return_exceptions=True)

    # --- what the hub tells ------------------------------------------------------------------------------------------

    def show(self, html: str) -> None:
        """Pieces wait for the sender together: a slow socket gets fewer, larger messages, and nobody waits for it."""
        self._pieces.append(html)
        self._more.set()

    def task_over(self, task_id: UUID) -> None:
        asyncio.get_running_loop().create_task(self._refresh(task_id))

    # --- what other processes tell -----------------------------------------------------------------------------------

    async def task_changed(self, event: dict[str, Any]) -> None:
        """A task of this person began, ended or was stopped somewhere."""
        turn = await _turn_of(UUID(event["task"]))
        if turn is None:
            return
        if turn.conversation_id == self._conversation_id and turn.task.is_active:
            await self._follow(turn)
        await self._refresh(turn.task_id)

    async def conversation_changed(self, event: dict[str, Any]) -> None:
        """A conversation of this person was renamed, deleted, pinned …"""
        self.show(await _sidebar_item(UUID(event["conversation"]), self._conversation_id))

    async def rights_changed(self, event: dict[str, Any]) -> None:
        """The person was suspended, or a session of theirs ended: is this one still good?"""
        if not await _still_logged_in(self._user, self.scope["session"].session_key):
            await self.close(LOGGED_OUT)

    # --- inside ------------------------------------------------------------------------------------------------------

    async def _follow(self, turn: Turn) -> None:
        self.show(await _turn_html(turn))
        await get_hub().follow(turn.task_id, self)

    async def _refresh(self, task_id: UUID) -> None:
        """The sidebar's line of the conversation that the task belongs to and, on its page, Send or Stop."""
        turn = await _turn_of(task_id)
        if turn is None:
            return
        if turn.conversation_id == self._conversation_id:
            await _mark_seen(turn.conversation)
            self.show(await _composer_actions(turn.conversation_id))
        self.show(await _sidebar_item(turn.conversation_id, self._conversation_id))

    async def _send_forever(self) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            while True:
                await self._more.wait()
                self._more.clear()
                pieces, self._pieces = self._pieces, []
                await self.send("".join(pieces))


@in_thread
def _find_conversation(user: User, conversation_id: str) -> Conversation | None:
    try:
        return get_conversation(user, UUID(conversation_id))
    except (Http404, ValueError):
        return None


@in_thread
def _active_turns(conversation_id: UUID) -> list[Turn]:
    turns = Turn.objects.filter(conversation=conversation_id, task__status__in=ACTIVE).order_by("position")
    return list(turns.select_related("task__agent_version"))


@in_thread
def _turn_of(task_id: UUID) -> Turn | None:
    return Turn.objects.filter(task=task_id).select_related("conversation", "task__agent_version").first()


@in_thread
def _turn_html(turn: Turn) -> str:
    return fragments.turn_added(fragments.turn_views([turn])[0])


@in_thread
def _composer_actions(conversation_id: UUID) -> str:
    return fragments.composer_actions(conversation_id)


@in_thread
def _sidebar_item(conversation_id: UUID, current_id: UUID | None) -> str:
    return fragments.conversation_changed(conversation_id, current_id)


@in_thread
def _mark_seen(conversation: Conversation) -> None:
    mark_seen(conversation)


@in_thread
def _still_logged_in(user: User, session_key: str | None) -> bool:
    active = User.objects.filter(pk=user.pk, is_active=True).exists()
    return active and bool(session_key) and Session.objects.filter(pk=session_key).exists()
