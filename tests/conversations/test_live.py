"""The promise of the live view: what a page shows after live updates is what the page shows when it is loaded anew.

A worker in the test's hand writes real rows and speaks through a real Redis. Viewers load the page, connect to the
socket as a browser does, and apply what arrives. At every quiet point each viewer's page must equal a fresh one,
whenever the viewer came.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from difflib import unified_diff
from typing import Any

import pytest
import redis
from channels.testing import WebsocketCommunicator
from django.conf import settings
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from agentsite.asgi import application
from conversations import actions
from conversations.fragments import Snapshot
from conversations.models import Conversation, Turn
from conversations.summaries import SUMMARISED, SUMMARISING
from executor import actions as tasks
from executor.actions import create_task
from executor.core.errors import LLMError
from executor.core.events import Finished
from executor.core.messages import ToolCall, Usage
from executor.core.messages import user as user_message
from executor.hints import notify
from executor.journal import Covers, Source
from executor.live import stream_key
from executor.models import Agent, Status, Step, Task
from tests.conversations.page import Page
from tests.conversations.worker import Work, answer, db, message
from tools.core.context import NewFile
from users.models import User

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("live")]

#: Seconds after which pages that differ will not become alike. Shorter than the hub's polling, which would hide a loss.
PATIENCE = 2.5

COUNT = ToolCall("call-1", "count_words", {"text": "a b"})
DRAW = ToolCall("call-2", "draw_chart", {"kind": "bar", "values": [1, 2]})
CHART = NewFile("chart.png", b"\x89PNG", "image/png", "Two bars")

ANSWER = (
    "# Result\n\nTwo words, *very* short.\n\n- one\n- two\n\n| a | b |\n|---|--:|\n| 1 | 2 |\n\n"
    "```python\nprint('hi')\n```\n\nThat is all."
)


class Viewer:
    """Somebody with the page open."""

    def __init__(self, client: Client, url: str) -> None:
        self.client, self.url = client, url
        self.socket: WebsocketCommunicator | None = None

    async def load(self) -> None:
        self.page = Page(await fresh(self.client, self.url))

    async def connect(self) -> None:
        headers = [(b"cookie", f"sessionid={self.client.cookies['sessionid'].value}".encode())]
        headers.append((b"origin", b"http://testserver"))
        headers.append((b"host", b"testserver"))
        self.socket = WebsocketCommunicator(application, self.page.live_url, headers)
        connected, _ = await self.socket.connect()
        assert connected

    async def disconnect(self) -> None:
        if self.socket is not None:
            await self.socket.disconnect()
            self.socket = None

    def catch_up(self) -> None:
        """Apply what has arrived."""
        if self.socket is None:
            return
        while not self.socket.output_queue.empty():
            arrived: dict[str, Any] = self.socket.output_queue.get_nowait()
            assert arrived["type"] == "websocket.send", arrived
            self.page.receive(arrived["text"])

    def seen(self, selector: str) -> str:
        self.catch_up()
        return self.page.text(selector)


async def fresh(client: Client, url: str) -> str:
    response = await db(client.get, url)
    assert response.status_code == 200
    return response.content.decode()


class Scene:
    """Alice's conversation, and those who watch it."""

    def __init__(self, alice: User, agent: Agent, stack: AsyncExitStack, patience: float = PATIENCE) -> None:
        self.alice, self.agent, self._stack, self._patience = alice, agent, stack, patience
        self.viewers: list[Viewer] = []
        self.client = Client()

    async def send(self, text: str, conversation: Conversation | None = None) -> Turn:
        turn: Turn = await db(actions.send, self.alice, self.agent, text, conversation)
        return turn

    async def watch(self, conversation: Conversation | None) -> Viewer:
        """A page that is loaded and connected now."""
        return await self.watch_page(conversation.get_absolute_url() if conversation else reverse("home"))

    async def watch_page(self, url: str) -> Viewer:
        viewer = Viewer(self.client, url)
        await viewer.load()
        await viewer.connect()
        self._stack.push_async_callback(viewer.disconnect)
        self.viewers.append(viewer)
        return viewer

    async def work(self, task: Task) -> Work:
        work = await Work.begin(task)
        self._stack.push_async_callback(work.leave)
        return work

    async def is_quiet(self, work: Work | None = None, patience: float = 0) -> None:
        """Everybody's page equals one that is loaded now."""
        if work is not None:
            await work.save()
        for viewer in self.viewers:
            if viewer.socket is not None:
                await self._is_true(viewer, patience or self._patience)

    async def _is_true(self, viewer: Viewer, patience: float) -> None:
        end = time.monotonic() + patience
        while True:
            viewer.catch_up()
            shown = viewer.page.outline()
            truth = Page(await fresh(viewer.client, viewer.url)).outline()
            if shown == truth:
                return
            if time.monotonic() > end:
                number = self.viewers.index(viewer) + 1
                pytest.fail(f"Viewer {number} sees:\n" + "\n".join(unified_diff(truth, shown, "fresh", "shown", n=2)))
            await asyncio.sleep(0.02)


