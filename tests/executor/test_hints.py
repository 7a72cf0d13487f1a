"""How workers hear of tasks: a real Redis, with and without somebody who listens."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from uuid import uuid4

import pytest
import redis
from django.conf import settings

from executor.hints import BELL, wake

pytestmark = pytest.mark.usefixtures("redis_server")


@pytest.fixture
def client() -> Iterator[redis.Redis]:
    with redis.from_url(settings.REDIS_URL) as client:
        client.delete("celery")
        yield client
        client.delete("celery")


def eventually(true: Callable[[], object]) -> None:
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < 10, "It did not happen."
        time.sleep(0.01)


def test_who_listens_hears_of_the_task_and_no_message_is_sent(client: redis.Redis) -> None:
    one, two = uuid4(), uuid4()
    with client.pubsub() as bell:  # type: ignore[no-untyped-call]
        bell.subscribe(BELL)
        assert bell.get_message(timeout=5) is not None  # that it listens
        for task in (one, two):
            wake(task)
        heard = {message["data"].decode() for _ in range(2) if (message := bell.get_message(timeout=5))}
    assert heard == {str(one), str(two)}
    assert not client.exists("celery")


def test_where_nobody_listens_a_message_waits_for_a_worker(client: redis.Redis) -> None:
    task = uuid4()
    wake(task)
    eventually(lambda: client.llen("celery") == 1)
    (message,) = client.lrange("celery", 0, -1)
    assert json.loads(message)["headers"]["argsrepr"] == repr([str(task)])
