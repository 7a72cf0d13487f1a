"""Tasks that agents give to others, on the pages: shown as they stand, and asked about where the conversation is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from decimal import Decimal
from typing import Any

import pytest
from bs4 import BeautifulSoup
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from conversations import actions
from conversations.models import Turn
from conversations.present import task_views
from conversations.sidebar import conversation_view
from executor import actions as tasks
from executor.core.errors import TaskExecutionError
from executor.core.messages import ToolCall
from executor.models import Agent, Decision, Status, Task
from executor.sub_tasks import give
from tests.conversations.test_live import Scene, Viewer
from tests.conversations.worker import Work, answer, db, hold
from users.models import User

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("live")]

PLAN = ToolCall("call-1", "run_plan", {"tasks": []})
DELEGATE = ToolCall("call-2", "delegate", {"agent": "demo", "task": "More."})
COUNT = ToolCall("call-3", "count_words", {"text": "a b"})


class Patient(Scene):
    """Waits longer than a busy machine needs; nothing but hints brings the pages on (see `scene`)."""

    async def is_quiet(self, work: Work | None = None, patience: float = 15.0) -> None:
        await super().is_quiet(work, patience)


@pytest.fixture
async def scene(
    transactional_db: None, alice: User, demo: Agent, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Scene]:
    monkeypatch.setattr("conversations.hub.POLL_EVERY", 60.0)  # It would hide that a page was not told.
    async with AsyncExitStack() as stack:
        scene = Patient(alice, demo, stack)
        await db(scene.client.force_login, alice)
        yield scene


def entry(name: str, *after: str) -> dict[str, Any]:
    return {"id": name, "agent": "demo", "task": f"Do {name}.", "after": list(after)}


def below(task: Task, name: str) -> Task:
    return Task.objects.select_related("agent_version").get(parent=task, name=name)


async def begun(scene: Scene, task: Task, call: ToolCall, *wanted: dict[str, Any]) -> None:
    """The task asks for `call`, which others answer."""
    work = await scene.work(task)
    await work.ask()
    await work.finish(call)
    await work.give(call, *wanted)


async def goes_on(scene: Scene, task: Task, text: str) -> None:
    """The task is taken up once more, and ends with `text`."""
    work = await scene.work(task)
    await work.ask()
    work.say(text)
    await work.finish()
    await work.end()


def page_of(task: Task) -> str:
    return reverse("task", args=[task.pk])


async def test_a_page_shows_tasks_of_other_agents_from_their_beginning_to_their_end(scene: Scene) -> None:
    turn = await scene.send("Find out")
    viewer, timeline = await scene.watch(turn.conversation), await scene.watch_page(page_of(turn.task))
    await begun(scene, turn.task, PLAN, entry("sun"), entry("moon"), entry("tides", "sun", "moon"))
    await scene.is_quiet()
    assert viewer.page.text(".step[data-given] > .step-body .tag") == "0 of 3 over"
    assert viewer.page.text(".task[data-active] .state") == "Waiting for other tasks"
    states = [tag.text for tag in viewer.page.soup.select(".sub-body .tag")]
    assert states == ["queued", "queued", "waiting for other tasks"]
    assert viewer.page.text(".sub-after") == "after: sun, moon"

    sun = await db(below, turn.task, "sun")
    inner = await scene.watch_page(page_of(sun))
    work = await scene.work(sun)
    await scene.is_quiet()
    assert viewer.page.text(f"#sub-{sun.pk} .tag") == "working"
    assert viewer.page.soup.select_one(".foot .beat.still") is None
    await work.ask()
    await work.finish(DELEGATE)
    await work.give(DELEGATE, entry("task"))
    await scene.is_quiet()
    deeper = await db(below, sun, "task")
    assert viewer.page.text(f"#sub-{sun.pk} #sub-{deeper.pk} .tag") == "queued"
    work = await scene.work(deeper)
    await work.ask()
    work.say("It is a *star*.")
    await work.finish()
    await work.end()
    await scene.is_quiet()
    assert viewer.page.text(f"#sub-{deeper.pk} .step-detail .markdown") == "It is a star ."
    await goes_on(scene, sun, "Hot.")
    await scene.is_quiet()
    assert "1 of 3 over" in timeline.page.text(".line")
    assert inner.page.text(".facts .tag") == "Done"

    work = await scene.work(await db(below, turn.task, "moon"))
    await work.end(Status.FAILED, error=TaskExecutionError("It was cloudy."))
    await scene.is_quiet()
    words = viewer.page.text(".step[data-given]")
    assert "It was cloudy." in words
    assert "not begun" in words
    await goes_on(scene, turn.task, "So it is.")
    await scene.is_quiet()
    assert viewer.page.text(".answer") == "So it is."
    assert "not begun" in timeline.page.text(".line")
    assert timeline.page.text(f"#sub-{sun.pk} .step-detail .markdown") == "Hot."


async def test_what_a_task_below_asks_is_asked_where_the_conversation_is(scene: Scene) -> None:
    turn = await scene.send("Find out")
    viewer, elsewhere = await scene.watch(turn.conversation), await scene.watch(None)
    await begun(scene, turn.task, DELEGATE, entry("sun"))
    sun = await db(below, turn.task, "sun")
    await begun(scene, sun, DELEGATE, entry("task"))
    deeper = await db(below, sun, "task")
    work = await scene.work(deeper)
    await work.ask()
    await work.finish(COUNT)
    await work.ask_person(Decision.Kind.APPROVAL, COUNT)
    await work.wait()
    await scene.is_quiet()
    assert viewer.page.text(".decision-asker") == "Asked by Demo"
    assert viewer.page.text(".task[data-active] .state") == "Waiting for you"
    assert viewer.page.text(".step[data-given] > .step-body .tag") == "waiting for you"
    for page in (viewer.page, elsewhere.page):
        assert page.soup.select(".conversation[data-state=waiting]")
    decision = await db(deeper.decisions.get)
    response = await db(scene.client.post, reverse("decide", args=[decision.pk]), {"choice": "allow"})
    assert response["Location"] == turn.conversation.get_absolute_url()
    await scene.is_quiet()
    assert not viewer.page.soup.select(".decision")
    assert viewer.page.soup.select(".conversation[data-state=queued]")


async def test_a_stop_shows_in_everything_below(scene: Scene) -> None:
    turn = await scene.send("Find out")
    viewer, timeline = await scene.watch(turn.conversation), await scene.watch_page(page_of(turn.task))
    await begun(scene, turn.task, PLAN, entry("sun"), entry("moon", "sun"))
    sun = await db(below, turn.task, "sun")
    work = await scene.work(sun)
    await scene.is_quiet()
    assert viewer.page.soup.select(".conversation[data-state=working]")
    assert await db(tasks.stop, turn.task)
    await work.end(Status.STOPPED)
    await scene.is_quiet()
    assert viewer.page.text(".stop-note") == "Stopped by you."
    assert [tag.text for tag in timeline.page.soup.select(".sub-body .tag")] == ["stopped", "stopped"]


def use_on(viewer: Viewer) -> dict[str, str]:
    """Of whom a page tells what they used."""
    facts = (fact.get_text(" ", strip=True) for fact in viewer.page.soup.select(".facts > div"))
    whose = ("Input", "Of its own", "Of other agents")
    return {name: fact.removeprefix(name).strip() for fact in facts for name in whose if fact.startswith(name)}


async def test_the_page_of_each_task_adds_up_all_below_it_and_tells_its_own_apart(scene: Scene) -> None:
    turn = await scene.send("Find out")
    top = await scene.watch_page(page_of(turn.task))
    await begun(scene, turn.task, PLAN, entry("sun"), entry("moon"))
    sun, moon = [await db(below, turn.task, name) for name in ("sun", "moon")]
    middle = await scene.watch_page(page_of(sun))
    await begun(scene, sun, DELEGATE, entry("task"))
    await goes_on(scene, await db(below, sun, "task"), "Deep.")
    await scene.is_quiet()
    mine = "120 tokens · free"
    assert use_on(middle) == {"Input": "200", "Of its own": mine, "Of other agents": mine}
    assert use_on(top) == {"Input": "200", "Of its own": mine, "Of other agents": mine}, "What is at work comes later."
    await goes_on(scene, sun, "Hot.")
    await goes_on(scene, moon, "Cold.")
    await scene.is_quiet()
    assert use_on(middle) == {"Input": "300", "Of its own": "240 tokens · free", "Of other agents": mine}
    assert use_on(top) == {"Input": "500", "Of its own": mine, "Of other agents": "480 tokens · free"}
    document = await db(scene.client.get, reverse("task_json", args=[sun.pk]))
    used = document.json()["usage"]
    assert (used["input_tokens"], used["below"]["input_tokens"], used["below"]["output_tokens"]) == (200, 100, 20)


# --- pages that are loaded -------------------------------------------------------------------------------------------


@pytest.fixture
def given(alice: User, demo: Agent) -> Turn:
    """Alice said something that was given to another agent."""
    turn = actions.send(alice, demo, "Find out")
    Task.objects.filter(pk=turn.task_id).update(status=Status.AWAITING, attempts=1, head_seq=2)
    turn.task.steps.create(seq=1, kind="model", status="done", fence=1, provider="demo")
    turn.task.steps.create(
        seq=2, parent_seq=1, kind="tool", status="waiting", fence=1, name="delegate", call_id="call-2", arguments={}
    )
    give(turn.task, "call-2", [entry("task")])
    return turn


def test_others_decide_nothing_for_a_task_below(given: Turn, as_bob: Client) -> None:
    journal = hold(below(given.task, "task"))
    decision = Decision.objects.create(task=journal.task, kind=Decision.Kind.QUESTION)
    assert as_bob.get(reverse("decide", args=[decision.pk])).status_code == 404
    assert as_bob.post(reverse("decide", args=[decision.pk]), {"choice": "deny"}).status_code == 404
    assert as_bob.get(page_of(journal.task)).status_code == 404


def test_the_card_by_itself_says_who_asks(given: Turn, as_alice: Client) -> None:
    decision = Decision.objects.create(task=below(given.task, "task"), kind=Decision.Kind.LIMIT, details={"limit": "x"})
    page = BeautifulSoup(as_alice.get(reverse("decide", args=[decision.pk])).content, "html.parser")
    (asker,) = page.select(".decision-asker a")
    assert asker["href"] == page_of(decision.task)


def test_a_conversation_whose_tasks_wait_for_a_worker_is_not_said_to_be_at_work(given: Turn) -> None:
    found = conversation_view(given.conversation_id)
    assert found
    assert found.state == "queued"


def test_the_use_of_an_answer_holds_that_of_other_agents(given: Turn) -> None:
    child = below(given.task, "task")
    answer(child, "Done.")
    Task.objects.filter(pk=child.pk).update(cost=Decimal("0.25"), unpriced_calls=0)
    answer(given.task, "Good.")
    given.task.refresh_from_db()
    view = task_views([given.task])[given.task_id]
    assert dict(view.use.facts)["Input"] == "20"
    assert dict(view.use.facts)["of other agents"] == "15 tokens · $0.25"


def test_the_use_of_a_conversation_holds_that_of_other_agents(given: Turn, as_alice: Client) -> None:
    answer(below(given.task, "task"), "Done.")
    answer(given.task, "Good.")
    page = BeautifulSoup(
        as_alice.get(reverse("conversation_usage", args=[given.conversation_id])).content, "html.parser"
    )
    assert [" ".join(row.get_text(" ").split()) for row in page.select(".use-facts > div")][:2] == [
        "Answers 3",
        "Input 20",
    ]
    page = BeautifulSoup(as_alice.get(reverse("usage")).content, "html.parser")
    (row,) = page.find("a", href=given.conversation.get_absolute_url()).find_parents("tr")  # type: ignore[union-attr]
    assert row.get_text(" ").split()[2:5] == ["3", "20", "10"]


def test_the_document_of_a_task_names_those_above_and_below(given: Turn, as_alice: Client) -> None:
    child = below(given.task, "task")
    document = as_alice.get(reverse("task_json", args=[given.task_id])).json()
    assert document["steps"][1]["tasks"] == [
        {"id": str(child.pk), "name": "", "agent": "Demo", "status": "queued", "after": [], "tasks": []}
    ]
    document = as_alice.get(reverse("task_json", args=[child.pk])).json()
    assert document["task"]["parent"] == {"task": str(given.task_id), "call_id": "call-2", "name": "task"}


def test_the_page_of_a_task_below_says_what_it_was_given_and_for_what(given: Turn, as_alice: Client) -> None:
    page = BeautifulSoup(as_alice.get(page_of(below(given.task, "task"))).content, "html.parser")
    assert page.select_one(".said .bubble").text == "Do task."  # type: ignore[union-attr]
    assert page.select(f".stop-note a[href='{page_of(given.task)}']")
    assert page.select(f".timeline .back[href='{given.conversation.get_absolute_url()}#turn-{given.pk}']")


def test_pages_of_tasks_that_gave_nothing_ask_nothing_about_others(alice: User, demo: Agent) -> None:
    turn = actions.send(alice, demo, "Hello")
    answer(turn.task, "Hello.")
    turn.task.refresh_from_db()
    with CaptureQueriesContext(connection) as queries:
        task_views([turn.task], every_step=True)
    assert not [query["sql"] for query in queries if "parent_call" in query["sql"] and '"root_id" IN' in query["sql"]]