@pytest.fixture
async def scene(transactional_db: None, alice: User, demo: Agent) -> AsyncIterator[Scene]:
    async with AsyncExitStack() as stack:
        scene = Scene(alice, demo, stack)
        await db(scene.client.force_login, alice)
        yield scene


async def everything(scene: Scene, work: Work) -> None:
    """Reasoning, words between calls, two calls at once of which one fails, a file, and an answer with every block."""
    await work.ask()
    work.think("They want words counted and drawn.")
    work.say("I count *and* draw.\n\nOne mom")
    await work.save()
    work.say("ent.")
    await work.finish(COUNT, DRAW)
    await scene.is_quiet()
    await work.start(COUNT, DRAW)
    await scene.is_quiet()
    await work.result(DRAW, '{"bars": 2}', CHART)
    await scene.is_quiet()
    await work.result(COUNT, "There is no text.", is_error=True)
    await scene.is_quiet()
    await work.ask()
    for at in range(0, len(ANSWER), 7):
        work.say(ANSWER[at : at + 7])
        await asyncio.sleep(0)
    await scene.is_quiet(work)


async def test_everybody_sees_what_a_fresh_page_shows_whenever_they_came(scene: Scene) -> None:
    turn = await scene.send("Count and draw")
    before = await scene.watch(turn.conversation)
    await scene.is_quiet()
    work = await scene.work(turn.task)
    await scene.is_quiet()
    await everything(scene, work)
    during = await scene.watch(turn.conversation)
    await scene.is_quiet(work)
    assert during.page.text(".task[data-active] .state") == "Writing"
    await work.finish()
    await work.end()
    await scene.watch(turn.conversation)
    await scene.is_quiet()
    assert before.page.text(".answer").endswith("That is all.")
    assert "1 failed" in before.page.text(".work summary")
    assert before.page.soup.select_one(".file-image") is not None


async def test_a_page_that_missed_the_end_is_put_right_when_it_connects(scene: Scene) -> None:
    """The task ends between the rendering of the page and the opening of its socket."""
    turn = await scene.send("Hello")
    late = Viewer(scene.client, turn.conversation.get_absolute_url())
    await late.load()
    work = await scene.work(turn.task)
    await work.ask()
    work.say("Good morning.")
    await work.finish()
    await work.end()
    assert late.page.text(".state") == "Queued"
    await late.connect()
    scene.viewers.append(late)
    await scene.is_quiet()
    assert late.page.text(".answer") == "Good morning."
    await late.disconnect()


async def test_a_socket_that_was_cut_goes_on_where_the_others_are(scene: Scene) -> None:
    turn = await scene.send("Hello")
    viewer = await scene.watch(turn.conversation)
    work = await scene.work(turn.task)
    await work.ask()
    work.say("One.\n\nTwo")
    await scene.is_quiet(work)
    await viewer.disconnect()
    work.say(" and a half.\n\nThree.\n\nFo")
    await viewer.connect()
    work.say("ur.")
    await scene.is_quiet(work)
    assert viewer.page.text(".answer") == "One. Two and a half. Three. Four."
    await viewer.disconnect()
    await work.finish()
    await work.end()
    await viewer.connect()
    await scene.is_quiet()


