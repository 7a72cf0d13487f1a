"""What a call says while it runs, on its way to the page: into its row, now and then."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

#: Seconds between two looks of the page at what a call says.
EVERY = 0.5


class Telling:
    """`save` writes down all that was said so far; it is called on the running loop, the first time at once.
    `said` may be called from any thread."""

    def __init__(self, save: Callable[[], Awaitable[None]]) -> None:
        self._save = save
        self._loop = asyncio.get_running_loop()
        self._more = asyncio.Event()
        self._closed = asyncio.Event()
        self._saving: asyncio.Task[None] | None = None

    def said(self) -> None:
        with suppress(RuntimeError):  # The loop is gone, and with it everybody who listens.
            self._loop.call_soon_threadsafe(self._hear)

    async def close(self) -> None:
        """Returns when nothing is being written any more: what was said last goes with the result."""
        self._closed.set()
        self._more.set()
        if self._saving is not None:
            await self._saving

    def _hear(self) -> None:
        self._more.set()
        if self._saving is None and not self._closed.is_set():
            self._saving = asyncio.create_task(self._save_forever(), name="output")

    async def _save_forever(self) -> None:
        while not self._closed.is_set():
            self._more.clear()
            await self._save()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._closed.wait(), EVERY)
            await self._more.wait()
