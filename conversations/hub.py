"""From the workers' streams to the sockets of this process.

One task reads every stream that somebody here watches. For each there is one feed, which knows what the page of a
viewer looks like by now: it folds new entries into that, renders each change once, and hands it to all viewers. A new
viewer gets a repaint of the whole task first, so connecting, reconnecting and coming late are the same.

What was on a page is never taken back because a connection broke: a new feed reads its stream before it paints, and
what streamed stays until the rows tell more.

Rows are looked at when the stream says that they changed, and every few seconds in case it could not say so: nothing
depends on an entry having arrived.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import time
from typing import Any, Protocol, cast
from uuid import UUID
from weakref import WeakKeyDictionary

from django.conf import settings
from redis import asyncio as redis
from redis.exceptions import RedisError

from conversations import fragments
from conversations.fragments import Snapshot
from conversations.markdown import BlockStream
from conversations.models import Turn
from conversations.present import TaskView, TurnView, with_text
from executor.database import in_database
from executor.live import stream_key

logger = logging.getLogger(__name__)

BLOCK_MS = 5000
POLL_EVERY = 3.0
RETRY_AFTER = 0.5
#: A page that comes does not wait longer for what streamed so far, in seconds.
STREAM_WITHIN = 1.0
#: A task is drawn for this share of the time at the most, as long tables and lists are slow to render; but it is drawn
#: after so many seconds.
DRAW_SHARE = 0.05
DRAW_AFTER = 1.0


class Viewer(Protocol):
    def show(self, html: str) -> None:
        """Change the page. Returns at once."""

    def rows_read(self) -> None:
        """Somebody looked at the task's rows, as they may have changed."""

    def task_over(self, task_id: UUID) -> None:
        """The task has ended; nothing more will come of it."""

    def task_stands(self, task_id: UUID) -> None:
        """Nobody works on the task any more, or somebody does again, or it is to go first in its line; and nobody may
        have told."""