async def test_two_viewers_and_a_message_from_another_tab(scene: Scene) -> None:
    turn = await scene.send("First")
    one = await scene.watch(turn.conversation)
    two = await scene.watch(turn.conversation)
    work = await scene.work(turn.task)
    await work.ask()
    work.say("Answer one.")
    second = await scene.send("Second", turn.conversation)
    await scene.is_quiet(work)
    assert one.page.text(f"#turn-{second.pk} .bubble") == two.page.text(f"#turn-{second.pk} .bubble") == "Second"
    await work.finish()
    await work.end()
    work = await scene.work(second.task)
    await everything(scene, work)
    await work.finish()
    await work.end()
    await scene.is_quiet()


async def test_send_becomes_stop_and_the_sidebar_tells_who_is_at_work(scene: Scene) -> None:
    old = await scene.send("An older conversation")
    turn = await scene.send("Hello")
    chat, home = await scene.watch(turn.conversation), await scene.watch(None)
    item = f"#conversation-{turn.conversation_id}"
    assert chat.page.soup.select_one("#composer-actions #stop") is not None
    work = await scene.work(turn.task)
    await scene.is_quiet()
    assert home.page.soup.select_one(f"{item}[data-state=working]") is not None
    await work.ask()
    await work.finish()
    await work.end()
    await scene.is_quiet()
    assert chat.page.soup.select_one("#composer-actions #stop") is None
    assert home.page.soup.select_one(f"{item}[data-state=idle]:not([data-unread])") is not None
    # Nobody looks at the other one.
    work = await scene.work(old.task)
    await work.ask()
    work.say("Done.")
    await work.finish()
    await work.end()
    await scene.is_quiet()
    assert home.page.soup.select_one(f"#conversation-{old.conversation_id}[data-unread]") is not None


async def test_a_new_conversation_a_new_name_and_a_deletion_reach_the_other_pages(scene: Scene) -> None:
    turn = await scene.send("Hello")
    chat, home = await scene.watch(turn.conversation), await scene.watch(None)
    await scene.send("Something else")
    await scene.is_quiet()
    assert "Something else" in home.page.text("#conversations")
    await db(actions.rename, turn.conversation, "Greetings & more")
    await scene.is_quiet()
    assert chat.page.text("#title") == "Greetings & more"
    await db(actions.toggle_pin, turn.conversation)
    await scene.is_quiet()
    assert "Pinned" in home.page.text("#conversations")
    await chat.disconnect()
    await db(actions.delete, turn.conversation)
    await scene.is_quiet()
    assert "Greetings" not in home.page.text("#conversations")


async def test_a_page_that_does_not_know_a_turn_yet_gets_it_with_all_that_was_said(scene: Scene) -> None:
    """The turn comes first, then its words: they would not find their place in a turn that is not there yet."""
    turn = await scene.send("First")
    late = Viewer(scene.client, turn.conversation.get_absolute_url())
    await late.load()
    second = await scene.send("Second", turn.conversation)
    await db(tasks.stop, turn.task)
    one = await scene.watch(turn.conversation)
    work = await scene.work(second.task)
    await work.ask()
    work.say("One.\n\nTw")
    answer = f"#answer-{second.task_id}"
    await eventually(lambda: one.seen(answer) == "One. Tw")
    await late.connect()
    await eventually(lambda: late.seen(answer) == "One. Tw")
    await late.disconnect()


async def test_a_hint_takes_back_nothing_that_a_page_shows(scene: Scene) -> None:
    """The rows know less than the stream has told."""
    turn = await scene.send("Hello")
    viewer = await scene.watch(turn.conversation)
    work = await scene.work(turn.task)
    await work.ask()
    work.say("One.\n\nTwo.\n\nThr")
    await eventually(lambda: viewer.seen(".answer") == "One. Two. Thr")
    await notify(turn.task.user_id, turn.task_id)
    await db(actions.rename, turn.conversation, "After the hint")
    await eventually(lambda: viewer.seen("#title") == "After the hint")
    assert viewer.page.text(".answer") == "One. Two. Thr"
    work.say("ee.")
    await scene.is_quiet(work)


