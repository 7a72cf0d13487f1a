"""From the worker to whoever watches: one Redis Stream per running task.

Rows are the truth for steps, states and finished text; a stream is the truth for text in flight. Entries are small JSON
objects:

    {"k": "open", "s": 3, "t": "so far", "r": ""}   the model step 3 stands like this; what came before is void
    {"k": "text", "s": 3, "t": " more"}             and goes on ("reason" for reasoning)
    {"k": "rows"}                                   something was committed: look at the rows
    {"k": "note", "t": "Retrying in 2 s"}           what it waits for

An entry's id is <fence>-<n>: Redis refuses ids that go backwards, so a worker that lost its task cannot speak for it.
"open" and "rows" cut off everything before them, because the rows tell it. So a stream stays as short as one answer,
and reading it from its first entry is always enough.

Everything is sent by one task per process every FLUSH seconds in one round trip, the first words at once. When Redis is
away, words are not queued: the next thing sent after it is back is "open" with the whole text.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from uuid import UUID

from redis import asyncio as redis
from redis.exceptions import RedisError, ResponseError

from executor.stored import clean

logger = logging.getLogger(__name__)

FLUSH = 0.05
#: With many streams each is sent less often: no eye sees it, and everything behind them has less to do.
FLUSH_PER_STREAM = 0.001
FLUSH_AT_MOST = 0.15
#: The first words of an answer do not wait for more, but for this.
FLUSH_AT_LEAST = 0.004
LIFETIME = 3600
LIFETIME_AFTER_END = 120


def stream_key(task_id: UUID | str) -> str:
    return f"task:{task_id}"


class Publisher:
    """Sends the streams of all tasks of this process. Lives on the worker's loop."""

    def __init__(self, url: str) -> None:
        self._redis = redis.from_url(url, socket_timeout=5, socket_connect_timeout=2)
        self._dirty: set[TaskStream] = set()
        self._wake = asyncio.Event()
        self._hurry = asyncio.Event()
        self._closing = False
        self._sender = asyncio.create_task(self._send_forever(), name="live publisher")

    def open(self, task_id: UUID, fence: int, on_superseded: Callable[[], None]) -> TaskStream:
        return TaskStream(self, task_id, fence, on_superseded)

    def changed(self, stream: TaskStream, *, hurry: bool = False) -> None:
        """There is something to say; with `hurry`, somebody has been waiting for it."""
        self._dirty.add(stream)
        self._wake.set()
        if hurry:
            self._hurry.set()

    async def aclose(self) -> None:
        """Send what there is to say, and end."""
        self._closing = True
        self._wake.set()
        self._hurry.set()
        await self._sender
        await self._send()
        await self._redis.aclose()

    async def _send_forever(self) -> None:
        while not self._closing:
            await self._wake.wait()
            self._wake.clear()
            sent = await self._send()
            await asyncio.sleep(FLUSH_AT_LEAST)
            with suppress(TimeoutError):
                async with asyncio.timeout(min(FLUSH + sent * FLUSH_PER_STREAM, FLUSH_AT_MOST)):
                    await self._hurry.wait()
            self._hurry.clear()

    async def _send(self) -> int:
        """Returns for how many streams there was something to say."""
        streams, self._dirty = self._dirty, set()
        if not streams:
            return 0
        try:
            await self._send_all(streams)
        except (RedisError, OSError) as error:
            logger.warning("Live updates are not reaching Redis: %s", error)
        except Exception:
            logger.exception("Live updates stumbled")  # One stream's trouble must not silence all others for good.
        else:
            return len(streams)
        for stream in streams:
            stream.lost()
        await asyncio.sleep(0.5)
        return len(streams)

    async def _send_all(self, streams: set[TaskStream]) -> None:
        batches = [(stream, stream.take()) for stream in streams]
        pipeline = self._redis.pipeline(transaction=False)
        for _, commands in batches:
            for command in commands:
                pipeline.execute_command(*command)
        replies = iter(await pipeline.execute(raise_on_error=False))
        for stream, commands in batches:
            stream.sent([next(replies) for _ in commands])


