"""Declared tasks in a conversation: starting them anew, and what cannot be done with their steps."""

from __future__ import annotations

import pytest
from bs4 import BeautifulSoup
from django.test import Client
from django.urls import reverse

from conversations import actions, branches
from conversations.models import Turn
from executor.core.limits import Spent
from executor.core.steps import TaskStep
from executor.declared_journal import DeclaredJournal
from executor.models import Agent, DeclaredTask, Status
from tests.conversations.declared_work import make_declared
from tests.conversations.worker import hold
from users.models import User

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_server")]


@pytest.fixture
def tides(alice: User, demo: Agent) -> Turn:
    """A report on tides that waits."""
    turn = actions.send(alice, demo, "/tides\nWhich place?: Brest")
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


def test_its_words_are_not_edited_and_its_steps_not_forked(tides: Turn, as_alice: Client) -> None:
    fail(tides)
    assert not page(as_alice, tides).select(".said .edit")
    refused = as_alice.post(reverse("fork", args=[tides.task_id, 1]))
    assert (refused.status_code, tides.conversation.turns.count()) == (302, 1)
    assert "The steps of this task are declared" in page(as_alice, tides).text


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