async def test_an_error_shows_with_its_hint_and_can_be_retried(scene: Scene) -> None:
    turn = await scene.send("Hello")
    viewer = await scene.watch(turn.conversation)
    work = await scene.work(turn.task)
    await work.ask()
    work.say("Half an ans")
    error = LLMError("overloaded", "The model is overloaded.")
    await work.fail(error)
    await work.end(Status.FAILED, error=error)
    await scene.is_quiet()
    assert viewer.page.text(".failure-reason") == error.hint
    assert "The model is overloaded." in viewer.page.text(".failure")
    assert await db(tasks.retry, turn.task)
    await scene.is_quiet()
    again = await scene.work(turn.task)
    await scene.is_quiet()
    await again.ask()
    again.say("A whole answer.")
    await scene.is_quiet(again)
    await again.finish()
    await again.end()
    await scene.is_quiet()
    assert viewer.page.text(".answer") == "A whole answer."


async def test_an_answer_to_try_again_that_comes_late_does_not_bring_back_what_is_over(scene: Scene) -> None:
    turn = await scene.send("Hello")
    viewer = await scene.watch(turn.conversation)
    work = await scene.work(turn.task)
    await work.end(Status.FAILED, error=LLMError("overloaded", "The model is overloaded."))
    await scene.is_quiet()
    client, url = viewer.client, reverse("retry", args=[turn.task_id])
    answered = await db(client.post, url, headers={"hx-request": "true"})
    again = await scene.work(turn.task)
    await again.ask()
    again.say("A whole answer.")
    await again.finish()
    await again.end()
    await scene.is_quiet()
    viewer.page.receive(answered.content.decode())
    assert viewer.page.text(".answer") == "A whole answer."
    await scene.is_quiet()


async def test_a_stop_shows_at_once_and_keeps_what_was_said(scene: Scene) -> None:
    turn = await scene.send("Hello")
    viewer = await scene.watch(turn.conversation)
    work = await scene.work(turn.task)
    await work.ask()
    work.say("One.\n\nTwo.\n\nThr")
    await scene.is_quiet(work)
    await db(tasks.stop, turn.task)
    await scene.is_quiet(work)
    assert viewer.page.text(".state") == "Stopping"
    await work.end(Status.STOPPED, stop_reason="person")
    await scene.is_quiet()
    assert viewer.page.text(".answer") == "One. Two. Thr"
    assert viewer.page.text(".stop-note") == "Stopped by you."


async def test_an_attempt_that_is_started_over_doubles_nothing(scene: Scene) -> None:
    """The worker dies in the middle of an answer and another one takes the task over."""
    turn = await scene.send("Hello")
    viewer = await scene.watch(turn.conversation)
    work = await scene.work(turn.task)
    await work.ask()
    work.say("One.\n\nTwo.\n\nThr")
    await scene.is_quiet(work)
    await work.leave()
    await db(Task.objects.filter(pk=turn.task_id).update, lease_until="2001-01-01T00:00Z")
    other = await scene.work(turn.task)
    await scene.is_quiet()
    await other.ask()
    other.say("One.\n\nTw")
    await scene.is_quiet(other)
    assert viewer.page.text(".answer") == "One. Tw"
    await other.finish()
    await other.end()
    await scene.is_quiet()


@pytest.mark.parametrize("how", ["dies", "hands over"])
async def test_an_answer_that_is_kept_stays_on_the_page_until_it_goes_on(scene: Scene, how: str) -> None:
    turn = await scene.send("Hello")
    viewer = await scene.watch(turn.conversation)
    work = await scene.work(turn.task)
    await work.ask()
    await work.is_kept()
    work.say("One.\n\nTwo.\n\nThr")
    await scene.is_quiet(work)
    if how == "dies":
        await work.leave()
        await db(Task.objects.filter(pk=turn.task_id).update, lease_until="2001-01-01T00:00Z")
    else:
        await work.hand_over()
        await scene.is_quiet()
    other = await scene.work(turn.task)
    await scene.is_quiet()
    assert viewer.page.text(".answer") == "One. Two. Thr"
    await other.fetch()
    other.say("One.\n\nTwo.\n\nThree")
    await scene.is_quiet(other)
    assert viewer.page.text(".answer") == "One. Two. Three"
    other.say(".")
    await other.finish()
    await other.end()
    await scene.is_quiet()
    assert viewer.page.text(".answer") == "One. Two. Three."


