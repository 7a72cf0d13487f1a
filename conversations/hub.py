"""From the workers' streams to the sockets of this process.

One task reads every stream that somebody here watches. For each there is one feed, which knows what the page of a
viewer looks like by now: it folds new entries into that, renders each change once, and hands it to all viewers. A new
viewer gets a repaint of the whole task first, so connecting, reconnecting and coming late are the same.

Rows are looked at when the stream says that they changed, and every few seconds in case it could not say so: nothing
depends on an entry having arrived.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from typing import Any, Protocol
from uuid import UUID
from weakref import WeakKeyDictionary

from channels.db import database_sync_to_async
from django.conf import settings
from redis import asyncio as redis
from redis.exceptions import RedisError

from conversations import fragments
from conversations.markdown import BlockStream
from conversations.present import TaskView
from executor.live import stream_key

logger = logging.getLogger(__name__)

BLOCK_MS = 5000
POLL_EVERY = 3.0
RETRY_AFTER = 0.5
#: The open block is redrawn for this share of the time at the most: long tables and lists are slow to render.
REDRAW_SHARE = 0.05

load = database_sync_to_async(fragments.Snapshot.load, thread_sensitive=False)


class Viewer(Protocol):
    def show(self, html: str) -> None:
        """Change the page. Returns at once."""

    def task_over(self, task_id: UUID) -> None:
        """The task has ended; nothing more will come of it."""


class Feed:
    """One task as the pages of its viewers show it."""

    def __init__(self, snapshot: fragments.Snapshot) -> None:
        self.task_id: UUID = snapshot.task.pk
        self.viewers: set[Viewer] = set()
        self.last_id = "0"
        self._snapshot = snapshot
        self._text: BlockStream | None = None
        self._note = ""
        self._view = snapshot.view()
        self._redraw: asyncio.TimerHandle | None = None
        self._redraw_at = 0.0

    @property
    def is_over(self) -> bool:
        return not self._view.is_active

    def repaint(self) -> str:
        """The task as it stands, for somebody who just came."""
        return fragments.task_repainted(self._current())

    async def take(self, entries: list[dict[str, Any]]) -> None:
        """Fold `entries` in, and send what changed."""
        added = ""
        look = restarted = False
        for entry in entries:
            match entry["k"]:
                case "text":
                    added += entry["t"]
                case "note":
                    self._note, look = entry["t"], True
                case "open":
                    self._text, self._note, added = BlockStream(entry["t"]), "", ""
                    look = restarted = True
                case "rows":
                    restarted = restarted or self._text is not None
                    self._text, self._note, added = None, "", ""
                    look = True
        if look:
            await self.look(restarted=restarted)
        if added:
            self._add(added)

    async def look(self, *, restarted: bool = False) -> None:
        """Look at the rows, and send what is different. `restarted`: the text in flight is not a continuation."""
        snapshot = await load(self.task_id)
        if snapshot is None:
            return
        before, self._snapshot = self._view, snapshot
        self._view = self._current()
        if self.is_over:
            self._show(fragments.task_repainted(self._view))
            return
        html = fragments.steps_changed(before, self._view)
        saved = (before.open_blocks, before.open_block) != (self._view.open_blocks, self._view.open_block)
        if restarted or (self._text is None and saved):
            html += fragments.answer_repainted(self._view)
        if html:
            self._show(html)

    def _add(self, text: str) -> None:
        if self._text is None:
            return  # It belongs to a step that is on record already.
        done = self._text.feed(text)
        loop = asyncio.get_running_loop()
        if done or loop.time() >= self._redraw_at:
            self._draw_open(done)
        elif self._redraw is None:
            self._redraw = loop.call_at(self._redraw_at, self._draw_open)

    def _draw_open(self, done: str = "") -> None:
        """Redraw the open block, below what became complete; not again before that has cost its share of the time."""
        if self._redraw is not None:
            self._redraw.cancel()
            self._redraw = None
        if self._text is None or self.is_over:
            return
        loop = asyncio.get_running_loop()
        began = loop.time()
        self._show(fragments.text_grown(self.task_id, done, self._text.open_html))
        self._redraw_at = began + (loop.time() - began) / REDRAW_SHARE

    def _current(self) -> TaskView:
        return self._snapshot.view(self._text, self._note)

    def _show(self, html: str) -> None:
        for viewer in self.viewers:
            viewer.show(html)


class Hub:
    """All feeds of this process."""

    def __init__(self) -> None:
        self._redis = redis.from_url(settings.REDIS_URL, decode_responses=True, socket_timeout=BLOCK_MS / 1000 + 5)
        self._feeds: dict[UUID, Feed] = {}
        # Writing to this stream ends a read that is waiting, so that it begins anew with the streams of now.
        self._bell = f"hub:{secrets.token_hex(8)}"
        self._bell_id = "0"
        self._reader: asyncio.Task[None] | None = None
        self._poller: asyncio.Task[None] | None = None

    async def follow(self, task_id: UUID, viewer: Viewer) -> None:
        """Show `viewer` the task as it stands, and everything that happens to it from now on."""
        feed = self._feeds.get(task_id)
        if feed is None:
            snapshot = await load(task_id)
            if snapshot is None:
                return
            feed = self._feeds.setdefault(task_id, Feed(snapshot))
        viewer.show(feed.repaint())
        feed.viewers.add(viewer)
        if feed.is_over:
            self._end(feed)
            return
        self._start()
        await self._ring()

    def leave(self, viewer: Viewer) -> None:
        for feed in list(self._feeds.values()):
            feed.viewers.discard(viewer)
            if not feed.viewers:
                del self._feeds[feed.task_id]

    def _end(self, feed: Feed) -> None:
        self._feeds.pop(feed.task_id, None)
        for viewer in feed.viewers:
            viewer.task_over(feed.task_id)

    def _start(self) -> None:
        if self._reader is None or self._reader.done():
            self._reader = asyncio.create_task(self._read_forever(), name="hub reader")
        if self._poller is None or self._poller.done():
            self._poller = asyncio.create_task(self._poll_forever(), name="hub poller")

    async def _ring(self) -> None:
        try:
            await self._redis.xadd(self._bell, {"e": ""}, maxlen=1)
            await self._redis.expire(self._bell, 60)
        except (RedisError, OSError) as error:
            logger.warning("Redis does not answer: %s", error)

    async def _read_forever(self) -> None:
        while self._feeds:
            try:
                await self._read()
            except (RedisError, OSError) as error:
                logger.warning("Live updates are not coming from Redis: %s", error)
                await asyncio.sleep(RETRY_AFTER)
                await self._look_at_all()
            except Exception:
                logger.exception("The hub stumbled")
                await asyncio.sleep(RETRY_AFTER)

    async def _read(self) -> None:
        watched = {stream_key(task_id): feed for task_id, feed in self._feeds.items()}
        positions: dict[Any, Any] = {key: feed.last_id for key, feed in watched.items()}
        reply = await self._redis.xread({**positions, self._bell: self._bell_id}, block=BLOCK_MS)
        # redis-py gives a list of pairs under RESP2 and a dictionary of lists of pages under RESP3.
        for key, found in _pages(reply):
            if key == self._bell:
                self._bell_id = found[-1][0]
            elif feed := watched.get(key):
                feed.last_id = found[-1][0]
                await feed.take([json.loads(fields["e"]) for _, fields in found])
        self._end_those_over()

    async def _poll_forever(self) -> None:
        while self._feeds:
            await asyncio.sleep(POLL_EVERY)
            try:
                await self._look_at_all()
            except Exception:
                logger.exception("The hub could not look at the rows")

    async def _look_at_all(self) -> None:
        """Find out from the rows what no entry told."""
        for feed in list(self._feeds.values()):
            await feed.look()
        self._end_those_over()

    def _end_those_over(self) -> None:
        for feed in list(self._feeds.values()):
            if feed.is_over:
                self._end(feed)


def _pages(reply: Any) -> list[tuple[str, list[tuple[str, dict[str, str]]]]]:
    if isinstance(reply, dict):
        return [(key, [entry for page in pages for entry in page]) for key, pages in reply.items()]
    return [(key, entries) for key, entries in reply or []]


_hubs: WeakKeyDictionary[asyncio.AbstractEventLoop, Hub] = WeakKeyDictionary()


def get_hub() -> Hub:
    """The hub of the running loop: one in a web process."""
    return _hubs.setdefault(asyncio.get_running_loop(), Hub())
