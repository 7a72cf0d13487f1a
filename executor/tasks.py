"""The messages that wake workers up. None of them holds more than an id."""

from __future__ import annotations

import threading
from typing import Any
from uuid import UUID

import redis
from celery import shared_task
from celery.signals import celeryd_after_setup, worker_shutdown, worker_shutting_down
from django.conf import settings

from executor import mcp_servers, probes
from executor.worker import WorkerProcess

_lock = threading.Lock()
_process: WorkerProcess | None = None


def process() -> WorkerProcess:
    """The one of this process; made when it is first needed, after Celery has settled."""
    global _process
    with _lock:
        if _process is None:
            _process = WorkerProcess(settings.CELERY_WORKER_CONCURRENCY)
        return _process


@shared_task(name="executor.execute")
def execute(task_id: str) -> None:
    process().execute(UUID(task_id))


@shared_task(name="executor.test_key")
def test_key(key_id: int) -> None:
    process().answer(probes.answer_key_test(key_id))


@shared_task(name="executor.probe")
def probe(probe_id: str) -> None:
    process().answer(probes.answer_probe(UUID(probe_id)))


@shared_task(name="executor.list_mcp_tools")
def list_mcp_tools(server_id: int) -> None:
    process().answer(mcp_servers.answer(server_id))


@shared_task(name="executor.ping")
def ping(token: str) -> None:
    """Answer `manage.py doctor`, to show that messages reach a worker."""
    with redis.from_url(settings.REDIS_URL, socket_timeout=5) as client:
        client.set(f"ping:{token}", "pong", ex=60)


@celeryd_after_setup.connect
def _start(**_: Any) -> None:
    """Before Celery waits for its broker: tasks are done without."""
    process()


@worker_shutting_down.connect
def _drain(**_: Any) -> None:
    if _process is not None:
        _process.drain()


@worker_shutdown.connect
def _close(**_: Any) -> None:
    if _process is not None:
        _process.close()
