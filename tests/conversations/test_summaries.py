"""A summary on the pages of a task: as a step with its tokens, and in the document, with what it stands for."""

from __future__ import annotations

import json

import pytest
from django.test import Client
from django.urls import reverse

from conversations import actions
from conversations.models import Turn
from conversations.summaries import LEFT_OUT, SUMMARISED
from executor.core.errors import LLMError
from executor.core.events import Finished
from executor.core.messages import Usage
from executor.journal import Covers
from executor.models import Agent, Status, Step
from tests.conversations.page import Page
from tests.conversations.worker import answer, hold, message
from users.models import User

pytestmark = pytest.mark.django_db(transaction=True)


def summarised(user: User, agent: Agent, error: LLMError | None = None) -> tuple[Turn, Turn]:
    """Two turns; before the second was answered, the first was summarised, or left out."""
    first = actions.send(user, agent, "What are tides?")
    answer(first.task, "Twice a day.")
    second = actions.send(user, agent, "And now?", first.conversation)
    journal = hold(second.task)
    seq, covers = journal.begin_model(4_000, Step.Kind.COMPACTION), Covers(first.task_id, 1)
    if error:
        journal.leave_out(seq, error, covers, "")
    else:
        short = Finished(message("They like tides."), "stop", Usage(900, 10), model="small")
        journal.finish_compaction(seq, short, covers)
    journal.end(Status.DONE)
    return first, second


def test_the_page_of_the_task_has_it_as_a_step_with_its_tokens(client: Client, alice: User, demo: Agent) -> None:
    _, turn = summarised(alice, demo)
    client.force_login(alice)
    page = Page(client.get(reverse("task", args=[turn.task_id])).content.decode())
    step = page.text(f"#step-{turn.task_id}-1")
    assert step.startswith(SUMMARISED)
    assert "They like tides." in step
    assert "910 tokens" in step
    assert "Checkpoint" in step


def test_the_document_says_what_it_stands_for(client: Client, alice: User, demo: Agent) -> None:
    first, turn = summarised(alice, demo)
    client.force_login(alice)
    found = json.loads(client.get(reverse("task_json", args=[turn.task_id])).content)["steps"][0]
    assert (found["kind"], found["text"], found["model"]) == ("compaction", "They like tides.", "small")
    assert found["covers"] == {"task": str(first.task_id), "seq": 1}
    assert found["usage"]["input_tokens"] == 900


def test_where_there_is_none_the_page_says_what_was_left_out_and_why(client: Client, alice: User, demo: Agent) -> None:
    _, turn = summarised(alice, demo, LLMError("content_filter", "Not that."))
    client.force_login(alice)
    page = Page(client.get(turn.conversation.get_absolute_url()).content.decode())
    line = page.text(f"#summarised-{turn.task_id}")
    assert line.startswith(LEFT_OUT)
    assert "no summary: Not that." in line
    assert "What are tides?" in page.text("#turns"), "It is on the page as it was."
