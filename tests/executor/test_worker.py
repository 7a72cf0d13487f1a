"""The worker process: its heart, its loop, and what it takes up by itself. Real threads, database and Redis."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import timedelta

import pytest
import redis
from django.conf import settings
from django.db import OperationalError, connections
from django.db.models.functions import Now

from executor import actions
from executor.claim import claim
from executor.core.errors import LLMError
from executor.hints import BELL, wake
from executor.lease import LEASE
from executor.models import Status, Step, Task, Worker
from executor.owner import owner_name
from executor.worker import MESSAGE_LOST_AFTER, WorkerProcess
from tests.executor.conftest import MakeScript, MakeTask, busy_database_threads, claimed, worker_dies
from tests.executor.scripted import Hold, call, say

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_server")]

StartWorker = Callable[..., WorkerProcess]
PATIENCE = 15.0


@pytest.fixture
def start_worker(transactional_db: None, _database_threads: None) -> Iterator[StartWorker]:
    with ExitStack() as started:
        yield lambda capacity=8: started.enter_context(closing(WorkerProcess(capacity)))


def eventually(true: Callable[[], bool]) -> float:
    """Return as soon as `true()` is, with the seconds that it took; fail when it takes longer than PATIENCE."""
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < PATIENCE, "It did not happen."
        time.sleep(0.02)
    return time.monotonic() - began


def is_(task: Task, status: Status) -> Callable[[], bool]:
    return lambda: Task.objects.filter(pk=task.pk, status=status).exists()


def message_is_lost(task: Task) -> None:
    """As far as the rows tell: it has been waiting for long enough."""
    Task.objects.filter(pk=task.pk).update(created_at=Now() - MESSAGE_LOST_AFTER - timedelta(seconds=1))


def message_arrives(worker: WorkerProcess, task: Task) -> threading.Thread:
    """What a thread of Celery does with a message."""

    def execute() -> None:
        worker.execute(task.pk)
        connections.close_all()

    thread = threading.Thread(target=execute)
    thread.start()
    return thread


def test_a_message_has_its_task_done_and_a_second_one_does_no_harm(
    make_task: MakeTask, scripted: MakeScript, start_worker: StartWorker
) -> None:
    task = make_task("Hi.", scripted(say("Hello.")))
    worker = start_worker()
    threads = [message_arrives(worker, task) for _ in range(3)]
    for thread in threads:
        thread.join(PATIENCE)
    task.refresh_from_db()
    assert (task.status, task.attempts) == ("done", 1)


def listeners() -> int:
    with redis.from_url(settings.REDIS_URL) as client:
        return int(client.pubsub_numsub(BELL)[0][1])


def test_the_bell_is_enough_until_the_worker_is_about_to_go(
    make_task: MakeTask, scripted: MakeScript, start_worker: StartWorker
) -> None:
    silent = Hold()
    first, second = make_task("Hi.", scripted(say("Hello."))), make_task("Hi.", scripted(say("Hello.", silent)))
    worker = start_worker()
    eventually(lambda: listeners() == 1)
    wake(first.pk)
    assert eventually(is_(first, Status.DONE)) < MESSAGE_LOST_AFTER.total_seconds() - 1
    wake(second.pk)
    silent.wait_until_reached()
    silent.released.set()
    eventually(is_(second, Status.DONE))
    worker.drain()
    eventually(lambda: listeners() == 0)


def test_a_worker_that_is_full_takes_up_what_it_heard_of_when_it_has_room(
    make_task: MakeTask, scripted: MakeScript, start_worker: StartWorker
) -> None:
    silent = Hold()
    first, second = make_task("Hi.", scripted(say("Hello.", silent))), make_task("Hi.", scripted(say("Hello.")))
    start_worker(capacity=1)
    eventually(lambda: listeners() == 1)
    wake(first.pk)
    silent.wait_until_reached()
    message_is_lost(second)  # As far as its age tells.
    wake(second.pk)
    eventually(lambda: Worker.objects.exists())
    assert Task.objects.get(pk=second.pk).status == Status.QUEUED
    silent.released.set()
    eventually(is_(second, Status.DONE))


def test_of_many_tasks_at_once_the_first_begin_while_others_are_still_to_be_claimed(
    make_task: MakeTask, scripted: MakeScript, start_worker: StartWorker
) -> None:
    tasks = [make_task("Hi.", scripted(say("Hello."))) for _ in range(30)]
    start_worker(capacity=30)
    eventually(lambda: listeners() == 1)
    with redis.from_url(settings.REDIS_URL) as client, client.pipeline() as at_once:
        for task in tasks:
            at_once.publish(BELL, str(task.pk))
        at_once.execute()
    for task in tasks:
        eventually(is_(task, Status.DONE))
    last_claimed = Task.objects.latest("started_at").started_at
    assert Step.objects.filter(started_at__lt=last_claimed).exists()


def test_the_bell_is_heard_again_after_redis_was_away(
    make_task: MakeTask, scripted: MakeScript, start_worker: StartWorker
) -> None:
    task = make_task("Hi.", scripted(say("Hello.")))
    start_worker()
    eventually(lambda: listeners() == 1)
    with redis.from_url(settings.REDIS_URL) as client:
        client.client_kill_filter(_type="pubsub")
    eventually(lambda: listeners() == 0)
    eventually(lambda: listeners() == 1)
    wake(task.pk)
    assert eventually(is_(task, Status.DONE)) < MESSAGE_LOST_AFTER.total_seconds() - 1


def test_a_task_whose_message_was_lost_is_taken_up(
    make_task: MakeTask, scripted: MakeScript, start_worker: StartWorker
) -> None:
    task = make_task("Hi.", scripted(say("Hello.")))
    message_is_lost(task)
    start_worker()
    assert eventually(is_(task, Status.DONE)) < 5


def test_a_task_that_a_worker_gave_back_while_nobody_heard_is_taken_up_at_once(
    make_task: MakeTask, scripted: MakeScript, start_worker: StartWorker
) -> None:
    task = make_task("Hi.", scripted(say("Hello.")))
    claimed(task).release()
    start_worker()
    assert eventually(is_(task, Status.DONE)) < MESSAGE_LOST_AFTER.total_seconds() - 1


def test_a_task_that_lost_the_database_is_taken_up_long_before_its_lease_ends(
    make_task: MakeTask, scripted: MakeScript, start_worker: StartWorker
) -> None:
    task = make_task("Hi.", scripted(say(OperationalError("The server closed the connection.")), say("Hello.")))
    message_is_lost(task)
    start_worker()
    assert eventually(is_(task, Status.DONE)) < LEASE.total_seconds() / 2
    assert [step.status for step in task.steps.order_by("seq")] == ["failed", "done"]


def test_a_task_whose_worker_died_is_taken_up(
    make_task: MakeTask, scripted: MakeScript, start_worker: StartWorker
) -> None:
    task = make_task("Hi.", scripted(say("Hello.")))
    claimed(task).begin_model()
    worker_dies(task)
    start_worker()
    eventually(is_(task, Status.DONE))
    assert [step.status for step in task.steps.order_by("seq")] == ["failed", "done"]


def test_a_task_whose_worker_was_killed_on_this_machine_does_not_wait_for_the_lease(
    make_task: MakeTask, scripted: MakeScript, start_worker: StartWorker
) -> None:
    task = make_task("Hi.", scripted(say("Hello.")))
    dead = [sys.executable, "-c", "from executor.owner import owner_name; print(owner_name())"]
    owner = subprocess.run(dead, capture_output=True, text=True, check=True).stdout.strip()
    assert claim(task.pk, owner)
    connections.close_all()
    start_worker()
    eventually(is_(task, Status.DONE))


def test_a_task_that_somebody_works_on_is_left_alone(make_task: MakeTask, start_worker: StartWorker) -> None:
    held, done_since = make_task(), make_task()
    message_is_lost(held)
    claimed(held)
    message_is_lost(done_since)
    start_worker()
    eventually(is_(done_since, Status.DONE))
    held.refresh_from_db()
    assert (held.owner, held.fence) == ("somebody", 1)


def test_a_stop_reaches_the_running_task_within_two_seconds(
    make_task: MakeTask, scripted: MakeScript, start_worker: StartWorker
) -> None:
    silent = Hold()
    task = make_task("Tell.", scripted(say("Once upon", silent)))
    thread = message_arrives(start_worker(), task)
    silent.wait_until_reached()
    assert actions.stop(task)
    assert eventually(is_(task, Status.STOPPED)) < 2
    thread.join(PATIENCE)
    assert task.steps.get().text == "Once upon"


def test_a_task_that_is_put_off_holds_no_worker_and_is_taken_up_when_it_is_due(
    make_task: MakeTask, scripted: MakeScript, start_worker: StartWorker
) -> None:
    task = make_task("Hi.", scripted(say(LLMError("rate_limit", "Busy.", retry_after=3000)), say("Hello.")))
    other = make_task("Hi.", scripted(say("Hello.")))
    worker = start_worker(capacity=1)
    worker.execute(task.pk)
    assert is_(task, Status.RETRYING)()
    worker.execute(other.pk)
    assert is_(other, Status.DONE)()
    worker.execute(task.pk)  # Whatever a message says.
    assert is_(task, Status.RETRYING)()
    Task.objects.filter(pk=task.pk).update(not_before=Now())
    assert eventually(is_(task, Status.DONE)) < 5


def test_what_a_person_wants_to_have_tried_now_is_tried_at_once(
    make_task: MakeTask, scripted: MakeScript, start_worker: StartWorker
) -> None:
    task = make_task("Hi.", scripted(say(LLMError("overloaded", "Busy.", retry_after=3000)), say("Hello.")))
    worker = start_worker()
    eventually(lambda: listeners() == 1)
    worker.execute(task.pk)
    assert actions.retry(task)
    assert eventually(is_(task, Status.DONE)) < 1


def test_the_task_that_waited_for_another_one_follows_it(
    make_task: MakeTask, scripted: MakeScript, start_worker: StartWorker
) -> None:
    first = make_task("One?", scripted(say("One.")))
    second = make_task("Two?", script := scripted(say("Two.")), previous=first)
    worker = start_worker()
    worker.execute(second.pk)
    assert is_(second, Status.QUEUED)()
    message_is_lost(second)
    worker.execute(first.pk)
    eventually(is_(second, Status.DONE))
    assert [message.text for message in script.asked[0]] == ["One?", "One.", "Two?"]


def test_a_worker_that_drains_hands_over_and_takes_nothing_new(
    make_task: MakeTask, scripted: MakeScript, start_worker: StartWorker
) -> None:
    silent = Hold()
    task = make_task("Tell.", scripted(say("Once", silent), say("Once upon a time.")))
    new = make_task("Hi.")
    worker = start_worker()
    thread = message_arrives(worker, task)
    silent.wait_until_reached()
    worker.drain()
    thread.join(PATIENCE)
    worker.execute(new.pk)
    worker.execute(task.pk)
    assert is_(task, Status.QUEUED)()
    assert is_(new, Status.QUEUED)()
    start_worker().execute(task.pk)
    assert is_(task, Status.DONE)()


def test_a_message_that_comes_just_before_a_worker_drains_is_handed_over(
    make_task: MakeTask, scripted: MakeScript, start_worker: StartWorker
) -> None:
    task = make_task("Tell.", scripted())
    worker = start_worker()
    with busy_database_threads():
        thread = message_arrives(worker, task)
        eventually(lambda: task.pk in worker._taken)
        worker.drain()
    thread.join(PATIENCE)
    assert is_(task, Status.QUEUED)()


def test_a_worker_that_ends_lets_functions_finish_and_hands_over_what_it_took_up_by_itself(
    make_task: MakeTask, scripted: MakeScript, start_worker: StartWorker, functions: Callable[[], list[str]]
) -> None:
    task = make_task("Go.", scripted(say(call("wait", seconds=2))))
    message_is_lost(task)
    worker = start_worker()
    eventually(lambda: functions() == ["wait"])
    eventually(lambda: Worker.objects.filter(pk=worker.owner).exists())
    worker.close()
    assert is_(task, Status.QUEUED)()
    assert task.steps.get(name="wait").result == "waited"
    assert not Worker.objects.filter(pk=worker.owner).exists()


def test_it_takes_up_no_more_by_itself_than_it_has_room_for(
    make_task: MakeTask, scripted: MakeScript, start_worker: StartWorker
) -> None:
    holds = [Hold() for _ in range(3)]
    tasks = [make_task(f"Task {index}", scripted(say(hold))) for index, hold in enumerate(holds)]
    for task in tasks:
        message_is_lost(task)
    start_worker(capacity=2)
    for hold in holds[:2]:
        hold.wait_until_reached()
    assert is_(tasks[2], Status.QUEUED)()
    holds[0].released.set()
    holds[2].wait_until_reached()
    for hold in holds:
        hold.released.set()
    for task in tasks:
        eventually(is_(task, Status.DONE))


def test_a_task_that_another_worker_took_is_let_go_of(
    make_task: MakeTask, scripted: MakeScript, start_worker: StartWorker
) -> None:
    silent = Hold()
    script = scripted(say("Once", silent))
    task = make_task("Tell.", script)
    thread = message_arrives(start_worker(), task)
    silent.wait_until_reached()
    worker_dies(task)
    newer = claimed(task, "another")
    thread.join(PATIENCE)
    assert not thread.is_alive()
    task.refresh_from_db()
    assert (task.owner, task.fence, task.status) == ("another", newer.fence, "running")
    assert script.open == 0


def test_the_heart_beats_while_a_function_blocks_and_counts_what_runs(
    make_task: MakeTask, scripted: MakeScript, start_worker: StartWorker, functions: Callable[[], list[str]]
) -> None:
    task = make_task("Go.", scripted(say(call("block", seconds=1.5)), say("Done.")))
    worker = start_worker()
    thread = message_arrives(worker, task)
    eventually(lambda: functions() == ["block"])
    eventually(lambda: Worker.objects.filter(pk=worker.owner, running=1).exists())
    thread.join(PATIENCE)
    assert is_(task, Status.DONE)()


def test_no_two_processes_are_called_the_same() -> None:
    assert owner_name() != owner_name()
