"""A declared task on the page: its steps, how far it is and what each gave, live as on a page that is loaded anew."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
from django.test import Client
from django.urls import reverse

from conversations.models import Turn
from executor import actions as tasks
from executor.core.errors import StepFailed
from executor.core.messages import ToolCall
from executor.models import Agent, Decision, Status, Task
from tests.conversations.declared_work import DeclaredWork, make_declared
from tests.conversations.test_live import Scene, Viewer
from tests.conversations.worker import db
from users.models import User

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("live")]

COUNT = ToolCall("call-1", "count_words", {"text": "a b"})


@pytest.fixture
async def scene(transactional_db: None, alice: User, demo: Agent) -> AsyncIterator[Scene]:
    async with AsyncExitStack() as stack:
        scene = Scene(alice, demo, stack)
        await db(scene.client.force_login, alice)
        yield scene


async def begun(scene: Scene) -> tuple[Turn, Viewer]:
    turn = await scene.send("/tides\nWhich place: Brest")
    await db(make_declared, turn)
    return turn, await scene.watch(turn.conversation)


async def taken_up(scene: Scene, task: Task) -> DeclaredWork:
    work = await DeclaredWork.begin(task)
    scene._stack.push_async_callback(work.leave)
    assert isinstance(work, DeclaredWork)
    return work


def states(viewer: Viewer) -> list[str]:
    return [str(part["data-state"]) for part in viewer.page.soup.select(".part")]


async def plan(scene: Scene, work: DeclaredWork) -> None:
    await work.begin_step("plan")
    await scene.is_quiet()
    await work.question("Plan it.")
    work.say("First the *moon*.\n\nThen th")
    await scene.is_quiet(work)
    work.say("e sun.")
    await work.finish()
    await scene.is_quiet()
    await work.finish_step({"plan": "First the *moon*.\n\nThen the sun."})
    await scene.is_quiet()


async def test_its_steps_show_how_far_it_is_and_what_they_gave(scene: Scene) -> None:
    turn, viewer = await begun(scene)
    await scene.is_quiet()
    assert (viewer.page.text(".progress h3"), states(viewer)) == ("Report on tides", ["open"] * 3)
    work = await taken_up(scene, turn.task)
    await plan(scene, work)
    assert viewer.page.text(".progress label") == "1 of 3 · Gather"
    assert viewer.page.soup.select_one("progress[value='1'][max='3']") is not None
    assert viewer.page.text(".part .output em") == "moon"
    await work.begin_step("gather")
    await work.part("fetch", '"about the sun"')
    await scene.is_quiet()
    assert states(viewer) == ["done", "running", "open"]
    assert viewer.page.text(".part[data-state=running] .step-title") == "Fetch"
    late = await scene.watch(turn.conversation)
    await work.finish_step({"gather": {"sources": [{"title": "A", "year": 1990}], "sure": True}})
    await scene.is_quiet()
    assert [cell.text for cell in late.page.soup.select(".part .output td")] == ["A", "1990"]
    await work.begin_step("report")
    await work.answers("The tide *rises*.")
    await work.finish_step({"report": "The tide *rises*."})
    await work.conclude("The tide *rises*.")
    await scene.is_quiet()
    for each in (viewer, late):
        assert each.page.text(".answer em") == "rises"
        assert each.page.text(".work summary").endswith("· 3 steps")
        assert each.page.soup.select_one("[data-do=copy-answer]") is not None


async def test_a_step_that_fails_is_tried_again_and_then_says_so(scene: Scene, as_alice: Client) -> None:
    turn, viewer = await begun(scene)
    work = await taken_up(scene, turn.task)
    await plan(scene, work)
    await work.begin_step("gather")
    await work.fail_step(StepFailed("No luck."))
    await scene.is_quiet()
    assert states(viewer) == ["done", "again", "open"]
    await work.begin_step("gather")
    await scene.is_quiet()
    assert states(viewer) == ["done", "running", "open"]
    error = StepFailed("No luck.", hint="Trying again begins at this step.")
    await work.fail_step(error)
    await work.end(Status.FAILED, error=error)
    await scene.is_quiet()
    assert states(viewer) == ["done", "failed", "open"]
    assert viewer.page.text(".part .tag.danger") == "failed after 2 attempts"
    assert viewer.page.text(".failure .button") == "Try again from “Gather”"
    assert await db(tasks.retry, turn.task)
    await scene.is_quiet()
    assert viewer.page.text(".part .output em") == "moon"
    work = await taken_up(scene, turn.task)
    await work.begin_step("gather")
    await scene.is_quiet()
    assert states(viewer) == ["done", "running", "open"]
    await db(tasks.stop, turn.task)
    await work.end(Status.STOPPED)
    await scene.is_quiet()
    assert states(viewer) == ["done", "stopped", "open"]
    assert viewer.page.text(".foot .button") == "Try again from “Gather”"


async def test_a_step_that_waits_for_its_person_says_so(scene: Scene) -> None:
    turn, viewer = await begun(scene)
    work = await taken_up(scene, turn.task)
    await work.begin_step("plan")
    await work.question("Plan it.")
    await work.finish(COUNT)
    await work.ask_person(Decision.Kind.APPROVAL, COUNT)
    await scene.is_quiet()
    assert states(viewer) == ["waiting", "open", "open"]
    await work.wait()
    await scene.is_quiet()
    assert states(viewer) == ["waiting", "open", "open"]
    assert viewer.page.soup.select_one(".decision") is not None


async def test_the_page_of_the_task_and_its_document_tell_its_steps(scene: Scene, as_alice: Client) -> None:
    turn, _ = await begun(scene)
    viewer = await scene.watch_page(reverse("task", args=[turn.task_id]))
    work = await taken_up(scene, turn.task)
    await plan(scene, work)
    await work.begin_step("gather")
    await work.finish_step({"gather": {}})
    await work.begin_step("report")
    await work.finish_step({"report": "It rises."})
    await work.conclude("It rises.")
    await scene.is_quiet()
    heads = [head.text for head in viewer.page.soup.select(".line-head h2")]
    assert heads == ["Plan", "Asked", "Answered", "Gather", "Write the report", "The answer"]
    with_forms = [head.text for head in viewer.page.soup.select(".line-step:has(.again) h2")]
    assert with_forms == ["Plan", "Answered", "Gather", "Write the report"]
    response = await db(as_alice.get, reverse("task_json", args=[turn.task_id]))
    document = response.json()
    assert document["task"]["declared"] == {"name": "tides", "title": "Report on tides", "version": 1}
    assert document["task"]["data"] == {"place": "Brest"}
    first, asked, answered = document["steps"][:3]
    assert (first["kind"], first["title"], first["output"]) == (
        "step",
        "Plan",
        {"plan": "First the *moon*.\n\nThen the sun."},
    )
    assert (asked["kind"], asked["parent_seq"], answered["parent_seq"]) == ("question", first["seq"], asked["seq"])
    steps = await db(as_alice.get, reverse("task_steps", args=[turn.task_id]), headers={"HX-Request": "true"})
    assert "<em>moon</em>" in steps.content.decode()
