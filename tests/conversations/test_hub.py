"""A feed that could not look at the rows looks again: no change is lost to a look that came to nothing."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest

from conversations import actions
from conversations.fragments import Snapshot
from conversations.hub import Feed
from executor.models import Agent
from tests.conversations.worker import answer, db
from users.models import User

pytestmark = pytest.mark.django_db(transaction=True)


class Page:
    def __init__(self) -> None:
        self.shown: list[str] = []

    def show(self, html: str) -> None:
        self.shown.append(html)

    def task_over(self, task_id: UUID) -> None:
        raise AssertionError("Only the hub says so.")


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