class Feed:
    """One task as the pages of its viewers show it.

    All of them show the same, `_shown`. What happens makes a new view, and the difference between the two is sent: in
    whatever order rows and entries come, and whoever looks at them, no page misses a piece or gets one twice.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self.task_id: UUID = snapshot.view.id
        self.viewers: set[Viewer] = set()
        self.last_id = "0"
        self.heard = True  # Something came from the stream since the poller last asked.
        self._snapshot: Snapshot | None = snapshot
        self._shown = snapshot.view
        self._looking = asyncio.Lock()
        self._text: BlockStream | None = None  # What streams of the model step `_seq`: of `_said`, what is drawn.
        self._seq = 0
        self._said = ""
        self._drawn = 0
        self._note = ""
        self._lost = False  # Nothing streams at the moment, although it should.
        self._behind = False  # The rows have changed and were not looked at yet.
        self._wanted = False  # Somebody wants them to be looked at, and nobody does so far.
        self._timer: asyncio.TimerHandle | None = None
        self._draw_at = 0.0

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come: the task has ended, or is gone."""
        return self._snapshot is None or not self._shown.is_active

    @property
    def needs_a_look(self) -> bool:
        """Whether the rows may tell what nobody looked at."""
        return self._behind or self._wanted or not self.heard

    def repaint(self, turn: Turn | None = None) -> str:
        """The task as its pages show it, for somebody who just came; with its turn if the page may not have that."""
        if turn is not None:
            return fragments.turn_repainted(TurnView.of(turn, self._shown))
        return fragments.task_repainted(self._shown)

    def take(self, entries: list[dict[str, Any]]) -> bool:
        """Fold `entries` in. Returns whether they say that the rows have changed."""
        self.heard = True
        changed = False
        for entry in entries:
            match entry["k"]:
                case "open":
                    self._open(BlockStream(), entry["s"], entry["t"])
                    changed = True
                case "rows":
                    self._open(None, 0, "")
                    changed = True
                case "text":
                    self._said += entry["t"]
                    self._note = ""
                case "note":
                    self._note = entry["t"]
        if changed:
            self._behind = True
        else:
            self._draw_soon()
        return changed

    def begin(self, entries: list[tuple[str, dict[str, str]]]) -> None:
        """Fold in what streamed before the rows were read."""
        self.last_id = entries[-1][0]
        self.take([json.loads(fields["e"]) for _, fields in entries])
        self._behind = False
        self._draw()

    def lose(self) -> None:
        """The stream is away, and will be read anew. What it said stays until the rows tell more, or something else."""
        self.last_id, self._lost, self._note = "0", True, ""

    async def look(self) -> None:
        """Look at the rows, and send what is different. Of those who come while somebody looks, one looks for all."""
        self._wanted = True
        async with self._looking:  # So that an earlier look never ends after a later one.
            if not self._wanted:
                return
            behind, self._behind, self._wanted = self._behind, False, False
            try:
                self._snapshot = await in_database(Snapshot.load, self.task_id, self._snapshot)
            except BaseException:  # Also when it was cancelled: what changed is still to be looked at.
                self._behind, self._wanted = self._behind or behind, True
                raise
            self._draw()
            for viewer in self.viewers:
                viewer.rows_read()

    def _open(self, text: BlockStream | None, seq: int, said: str) -> None:
        """What streamed is void: the rows tell it, or it begins anew."""
        self._text, self._seq, self._said, self._drawn, self._note, self._lost = text, seq, said, 0, "", False

    def _draw_soon(self) -> None:
        """Draw now, or when the last drawing has cost its share of the time: long tables and lists are slow."""
        loop = asyncio.get_running_loop()
        if loop.time() >= self._draw_at:
            self._draw()
        elif self._timer is None:
            self._timer = loop.call_at(self._draw_at, self._draw)

    def _draw(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._snapshot is None or self._behind:
            return  # Between the end of a stream and the look at the rows that it calls for, a page would lose words.
        began = time.thread_time()
        before, self._shown = self._shown, self._current(self._snapshot)
        html = fragments.task_changed(before, self._shown)
        wait = min((time.thread_time() - began) / DRAW_SHARE, DRAW_AFTER)
        self._draw_at = asyncio.get_running_loop().time() + wait
        if html:
            for viewer in self.viewers:
                viewer.show(html)
        moved = (before.is_still, before.steers) != (self._shown.is_still, self._shown.steers)
        if moved and self._shown.is_active:
            for viewer in self.viewers:
                viewer.task_stands(self.task_id)

    def _current(self, snapshot: Snapshot) -> TaskView:
        if self._text is None or snapshot.open_seq != self._seq:
            return snapshot.view  # Nothing streams, or what does belongs to a step that is on record already.
        if self._lost and not self._said.startswith(snapshot.open_text):
            return snapshot.view
        self._text.feed(self._said[self._drawn :])
        self._drawn = len(self._said)
        return with_text(snapshot.view, self._text, self._note)


class Hub:
    """All feeds of this process."""

    def __init__(self) -> None:
        options = {"decode_responses": True, "socket_timeout": BLOCK_MS / 1000 + 5}
        self._redis = redis.from_url(settings.REDIS_URL, **options)
        # The reader has a connection of its own: to borrow one takes as long as to read from it.
        self._streams = redis.from_url(settings.REDIS_URL, single_connection_client=True, **options)
        self._feeds: dict[UUID, Feed] = {}
        # Writing to this stream ends a read that is waiting, so that it begins anew with the streams of now.
        self._bell = f"hub:{secrets.token_hex(8)}"
        self._bell_id = "0"
        self._reader: asyncio.Task[None] | None = None
        self._poller: asyncio.Task[None] | None = None
        self._looks: set[asyncio.Task[None]] = set()

    async def follow(self, task_id: UUID, viewer: Viewer, turn: Turn | None = None) -> None:
        """Show `viewer` the task as it stands, and everything that happens to it from now on.

        `turn` is that of the task if the page may not have it yet. For somebody who follows it already: see now whether
        the rows have changed.
        """
        feed = self._feeds.get(task_id)
        known = feed is not None
        if feed is None:
            found = await self._new_feed(task_id)
            if found is None:
                return
            feed = self._feeds.setdefault(task_id, found)
        if viewer not in feed.viewers:
            viewer.show(feed.repaint(turn))
            feed.viewers.add(viewer)
        if known:
            await feed.look()
        if feed.is_over:
            self._end(feed)
            return
        self._start()
        if not known:
            await self._ring()

    def repaint(self, viewer: Viewer) -> None:
        """Show `viewer` once more what it follows: its page was made anew from the rows, which know less of it."""
        for feed in self._feeds.values():
            if viewer in feed.viewers:
                viewer.show(feed.repaint())

    def look_again(self, task_id: UUID, viewer: Viewer) -> bool:
        """Look whether the rows have changed, for somebody who follows the task. False if they do not."""
        feed = self._feeds.get(task_id)
        if feed is None or viewer not in feed.viewers:
            return False
        self._look_soon(feed)
        return True

    async def _new_feed(self, task_id: UUID) -> Feed | None:
        """With what has streamed so far, for a page that comes again must not show less than it did."""
        entries: list[tuple[str, dict[str, str]]] = []
        try:
            async with asyncio.timeout(STREAM_WITHIN):
                entries = cast(Any, await self._redis.xrange(stream_key(task_id)))
        except (RedisError, OSError) as error:
            logger.warning("Redis does not answer: %s", error)
        snapshot = await in_database(Snapshot.load, task_id)
        if snapshot is None:
            return None
        feed = Feed(snapshot)
        if entries:
            feed.begin(entries)
        return feed

    def leave(self, viewer: Viewer) -> None:
        for feed in list(self._feeds.values()):
            feed.viewers.discard(viewer)
            if not feed.viewers:
                del self._feeds[feed.task_id]

    async def aclose(self) -> None:
        self._feeds.clear()
        running = [task for task in (self._reader, self._poller, *self._looks) if task is not None]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await self._redis.aclose()
        await self._streams.aclose()

    def _end(self, feed: Feed) -> None:
        if self._feeds.get(feed.task_id) is feed:
            del self._feeds[feed.task_id]
        viewers, feed.viewers = feed.viewers, set()
        for viewer in viewers:
            viewer.task_over(feed.task_id)

    def _start(self) -> None:
        if self._reader is None or self._reader.done():
            self._reader = asyncio.create_task(self._read_forever(), name="hub reader")
        if self._poller is None or self._poller.done():
            self._poller = asyncio.create_task(self._poll_forever(), name="hub poller")

    async def _ring(self) -> None:
        try:
            pipeline = self._redis.pipeline(transaction=False)
            pipeline.xadd(self._bell, {"e": ""}, maxlen=1)
            pipeline.expire(self._bell, 60)
            await pipeline.execute()
        except (RedisError, OSError) as error:
            logger.warning("Redis does not answer: %s", error)

    async def _read_forever(self) -> None:
        while self._feeds:
            try:
                await self._read()
            except (RedisError, OSError) as error:
                logger.warning("Live updates are not coming from Redis: %s", error)
                for feed in self._feeds.values():
                    feed.lose()
                await self._look_at(*self._feeds.values())
                await asyncio.sleep(RETRY_AFTER)
            except Exception:
                logger.exception("The hub stumbled")
                await asyncio.sleep(RETRY_AFTER)

    async def _read(self) -> None:
        watched = {stream_key(task_id): feed for task_id, feed in self._feeds.items()}
        positions: dict[Any, Any] = {key: feed.last_id for key, feed in watched.items()}
        reply = await self._streams.xread({**positions, self._bell: self._bell_id}, block=BLOCK_MS)
        # redis-py gives a list of pairs under RESP2 and a dictionary of lists of pages under RESP3.
        for key, found in _pages(reply):
            if key == self._bell:
                self._bell_id = found[-1][0]
            elif feed := watched.get(key):
                feed.last_id = found[-1][0]
                if feed.take([json.loads(fields["e"]) for _, fields in found]):
                    self._look_soon(feed)

    async def _poll_forever(self) -> None:
        while self._feeds:
            await asyncio.sleep(POLL_EVERY)
            due = [feed for feed in self._feeds.values() if feed.needs_a_look]
            for feed in self._feeds.values():
                feed.heard = False
            await self._look_at(*due)

    def _look_soon(self, feed: Feed) -> None:
        """Without waiting: others have words to show meanwhile."""
        look = asyncio.create_task(self._look_at(feed), name="hub look")
        self._looks.add(look)
        look.add_done_callback(self._looks.discard)

    async def _look_at(self, *feeds: Feed) -> None:
        """Find out from the rows what is new. What fails is looked at again by the poller."""
        for result in await asyncio.gather(*(feed.look() for feed in feeds), return_exceptions=True):
            if isinstance(result, Exception):
                logger.error("The rows could not be looked at: %s", result)
        for feed in feeds:
            if feed.is_over:
                self._end(feed)


def _pages(reply: Any) -> list[tuple[str, list[tuple[str, dict[str, str]]]]]:
    if isinstance(reply, dict):
        return [(key, [entry for page in pages for entry in page]) for key, pages in reply.items()]
    return [(key, entries) for key, entries in reply or []]


_hubs: WeakKeyDictionary[asyncio.AbstractEventLoop, Hub] = WeakKeyDictionary()


def get_hub() -> Hub:
    """The hub of the running loop: one in a web process."""
    loop = asyncio.get_running_loop()
    if loop not in _hubs:
        _hubs[loop] = Hub()
    return _hubs[loop]
