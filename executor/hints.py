"""Hints: messages that make things quick. What they say stands in the rows, where whoever misses one finds it.

Workers are told of a task by a bell, a Redis channel that they listen to on their event loops: it takes a fraction of
the time of a Celery message, which is sent where nobody hears the bell.
"""

from __future__ import annotations

import asyncio
import atexit
import functools
import logging
import threading
from collections.abc import Coroutine
from concurrent.futures import Future, wait
from typing import Any
from uuid import UUID

from celery import current_app
from channels.layers import get_channel_layer
from django.conf import settings
from redis import asyncio as redis
from redis.exceptions import RedisError

logger = logging.getLogger(__name__)

BELL = "agentsite:tasks"


def user_group(user_id: int) -> str:
    """The group that all pages of a person listen to."""
    return f"user-{user_id}"


async def tell_pages(user_id: int, message: dict[str, Any]) -> None:
    """Send `message` to every open page of the person. What is missed is seen on the next look."""
    layer = get_channel_layer()
    assert layer is not None  # settings.CHANNEL_LAYERS
    for attempt in (1, 2):
        try:
            await layer.group_send(user_group(user_id), message)
            return
        except Exception as error:  # Redis is away, in one of the many ways that the layer does not name …
            if attempt == 2:  # … or was, and only the connection is old.
                logger.warning("Pages could not be told %s: %s", message, error)


async def notify(user_id: int, task_id: UUID, *, over: bool = False) -> None:
    """Tell the person's pages that the task changed its state; `over` if it has ended."""
    await tell_pages(user_id, {"type": "task.changed", "task": str(task_id), "over": over})


def tell_pages_soon(user_id: int, message: dict[str, Any]) -> None:
    """`tell_pages` for sync code, which neither waits for it nor pays for a connection each time."""
    _say_soon(tell_pages(user_id, message))


def notify_soon(user_id: int, task_id: UUID) -> None:
    tell_pages_soon(user_id, {"type": "task.changed", "task": str(task_id), "over": False})


def wake(task_id: UUID) -> None:
    """Tell the workers that a task is there to be taken up. Returns at once. The reaper finds it if this gets lost."""
    _say_soon(_wake(task_id))


async def _wake(task_id: UUID) -> None:
    try:
        heard = await _redis().publish(BELL, str(task_id))
    except (RedisError, OSError) as error:
        logger.warning("Workers could not be told of task %s; it is taken up in a moment: %s", task_id, error)
        return
    if not heard:  # A worker is only starting, or there is none so far.
        await asyncio.to_thread(_send_message, "executor.execute", str(task_id))


def ask_worker(name: str, argument: str | int) -> None:
    """Have one worker run the Celery task `name`. Returns at once. If this gets lost, nobody does it."""
    _say_soon(asyncio.to_thread(_send_message, name, argument))


def _send_message(name: str, argument: str | int) -> None:
    try:
        current_app.send_task(name, [argument])
    except Exception as error:  # The broker is away; kombu lets transport errors of every kind through.
        logger.warning("No worker could be sent %s(%s): %s", name, argument, error)


def _say_soon(saying: Coroutine[Any, Any, None]) -> None:
    future = asyncio.run_coroutine_threadsafe(saying, _loop())
    _unsaid.add(future)
    future.add_done_callback(_unsaid.discard)


_unsaid: set[Future[None]] = set()


@functools.cache
def _redis() -> redis.Redis:
    """Used on our loop only."""
    return redis.from_url(settings.REDIS_URL, socket_timeout=5, socket_connect_timeout=2)


@functools.cache
def _loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="hints", daemon=True).start()
    # A command that ends right away has still something to say.
    atexit.register(lambda: wait(set(_unsaid), timeout=1))
    return loop
