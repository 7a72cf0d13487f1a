"""Conversations in Django admin: for reviewers only, and each look on record."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.db import connection
from django.db.models import RestrictedError
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from conversations import actions
from conversations.admin import TURNS_SHOWN
from conversations.models import Conversation, Turn
from executor.models import Agent, ReviewLog, Task
from tests.conftest import make_user
from tests.conversations.worker import answer, fail
from users.models import User

LIST = "admin:conversations_conversation_changelist"


def log_in(user: User, *permissions: str) -> Client:
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def as_reviewer(db: None) -> Client:
    return log_in(make_user("rita", is_staff=True), "view_conversation", "review_conversation")


@pytest.fixture
def as_helper(db: None) -> Client:
    """May see that there are conversations."""
    return log_in(make_user("helper", is_staff=True), "view_conversation")


def page_of(conversation: Conversation) -> str:
    return reverse("admin:conversations_conversation_change", args=[conversation.pk])


def text(client: Client, url: str, **query: Any) -> str:
    response = client.get(url, query)
    assert response.status_code == 200, response
    return response.content.decode()


def test_a_reviewer_reads_what_was_said_and_what_was_answered(as_reviewer: Client, turn: Turn) -> None:
    shown = text(as_reviewer, page_of(turn.conversation))
    assert "Hello" in shown
    assert "Good <em>morning</em>." in shown
    assert reverse("admin:executor_task_change", args=[turn.task_id]) in shown


def test_each_look_is_on_record(as_reviewer: Client, turn: Turn, alice: User) -> None:
    text(as_reviewer, reverse(LIST))
    text(as_reviewer, page_of(turn.conversation))
    looks = ReviewLog.objects.order_by("id").values_list("reviewer_name", "owner", "what")
    assert list(looks) == [
        ("rita", None, "List of conversations"),
        ("rita", alice.pk, f"Conversation {turn.conversation.pk}"),
    ]


def test_staff_without_the_permission_see_whose_it_is_and_no_word_of_it(as_helper: Client, turn: Turn) -> None:
    shown = text(as_helper, reverse(LIST))
    assert "alice" in shown
    assert "Hello" not in shown
    assert page_of(turn.conversation) not in text(as_helper, reverse(LIST), q="Hello")
    assert as_helper.get(page_of(turn.conversation)).status_code == 403
    assert as_helper.get(reverse(LIST), {"title__startswith": "H"}).status_code == 400
    assert not ReviewLog.objects.exists()


def test_others_are_refused(as_alice: Client, turn: Turn) -> None:
    for url in (reverse(LIST), page_of(turn.conversation)):
        assert as_alice.get(url, follow=True).status_code == 403
        assert Client().get(url).status_code == 302


def test_nobody_changes_or_removes_one(admin_client: Client, turn: Turn) -> None:
    assert admin_client.post(page_of(turn.conversation), {"title": "Mine"}).status_code == 403
    url = reverse("admin:conversations_conversation_delete", args=[turn.conversation.pk])
    assert admin_client.post(url, {"post": "yes"}).status_code == 403
    assert admin_client.get(reverse("admin:conversations_conversation_add")).status_code == 403


@pytest.mark.parametrize("query", ["Hello", "alice"])
def test_a_reviewer_finds_words_and_people(as_reviewer: Client, turn: Turn, query: str) -> None:
    assert page_of(turn.conversation) in text(as_reviewer, reverse(LIST), q=query)
    assert page_of(turn.conversation) not in text(as_reviewer, reverse(LIST), q="nobody-like-that")


def test_a_failure_shows_its_reason_and_what_was_said_stays_text(as_reviewer: Client, alice: User, demo: Agent) -> None:
    turn = actions.send(alice, demo, "<script>alert(1)</script>")
    fail(turn.task, "The <b>server</b> was away.")
    shown = text(as_reviewer, page_of(turn.conversation))
    assert "The &lt;b&gt;server&lt;/b&gt; was away." in shown
    assert "<script>alert" not in shown


def test_a_long_one_shows_its_newest_turns_by_as_many_queries_as_a_short_one(
    as_reviewer: Client, turn: Turn, alice: User, demo: Agent
) -> None:
    text(as_reviewer, page_of(turn.conversation))
    with CaptureQueriesContext(connection) as short:
        text(as_reviewer, page_of(turn.conversation))
    for number in range(TURNS_SHOWN):
        answer(actions.send(alice, demo, f"message-{number}.", turn.conversation).task, "Yes.")
    with CaptureQueriesContext(connection) as long:
        shown = text(as_reviewer, page_of(turn.conversation))
    assert len(long) == len(short)
    assert f"message-{TURNS_SHOWN - 1}." in shown
    assert "Good <em>morning</em>." not in shown


def test_the_list_takes_as_many_queries_for_many_as_for_one(
    as_reviewer: Client, turn: Turn, bob: User, demo: Agent
) -> None:
    text(as_reviewer, reverse(LIST))
    with CaptureQueriesContext(connection) as few:
        text(as_reviewer, reverse(LIST))
    for number in range(9):
        actions.send(bob, Agent.objects.create(name=f"a{number}", title=f"A{number}", provider="demo"), "Hi")
    with CaptureQueriesContext(connection) as many:
        text(as_reviewer, reverse(LIST))
    assert len(many) == len(few)


def test_a_person_is_deleted_with_all_they_said_and_nothing_of_others(
    dora: User, turn: Turn, alice: User, bob: User, demo: Agent
) -> None:
    answer(actions.send(alice, demo, "And again", turn.conversation).task, "Yes.")
    kept = actions.send(bob, demo, "I stay")
    client = Client()
    client.force_login(dora)
    url = reverse("admin:users_user_delete", args=[alice.pk])
    assert "Hello" not in text(client, url)
    assert client.post(url, {"post": "yes"}).status_code == 302
    assert not User.objects.filter(pk=alice.pk).exists()
    assert (Turn.objects.get(), Task.objects.get()) == (kept, kept.task)


def test_a_task_that_answers_a_turn_is_not_deleted_without_it(turn: Turn) -> None:
    with pytest.raises(RestrictedError):
        turn.task.delete()