async def test_a_worker_that_lost_its_task_is_not_heard(scene: Scene) -> None:
    turn = await scene.send("Hello")
    viewer = await scene.watch(turn.conversation)
    old = await scene.work(turn.task)
    await old.ask()
    old.say("The old one ")
    await scene.is_quiet(old)
    await db(Task.objects.filter(pk=turn.task_id).update, lease_until="2001-01-01T00:00Z")
    new = await scene.work(turn.task)
    await new.ask()
    new.say("The new one speaks.")
    await scene.is_quiet(new)
    old.say("still speaks.")
    await eventually(lambda: old.lost)
    await scene.is_quiet(new)
    assert viewer.page.text(".answer") == "The new one speaks."
    await new.finish()
    await new.end()
    await scene.is_quiet()


async def test_a_stream_that_vanishes_costs_nothing(scene: Scene) -> None:
    turn = await scene.send("Hello")
    await scene.watch(turn.conversation)
    work = await scene.work(turn.task)
    await work.ask()
    work.say("One.\n\nTwo.\n\nThr")
    await scene.is_quiet(work)
    with redis.from_url(settings.REDIS_URL) as client:
        client.delete(stream_key(turn.task_id))
    work.say("ee.\n\nFour.")
    await scene.is_quiet(work)
    late = await scene.watch(turn.conversation)
    with redis.from_url(settings.REDIS_URL) as client:
        client.flushall()
    work.say("\n\nFive.")
    await scene.is_quiet(work)
    assert late.page.text(".answer") == "One. Two. Three. Four. Five."
    with redis.from_url(settings.REDIS_URL) as client:
        client.flushall()
    await work.finish()
    await work.end()
    await scene.is_quiet()


async def test_a_redis_that_comes_back_empty_costs_no_text(scene: Scene, restart_redis: Callable[[], None]) -> None:
    turn = await scene.send("Hello")
    viewer = await scene.watch(turn.conversation)
    work = await scene.work(turn.task)
    await work.ask()
    work.say("One.\n\nTwo.\n\nThr")
    await scene.is_quiet(work)
    await asyncio.to_thread(restart_redis)
    work.say("ee.")
    await scene.is_quiet(work, patience=10)
    work.say("\n\nFour.")
    await scene.is_quiet(work, patience=10)
    await work.finish()
    await work.end()
    await scene.is_quiet(patience=10)
    assert viewer.page.text(".answer") == "One. Two. Three. Four."


async def test_what_is_never_announced_is_found_in_the_rows(scene: Scene) -> None:
    """No entry, no hint: the hub looks by itself."""
    turn = await scene.send("Hello")
    viewer = await scene.watch(turn.conversation)
    work = await scene.work(turn.task)
    await scene.is_quiet()
    seq = await db(work.journal.begin_model)
    await db(work.journal.save_partial, seq, "One.", "")
    await scene.is_quiet(patience=10)
    assert viewer.page.text(".answer") == "One."
    await db(work.journal.end, Status.STOPPED, stop_reason="person")
    await scene.is_quiet(patience=10)


async def test_a_wait_says_what_for_until_words_come(scene: Scene) -> None:
    turn = await scene.send("Hello")
    viewer = await scene.watch(turn.conversation)
    work = await scene.work(turn.task)
    await work.ask()
    await scene.is_quiet(work)
    work.stream.note("The model is overloaded. Trying again in 2 s.")
    await eventually(lambda: "Trying again" in viewer.seen(".state"))
    work.say("Here I am.")
    await scene.is_quiet(work)
    assert viewer.page.text(".state") == "Writing"
    await work.finish()
    await work.end()


