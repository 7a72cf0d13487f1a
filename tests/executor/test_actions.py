"""What people do with tasks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import IntegrityError, connection

from executor import actions
from executor.actions import NotNow
from executor.claim import claim
from executor.core.errors import LLMError, TaskExecutionError
from executor.core.messages import user as user_message
from executor.models import AgentVersion, Status, Task
from tests.executor.conftest import MakeTask, claimed, in_threads
from tests.executor.scripted import call
from tests.executor.test_journal import answer
from users.models import User

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_server")]


def test_a_message_that_is_sent_many_times_at_once_becomes_one_task(make_task: MakeTask) -> None:
    earlier = make_task()

    def send(_: int) -> tuple[object, bool]:
        task, is_new = actions.create_task(earlier.user, earlier.agent_version, user_message("Hi"), None, "key-1")
        return task.pk, is_new

    sent = in_threads(8, send)
    assert len({pk for pk, _ in sent}) == 1
    assert sum(is_new for _, is_new in sent) == 1
    assert Task.objects.filter(idempotency_key="key-1").count() == 1


def test_a_key_is_a_persons_own_and_messages_without_one_are_all_new(make_task: MakeTask, bob: User) -> None:
    earlier = make_task()
    alice, version = earlier.user, earlier.agent_version
    mine, _ = actions.create_task(alice, version, user_message("Hi"), None, "key-1")
    theirs, is_new = actions.create_task(bob, version, user_message("Hi"), None, "key-1")
    assert is_new
    assert theirs != mine
    assert all(actions.create_task(alice, version, user_message("Hi"), None, key)[1] for key in (None, None, "", ""))


def test_a_task_that_cannot_be_stored_is_not_mistaken_for_another_one(make_task: MakeTask) -> None:
    earlier = make_task()
    with pytest.raises(IntegrityError):
        actions.create_task(earlier.user, AgentVersion(pk=10**9), user_message("Hi"))


def test_words_that_no_database_stores_are_made_storable(make_task: MakeTask) -> None:
    earlier = make_task()
    task, _ = actions.create_task(earlier.user, earlier.agent_version, user_message("a\x00b\ud800c"))
    task.refresh_from_db()
    assert task.text == "a\ufffdb?c"


def test_a_queued_task_is_stopped_at_once_and_the_next_one_may_begin(make_task: MakeTask) -> None:
    task = make_task()
    follower = make_task(previous=task)
    assert actions.stop(task)
    assert (task.status, task.stop_reason) == (Status.STOPPED, "person")
    assert task.ended_at
    assert claim(task.pk, "somebody") is None
    assert claim(follower.pk, "somebody")


@pytest.mark.parametrize("status", [Status.WAITING, Status.RETRYING])
def test_what_nobody_works_on_is_stopped_at_once_and_leaves_nothing_open(make_task: MakeTask, status: Status) -> None:
    task = make_task()
    answer(claimed(task), "", call("send"))
    Task.objects.filter(pk=task.pk).update(status=status, owner="", lease_until=None)
    follower = make_task(previous=task)
    assert actions.stop(task)
    assert (task.status, task.stop_reason) == (Status.STOPPED, "person")
    assert [step.status for step in task.steps.order_by("seq")] == ["done", "cancelled"]
    assert claim(follower.pk, "somebody")


def test_a_running_task_is_asked_to_stop_and_its_worker_ends_it(make_task: MakeTask) -> None:
    task = make_task()
    journal = claimed(task)
    assert actions.stop(task)
    assert task.status == Status.STOPPING
    assert task.stop_requested_at
    assert not actions.stop(task)
    journal.end(Status.STOPPED, stop_reason="person")
    assert not actions.stop(task)


def test_a_stop_is_not_lost_when_the_task_is_given_back_at_that_moment(make_task: MakeTask) -> None:
    task = make_task()
    journal = claimed(task)
    given_back = False

    def give_back(execute: Callable[..., Any], sql: str, *rest: Any) -> Any:
        nonlocal given_back
        result = execute(sql, *rest)
        if sql.startswith("UPDATE") and not given_back:
            given_back = True
            journal.release()
        return result

    with connection.execute_wrapper(give_back):
        assert actions.stop(task)
    assert given_back
    assert task.status == Status.STOPPED  # Nobody works on it, so nobody need find it first.
    assert not actions.stop(task)


def test_what_is_over_cannot_be_stopped(make_task: MakeTask) -> None:
    task = make_task()
    claimed(task).end(Status.DONE)
    assert not actions.stop(task)
    task.refresh_from_db()
    assert task.status == Status.DONE


def test_a_failed_task_can_be_tried_again_and_goes_on_under_a_new_fence(make_task: MakeTask) -> None:
    task = make_task()
    journal = claimed(task)
    journal.fail_model(journal.begin_model(), LLMError("server", "It broke."), "Half")
    journal.end(Status.FAILED, error=LLMError("server", "It broke."))
    assert actions.retry(task)
    assert (task.status, task.error, task.error_kind, task.ended_at) == ("queued", "", "", None)
    again = claimed(task)
    assert again.fence == 2
    assert again.elapsed < 5
    assert again.begin_model() == 2


def test_a_failed_task_is_not_tried_again_while_the_one_after_it_is_at_work(make_task: MakeTask) -> None:
    task = make_task()
    after_it = make_task(previous=task)
    claimed(task).end(Status.FAILED, error=TaskExecutionError("No."))
    with pytest.raises(NotNow, match="is being answered"):
        actions.retry(task)
    journal = claimed(after_it)
    with pytest.raises(NotNow, match="is being answered"):
        actions.retry(task)
    journal.end(Status.DONE)
    assert actions.retry(task)


@pytest.mark.parametrize(
    ("status", "reason"), [(Status.DONE, ""), (Status.STOPPED, "iterations"), (Status.STOPPED, "administrator")]
)
def test_what_neither_failed_nor_was_stopped_by_its_person_cannot_be_tried_again(
    make_task: MakeTask, status: Status, reason: str
) -> None:
    task = make_task()
    assert not actions.retry(task)
    claimed(task).end(status, stop_reason=reason)
    assert not actions.retry(task)


@pytest.mark.parametrize("put_off", [False, True])
def test_what_its_person_stopped_can_be_tried_again(make_task: MakeTask, put_off: bool) -> None:
    task = make_task()
    journal = claimed(task)
    seq = journal.begin_model()
    if put_off:
        busy = LLMError("rate_limit", "Slow down.")
        journal.fail_model(seq, busy, "")
        journal.postpone(busy, 300)
        assert actions.stop(task)
    else:
        assert actions.stop(task)
        journal.end(Status.STOPPED, partial="Half an")
    task.refresh_from_db()
    assert actions.retry(task)
    assert (task.status, task.error, task.stop_reason, task.stop_requested_at) == ("queued", "", "", None)
    again = claimed(task)
    assert again.begin_model() == 2


def test_what_is_tried_again_may_go_on_with_another_agent(make_task: MakeTask) -> None:
    task, other = make_task(), make_task().agent_version
    other = AgentVersion.objects.create(agent=other.agent, number=99, config={**other.config, "title": "Other"})
    claimed(task).end(Status.FAILED, error=TaskExecutionError("No."))
    assert actions.retry(task, other)
    assert task.agent_version == other


def test_a_task_that_needs_attention_can_be_tried_again(make_task: MakeTask) -> None:
    task = make_task()
    claimed(task).end(Status.NEEDS_ATTENTION, error=TaskExecutionError("Again and again."))
    assert actions.retry(task)
    assert task.stalled_attempts == 0
