"""Tells what happened in tasks to whoever wants to know, when it is on record.

Handlers are called one after the other on a thread of their own, so that none of them keeps a task waiting; where they
are too slow for what happens, events are dropped, and the log says so. They hear only of what their own process did.
"""

from __future__ import annotations

import atexit
import functools
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from django.conf import settings
from django.db import close_old_connections, transaction
from django.utils.module_loading import import_string

from executor.core.config import AgentConfig
from executor.core.task_events import TaskEnded, TaskEvent
from executor.models import Task

logger = logging.getLogger(__name__)

E = TypeVar("E", bound=TaskEvent)
Handler = Callable[[TaskEvent], object]
#: So many events wait for their handlers.
AT_MOST = 10_000
#: Seconds that a process which ends waits for handlers.
LAST_WORDS = 2.0

_waiting: queue.Queue[TaskEvent] = queue.Queue(AT_MOST)


def tell(event: TaskEvent) -> None:
    """When the transaction at hand is committed; if it is not, nothing happened."""
    transaction.on_commit(partial(publish, event))


def tell_ended(task: Task) -> None:
    """That a task is over on which nobody works. Within a transaction."""
    config = task.agent_version.agent_config()
    tell(event_of(TaskEnded, task, config, status=str(task.status), reason=task.stop_reason))


def event_of(kind: type[E], task: Task, config: AgentConfig, **values: Any) -> E:
    return kind(task_id=task.pk, user_id=task.user_id, agent=config.name, is_personal=config.is_personal, **values)


def publish(event: TaskEvent) -> None:
    """Never fails, and takes microseconds."""
    _thread()
    try:
        _waiting.put_nowait(event)
    except queue.Full:
        _too_many()


def wait_until_told(seconds: float = LAST_WORDS) -> bool:
    """Whether everything that happened was told within so many seconds."""
    until = time.monotonic() + seconds
    while _waiting.unfinished_tasks and time.monotonic() < until:
        time.sleep(0.005)
    return not _waiting.unfinished_tasks


@functools.cache
def handlers() -> Sequence[Handler]:
    """Those that EVENT_HANDLERS names, behind that which counts. One that cannot be used is told and left out."""
    from executor import metrics  # With the first event: commands that do nothing need none.

    found, problems = own_handlers()
    for problem in problems:
        logger.error("%s", problem)
    return (metrics.count, *found)


def own_handlers() -> tuple[list[Handler], list[str]]:
    """Those that EVENT_HANDLERS names, and what is wrong with the others, a sentence each."""
    found: list[Handler] = []
    problems = []
    for path in filter(None, map(str.strip, settings.EVENT_HANDLERS)):
        try:
            handler = import_string(path)
        except Exception as error:  # Whatever somebody's module does while it is imported.
            problems.append(f"EVENT_HANDLERS: {path} cannot be imported: {error}")
            continue
        if callable(handler):
            found.append(handler)
        else:
            problems.append(f"EVENT_HANDLERS: {path} is no function.")
    return found, problems


@functools.cache
def _thread() -> threading.Thread:
    thread = threading.Thread(target=_tell_forever, name="events", daemon=True)
    thread.start()
    atexit.register(wait_until_told)
    return thread


def _tell_forever() -> None:
    while True:
        event = _waiting.get()
        for handler in handlers():
            try:
                handler(event)
            except Exception:
                logger.exception("An event handler failed: %s", handler)
        if _waiting.empty():
            close_old_connections()  # Of handlers that asked the database.
        _waiting.task_done()


@functools.cache
def _too_many() -> None:
    """Said once in a process."""
    logger.error("Event handlers are too slow: some events were not told to them.")
