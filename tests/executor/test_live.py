"""What the publisher promises to the tasks that share it."""

from __future__ import annotations

import asyncio
import logging
from uuid import uuid4

import pytest
from django.conf import settings
from redis import asyncio as redis

from executor.live import Publisher, stream_key

pytestmark = pytest.mark.usefixtures("redis_server")


async def said(client: redis.Redis, key: str, words: str) -> None:
    """Return as soon as the stream holds `words`."""
    async with asyncio.timeout(10):
        while words not in str(await client.xrange(key)):  # noqa: ASYNC110  (others write it)
            await asyncio.sleep(0.02)


async def test_what_goes_wrong_in_one_task_does_not_silence_the_others(caplog: pytest.LogCaptureFixture) -> None:
    reached = asyncio.Event()

    def break_down() -> None:
        if not reached.is_set():
            reached.set()
            raise RuntimeError("nobody foresaw this")

    publisher, client = Publisher(settings.REDIS_URL), redis.from_url(settings.REDIS_URL)
    taken, other = uuid4(), uuid4()
    try:
        publisher.open(taken, 2, lambda: None).rows_changed()
        await said(client, stream_key(taken), "rows")
        with caplog.at_level(logging.ERROR, "executor.live"):
            publisher.open(taken, 1, break_down).rows_changed()  # An older fence: its owner is told.
            async with asyncio.timeout(10):
                await reached.wait()
        fine = publisher.open(other, 1, lambda: None)
        fine.open_step(1)
        fine.add_text("still here")
        await said(client, stream_key(other), "still here")
        assert "nobody foresaw this" in caplog.text
    finally:
        await publisher.aclose()
        await client.aclose()
