"""What tests of the pages share: people who are logged in, and conversations that happened."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import redis
from channels.layers import channel_layers
from django.conf import settings
from django.test import Client

from conversations import actions
from conversations.hub import get_hub
from conversations.models import Turn
from executor.models import Agent
from tests.conversations.worker import answer
from users.models import User


def pytest_itemcollected(item: pytest.Item) -> None:
    """The races for the line depend on how a database locks rows, so both have to run them."""
    if item.path.name == "test_queue.py" and "postgresql" in settings.DATABASES["default"]["ENGINE"]:
        item.add_marker("postgres")


@pytest.fixture(autouse=True)
def static_root() -> None:
    """WhiteNoise warns when pages are served before the static files were collected."""
    Path(settings.STATIC_ROOT).mkdir(parents=True, exist_ok=True)


@pytest.fixture
def as_alice(alice: User) -> Client:
    client = Client()
    client.force_login(alice)
    return client


@pytest.fixture
def as_bob(bob: User) -> Client:
    client = Client()
    client.force_login(bob)
    return client


@pytest.fixture
def turn(alice: User, demo: Agent) -> Turn:
    """Alice said “Hello” and got an answer."""
    turn = actions.send(alice, demo, "Hello")
    answer(turn.task, "Good *morning*.")
    return turn


@pytest.fixture
async def live(redis_server: str) -> AsyncIterator[None]:
    """The hub and the channel layer of this test's event loop, closed after it."""
    yield
    await get_hub().aclose()
    await channel_layers["default"].flush()


@pytest.fixture
def restart_redis(redis_server: str) -> Callable[[], None]:
    """Let Redis forget everything and drop every connection, as a restart does."""

    def restart() -> None:
        with redis.from_url(redis_server) as client:
            client.flushall()
            client.client_kill_filter(_type="normal", skipme=True)
            client.client_kill_filter(_type="pubsub")

    return restart
