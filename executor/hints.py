"""Hints: messages that make things quick. What they say stands in the rows, where whoever misses one finds it."""

from __future__ import annotations

import logging
from typing import Any
from uuid import UUID

from celery import current_app
from channels.layers import get_channel_layer

logger = logging.getLogger(__name__)


def user_group(user_id: int) -> str:
    """The group that all pages of a person listen to."""
    return f"user-{user_id}"


async def send_to_pages(user_id: int, message: dict[str, Any]) -> None:
    """Send `message` to every open page of the person. Raises what Redis raises."""
    layer = get_channel_layer()
    assert layer is not None  # settings.CHANNEL_LAYERS
    await layer.group_send(user_group(user_id), message)


async def notify(user_id: int, task_id: UUID) -> None:
    """Tell the person's pages that the task changed its state."""
    try:
        await send_to_pages(user_id, {"type": "task.changed", "task": str(task_id)})
    except Exception as error:  # Redis is away, in one of the many ways that the layer does not name.
        logger.warning("Pages could not be told of task %s: %s", task_id, error)


def wake(task_id: UUID) -> None:
    """Tell the workers that a task is there to be taken up. The reaper finds it if this gets lost."""
    try:
        current_app.send_task("executor.execute", [str(task_id)])
    except Exception as error:  # The broker is away; kombu lets transport errors of every kind through.
        logger.warning("No worker could be woken for task %s; it is taken up in a moment: %s", task_id, error)