class TaskStream:
    """What one acquisition of a task has to say. Its methods return at once."""

    def __init__(self, publisher: Publisher, task_id: UUID, fence: int, on_superseded: Callable[[], None]) -> None:
        self._publisher = publisher
        self._key = stream_key(task_id)
        self._fence = fence
        self._on_superseded = on_superseded
        self._number = 0
        self._seq = 0
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._entries: list[dict[str, Any]] = []
        self._restart = True
        self._ended = False

    @property
    def text(self) -> str:
        """What the open model step has said so far."""
        return "".join(self._text)

    @property
    def reasoning(self) -> str:
        return "".join(self._reasoning)

    def open_step(self, seq: int) -> None:
        """The model step `seq` begins, or begins again."""
        self._seq = seq
        self._text.clear()
        self._reasoning.clear()
        self._add({"k": "open", "s": seq, "t": "", "r": ""})

    def add_text(self, text: str) -> None:
        text = clean(text)
        is_first = not self._text
        self._text.append(text)
        self._extend("text", text, hurry=is_first)

    def add_reasoning(self, text: str) -> None:
        text = clean(text)
        self._reasoning.append(text)
        self._extend("reason", text)

    def rows_changed(self) -> None:
        self._add({"k": "rows"})

    def note(self, text: str) -> None:
        self._add({"k": "note", "t": clean(text)})

    def close_step(self) -> None:
        """The open model step is on record now."""
        self._seq = 0
        self._text.clear()
        self._reasoning.clear()

    def end(self) -> None:
        self._ended = True
        self.rows_changed()

    # --- for the publisher -------------------------------------------------------------------------------------------

    def take(self) -> list[tuple[Any, ...]]:
        """The Redis commands for what there is to say."""
        entries, self._entries = self._entries, []
        if self._restart:
            entries = [{"k": "rows"}]
            if self._seq:
                entries = [{"k": "open", "s": self._seq, "t": self.text, "r": self.reasoning}]
        commands: list[tuple[Any, ...]] = []
        for entry in entries:
            self._number += 1
            entry_id = f"{self._fence}-{self._number}"
            options: tuple[Any, ...] = ()
            if not (self._restart and not commands):
                # If the stream is gone (Redis came back empty) nobody could make sense of a continuation.
                options += ("NOMKSTREAM",)
            if entry["k"] in ("open", "rows"):
                options += ("MINID", entry_id)
            commands.append(("XADD", self._key, *options, entry_id, "e", json.dumps(entry, ensure_ascii=False)))
        if self._restart or self._ended:
            commands.append(("EXPIRE", self._key, LIFETIME_AFTER_END if self._ended else LIFETIME))
        self._restart = False
        return commands

    def sent(self, replies: list[Any]) -> None:
        for reply in replies:
            if isinstance(reply, ResponseError) and "equal or smaller" in str(reply):
                self._on_superseded()
                return
            if reply is None or isinstance(reply, Exception):
                self.lost()
                return

    def lost(self) -> None:
        """What was sent may not have arrived: the next thing said is the whole."""
        if self._ended and not self._seq:
            self._entries.append({"k": "rows"})
        self._restart = True
        self._publisher.changed(self)

    def _extend(self, kind: str, text: str, *, hurry: bool = False) -> None:
        last = self._entries[-1] if self._entries else None
        if last is not None and last["k"] == kind:
            last["t"] += text
        else:
            self._entries.append({"k": kind, "s": self._seq, "t": text})
        self._publisher.changed(self, hurry=hurry)

    def _add(self, entry: dict[str, Any]) -> None:
        if entry["k"] in ("open", "rows"):
            self._entries.clear()  # It voids what came before.
        self._entries.append(entry)
        self._publisher.changed(self)
