"""The page of a task follows it while it is at work: what it shows then is what it shows when it is loaded anew."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

import pytest
from django.db import connection, transaction
from django.test import Client
from django.urls import reverse

from conversations import actions
from conversations.hub import get_hub
from executor import actions as tasks
from executor.core.errors import LLMError
from executor.models import Agent, Status, Task
from tests.conversations.test_live import Scene, Viewer, everything
from tests.conversations.worker import Work, db
from users.models import User

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("live")]

#: This page draws all of itself at each look, and looks by itself if nobody tells: on a busy machine that takes long.
SOON = 15.0


@pytest.fixture
async def scene(transactional_db: None, alice: User, demo: Agent) -> AsyncIterator[Scene]:
    async with AsyncExitStack() as stack:
        scene = Scene(alice, demo, stack, patience=SOON)
        await db(scene.client.force_login, alice)
        yield scene


async def eventually(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(SOON):
        while not true():  # noqa: ASYNC110  (nobody tells)
            await asyncio.sleep(0.02)


async def watch_task(scene: Scene, task: Task) -> Viewer:
    """The page of the task, when it follows that."""
    viewer = await scene.watch_page(reverse("task", args=[task.pk]))
    feeds = get_hub()._feeds
    await eventually(lambda: task.pk in feeds and bool(feeds[task.pk].viewers))
    return viewer


async def test_the_page_of_a_task_follows_its_steps_to_the_end(scene: Scene) -> None:
    turn = await scene.send("Count and draw")
    before = await watch_task(scene, turn.task)
    assert before.page.text(".line") == "It has not done anything yet."
    work = await scene.work(turn.task)
    await scene.is_quiet()
    await everything(scene, work)
    during = await watch_task(scene, turn.task)
    await work.finish()
    await work.end()
    await scene.is_quiet()
    for viewer in (before, during):
        assert [step.text for step in viewer.page.soup.select(".line-head h2")][-2:] == ["Draw chart", "Answered"]
        assert viewer.page.text(".facts .tag") == "Done"
        assert len(viewer.page.soup.select(".again")) == 4


async def test_what_is_typed_on_the_page_of_a_task_stays_when_that_is_tried_again(scene: Scene) -> None:
    turn = await scene.send("Hello")
    work = await scene.work(turn.task)
    await work.ask()
    work.say("Half an answer")
    await work.save()
    viewer = await watch_task(scene, turn.task)
    await work.end(Status.FAILED, error=LLMError("server", "It broke."))
    await scene.is_quiet()
    (form,) = viewer.page.soup.select(".again form")
    form.append("typed")
    await db(turn.task.refresh_from_db)
    assert await db(tasks.retry, turn.task)
    work = await scene.work(turn.task)
    await work.ask()
    work.say("A whole one.")
    await work.finish()
    await eventually(lambda: "A whole one." in viewer.seen(".line"))
    assert viewer.page.text(".again form").endswith("typed")
    await work.end()
    await eventually(lambda: viewer.seen(".facts .tag") == "Done")
    assert viewer.page.text(".again form").endswith("typed")
    assert len(viewer.page.soup.select(".again")) == 2


async def test_the_page_of_a_task_that_nobody_told_of_its_steps_looks_by_itself(scene: Scene) -> None:
    def stop() -> None:
        with transaction.atomic():
            assert tasks.stop(Task.objects.get(pk=turn.task_id))
            connection.run_on_commit.clear()  # Nobody hears of it.

    turn = await scene.send("Hello")
    await watch_task(scene, turn.task)
    await scene.is_quiet()
    await db(stop)
    await scene.is_quiet()


async def test_nobody_follows_the_task_of_somebody_else(scene: Scene, bob: User) -> None:
    turn = await scene.send("Hello")
    stranger = Client()
    await db(stranger.force_login, bob)
    viewer = Viewer(stranger, reverse("home"))
    await viewer.load()
    live = viewer.page.soup.select_one("#live")
    assert live is not None
    live["hx-ws:connect"] = f"/live/?task={turn.task_id}"
    await viewer.connect()
    alices = await watch_task(scene, turn.task)
    work: Work = await scene.work(turn.task)
    await work.ask()
    await scene.is_quiet()
    assert alices.page.text(".line-head h2")
    viewer.catch_up()
    assert viewer.page.soup.select_one(f"#facts-{turn.task_id}") is None
    assert viewer.socket is not None
    assert viewer.socket.output_queue.empty()
    await viewer.disconnect()
    await db(actions.delete, turn.conversation)
