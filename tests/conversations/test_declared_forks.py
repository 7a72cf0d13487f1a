"""Forks of declared tasks on the page: the forms of the time line, what they refuse, and the variant that follows."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from bs4 import BeautifulSoup, Tag
from django.test import Client
from django.urls import reverse

from conversations import actions, branches
from conversations.models import Turn
from executor import actions as tasks
from executor.core.limits import Spent
from executor.core.record import Part
from executor.declared import class_for
from executor.declared_journal import DeclaredJournal
from executor.models import Agent, DeclaredTaskVersion, Status, Step, Task
from tests.conversations.declared_work import TIDES, declare, make_declared
from tests.conversations.test_declared_live import begun, plan, states, taken_up
from tests.conversations.test_live import Scene, eventually
from tests.conversations.worker import db, hold
from users.models import User

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_server")]

SOURCES = {
    "type": "object",
    "properties": {
        "title": {"type": "string"},
        "year": {"type": "integer"},
        "sure": {"type": "boolean"},
        "places": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["title"],
}
GATHERED = {"title": "A", "year": 1990, "sure": True, "places": ["Brest"]}


def work_through(task: Task) -> None:
    """All steps of a report on tides; in the second one something is done once that may do harm."""
    journal = hold(task)
    assert isinstance(journal, DeclaredJournal)
    assert task.declared is not None
    outputs: dict[str, Any] = {"plan": "First the moon.\nThen the sun.", "gather": GATHERED, "report": "It rises."}
    for step in class_for(task.declared).task_steps:
        if Step.objects.filter(task=task, name=step.id).exists():
            continue
        journal.begin_step(step)
        if step.id == "gather":
            call, _ = journal.find(Part("gather", "post", "unsafe", ("Hi",), 1))
            journal.start_tools([call])
            Step.objects.filter(task=task, call_id=call.id).update(status="done", result='{"sent": "Hi"}')
        journal.finish_step({step.id: outputs[step.id]}, Spent(1, 10))
    journal.say("It rises.")
    journal.end(Status.DONE)


@pytest.fixture
def tides(alice: User, demo: Agent) -> Turn:
    """A report on tides that is done: plan (1), gather (2) with something done once (3), report (4)."""
    steps = [step | ({"output": SOURCES} if step["id"] == "gather" else {}) for step in TIDES["steps"]]
    turn = actions.send(alice, demo, "/tides")
    task = turn.task
    task.declared, task.data = declare({**TIDES, "steps": steps}).current_version(), {"place": "Brest"}
    task.save(update_fields=["declared", "data"])
    work_through(task)
    return turn


def line(client: Client, turn: Turn, seq: int) -> Tag:
    page = soup(client.get(reverse("task", args=[turn.task_id])))
    found = page.select_one(f"[data-seq='{seq}']")
    assert found is not None
    return found


def soup(response: Any) -> BeautifulSoup:
    return BeautifulSoup(response.content, "html.parser")


def fields(step: Tag) -> dict[str, str]:
    """What stands in the fields of the form with the result."""
    found = {}
    for field in step.select("form:has([value=output]) :is(textarea, select, input:not([type=hidden]))"):
        chosen = field.select_one("[selected]")
        found[str(field["name"])] = chosen.text if chosen else str(field.get("value", field.text))
    return found


def post(client: Client, turn: Turn, seq: int, **data: str) -> Any:
    return client.post(reverse("fork", args=[turn.task_id, seq]), data)


def newest(turn: Turn) -> Turn:
    found = turn.conversation.turns.select_related("task").get(shown=True)
    assert found.pk != turn.pk
    return found


def test_a_text_is_changed_as_a_text(tides: Turn, as_alice: Client) -> None:
    assert fields(line(as_alice, tides, 1)) == {"argument-plan": "First the moon.\nThen the sun."}
    response = post(as_alice, tides, 1, what="output", **{"argument-plan": "Only\r\nthe sun."})
    made = newest(tides)
    assert response.headers["Location"].endswith(f"#turn-{made.pk}")
    assert json.loads(made.task.steps.get().result) == {"plan": "Only\nthe sun."}
    assert (made.task.declared, made.task.data) == (tides.task.declared, {"place": "Brest"})
    page = soup(as_alice.get(made.conversation.get_absolute_url()))
    assert page.select_one(".variants").text.split() == ["Variant", "2/2"]  # type: ignore[union-attr]
    assert [part["data-state"] for part in page.select(".part")] == ["done", "open", "open"]
    assert [tag.text for tag in page.select(".part .tag")] == ["Result changed"]
    assert "Only" in page.select_one(".part .output").text  # type: ignore[union-attr]
    changed = line(as_alice, made, 1)
    assert [tag.text for tag in changed.select(".line-head .tag")] == ["Result changed"]
    work_through(made.task)
    assert "It rises." in soup(as_alice.get(made.conversation.get_absolute_url())).select_one(".answer").text  # type: ignore[union-attr]


def test_values_are_changed_in_the_fields_of_their_schema(tides: Turn, as_alice: Client) -> None:
    before = {"title": "A", "year": "1990", "sure": "true", "places": '["Brest"]'}
    assert fields(line(as_alice, tides, 2)) == {f"argument-{name}": value for name, value in before.items()}
    given = before | {"year": "2001", "sure": "false", "places": ""}
    post(as_alice, tides, 2, what="output", **{f"argument-{name}": value for name, value in given.items()})
    made = newest(tides)
    assert json.loads(made.task.steps.get().result) == {"gather": {"title": "A", "year": 2001, "sure": False}}
    assert [line(as_alice, made, seq)["data-status"] for seq in (1, 2, 3)] == ["done"] * 3


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"argument-year": "nineteen"}, "Year: write a number."),
        ({"argument-year": "1990.5"}, "year: 1990.5 is not of type 'integer'"),
        ({"argument-places": '["Brest"'}, "Places: write JSON"),
        ({"argument-places": "[3]"}, "places[0]: 3 is not of type 'string'"),
    ],
)
def test_a_mistake_is_a_sentence_and_what_was_typed_stays(
    tides: Turn, as_alice: Client, changes: dict[str, str], problem: str
) -> None:
    typed = {"argument-title": "Another title", **changes}
    refused = post(as_alice, tides, 2, what="output", **typed)
    assert refused.status_code == 422
    form = soup(refused).select_one("[data-seq='2'] details[open]")
    assert form is not None
    assert problem in form.select_one("[role=alert]").text  # type: ignore[union-attr]
    assert typed.items() <= fields(line_of(refused, 2)).items()
    assert Task.objects.count() == 1


def test_what_was_typed_stays_while_something_else_is_at_work(
    tides: Turn, as_alice: Client, alice: User, demo: Agent
) -> None:
    other = actions.send(alice, demo, "Hello", tides.conversation)
    typed = {"argument-plan": "Only the sun."}
    refused = post(as_alice, tides, 1, what="output", **typed)
    assert "still at work" in line_of(refused, 1).select_one("[role=alert]").text  # type: ignore[union-attr]
    assert fields(line_of(refused, 1)) == typed
    tasks.stop(other.task)
    assert post(as_alice, tides, 1, what="output", **typed).status_code == 302


def line_of(response: Any, seq: int) -> Tag:
    found = soup(response).select_one(f"[data-seq='{seq}']")
    assert found is not None
    return found


def test_what_no_schema_speaks_of_is_changed_as_it_is(tides: Turn, as_alice: Client) -> None:
    """The code of the task is gone, and what steps gave is still there to be seen, but nothing says what they may."""
    tides.task.steps.filter(seq=2).update(result='{"found": ["moon"], "count": 1}')
    DeclaredTaskVersion.objects.update(declaration={**TIDES, "class": "tests.nowhere.Gone"})
    assert fields(line(as_alice, tides, 2)) == {"argument-found": '["moon"]', "argument-count": "1"}
    refused = post(as_alice, tides, 2, what="output", **{"argument-count": "2"})
    assert "cannot be used" in soup(refused).select_one("[role=alert]").text  # type: ignore[union-attr]
    assert fields(line_of(refused, 2))["argument-count"] == "2"


def test_a_step_that_gave_nothing_is_given_something(alice: User, demo: Agent, as_alice: Client) -> None:
    turn = actions.send(alice, demo, "/tides")
    make_declared(turn)
    journal = hold(turn.task)
    assert isinstance(journal, DeclaredJournal)
    assert turn.task.declared is not None
    journal.begin_step(class_for(turn.task.declared).task_steps[0])
    journal.end(Status.FAILED)
    assert fields(line(as_alice, turn, 1)) == {"argument-plan": ""}
    Step.objects.filter(task=turn.task).update(name="of-other-code")
    assert fields(line(as_alice, turn, 1)) == {"output": "{}"}
    assert post(as_alice, turn, 1, what="output", output="[]").status_code == 422
    assert post(as_alice, turn, 1, what="output", output="{").status_code == 422
    post(as_alice, turn, 1, what="output", output='{"of-other-code": 1}')
    assert newest(turn).task.steps.get().result == '{"of-other-code": 1}'


def test_what_code_did_once_has_a_result_that_can_be_changed_and_no_arguments(tides: Turn, as_alice: Client) -> None:
    step = line(as_alice, tides, 3)
    assert [summary.text for summary in step.select("summary")] == ["Retry from here", "Change the result"]
    assert json.loads(step.select_one("[name=result]").text) == {"sent": "Hi"}  # type: ignore[union-attr]
    refused = post(as_alice, tides, 3, what="result", result="Ho")
    assert "This is not JSON" in line_of(refused, 3).select_one("[role=alert]").text  # type: ignore[union-attr]
    assert line_of(refused, 3).select_one("[name=result]").text.strip() == "Ho"  # type: ignore[union-attr]
    post(as_alice, tides, 3, what="result", result='"Ho"')
    made = newest(tides)
    assert dict(made.task.steps.values_list("seq", "result")) == {2: "", 3: '"Ho"'}
    assert [tag.text for tag in line(as_alice, made, 2).select(".line-head .tag.tint")] == ["Gone on with"]
    assert [tag.text for tag in line(as_alice, made, 3).select(".line-head .tag.tint")] == ["Result changed"]


def test_what_will_run_again_and_may_do_harm_is_said_where_it_will(tides: Turn, as_alice: Client) -> None:
    again, rest = "It will run again, and so will what comes after it.", "What comes after it will run again."
    warnings = {
        seq: [warning.text for warning in line(as_alice, tides, seq).select(".again strong")] for seq in (1, 2, 3, 4)
    }
    assert warnings == {1: [again, rest], 2: [again], 3: [again], 4: []}


def test_its_questions_and_its_last_words_have_no_forms(tides: Turn, as_alice: Client) -> None:
    assert [bool(line(as_alice, tides, seq).select("form")) for seq in (1, 2, 3, 4, 5)] == [True] * 4 + [False]
    assert post(as_alice, tides, 5).status_code == 404


# --- live ------------------------------------------------------------------------------------------------------------


@pytest.fixture
async def scene(transactional_db: None, live: None, alice: User, demo: Agent) -> AsyncIterator[Scene]:
    async with AsyncExitStack() as stack:
        scene = Scene(alice, demo, stack)
        await db(scene.client.force_login, alice)
        yield scene


async def test_a_fork_is_followed_like_any_other_task(scene: Scene) -> None:
    turn, viewer = await begun(scene)
    work = await taken_up(scene, turn.task)
    await plan(scene, work)
    await work.begin_step("gather")
    await work.part("fetch", '"about the sun"')
    await work.finish_step({"gather": {"sure": True}})
    await work.end()
    await scene.is_quiet()
    part = await db(turn.task.steps.get, name="fetch")
    made = await db(branches.fork, turn, part.seq, result='"about the moon"')
    await eventually(lambda: viewer.seen(".variants") == "Variant 2/2")
    await scene.is_quiet()
    assert states(viewer) == ["done", "open", "open"]
    work = await taken_up(scene, made.task)
    await work.begin_step("gather")
    await scene.is_quiet()
    assert states(viewer) == ["done", "running", "open"]
    assert viewer.page.text(".part[data-state=running] .step-title") == "Fetch"
    await work.finish_step({"gather": {"sure": False}})
    await work.begin_step("report")
    await work.answers("It rises.")
    await work.finish_step({"report": "It rises."})
    await work.conclude("It rises.")
    await scene.is_quiet()
    assert viewer.page.text(".answer") == "It rises."
