"""What happens at the same moment happens once, and in an order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from itertools import pairwise
from threading import Barrier
from typing import Any

import pytest
from django.db import OperationalError, connections
from django.db.models.signals import pre_delete
from django.dispatch import Signal
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from conversations import actions
from conversations.models import Conversation, Turn
from executor.models import Agent, Status, Task
from tests.conversations.worker import hold
from users.models import User

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_server")]

CLICKS = 4


def at_once(*calls: Callable[[], Any]) -> list[Any]:
    """Make `calls` in threads that begin together. Returns what they return."""
    barrier = Barrier(len(calls), timeout=10)

    def run(call: Callable[[], Any]) -> Any:
        barrier.wait()
        try:
            return call()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(run, calls))


def clients(person: User, count: int = CLICKS) -> list[Client]:
    found = [Client() for _ in range(count)]
    for client in found:
        client.force_login(person)
    return found


@pytest.mark.usefixtures("demo")
def test_a_double_click_makes_one_conversation(alice: User) -> None:
    said = {"text": "Once", "key": "k"}
    answers = at_once(*(lambda c=c: c.post(reverse("send_new"), said) for c in clients(alice)))
    assert {answer.status_code for answer in answers} == {302}
    assert len({answer.headers["Location"] for answer in answers}) == 1
    assert (Conversation.objects.count(), Turn.objects.count(), Task.objects.count()) == (1, 1, 1)


def test_messages_sent_at_once_follow_each_other(alice: User, demo: Agent) -> None:
    first = actions.send(alice, demo, "First")
    url = reverse("send", args=[first.conversation_id])
    at_once(*(lambda c=c, n=n: c.post(url, {"text": str(n)}) for n, c in enumerate(clients(alice))))
    turns = list(first.conversation.turns.order_by("position").select_related("task"))
    assert [turn.position for turn in turns] == list(range(1, CLICKS + 2))
    for before, after in pairwise(turns):
        assert (after.parent_id, after.task.previous_id) == (before.pk, before.task_id)


def test_a_stop_and_an_end_at_once_leave_one_of_them(alice: User, demo: Agent) -> None:
    turn = actions.send(alice, demo, "First")
    journal = hold(turn.task)
    (client,) = clients(alice, 1)
    stop = reverse("stop", args=[turn.task_id])
    answers = at_once(lambda: client.post(stop), lambda: journal.end(Status.DONE))
    assert answers[0].status_code == 302
    turn.task.refresh_from_db()
    assert not turn.task.is_active


def test_who_takes_a_conversation_out_of_the_bin_while_it_is_emptied_keeps_it(alice: User, demo: Agent) -> None:
    long_ago = timezone.now() - timedelta(days=actions.BIN_DAYS + 1)
    turns = [actions.send(alice, demo, str(number)) for number in range(3)]
    Conversation.objects.update(deleted_at=long_ago)

    def restore_the_others(instance: Conversation, **_: Any) -> None:
        for turn in turns:
            if turn.conversation_id != instance.pk:
                Conversation.objects.filter(pk=turn.conversation_id).update(deleted_at=None)

    with connected(pre_delete, restore_the_others):
        assert actions.empty_bin() == 1
    assert (Conversation.objects.count(), Turn.objects.count(), Task.objects.count()) == (2, 2, 2)


def test_a_conversation_that_cannot_be_removed_does_not_keep_the_others(alice: User, demo: Agent) -> None:
    stuck, *_ = [actions.send(alice, demo, str(number)) for number in range(3)]
    Conversation.objects.update(deleted_at=timezone.now() - timedelta(days=actions.BIN_DAYS + 1))

    def fail(instance: Conversation, **_: Any) -> None:
        if instance.pk == stuck.conversation_id:
            raise OperationalError("No.")

    with connected(pre_delete, fail):
        assert actions.empty_bin() == 2
    assert (Conversation.objects.get().pk, Task.objects.get().pk) == (stuck.conversation_id, stuck.task_id)
    assert actions.empty_bin() == 1


@contextmanager
def connected(signal: Signal, receiver: Callable[..., None]) -> Iterator[None]:
    signal.connect(receiver, sender=Conversation)
    try:
        yield
    finally:
        signal.disconnect(receiver, sender=Conversation)
