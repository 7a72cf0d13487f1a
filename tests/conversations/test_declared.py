"""Declared tasks in a conversation: starting them anew, and what cannot be done with their steps."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from bs4 import BeautifulSoup
from django.http import HttpResponse
from django.test import Client
from django.urls import reverse

from conversations import actions, branches
from conversations.models import Turn
from conversations.views import OFFERS
from executor.core.limits import Spent
from executor.core.steps import TaskStep
from executor.declared_journal import DeclaredJournal
from executor.models import Agent, DeclaredTask, Status
from tests.conversations.declared_work import TIDES, declare, make_declared
from tests.conversations.worker import hold
from users.models import User

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_server")]


@pytest.fixture
def tides(alice: User, demo: Agent) -> Turn:
    """A report on tides that waits."""
    turn = actions.send(alice, demo, "/tides\nWhich place? Brest")
    make_declared(turn)
    return turn


def fail(turn: Turn) -> None:
    journal = hold(turn.task)
    assert isinstance(journal, DeclaredJournal)
    journal.begin_step(TaskStep("plan", "Plan"))
    journal.finish_step({"plan": "One. Two."}, Spent(1, 10))
    journal.end(Status.FAILED)


def page(client: Client, turn: Turn) -> BeautifulSoup:
    return BeautifulSoup(client.get(turn.conversation.get_absolute_url()).content, "html.parser")


def test_trying_it_all_again_starts_it_with_what_was_filled_in(tides: Turn) -> None:
    fail(tides)
    again = branches.regenerate(tides)
    assert again.task.declared == tides.task.declared
    assert again.task.data == {"place": "Brest"}


def test_its_words_are_not_edited(tides: Turn, as_alice: Client) -> None:
    fail(tides)
    DeclaredTask.objects.update(enabled=False)
    assert not page(as_alice, tides).select(".said .edit")


def test_it_does_not_go_into_the_task_at_work_as_a_message_would(alice: User, demo: Agent, as_alice: Client) -> None:
    first = actions.send(alice, demo, "Hello")
    hold(first.task)
    turn = actions.send(alice, demo, "/tides", first.conversation)
    make_declared(turn)
    assert [button.text for button in page(as_alice, turn).select(".line-actions button")] == ["Remove"]
    assert not actions.send_now(turn)


def test_only_a_task_without_an_agent_of_its_own_asks_the_one_in_the_composer(
    tides: Turn, as_alice: Client, demo: Agent
) -> None:
    fail(tides)
    assert page(as_alice, tides).select(".task button[data-retry]")
    DeclaredTask.objects.update(agent=demo)
    assert not page(as_alice, tides).select(".task button[data-retry]")


# --- starting one ----------------------------------------------------------------------------------------------------


@pytest.fixture
def declared(demo: Agent) -> DeclaredTask:
    return declare()


def form(client: Client, **query: Any) -> BeautifulSoup:
    response = client.get(reverse("start_task", args=["tides"]), query)
    assert response.status_code == 200
    return BeautifulSoup(response.content, "html.parser")


def filled_in(page: BeautifulSoup, **typed: str) -> dict[str, str]:
    """What a browser would send of the form."""
    found: dict[str, str] = {}
    for field in page.select("#start :is(input, textarea, select)[name]"):
        if field.get("type") == "checkbox" and not field.has_attr("checked"):
            continue
        option = field.select_one("option[selected]") or field.select_one("option")
        value = option["value"] if option else field.get("value") or field.text.removeprefix("\n")
        found[str(field["name"])] = str(value)
    return found | {f"in-{name}": value for name, value in typed.items()}


def start(client: Client, data: dict[str, str]) -> HttpResponse:
    response: HttpResponse = client.post(reverse("start_task", args=["tides"]), data)  # type: ignore[assignment]
    return response


def test_those_on_offer_are_listed_for_the_page_and_for_the_composer(declared: DeclaredTask, as_alice: Client) -> None:
    listed = BeautifulSoup(as_alice.get(reverse("declared_tasks")).content, "html.parser")
    assert listed.select_one(".offers a[href^='/tasks/tides/'] strong") is not None
    options = as_alice.get(reverse("declared_tasks"), headers={"HX-Request": "true"})
    assert BeautifulSoup(options.content, "html.parser").select_one("#option-tides[role=option]") is not None
    DeclaredTask.objects.update(enabled=False)
    assert "Report on tides" not in as_alice.get(reverse("declared_tasks")).content.decode()
    assert as_alice.get(reverse("start_task", args=["tides"])).status_code == 404


def test_an_empty_conversation_suggests_some_of_them(declared: DeclaredTask, as_alice: Client) -> None:
    for number in range(OFFERS):
        declare({**TIDES, "name": f"tides-{number}"})
    home = BeautifulSoup(as_alice.get(reverse("home")).content, "html.parser")
    assert len(home.select(".task-suggestions a[href^='/tasks/tides']")) == OFFERS
    DeclaredTask.objects.update(enabled=False)
    assert "task-suggestions" not in as_alice.get(reverse("home")).content.decode()


def test_a_form_says_what_to_expect_of_the_demonstration_and_of_nobody_else(
    declared: DeclaredTask, demo: Agent, as_alice: Client
) -> None:
    (note,) = form(as_alice).select(".demo-note")
    assert "it only quotes what you enter" in note.text
    declared.agent = Agent.objects.create(name="gpt", provider="gpt", model="gpt-x")
    declared.save()
    assert not form(as_alice).select(".demo-note")


def test_a_form_that_is_sent_twice_makes_one_turn_of_a_new_conversation(
    declared: DeclaredTask, as_alice: Client
) -> None:
    data = filled_in(form(as_alice), place="Brest", moon="on")
    first, again = start(as_alice, data), start(as_alice, data)
    turn = Turn.objects.get()
    assert first.headers["Location"] == again.headers["Location"] == f"/c/{turn.conversation_id}/#turn-{turn.pk}"
    assert turn.task.data == {"place": "Brest", "days": 3, "unit": "metres", "moon": True}
    assert turn.text == turn.task.text == "/tides\nWhich place? Brest\nDays: 3\nUnit: metres\nWith the moon: yes"
    assert turn.conversation.title == "Report on tides"


def test_it_follows_what_was_said_in_its_conversation(declared: DeclaredTask, turn: Turn, as_alice: Client) -> None:
    start(as_alice, filled_in(form(as_alice, conversation=turn.conversation_id), place="Brest"))
    made = turn.conversation.turns.get(position=2)
    assert (made.parent, made.task.previous, made.task.declared) == (turn, turn.task, declared.current_version())


def test_what_does_not_fit_is_told_beside_its_field_and_nothing_typed_is_lost(
    declared: DeclaredTask, as_alice: Client
) -> None:
    data = filled_in(form(as_alice), days="few", notes="One.\r\nTwo.\x00", moon="on", unit="miles")
    response = start(as_alice, data)
    page = BeautifulSoup(response.content, "html.parser")
    assert response.status_code == 422
    assert [error.text for error in page.select(".input-error")] == [
        "“Which place?” is missing.",
        "“Days” must be a number.",
        "“Unit” must be one of: metres, feet.",
    ]
    assert page.select_one("[name=in-days][value=few][aria-invalid]") is not None
    assert page.select_one("[name=in-notes]").text == "\nOne.\nTwo.\ufffd"  # type: ignore[union-attr]
    assert page.select_one("[name=in-moon][checked]") is not None
    assert page.select_one(f"[name=key][value='{data['key']}']") is not None
    assert not Turn.objects.exists()


def test_a_box_that_is_not_ticked_says_no_whatever_is_taken_for_granted(demo: Agent, as_alice: Client) -> None:
    inputs = [{"name": "moon", "kind": "boolean", "default": True}]
    declare({**TIDES, "inputs": inputs})
    page = form(as_alice)
    assert page.select_one("[name=in-moon][checked]") is not None
    start(as_alice, {name: value for name, value in filled_in(page).items() if name != "in-moon"})
    assert Turn.objects.get().task.data == {"moon": False}


def test_its_form_can_be_filled_in_once_more_with_what_stood_in_it(tides: Turn, as_alice: Client) -> None:
    fail(tides)
    (pencil,) = page(as_alice, tides).select(".said .edit")
    again = BeautifulSoup(as_alice.get(str(pencil["href"])).content, "html.parser")
    assert again.select_one("[name=in-place][value=Brest]") is not None
    start(as_alice, filled_in(again, place="Dover"))
    made = tides.conversation.turns.get(position=2)
    assert made.task.data == {"place": "Dover", "days": 3, "unit": "metres", "moon": False}


@pytest.mark.parametrize(
    "query",
    [{"conversation": "nonsense"}, {"conversation": str(uuid4())}, {"like": "nonsense"}, {"like": str(uuid4())}],
)
def test_where_there_is_no_such_conversation_there_is_no_form(
    declared: DeclaredTask, as_alice: Client, query: dict[str, str]
) -> None:
    assert as_alice.get(reverse("start_task", args=["tides"]), query).status_code == 404


def test_nothing_is_started_in_somebody_elses_conversation(
    declared: DeclaredTask, turn: Turn, as_alice: Client, as_bob: Client
) -> None:
    data = filled_in(form(as_alice, conversation=turn.conversation_id), place="Brest")
    assert start(as_bob, data).status_code == 404
    assert turn.conversation.turns.count() == 1
