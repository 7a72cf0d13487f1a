"""Who may listen: the socket is refused to whom the page is refused, and closed when that changes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from channels.layers import channel_layers
from channels.security.websocket import OriginValidator
from channels.testing import WebsocketCommunicator
from channels_redis.pubsub import RedisPubSubChannelLayer
from django.conf import settings
from django.contrib.sessions.models import Session
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from redis import asyncio as redis

from agentsite.asgi import application
from conversations import actions, consumers
from conversations.consumers import COME_AGAIN, LOGGED_OUT, NO_SUCH_CONVERSATION
from conversations.hub import get_hub
from conversations.models import Turn
from executor.hints import user_group
from executor.live import stream_key
from executor.models import Agent
from tests.conftest import PASSWORD
from tests.conversations.worker import answer, away, db
from users.models import User

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("live")]


def socket(client: Client, query: str = "", origin: str = "http://testserver") -> WebsocketCommunicator:
    cookies = "; ".join(f"{name}={cookie.value}" for name, cookie in client.cookies.items())
    headers = [(b"cookie", cookies.encode()), (b"host", b"testserver"), (b"origin", origin.encode())]
    return WebsocketCommunicator(application, f"/live/{query}", headers)


async def closed_with(communicator: WebsocketCommunicator) -> int:
    """The code with which the server closes, whatever it says before."""
    while True:
        said: dict[str, Any] = await communicator.receive_output(timeout=5)
        if said["type"] == "websocket.close":
            code: int = said["code"]
            return code


async def refused(communicator: WebsocketCommunicator) -> int:
    """The socket opens, so that the page learns why, and closes without a word."""
    opened, _ = await communicator.connect()
    assert opened
    said = await communicator.receive_output(timeout=5)
    assert said["type"] == "websocket.close"
    code: int = said["code"]
    return code


async def is_listening(user: User) -> None:
    """Wait until a socket of the person is in the group that is told: that comes after it has opened."""
    async with redis.from_url(settings.REDIS_URL) as client, asyncio.timeout(10):
        while not await client.pubsub_channels(f"*{user_group(user.pk)}"):  # noqa: ASYNC110  (Redis tells nobody)
            await asyncio.sleep(0.01)


async def hears(communicator: WebsocketCommunicator, words: str) -> bool:
    """Wait until a message with `words` comes."""
    while words not in str(await communicator.receive_from(timeout=5)):
        pass
    return True


@pytest.fixture
async def turn(transactional_db: None, alice: User, demo: Agent) -> Turn:
    turn: Turn = await db(actions.send, alice, demo, "Hello")
    return turn


@pytest.fixture
async def client(transactional_db: None, alice: User) -> Client:
    client = Client()
    await db(client.force_login, alice)
    return client


async def test_the_owner_hears_the_conversation(client: Client, turn: Turn) -> None:
    communicator = socket(client, f"?conversation={turn.conversation_id}")
    assert (await communicator.connect())[0]
    assert await hears(communicator, f"task-{turn.task_id}")
    await communicator.disconnect()


async def test_a_visitor_hears_nothing(turn: Turn) -> None:
    assert await refused(socket(Client(), f"?conversation={turn.conversation_id}")) == LOGGED_OUT


async def test_who_is_suspended_hears_nothing(client: Client, alice: User) -> None:
    alice.is_active = False
    await db(alice.save, update_fields=["is_active"])
    assert await refused(socket(client)) == LOGGED_OUT


@pytest.mark.parametrize("asked", ["foreign", "absent", "deleted", "nonsense"])
async def test_a_conversation_that_is_not_ones_own_is_not_there(
    bob: User, client: Client, turn: Turn, asked: str
) -> None:
    if asked == "foreign":
        await db(client.force_login, bob)
    if asked == "deleted":
        await db(actions.delete, turn.conversation)
    conversation = {"absent": uuid4(), "nonsense": "%00'"}.get(asked, turn.conversation_id)
    assert await refused(socket(client, f"?conversation={conversation}")) == NO_SUCH_CONVERSATION


@pytest.mark.parametrize("origin", ["http://elsewhere.example", "http://testserver.elsewhere.example", "null", ""])
async def test_a_page_of_another_site_cannot_listen(client: Client, origin: str) -> None:
    # Tests are answered under any name; here is what guards the socket, with the one name of an installation.
    guard: Any = application.application_mapping["websocket"]
    assert isinstance(guard, OriginValidator)
    guarded: Any = OriginValidator(guard.application, ["testserver"])
    for asked, opens in ((origin, False), ("http://testserver", True)):
        communicator = socket(client, origin=asked)
        communicator = WebsocketCommunicator(guarded, "/live/", communicator.scope["headers"])
        assert (await communicator.connect())[0] is opens
        await communicator.disconnect()


@pytest.mark.parametrize("since", ["", "x", "-1", "-62135596800", "253402300799", "9" * 30, "1e9", "0"])
async def test_any_since_will_do(client: Client, turn: Turn, since: str) -> None:
    communicator = socket(client, f"?conversation={turn.conversation_id}&since={since}")
    assert (await communicator.connect())[0]
    assert await hears(communicator, f"task-{turn.task_id}")
    await communicator.disconnect()


async def test_what_a_page_says_into_the_socket_is_not_heard(client: Client) -> None:
    communicator = socket(client)
    assert (await communicator.connect())[0]
    await communicator.send_to(text_data='{"type": "task.changed"}')
    await communicator.send_to(bytes_data=b"\x00\xff")
    assert await communicator.receive_nothing()
    await communicator.disconnect()


async def suspend(alice: User, client: Client) -> None:
    alice.is_active = False
    await db(alice.save, update_fields=["is_active"])


async def log_out(alice: User, client: Client) -> None:
    await db(client.post, reverse("account_logout"))


async def change_password_elsewhere(alice: User, client: Client) -> None:
    elsewhere = Client()
    await db(elsewhere.force_login, alice)
    new = "another-horse-8"
    form = {"oldpassword": PASSWORD, "password1": new, "password2": new}
    response = await db(elsewhere.post, reverse("account_change_password"), form)
    assert response.status_code == 302


async def delete_the_person(alice: User, client: Client) -> None:
    await db(alice.delete)


@pytest.mark.parametrize("lose", [suspend, log_out, change_password_elsewhere, delete_the_person])
async def test_an_open_socket_closes_when_its_right_is_gone(client: Client, alice: User, lose: Any) -> None:
    cookies = Client()
    cookies.cookies.load({name: cookie.value for name, cookie in client.cookies.items()})
    communicator = socket(client)
    assert (await communicator.connect())[0]
    await lose(alice, client)
    # It closes by itself if it had not begun to listen yet.
    assert await closed_with(communicator) in (COME_AGAIN, LOGGED_OUT)
    assert await refused(socket(cookies)) == LOGGED_OUT


async def test_another_session_of_the_person_may_come_again(client: Client, alice: User) -> None:
    other = Client()
    await db(other.force_login, alice)
    communicator = socket(other)
    assert (await communicator.connect())[0]
    await is_listening(alice)
    await log_out(alice, client)
    assert await closed_with(communicator) == COME_AGAIN
    again = socket(other)
    assert (await again.connect())[0]
    assert await again.receive_nothing()
    await again.disconnect()


async def test_nobody_hears_of_others(bob: User, turn: Turn, client: Client) -> None:
    as_bob = Client()
    await db(as_bob.force_login, bob)
    communicator = socket(as_bob)
    assert (await communicator.connect())[0]
    await db(actions.rename, turn.conversation, "Alice's secret")
    assert await communicator.receive_nothing(timeout=0.3)
    await communicator.disconnect()


# --- what nobody tells a socket --------------------------------------------------------------------------------------


def suspend_untold(alice: User, client: Client) -> None:
    User.objects.filter(pk=alice.pk).update(is_active=False)


def expire(alice: User, client: Client) -> None:
    Session.objects.update(expire_date=timezone.now() - timedelta(seconds=1))


def end_the_session_untold(alice: User, client: Client) -> None:
    Session.objects.all().delete()


def change_the_password_untold(alice: User, client: Client) -> None:
    User.objects.filter(pk=alice.pk).update(password="another")


@pytest.mark.parametrize("lose", [suspend_untold, expire, end_the_session_untold, change_the_password_untold])
async def test_a_socket_finds_out_by_itself_that_its_right_is_gone(
    client: Client, alice: User, lose: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumers, "CHECK_EVERY", 0.1)
    communicator = socket(client)
    assert (await communicator.connect())[0]
    assert await communicator.receive_nothing(timeout=0.5)
    await db(lose, alice, client)
    assert await closed_with(communicator) == LOGGED_OUT


class SlowSubscription:
    """What stands between a channel layer and Redis, and keeps subscriptions to a group until it is told to pass."""

    def __init__(self) -> None:
        self.kept, self.passes = asyncio.Event(), asyncio.Event()
        self._open: list[asyncio.StreamWriter] = []

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_redis, to_redis = await asyncio.open_unix_connection(str(settings.REDIS_SOCKET))
        self._open += [writer, to_redis]
        await asyncio.gather(self._pass_on(reader, to_redis), self._pass_on(from_redis, writer))

    async def _pass_on(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            if b"SUBSCRIBE" in data and b"__group__" in data:
                self.kept.set()
                await self.passes.wait()
            target.write(data)
        target.close()

    async def aclose(self) -> None:
        for writer in self._open:
            writer.close()
            await asyncio.gather(writer.wait_closed(), return_exceptions=True)


@pytest.fixture
async def slow(redis_server: str, tmp_path: Path) -> AsyncIterator[SlowSubscription]:
    slow, usual = SlowSubscription(), channel_layers["default"]
    server = await asyncio.start_unix_server(slow.take, tmp_path / "slow.sock")
    layer = RedisPubSubChannelLayer(hosts=[f"unix://{tmp_path}/slow.sock"])
    channel_layers.set("default", layer)
    yield slow
    channel_layers.set("default", usual)
    slow.passes.set()
    await layer.flush()
    server.close()
    await slow.aclose()


async def test_a_right_that_goes_while_redis_does_not_know_the_socket_yet_closes_it(
    slow: SlowSubscription, client: Client, alice: User, turn: Turn
) -> None:
    communicator = socket(client, f"?conversation={turn.conversation_id}")
    assert (await communicator.connect())[0]
    assert await hears(communicator, f"task-{turn.task_id}")  # So it has looked at the rights and found them.
    assert slow.kept.is_set()
    await db(suspend_untold, alice, client)
    slow.passes.set()
    assert await closed_with(communicator) == LOGGED_OUT


async def followers(turn: Turn) -> int:
    feed = get_hub()._feeds.get(turn.task_id)
    return len(feed.viewers) if feed else 0


def tasks_of_sockets() -> list[str]:
    return [name for task in asyncio.all_tasks() if (name := task.get_name()).startswith("socket ")]


@pytest.mark.parametrize("end", ["leaves", "stumbles"])
async def test_a_socket_leaves_nothing_behind_however_it_ends(client: Client, turn: Turn, end: str) -> None:
    communicator = socket(client, f"?conversation={turn.conversation_id}")
    assert (await communicator.connect())[0]
    assert await hears(communicator, f"task-{turn.task_id}")
    assert await followers(turn) == 1
    assert tasks_of_sockets()
    match end:
        case "leaves":
            await communicator.disconnect()
        case "stumbles":
            # A hint that no version of ours sends: whatever a handler raises ends the socket like this.
            layer = channel_layers["default"]
            await layer.group_send(user_group(turn.task.user_id), {"type": "task.changed", "task": "x", "over": False})
            with pytest.raises(ValueError, match="badly formed"):
                await communicator.wait(timeout=5)
    assert await followers(turn) == 0
    assert tasks_of_sockets() == []


async def test_a_page_whose_refresh_the_database_refused_comes_again(client: Client, turn: Turn) -> None:
    """Send and Stop, the sidebar: nobody tells them a second time."""
    communicator = socket(client, f"?conversation={turn.conversation_id}")
    assert (await communicator.connect())[0]
    assert await hears(communicator, f"task-{turn.task_id}")
    await db(answer, turn.task, "Good morning.")
    async with away("conversations_turn"), redis.from_url(settings.REDIS_URL) as redis_client:
        await redis_client.xadd(stream_key(turn.task_id), {"e": json.dumps({"k": "rows"})})
        assert await closed_with(communicator) == COME_AGAIN
    again = socket(client, f"?conversation={turn.conversation_id}&since=0")
    assert (await again.connect())[0]
    assert await hears(again, "Good morning.")
    await again.disconnect()
