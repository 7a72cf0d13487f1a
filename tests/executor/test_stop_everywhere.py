"""Stop: within two seconds wherever a task is, what was said and used so far is kept, and the next message works."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from functools import partial

import pytest
from django.contrib.auth.models import Group

from executor import actions, queue
from executor.claim import claim
from executor.core.errors import LLMError
from executor.history import OUTCOME_UNKNOWN
from executor.lease import LeaseLost
from executor.models import Status, Step, Task
from executor.threads import Threads
from executor.worker import WorkerProcess
from tests.executor.conftest import MakeScript, MakeTask, claimed, worker_dies
from tests.executor.scripted import Hold, call, say
from tests.executor.test_every_model import MODELS, agent, calculate
from tests.executor.test_run import execute
from tests.executor.test_worker import StartWorker, eventually, is_, message_is_lost
from tests.fakes.fixtures import _model_server, model_server
from tests.fakes.model_server import ModelServer
from tests.fakes.script import Call, Turn

__all__ = ["_model_server", "model_server"]

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_server")]

Functions = Callable[[], list[str]]
SOON = 2.0


@pytest.fixture
def start_worker(transactional_db: None, _database_threads: None) -> Iterator[StartWorker]:
    with ExitStack() as started:
        yield lambda capacity=8: started.enter_context(closing(WorkerProcess(capacity)))


def steps(task: Task) -> list[tuple[str, str]]:
    return [(step.name or step.kind, step.status) for step in task.steps.order_by("seq")]


def stop(task: Task) -> float:
    """Seconds until it was stopped."""
    began = time.monotonic()
    assert actions.stop(task)
    eventually(is_(task, Status.STOPPED))
    return time.monotonic() - began


# --- wherever it is --------------------------------------------------------------------------------------------------


def test_while_the_model_speaks(make_task: MakeTask, scripted: MakeScript, start_worker: StartWorker) -> None:
    silent = Hold()
    task = make_task("Go.", scripted(say("Half a sentence", silent)))
    message_is_lost(task)
    start_worker()
    silent.wait_until_reached()
    assert stop(task) < SOON
    assert task.steps.get().text == "Half a sentence"
    task.refresh_from_db()
    assert (task.unpriced_calls, task.owner) == (1, "")


@pytest.mark.parametrize(("name", "outcome"), [("wait", "cancelled"), ("endless", "unknown"), ("hang", "cancelled")])
def test_in_a_function_that_never_ends(
    make_task: MakeTask,
    scripted: MakeScript,
    functions: Functions,
    start_worker: StartWorker,
    name: str,
    outcome: str,
) -> None:
    arguments = {"seconds": 3600.0} if name == "wait" else {}
    task = make_task("Go.", scripted(say("I begin.", call(name, **arguments), call("look", topic="tides"))))
    message_is_lost(task)
    start_worker()
    eventually(lambda: sorted(functions()) == sorted([name, "look"]))
    eventually(lambda: task.steps.filter(name="look", status="done").exists())
    assert stop(task) < SOON
    assert steps(task) == [("model", "done"), (name, outcome), ("look", "done")]
    task.refresh_from_db()
    assert (task.input_tokens, task.output_tokens) == (10, 2)


def test_in_a_transactional_function_all_of_it_stands_or_nothing(
    make_task: MakeTask, scripted: MakeScript, functions: Functions, start_worker: StartWorker
) -> None:
    task = make_task("Go.", scripted(say(call("keep_slowly", what="fish")), say(Hold())))
    message_is_lost(task)
    start_worker()
    eventually(lambda: functions() == ["keep_slowly"])
    assert stop(task) < SOON
    assert steps(task) == [("model", "done"), ("keep_slowly", "done"), ("model", "cancelled")]
    assert Group.objects.filter(name="fish").exists()


def test_while_it_waits_for_a_person_and_the_line_goes_on(
    make_task: MakeTask, scripted: MakeScript, functions: Functions, start_worker: StartWorker
) -> None:
    task = make_task("Go.", scripted(say(call("order", text="tea"))))
    after = make_task("And then?", script := scripted(say("Nothing.")), previous=task)
    worker = start_worker()
    worker.execute(task.pk)
    assert is_(task, Status.WAITING)()
    assert stop(task) < SOON
    eventually(is_(after, Status.DONE))
    told = script.asked[0]
    assert [message.role for message in told] == ["user", "assistant", "tool", "user"]
    assert functions() == []


def test_while_it_is_put_off(make_task: MakeTask, scripted: MakeScript, start_worker: StartWorker) -> None:
    task = make_task("Go.", scripted(say(LLMError("overloaded", "Busy.", retry_after=3000))))
    start_worker().execute(task.pk)
    assert is_(task, Status.RETRYING)()
    assert stop(task) < SOON


def test_while_it_is_queued_and_nobody_begins_it(make_task: MakeTask, scripted: MakeScript) -> None:
    task = make_task("Go.", scripted())
    assert stop(task) < SOON
    assert claim(task.pk, "somebody") is None


def test_in_the_line_without_letting_those_behind_it_begin_too_early(make_task: MakeTask) -> None:
    first = make_task("One.")
    journal = claimed(first)
    second = make_task("Two.", previous=first)
    third = make_task("Three.", previous=second)
    assert stop(second) < SOON
    assert claim(third.pk, "somebody") is None
    journal.end(Status.DONE)
    assert claim(third.pk, "somebody") is not None


def test_while_nobody_works_on_it_any_more_also_without_a_worker(make_task: MakeTask, scripted: MakeScript) -> None:
    task = make_task("Go.", scripted())
    journal = claimed(task)
    seq = journal.begin_model()
    journal.save_partial(seq, "Half a sentence", "")
    after = make_task("And then?", previous=task)
    worker_dies(task)
    assert stop(task) < SOON
    step = task.steps.get()
    assert (step.status, step.text) == ("cancelled", "Half a sentence")
    task.refresh_from_db()
    assert (task.stop_reason, task.unpriced_calls) == ("person", 1)
    with pytest.raises(LeaseLost):
        journal.save_partial(seq, "Late", "")
    assert claim(after.pk, "somebody") is not None


def test_while_the_lease_of_a_worker_that_was_killed_on_this_machine_still_runs(make_task: MakeTask) -> None:
    task = make_task("Go.")
    name = [sys.executable, "-c", "from executor.owner import owner_name; print(owner_name())"]
    claimed(task, subprocess.run(name, capture_output=True, text=True, check=True).stdout.strip())
    assert stop(task) < SOON


def test_a_second_time_when_its_worker_died_while_it_was_to_stop(make_task: MakeTask) -> None:
    task = make_task("Go.")
    claimed(task)
    assert actions.stop(task)
    assert task.status == Status.STOPPING
    assert not actions.stop(task)
    worker_dies(task)
    assert actions.stop(task)
    assert task.status == Status.STOPPED


def test_what_is_queued_stays_and_goes_on(make_task: MakeTask, scripted: MakeScript, start_worker: StartWorker) -> None:
    silent = Hold()
    task = make_task("Go.", scripted(say("Half a sentence", silent)))
    second = make_task("Two?", script := scripted(say("Two.")), previous=task)
    third = make_task("Three?", scripted(say("Three.")), previous=second)
    message_is_lost(task)
    start_worker()
    silent.wait_until_reached()
    assert queue.steer(third)
    assert stop(task) < SOON
    eventually(is_(second, Status.DONE))
    assert [message.text for message in script.asked[0]] == ["Go.", "Half a sentence", "Three?", "Three.", "Two?"]


@pytest.mark.parametrize("provider", MODELS)
def test_every_provider_goes_on_after_a_stop_in_a_function_and_in_an_answer(
    provider: str, make_task: MakeTask, model_server: ModelServer, functions: Functions, start_worker: StartWorker
) -> None:
    model_server.script(
        [
            Turn(reasoning="Two.", text="I begin. ", calls=(Call("endless", {}), calculate("6*7"))),
            Turn(" ".join(["word"] * 500), rate=20),
            Turn(reasoning="So.", text="Here I am."),
        ]
    )
    settings = {**agent(provider, model_server), "functions": ["calculate", "endless"]}
    start_worker()
    first = make_task("Go.", approvals={"*": "never"}, **settings)
    message_is_lost(first)
    eventually(lambda: functions() == ["endless"] and first.steps.filter(name="calculate", status="done").exists())
    assert stop(first) < SOON
    second = make_task("And then?", previous=first, **settings)
    message_is_lost(second)
    eventually(lambda: Step.objects.filter(task=second, text__contains="word").exists())
    assert stop(second) < SOON
    third = make_task("Are you there?", previous=second, **settings)
    execute(claimed(third))
    third.refresh_from_db()
    assert (third.status, third.error) == (Status.DONE, "")
    asked = json.dumps(model_server.asked[-1].body)
    assert OUTCOME_UNKNOWN[:40] in asked
    assert "word word" in asked
    assert not model_server.left_over


# --- threads that never come back ------------------------------------------------------------------------------------


class Endless:
    """A function that returns when the test says so."""

    def __init__(self) -> None:
        self.running = 0
        self.over = threading.Event()

    def __call__(self) -> str:
        self.running += 1
        self.over.wait(20)
        return "over"


def test_functions_that_never_return_do_not_use_up_the_threads(caplog: pytest.LogCaptureFixture) -> None:
    endless = Endless()

    async def scenario() -> None:
        threads = Threads(size=2, given_up_at_most=4)
        for given_up in range(1, 5):
            await give_up(threads, endless)
            assert threads.given_up == given_up
        assert await asyncio.wait_for(threads.run(lambda: "still room"), 5) == "still room"
        assert await asyncio.gather(*(threads.run(partial(abs, n)) for n in range(20))) == list(range(20))
        endless.over.set()
        await until(lambda: threads.given_up == 0)

    asyncio.run(scenario())
    assert "A function was given up and still runs; 4 do by now" in caplog.text


def test_beyond_the_bound_calls_wait_until_one_returns(caplog: pytest.LogCaptureFixture) -> None:
    endless = Endless()

    async def scenario() -> None:
        threads = Threads(size=1, given_up_at_most=1)
        await give_up(threads, endless)
        await give_up(threads, endless)
        waiting = asyncio.create_task(threads.run(lambda: "at last"))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        endless.over.set()
        assert await asyncio.wait_for(waiting, 5) == "at last"
        await until(lambda: threads.given_up == 0)
        assert await asyncio.wait_for(threads.run(lambda: "again"), 5) == "again"

    asyncio.run(scenario())
    assert "2 functions were given up and still run; others wait until one returns" in caplog.text


def test_no_more_run_side_by_side_than_there_are_threads() -> None:
    endless = Endless()

    async def scenario() -> None:
        threads = Threads(size=3)
        running = [asyncio.create_task(threads.run(endless)) for _ in range(6)]
        await until(lambda: endless.running == 3)
        await asyncio.sleep(0.1)
        assert endless.running == 3
        endless.over.set()
        assert await asyncio.gather(*running) == ["over"] * 6

    asyncio.run(scenario())


def test_what_a_function_raises_in_its_thread_comes_back() -> None:
    def stop_iteration() -> None:
        raise StopIteration("no more")

    async def scenario() -> None:
        threads = Threads(size=1)
        for _ in range(2):
            with pytest.raises(ZeroDivisionError):
                await threads.run(lambda: 1 / 0)
            with pytest.raises(RuntimeError, match="no more"):
                await threads.run(stop_iteration)

    asyncio.run(scenario())


async def give_up(threads: Threads, endless: Endless) -> None:
    before = endless.running
    running = asyncio.create_task(threads.run(endless))
    await until(lambda: endless.running > before)
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
