"""A feed that could not look at the rows looks again: no change is lost to a look that came to nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from uuid import UUID

import pytest
from django.conf import settings
from redis import asyncio as redis

from conversations import actions, hub
from conversations.fragments import Snapshot
from conversations.hub import Feed, get_hub
from executor.live import stream_key
from executor.models import Agent
from tests.conversations.worker import answer, away, db
from users.models import User

pytestmark = pytest.mark.django_db(transaction=True)


class Page:
    def __init__(self) -> None:
        self.shown: list[str] = []
        self.over = asyncio.Event()

    def show(self, html: str) -> None:
        self.shown.append(html)

    def rows_read(self) -> None:
        pass

    def task_over(self, task_id: UUID) -> None:
        self.over.set()

    def task_stands(self, task_id: UUID) -> None:
        pass


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not true():  # noqa: ASYNC110  (nobody tells)
            await asyncio.sleep(0.01)


async def test_a_look_that_was_broken_off_is_made_up_for(transactional_db: None, alice: User, demo: Agent) -> None:
    turn = await db(actions.send, alice, demo, "Hello")
    snapshot = await db(Snapshot.load, turn.task_id)
    assert snapshot is not None
    page, feed = Page(), Feed(snapshot)
    feed.viewers.add(page)
    feed.take([{"k": "rows"}])
    await db(answer, turn.task, "Good morning.")
    look = asyncio.create_task(feed.look())
    await asyncio.sleep(0)
    look.cancel()
    await asyncio.gather(look, return_exceptions=True)
    assert look.cancelled()
    assert feed.needs_a_look
    assert page.shown == []
    await feed.look()
    assert not feed.needs_a_look
    assert feed.is_over
    assert "Good morning." in "".join(page.shown)


async def test_a_look_that_the_database_refused_is_made_up_for(
    transactional_db: None, live: None, alice: User, demo: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "POLL_EVERY", 0.1)
    turn = await db(actions.send, alice, demo, "Hello")
    page = Page()
    await get_hub().follow(turn.task_id, page)
    feed = get_hub()._feeds[turn.task_id]
    await db(answer, turn.task, "Good morning.")
    async with away("executor_step"), redis.from_url(settings.REDIS_URL) as client:
        await client.xadd(stream_key(turn.task_id), {"e": json.dumps({"k": "rows"})})
        await until(lambda: feed._wanted and not feed._looking.locked())
        assert "Good morning." not in "".join(page.shown)
    async with asyncio.timeout(5):
        await page.over.wait()
    assert "Good morning." in "".join(page.shown)


async def test_those_who_come_while_somebody_looks_share_one_look(
    transactional_db: None, alice: User, demo: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    turn = await db(actions.send, alice, demo, "Hello")
    snapshot = await db(Snapshot.load, turn.task_id)
    assert snapshot is not None
    feed, looks = Feed(snapshot), []

    async def counted(*_: object) -> Snapshot:
        looks.append(1)
        await asyncio.sleep(0)
        return snapshot

    monkeypatch.setattr(hub, "in_database", counted)
    await asyncio.gather(*(feed.look() for _ in range(5)))
    assert len(looks) == 2  # That of the first, and one for those who came meanwhile.
    await feed.look()
    assert len(looks) == 3


async def test_words_are_read_while_the_rows_of_another_task_are_looked_at(
    transactional_db: None, live: None, alice: User, demo: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, quick = [await db(actions.send, alice, demo, text) for text in ("One", "Two")]
    page = Page()
    for turn in (slow, quick):
        await get_hub().follow(turn.task_id, page)
    feeds = get_hub()._feeds
    goes_on = asyncio.Event()

    async def blocked() -> None:
        await goes_on.wait()

    monkeypatch.setattr(feeds[slow.task_id], "look", blocked)
    async with redis.from_url(settings.REDIS_URL) as client:
        await client.xadd(stream_key(slow.task_id), {"e": json.dumps({"k": "rows"})})
        await until(lambda: feeds[slow.task_id]._behind)
        await client.xadd(stream_key(quick.task_id), {"e": json.dumps({"k": "note", "t": "Wait a moment."})})
        await until(lambda: feeds[quick.task_id]._note != "")
    goes_on.set()
    get_hub().leave(page)


async def test_whoever_hears_of_an_end_has_the_rows_looked_at_once_for_all(
    transactional_db: None, live: None, alice: User, demo: Agent
) -> None:
    turn = await db(actions.send, alice, demo, "Hello")
    page, stranger = Page(), Page()
    await get_hub().follow(turn.task_id, page)
    await db(answer, turn.task, "Good morning.")
    assert not get_hub().look_again(turn.task_id, stranger)
    assert get_hub().look_again(turn.task_id, page)
    async with asyncio.timeout(hub.POLL_EVERY / 2):  # No stream told of it, and nobody polled.
        await page.over.wait()
    assert "Good morning." in "".join(page.shown)
    assert not get_hub().look_again(turn.task_id, page)
