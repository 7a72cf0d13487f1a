"""What happened in a task is told once it is on record, and whoever hears it keeps no task waiting."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from django.core.checks import run_checks
from django.db import transaction

from executor import actions, task_events
from executor.core.errors import LLMError
from executor.core.task_events import FunctionCalled, ModelAsked, TaskBegun, TaskEnded, TaskEvent
from executor.lease import LeaseLost
from executor.models import Status
from executor.sub_tasks import give
from executor.task_events import publish, wait_until_told
from tests.executor.conftest import MakeScript, MakeTask, claimed, taken_over
from tests.executor.scripted import call, say
from tests.executor.test_run import execute

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_server")]

HERE = "tests.executor.test_task_events"
_heard: list[TaskEvent] = []
_may_go_on = threading.Event()


def hear(event: TaskEvent) -> None:
    _heard.append(event)


def stumble(event: TaskEvent) -> None:
    raise RuntimeError("It stumbled.")


def dawdle(event: TaskEvent) -> None:
    assert _may_go_on.wait(30)


@pytest.fixture(autouse=True)
def heard(settings: Any) -> Iterator[list[TaskEvent]]:
    settings.EVENT_HANDLERS = [f"{HERE}.hear"]
    assert wait_until_told(30)
    task_events.handlers.cache_clear()
    _heard.clear()
    yield _heard
    _may_go_on.set()
    assert wait_until_told(30)
    task_events.handlers.cache_clear()


def told() -> list[TaskEvent]:
    assert wait_until_told(30)
    return list(_heard)


def names() -> list[str]:
    return [type(event).__name__ for event in told()]


def test_a_task_tells_what_it_did_in_order_and_nothing_that_was_said(make_task: MakeTask, scripted: MakeScript) -> None:
    task = make_task("Go.", scripted(say("I look.", call("calculate", expression="7 * 6")), say("It is *done*.")))
    execute(claimed(task))
    events = told()
    assert names() == ["TaskBegun", "ModelAsked", "FunctionCalled", "ModelAsked", "TaskEnded"]
    assert {(event.task_id, event.user_id, event.agent) for event in events} == {
        (task.pk, task.user_id, task.agent_version.config["name"])
    }
    begun, asked, called, _, ended = events
    assert isinstance(begun, TaskBegun)
    assert 0 <= begun.waited < 30
    assert isinstance(asked, ModelAsked)
    assert (asked.provider, asked.outcome) == ("scripted", "done")
    assert asked.input_tokens + asked.output_tokens == 12
    assert asked.first_token is not None
    assert isinstance(called, FunctionCalled)
    assert (called.name, called.outcome) == ("calculate", "done")
    assert isinstance(ended, TaskEnded)
    assert (ended.status, ended.reason) == ("done", "")
    assert "7 * 6" not in repr(events)


def test_nothing_is_told_of_tokens(make_task: MakeTask, scripted: MakeScript) -> None:
    execute(claimed(make_task("Go.", scripted(say("word " * 2_000)))))
    assert names() == ["TaskBegun", "ModelAsked", "TaskEnded"]


def test_what_is_not_on_record_did_not_happen(make_task: MakeTask) -> None:
    task = make_task()
    zombie = claimed(task)
    seq = zombie.begin_model()
    taken_over(task)
    told()
    _heard.clear()
    with pytest.raises(LeaseLost):
        zombie.fail_model(seq, LLMError("server", "Late."), "")
    newer = claimed(make_task())
    with transaction.atomic():
        newer.fail_model(newer.begin_model(), LLMError("server", "The database went away."), "")
        transaction.set_rollback(True)
    assert names() == ["TaskBegun"]


def test_why_there_was_no_answer_is_told(make_task: MakeTask) -> None:
    journal = claimed(make_task())
    journal.fail_model(journal.begin_model(), LLMError("overloaded", "Not now."), "")
    journal.begin_model()
    journal.end(Status.FAILED, error=LLMError("server", "No."))
    outcomes = [(event.outcome, event.cost) for event in told() if isinstance(event, ModelAsked)]
    assert outcomes[0] == ("overloaded", Decimal(0))
    assert outcomes[1][0] == "interrupted"
    ended = told()[-1]
    assert isinstance(ended, TaskEnded)
    assert (ended.status, ended.reason) == ("failed", "server")


def test_tasks_that_end_without_a_worker_are_told_as_well(make_task: MakeTask) -> None:
    first = make_task()
    assert actions.stop(first)
    parent = make_task()
    claimed(parent)
    entry = {"agent": parent.agent_version.agent.name, "task": "Do."}  # type: ignore[union-attr]
    give(parent, "call-1", [{"id": "a", "after": [], **entry}, {"id": "b", "after": ["a"], **entry}])
    assert actions.stop(parent.sub_tasks.get(name="a"))
    ended = [(event.task_id, event.status, event.reason) for event in told() if isinstance(event, TaskEnded)]
    below = {task.name: task.pk for task in parent.sub_tasks.all()}
    assert sorted(ended[1:], key=str) == sorted(
        [(below["a"], "stopped", "person"), (below["b"], "stopped", "dependency")], key=str
    )
    assert ended[0] == (first.pk, "stopped", "person")


def test_a_handler_that_raises_disturbs_nobody(
    settings: Any, make_task: MakeTask, scripted: MakeScript, caplog: pytest.LogCaptureFixture
) -> None:
    settings.EVENT_HANDLERS = [f"{HERE}.stumble", f"{HERE}.hear"]
    task = make_task("Go.", scripted(say("Done.")))
    execute(claimed(task))
    assert names() == ["TaskBegun", "ModelAsked", "TaskEnded"]
    task.refresh_from_db()
    assert task.status == Status.DONE
    assert caplog.text.count("RuntimeError: It stumbled.") == 3


def test_a_slow_handler_keeps_no_task_waiting(settings: Any, make_task: MakeTask, scripted: MakeScript) -> None:
    settings.EVENT_HANDLERS = [f"{HERE}.dawdle", f"{HERE}.hear"]
    _may_go_on.clear()
    task = make_task("Go.", scripted(say("Done.")))
    execute(claimed(task))
    task.refresh_from_db()
    assert task.status == Status.DONE
    assert _heard == []
    _may_go_on.set()
    assert names() == ["TaskBegun", "ModelAsked", "TaskEnded"]


def test_more_than_can_be_told_is_dropped_and_said_once(
    settings: Any, make_task: MakeTask, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    settings.EVENT_HANDLERS = [f"{HERE}.dawdle", f"{HERE}.hear"]
    _may_go_on.clear()
    monkeypatch.setattr(task_events._waiting, "maxsize", 5)
    task_events._too_many.cache_clear()
    task = make_task()
    event = task_events.event_of(TaskBegun, task, task.agent_version.agent_config(), waited=0.1)
    for _ in range(20):
        publish(event)
    _may_go_on.set()
    assert 5 <= len(told()) < 20
    assert caplog.text.count("Event handlers are too slow") == 1


def test_a_handler_that_cannot_be_used_is_told_by_the_check_and_left_out(settings: Any) -> None:
    settings.EVENT_HANDLERS = ["nowhere.hear", f"{HERE}.HERE", f"{HERE}.hear"]
    said = [warning.msg for warning in run_checks() if warning.id == "executor.W005"]
    assert said == [
        "EVENT_HANDLERS: nowhere.hear cannot be imported: No module named 'nowhere'",
        f"EVENT_HANDLERS: {HERE}.HERE is no function.",
    ]
    assert task_events.handlers()[1:] == (hear,)