async def eventually(true: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end
        await asyncio.sleep(0.02)


async def test_words_find_their_place_in_every_kind_of_block(scene: Scene) -> None:
    turn = await scene.send("Write one of each")
    viewer = await scene.watch(turn.conversation)
    work = await scene.work(turn.task)
    await work.ask()
    for piece in (
        "Two wor", "ds here", ", and more.\n\n",
        "- one", " item\n", "- another", " one\n  - with", " a child", " of its own\n\n",
        "1. First", " comes", " this\n\n   and", " a paragraph\n\n",
        "> Quoted", " words **bold**", " plain\n\n",
        "```python\n", "x = 1", "\nif x < 2", ":\n    pass", "\n```\n\n",
        "| a | b |\n|---|--:|\n", "| 1", " | 2 |\n\n", "The", " end.",
    ):  # fmt: skip
        work.say(piece)
        await scene.is_quiet(work)
    assert viewer.page.text(".answer").endswith("The end.")
    assert viewer.page.soup.select_one(".answer ul ul li")


def test_a_look_at_a_long_task_reads_only_what_is_new(alice: User, demo: Agent) -> None:
    task, _ = create_task(alice, demo.current_version(), user_message("Count"))
    Task.objects.filter(pk=task.pk).update(status=Status.RUNNING)

    def add_steps(first: int, last: int) -> None:
        Step.objects.bulk_create(
            Step(task=task, seq=seq, kind="tool", status="done", fence=1, name="calculate", call_id=f"call-{seq}")
            for seq in range(first, last + 1)
        )

    add_steps(1, 50)
    before = Snapshot.load(task.pk)
    add_steps(51, 52)
    with CaptureQueriesContext(connection) as queries:
        after = Snapshot.load(task.pk, before)
    assert before
    assert after
    assert [step.seq for step in after.view.steps] == list(range(1, 53))
    assert after.view == getattr(Snapshot.load(task.pk), "view", None)
    assert '"seq" > (50)' in " ".join(query["sql"] for query in queries)
    assert after.view.steps[0] is before.view.steps[0]


# --- a provider that does not answer as it should --------------------------------------------------------------------


async def test_an_answer_that_broke_off_stays_as_a_step_and_another_takes_its_place(scene: Scene) -> None:
    turn = await scene.send("Hello")
    viewer = await scene.watch(turn.conversation)
    work = await scene.work(turn.task)
    await work.ask()
    work.say("Good mor")
    await scene.is_quiet(work)
    await work.replace(LLMError("connection", "The server broke off the connection."))
    await eventually(lambda: viewer.seen(".answer") == "")
    await eventually(lambda: "Broke off; asked again" in viewer.seen(".steps"))
    assert viewer.page.text(".step-text") == "Good mor"
    work.say("Good even")
    await scene.is_quiet(work)
    during = await scene.watch(turn.conversation)
    await work.replace(LLMError("connection", "The server broke off the connection."))
    work.say("Good night.")
    await scene.is_quiet(work)
    assert during.page.text(".answer") == "Good night."
    await work.finish()
    await work.end()
    await scene.is_quiet()
    assert viewer.page.text(".answer") == "Good night."


async def test_a_page_says_until_when_a_task_is_put_off_and_why(scene: Scene) -> None:
    turn = await scene.send("Hello")
    viewer = await scene.watch(turn.conversation)
    work = await scene.work(turn.task)
    await work.ask()
    busy = LLMError("rate_limit", "Slow down.", retry_after=300)
    await work.fail(busy)
    await work.put_off(busy, 300)
    await scene.is_quiet()
    said = viewer.page.text(".state")
    assert said.startswith("Retrying at ")
    assert said.endswith(" · rate limited")
    clock = viewer.page.soup.select_one(".state time[data-clock]")
    task = await db(Task.objects.get, pk=turn.task_id)
    assert clock is not None
    assert clock["datetime"][:19] == task.not_before.isoformat()[:19]  # type: ignore[union-attr]
    assert viewer.page.soup.select_one("#composer-actions #stop") is not None
    (now,) = viewer.page.soup.select(".foot button")
    assert now["hx-post"] == reverse("retry", args=[turn.task_id])
    response = await db(scene.client.post, str(now["hx-post"]))
    assert response.status_code == 302
    work = await scene.work(turn.task)
    await scene.is_quiet()
    assert "Retrying" not in viewer.page.text(".foot")
    await work.ask()
    work.say("Hello.")
    await work.finish()
    await work.end()
    await scene.is_quiet()
    assert viewer.page.text(".answer") == "Hello."
    assert "asked again from" not in viewer.page.text(".foot")


async def test_a_task_that_was_put_off_is_stopped_on_the_page(scene: Scene) -> None:
    turn = await scene.send("Hello")
    viewer = await scene.watch(turn.conversation)
    work = await scene.work(turn.task)
    await work.ask()
    busy = LLMError("overloaded", "Busy.")
    await work.fail(busy)
    await work.put_off(busy, 300)
    await scene.is_quiet()
    await db(scene.client.post, reverse("stop", args=[turn.task_id]))
    await scene.is_quiet()
    assert viewer.page.text(".stop-note") == "Stopped by you."


async def test_a_failure_says_when_it_is_worth_coming_back(scene: Scene) -> None:
    turn = await scene.send("Hello")
    viewer = await scene.watch(turn.conversation)
    work = await scene.work(turn.task)
    await work.end(Status.FAILED, error=LLMError("rate_limit", "Slow down.", retry_after=7200))
    await scene.is_quiet()
    assert "may be asked again from" in viewer.page.text(".foot")
    assert "</time>." in str(viewer.page.soup.select_one(".foot .stop-note:has(time)"))
    assert viewer.page.soup.select_one(".foot time[data-clock]") is not None


async def test_a_page_says_which_model_took_over_and_why(scene: Scene) -> None:
    turn = await scene.send("Hello")
    viewer = await scene.watch(turn.conversation)
    work = await scene.work(turn.task)
    await work.ask()
    await work.fail(LLMError("overloaded", "The provider answered 529."))
    await scene.is_quiet()
    gpt = replace(work.journal.config, title="GPT", model="gpt-6.1-sol")
    work.journal.source = Source(gpt, took_over=True)
    await work.ask()
    took_over = f"{work.journal.config.title} did not answer (overloaded); GPT took over."
    await eventually(lambda: viewer.seen(".stop-note") == took_over)
    work.say("Here I")
    await scene.is_quiet(work)
    work.say(" am.")
    await work.finish()
    await work.end()
    await scene.is_quiet()
    assert viewer.page.text(".stop-note") == took_over
    assert viewer.page.text(".answer") == "Here I am."
    response = await db(scene.client.get, reverse("task", args=[turn.task_id]))
    assert took_over in response.content.decode()
    assert "gpt-6.1-sol" in response.content.decode()


async def test_an_answer_that_was_corrected_becomes_a_step(scene: Scene) -> None:
    """Also where a page had taken it for the answer."""
    turn = await scene.send("Hello")
    viewer = await scene.watch(turn.conversation)
    work = await scene.work(turn.task)
    await work.ask()
    work.think("Hm.")
    work.say("Four.")
    await work.finish()
    await scene.is_quiet()
    await work.ask()
    work.say('{"n": 4}')
    await scene.is_quiet(work)
    assert viewer.page.text(".step-text") == "Four."
    await work.finish()
    await work.end()
    await scene.is_quiet()


async def test_a_summary_of_earlier_messages_shows_as_a_line_that_can_be_unfolded(scene: Scene) -> None:
    first = await scene.send("What are tides?")
    await db(answer, first.task, "Twice a day.")
    turn = await scene.send("And now?", first.conversation)
    task = turn.task_id
    viewer = await scene.watch(turn.conversation)
    work = await scene.work(turn.task)
    seq = await db(work.journal.begin_model, 5_000, Step.Kind.COMPACTION)
    work.stream.rows_changed()
    await scene.is_quiet()
    assert viewer.page.text(f"#foot-{task} .state") == SUMMARISING
    short = Finished(message("They like tides."), "stop", Usage(900, 10))
    await db(work.journal.finish_compaction, seq, short, Covers(first.task_id, 1))
    work.stream.rows_changed()
    await scene.is_quiet()
    assert viewer.page.text(f"#summarised-{task} summary") == SUMMARISED
    await work.ask()
    work.say("Now, too.")
    await scene.is_quiet(work)
    await work.finish()
    await work.end()
    await scene.is_quiet()
    assert "They like tides." in viewer.page.text(f"#summarised-{task} details")
    assert not viewer.page.text(f"#work-{task}")
    assert viewer.page.text(f"#answer-{first.task_id}") == "Twice a day.", "Everything that was said is still there."
