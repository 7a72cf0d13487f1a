"""Hints: messages that make things quick. What they say stands in the rows, where whoever misses one finds it."""

from __future__ import annotations

import asyncio
import atexit
import functools
import logging
import threading
from concurrent.futures import Future, wait
from typing import Any
from uuid import UUID

from celery import current_app
from channels.layers import get_channel_layer

logger = logging.getLogger(__name__)


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
    future = asyncio.run_coroutine_threadsafe(tell_pages(user_id, message), _loop())
    _unsaid.add(future)
    future.add_done_callback(_unsaid.discard)


def notify_soon(user_id: int, task_id: UUID) -> None:
    tell_pages_soon(user_id, {"type": "task.changed", "task": str(task_id), "over": False})


_unsaid: set[Future[None]] = set()


@functools.cache
def _loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="hints", daemon=True).start()
    # A command that ends right away has still something to say.
    atexit.register(lambda: wait(set(_unsaid), timeout=1))
    return loop


def wake(task_id: UUID) -> None:
    """Tell the workers that a task is there to be taken up. The reaper finds it if this gets lost."""
    try:
        current_app.send_task("executor.execute", [str(task_id)])
    except Exception as error:  # The broker is away; kombu lets transport errors of every kind through.
        logger.warning("No worker could be woken for task %s; it is taken up in a moment: %s", task_id, error)
