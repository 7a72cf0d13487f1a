"""Messages that go into the task at work: when they come in, what the model is told, that none is lost or doubled."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing

import pytest
from django.db import connections

from executor import actions, decisions, queue
from executor.claim import claim
from executor.journal import Journal
from executor.lease import LeaseLost
from executor.models import Status, Task
from executor.run import Run
from executor.told import transcript
from executor.worker import WorkerProcess
from tests.executor.conftest import MakeScript, MakeTask, claimed, in_threads, taken_over
from tests.executor.scripted import Hold, Script, call, say
from tests.executor.test_every_model import MODELS, agent, calculate
from tests.executor.test_run import execute, reach, until
from tests.executor.test_worker import StartWorker, eventually, is_, message_is_lost
from tests.fakes.fixtures import _model_server, model_server
from tests.fakes.model_server import ModelServer
from tests.fakes.script import Turn

__all__ = ["_model_server", "model_server"]

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_server")]

Functions = Callable[[], list[str]]


def said(script: Script, time: int = -1) -> list[tuple[str, str]]:
    """What the model was told, that time."""
    return [
        (message.role, message.text or "".join(result.content for result in message.tool_results))
        for message in script.asked[time]
    ]


def kinds(task: Task) -> list[str]:
    return [step.kind for step in task.steps.order_by("seq")]


def exists(task: Task) -> bool:
    return Task.objects.filter(pk=task.pk).exists()


@pytest.fixture
def start_worker(transactional_db: None, _database_threads: None) -> Iterator[StartWorker]:
    with ExitStack() as started:
        yield lambda capacity=8: started.enter_context(closing(WorkerProcess(capacity)))


# --- into the task at work -------------------------------------------------------------------------------------------


def test_a_message_goes_in_before_the_next_question_and_after_all_results(
    make_task: MakeTask, scripted: MakeScript, functions: Functions
) -> None:
    silent = Hold()
    calls = call("look", topic="tides"), call("look", topic="moons")
    script = scripted(say("Let me look.", silent, *calls), say("In short: twice a day."))
    task = make_task("Go.", script)
    more = make_task("Keep it short.", previous=task)
    after = make_task("And then?", previous=more)

    async def meanwhile(run: Run) -> None:
        await reach(silent)
        run.steer()
        silent.released.set()

    assert queue.steer(more)
    execute(claimed(task), meanwhile)
    task.refresh_from_db()
    assert task.status == Status.DONE
    assert said(script) == [
        ("user", "Go."),
        ("assistant", "Let me look."),
        ("tool", "All about tides.All about moons."),
        ("user", "Keep it short."),
    ]
    assert kinds(task) == ["model", "tool", "tool", "message", "model"]
    assert [step.seq for step in task.steps.order_by("seq")] == [1, 2, 3, 4, 5]
    assert task.head_seq == 5
    assert not exists(more)
    after.refresh_from_db()
    assert after.previous_id == task.pk


def test_later_tasks_are_told_the_message_where_it_came_in(
    make_task: MakeTask, scripted: MakeScript, functions: Functions
) -> None:
    silent = Hold()
    task = make_task("Go.", scripted(say(silent, call("look", topic="tides")), say("Twice a day.")))
    more = make_task("Keep it short.", previous=task)
    queue.steer(more)

    async def meanwhile(run: Run) -> None:
        await reach(silent)
        run.steer()
        silent.released.set()

    execute(claimed(task), meanwhile)
    told = transcript(make_task("And then?", previous=task), "")
    assert [(message.role, message.text) for message in told] == [
        ("user", "Go."),
        ("assistant", ""),
        ("tool", ""),
        ("user", "Keep it short."),
        ("assistant", "Twice a day."),
        ("user", "And then?"),
    ]


def test_several_messages_go_in_together_in_the_order_in_which_they_were_let_go_first(
    make_task: MakeTask, scripted: MakeScript
) -> None:
    script = scripted(say("Yes."))
    task = make_task("Go.", script)
    one = make_task("One.", previous=task)
    two = make_task("Two.", previous=one)
    three = make_task("Three.", previous=two)
    assert queue.steer(three)
    assert queue.steer(two)
    run_with_messages(task)
    assert said(script) == [("user", "Go."), ("user", "Three."), ("user", "Two.")]
    one.refresh_from_db()
    assert (one.status, one.previous_id) == (Status.QUEUED, task.pk)


def test_a_message_that_was_taken_back_at_the_last_moment_is_not_told(
    make_task: MakeTask, scripted: MakeScript
) -> None:
    script = scripted(say("Yes."))
    task = make_task("Go.", script)
    more = make_task("Never mind.", previous=task)
    queue.steer(more)
    assert queue.take_out(more)
    run_with_messages(task)
    assert said(script) == [("user", "Go.")]
    assert kinds(task) == ["model"]


def test_a_task_that_ends_before_leaves_the_message_to_be_answered_by_itself(
    make_task: MakeTask, scripted: MakeScript
) -> None:
    silent = Hold()
    task = make_task("Go.", scripted(say("Done", silent)))
    more = make_task("And this?", script := scripted(say("This too.")), previous=task)

    async def meanwhile(run: Run) -> None:
        await reach(silent)
        queue_steer(more)
        run.steer()
        silent.released.set()

    assert execute(claimed(task), meanwhile) == [more.pk]
    execute(claimed(more))
    more.refresh_from_db()
    assert more.status == Status.DONE
    assert said(script) == [("user", "Go."), ("assistant", "Done"), ("user", "And this?")]


def test_a_task_that_is_being_stopped_takes_nothing_in(make_task: MakeTask) -> None:
    task = make_task("Go.")
    journal = claimed(task)
    more = make_task("And this?", previous=task)
    queue.steer(more)
    actions.stop(task)
    assert journal.take_in() is None
    assert exists(more)
    journal.end(Status.STOPPED)
    assert claim(more.pk, "somebody") is not None


def test_a_worker_that_lost_the_task_takes_nothing_in(make_task: MakeTask) -> None:
    task = make_task("Go.")
    old = claimed(task)
    more = make_task("And this?", previous=task)
    queue.steer(more)
    newer = taken_over(task)
    with pytest.raises(LeaseLost):
        old.take_in()
    assert exists(more)
    assert not task.steps.exists()
    assert newer.take_in() == 2
    assert kinds(task) == ["message", "model"]


def test_a_message_is_told_after_a_crash_right_behind_the_moment_it_came_in(
    make_task: MakeTask, scripted: MakeScript
) -> None:
    script = scripted(say("Yes."))
    task = make_task("Go.", script)
    journal = claimed(task)
    more = make_task("And this?", previous=task)
    queue.steer(more)
    assert journal.take_in() == 2
    execute(taken_over(task))
    assert said(script) == [("user", "Go."), ("user", "And this?")]
    assert [(step.kind, step.status) for step in task.steps.order_by("seq")] == [
        ("message", "done"),
        ("model", "failed"),
        ("model", "done"),
    ]


def test_a_task_that_waits_for_a_decision_takes_the_message_in_when_it_goes_on(
    make_task: MakeTask, scripted: MakeScript, functions: Functions
) -> None:
    order = call("order", text="tea")
    script = scripted(say(order), say("Ordered."))
    task = make_task("Go.", script)
    execute(claimed(task))
    more = make_task("With milk.", previous=task)
    assert queue.steer(more)
    assert claim(more.pk, "somebody") is None
    decisions.allow(task.decisions.get(), task.user)
    execute(claimed(task))
    assert said(script) == [("user", "Go."), ("assistant", ""), ("tool", "ordered tea"), ("user", "With milk.")]
    assert not exists(more)


def test_the_worker_hears_of_a_message_while_a_function_runs(
    make_task: MakeTask, scripted: MakeScript, functions: Functions, start_worker: StartWorker
) -> None:
    script = scripted(say(call("wait", seconds=1.5)), say("Yes."))
    task = make_task("Go.", script)
    message_is_lost(task)
    start_worker()
    eventually(lambda: functions() == ["wait"])
    more = make_task("And this?", previous=task)
    queue.steer(more)
    eventually(is_(task, Status.DONE))
    assert said(script)[-1] == ("user", "And this?")
    assert not exists(more)


@pytest.mark.parametrize("provider", MODELS)
def test_every_provider_accepts_a_message_after_results(
    provider: str, make_task: MakeTask, model_server: ModelServer
) -> None:
    model_server.script(
        [
            Turn(reasoning="Two.", text="I begin. ", calls=(calculate("6*7"), calculate("1+1")), first_token=1),
            Turn(reasoning="So.", text="42 and 2, in short."),
        ]
    )
    task = make_task("Go.", functions=["calculate"], **agent(provider, model_server))
    more = make_task("Keep it short.", previous=task)

    async def meanwhile(run: Run) -> None:
        await until(lambda: bool(model_server.asked))
        queue_steer(more)
        run.steer()

    execute(claimed(task), meanwhile)
    task.refresh_from_db()
    assert (task.status, task.error) == (Status.DONE, "")
    assert len(model_server.asked) == 2
    assert not exists(more)
    question = json.dumps(model_server.asked[-1].body)
    assert question.index("6*7") < question.index("Keep it short.")
    assert not model_server.left_over


# --- the line --------------------------------------------------------------------------------------------------------


def line(*tasks: Task) -> list[object]:
    return [Task.objects.get(pk=task.pk).previous_id for task in tasks]


def test_what_is_taken_out_leaves_the_others_in_order(make_task: MakeTask) -> None:
    first = make_task("One.")
    journal = claimed(first)
    second = make_task("Two.", previous=first)
    third = make_task("Three.", previous=second)
    assert queue.take_out(second)
    assert line(third) == [first.pk]
    assert claim(third.pk, "somebody") is None
    journal.end(Status.DONE)
    assert claim(third.pk, "somebody") is not None


def test_what_was_begun_is_not_taken_out_and_does_not_go_first(make_task: MakeTask) -> None:
    task = make_task("One.")
    after = make_task("Two.", previous=task)
    claimed(task)
    assert not queue.take_out(task)
    assert not queue.steer(task)
    task.refresh_from_db()
    assert (task.status, task.steers) == (Status.RUNNING, False)
    assert line(after) == [task.pk]


@pytest.mark.parametrize("state", [Status.WAITING, Status.RETRYING, Status.DONE, Status.STOPPED])
def test_only_what_is_queued_is_taken_out(make_task: MakeTask, state: Status) -> None:
    task = make_task("One.")
    Task.objects.filter(pk=task.pk).update(status=state)
    assert not queue.take_out(task)
    assert Task.objects.get(pk=task.pk).status == state


def test_what_goes_on_after_a_decision_is_not_taken_out_although_it_is_queued(make_task: MakeTask) -> None:
    task = make_task("One.")
    claimed(task).release()
    assert not queue.take_out(task)
    assert exists(task)


def test_a_message_that_goes_first_moves_in_front_of_those_that_wait(make_task: MakeTask) -> None:
    first = make_task("One.")
    claimed(first)
    second = make_task("Two.", previous=first)
    third = make_task("Three.", previous=second)
    fourth = make_task("Four.", previous=third)
    assert queue.steer(third)
    assert line(third, second, fourth) == [first.pk, third.pk, second.pk]


@pytest.mark.parametrize("verb", [queue.take_out, queue.steer])
def test_of_a_beginning_and_a_change_of_the_line_at_once_one_wins(
    make_task: MakeTask, verb: Callable[[Task], bool]
) -> None:
    for _ in range(8):
        task = make_task("One.")
        after = make_task("Two.", previous=task)

        def begin_or_change(at: int, task: Task = task) -> bool:
            return verb(task) if at else claim(task.pk, "somebody") is not None

        begun, changed = in_threads(2, begin_or_change)
        if verb is queue.take_out:
            assert begun is not changed
            assert exists(task) is begun
            assert line(after) == [task.pk if begun else None]
        else:
            assert begun  # It goes first in any case.


def test_of_two_who_take_a_message_out_one_does(make_task: MakeTask) -> None:
    first = make_task("One.")
    claimed(first)
    second = make_task("Two.", previous=first)
    third = make_task("Three.", previous=second)
    assert sorted(in_threads(4, lambda _: queue.take_out(second))) == [False, False, False, True]
    assert line(third) == [first.pk]


def test_a_message_is_told_or_taken_back_but_never_both(make_task: MakeTask) -> None:
    for _ in range(8):
        task = make_task("One.")
        journal = claimed(task)
        more = make_task("Two.", previous=task)
        queue.steer(more)

        def tell_or_take_back(at: int, journal: Journal = journal, more: Task = more) -> bool:
            return queue.take_out(more) if at else journal.take_in() is not None

        told, taken_back = in_threads(2, tell_or_take_back)
        assert told is not taken_back
        assert kinds(task) == (["message", "model"] if told else [])
        assert not exists(more)


def run_with_messages(task: Task) -> None:
    """One acquisition of a task that is told at once that somebody has something to say to it."""
    journal = claimed(task)

    async def meanwhile(run: Run) -> None:
        run.steer()

    execute(journal, meanwhile)


def queue_steer(task: Task) -> None:
    """From within an event loop."""
    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(in_thread(queue.steer), task).result()


def in_thread(call: Callable[[Task], bool]) -> Callable[[Task], bool]:
    def do(task: Task) -> bool:
        try:
            return call(task)
        finally:
            connections.close_all()

    return do
