"""One acquisition of a task on a real database and a real Redis, with a model that says what the test wrote down."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import redis
from django.conf import settings
from django.db import transaction

from agentsite.supervisor import QUICK_DEATHS
from executor import actions
from executor.core.budget import size
from executor.core.errors import LLMError
from executor.core.messages import Reasoning
from executor.database import in_database
from executor.journal import MAX_STALLED_ATTEMPTS, Journal
from executor.live import Publisher, stream_key
from executor.models import Status, Step, Task
from executor.run import Interruption, Run
from executor.threads import Threads, _threads
from tests.executor.conftest import (
    MakeScript,
    MakeTask,
    busy_database_threads,
    claimed,
    start_redis,
    taken_over,
    watched_database_threads,
    worker_dies,
)
from tests.executor.scripted import Hold, call, say
from tools.models import Resource

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_server")]

Functions = Callable[[], list[str]]
Meanwhile = Callable[[Run], Awaitable[None]]


def execute(journal: Journal, meanwhile: Meanwhile | None = None, url: str = "") -> list[UUID]:
    """Run the task to the end of this acquisition, `meanwhile` beside it. Returns the tasks that may begin now."""

    async def both() -> list[UUID]:
        publisher = Publisher(url or settings.REDIS_URL)
        run = Run(journal, publisher)
        running = asyncio.create_task(run.execute())
        try:
            async with asyncio.timeout(20):
                if meanwhile:
                    await meanwhile(run)
                return await running
        finally:
            running.cancel()
            await publisher.aclose()

    return asyncio.run(both())


async def reach(hold: Hold) -> None:
    await asyncio.to_thread(hold.wait_until_reached)


async def until(true: Callable[[], bool]) -> None:
    """Return as soon as `true()` is."""
    async with asyncio.timeout(10):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def entries(task: Task, url: str = "") -> list[dict[str, Any]]:
    """What the stream of the task says now."""
    with redis.from_url(url or settings.REDIS_URL) as client:
        return [json.loads(fields[b"e"]) for _, fields in client.xrange(stream_key(task.pk))]


def shown(task: Task, url: str = "") -> tuple[int, str, str]:
    """Step, text and reasoning in flight, as a page folds them."""
    seq, text, reasoning = 0, "", ""
    for entry in entries(task, url):
        match entry["k"]:
            case "open":
                seq, text, reasoning = entry["s"], entry["t"], entry["r"]
            case "rows":
                seq, text, reasoning = 0, "", ""
            case "text":
                text += entry["t"]
            case "reason":
                reasoning += entry["t"]
    return seq, text, reasoning


def steps(task: Task) -> list[tuple[str, str, str]]:
    return [
        (step.name or step.kind, step.status, step.text or step.result) for step in task.steps.order_by("seq").all()
    ]


def ended(task: Task) -> tuple[str, str, str]:
    task.refresh_from_db()
    return task.status, task.stop_reason, task.error_kind


# --- undisturbed -----------------------------------------------------------------------------------------------------


def test_what_happens_is_written_down_in_order(make_task: MakeTask, scripted: MakeScript, functions: Functions) -> None:
    script = scripted(
        say("Let me see.", call("look", topic="tides"), call("fail")),
        say(call("draw")),
        say(Reasoning("Hm."), "Twice", " a day."),
    )
    task = make_task("Tides?", script)
    follower = make_task(previous=task)
    assert execute(claimed(task)) == [follower.pk]
    assert ended(task) == ("done", "", "")
    assert steps(task) == [
        ("model", "done", "Let me see."),
        ("look", "done", "All about tides."),
        ("fail", "failed", "ValueError: It broke."),
        ("model", "done", ""),
        ("draw", "done", "drawn"),
        ("model", "done", "Twice a day."),
    ]
    assert functions() == ["look", "draw"]
    assert task.steps.get(seq=6).reasoning == "Hm."
    assert [step.seq for step in task.steps.all() if step.started_at is None or step.ended_at is None] == []
    assert (task.model_calls, task.tool_calls, task.failed_calls, task.input_tokens) == (3, 3, 1, 30)
    assert Resource.objects.get().task_id == task.pk
    assert entries(task) == [{"k": "rows"}]
    with redis.from_url(settings.REDIS_URL) as client:
        assert 0 < client.ttl(stream_key(task.pk)) <= 120


def test_a_result_that_is_kept_answers_a_call_in_another_task(
    make_task: MakeTask, scripted: MakeScript, functions: Functions
) -> None:
    asked = [scripted(say(call("forecast", place="Oslo")), say("Rain.")) for _ in range(2)]
    first, second = (make_task("Weather?", script) for script in asked)
    execute(claimed(first))
    execute(claimed(second))
    assert functions() == ["forecast"]
    assert ended(second) == ("done", "", "")
    assert steps(second) == steps(first)
    ran, kept = (task.steps.get(name="forecast") for task in (first, second))
    assert ran.made_at is None
    assert kept.made_at is not None
    assert ran.ended_at is not None
    assert abs(kept.made_at - ran.ended_at) < timedelta(seconds=5)
    assert (second.tool_calls, second.failed_calls) == (1, 0)


def test_how_large_each_question_was_is_on_record(
    make_task: MakeTask, scripted: MakeScript, functions: Functions
) -> None:
    script = scripted(say("Let me look.", call("look", topic="tides")), say("Twice a day."))
    task = make_task("When?", script, functions=["look"])
    execute(claimed(task))
    sizes = task.steps.filter(kind=Step.Kind.MODEL).values_list("asked_bytes", flat=True)
    assert list(sizes) == [size(asked, offered) for asked, offered in zip(script.asked, script.offered, strict=True)]
    assert script.asked[0] != script.asked[1]


def test_what_streams_is_what_is_written_down_in_the_end(make_task: MakeTask, scripted: MakeScript) -> None:
    middle, end = Hold(), Hold()
    text = "Ebb and flow, a\x00b\ud800c, 🌊"
    script = scripted(say(Reasoning("Hm"), Reasoning("m."), "Ebb ", "and", middle, text[7:], end))
    task = make_task("Tides?", script)

    async def watch(run: Run) -> None:
        await reach(middle)
        await until(lambda: shown(task) == (1, "Ebb and", "Hmm."))
        middle.released.set()
        await reach(end)
        await until(lambda: shown(task)[1].endswith("🌊"))
        streamed.append(shown(task)[1])
        end.released.set()

    streamed: list[str] = []
    execute(claimed(task), watch)
    assert streamed == [task.steps.get().text] == ["Ebb and flow, a\ufffdb?c, 🌊"]


# --- stop, hand over, lose -------------------------------------------------------------------------------------------


async def stop(run: Run, task: Task) -> None:
    """As a person does, and as the heart passes it on."""
    assert await in_database(actions.stop, task)
    run.interrupt(Interruption.STOP)


def test_a_stop_in_the_middle_of_an_answer_keeps_what_was_said(make_task: MakeTask, scripted: MakeScript) -> None:
    silent = Hold()
    script = scripted(say("Once upon", " a time", silent))
    task = make_task("Tell.", script)
    took: list[float] = []

    async def meanwhile(run: Run) -> None:
        await reach(silent)
        await stop(run, task)
        took.append(time.monotonic())

    execute(claimed(task), meanwhile)
    assert time.monotonic() - took[0] < 2
    assert ended(task) == ("stopped", "person", "")
    assert steps(task) == [("model", "cancelled", "Once upon a time")]
    assert script.open == 0


@pytest.mark.parametrize(("name", "status"), [("wait", "cancelled"), ("block", "unknown")])
def test_a_stop_does_not_wait_for_a_function(
    make_task: MakeTask, scripted: MakeScript, functions: Functions, name: str, status: str
) -> None:
    seconds = 30.0 if name == "wait" else 3.0
    task = make_task("Go.", scripted(say("Just a moment.", call(name, seconds=seconds))))
    took: list[float] = []

    async def meanwhile(run: Run) -> None:
        await until(lambda: functions() == [name])
        await stop(run, task)
        took.append(time.monotonic())
        await until(lambda: run._closing)
        took.append(time.monotonic())

    execute(claimed(task), meanwhile)
    assert took[1] - took[0] < 2
    assert ended(task) == ("stopped", "person", "")
    assert steps(task) == [("model", "done", "Just a moment."), (name, status, "")]


@pytest.mark.parametrize("why", list(Interruption))
def test_what_comes_when_the_task_is_about_to_end_changes_nothing(
    make_task: MakeTask, scripted: MakeScript, why: Interruption
) -> None:
    last_word = Hold()
    task = make_task("Go.", scripted(say("Done.", last_word)))
    follower = make_task(previous=task)

    async def meanwhile(run: Run) -> None:
        await reach(last_word)
        last_word.released.set()
        while run._recorder.asking:  # noqa: ASYNC110
            await asyncio.sleep(0)
        with busy_database_threads():  # The answer is being written, the end has to wait.
            await until(lambda: run._closing)
            run.interrupt(why)
            await asyncio.sleep(0.05)

    assert execute(claimed(task), meanwhile) == [follower.pk]
    assert ended(task) == ("done", "", "")
    assert entries(task) == [{"k": "rows"}]


def test_a_task_whose_worker_died_while_it_was_being_stopped_ends_as_stopped(
    make_task: MakeTask, scripted: MakeScript
) -> None:
    task = make_task("Go.", scripted())
    journal = claimed(task)
    journal.save_partial(journal.begin_model(), "Half an", "")
    actions.stop(task)
    execute(taken_over(task))
    assert ended(task) == ("stopped", "person", "")
    assert steps(task) == [("model", "cancelled", "Half an")]


def test_a_hand_over_in_the_middle_of_an_answer_asks_for_it_again_elsewhere(
    make_task: MakeTask, scripted: MakeScript
) -> None:
    silent = Hold()
    task = make_task("Tell.", scripted(say("Once upon", silent), say("Once upon a time.")))

    async def meanwhile(run: Run) -> None:
        await reach(silent)
        run.interrupt(Interruption.HAND_OVER)

    assert execute(claimed(task), meanwhile) == [task.pk]
    assert ended(task)[0] == "queued"
    execute(claimed(task, "another"))
    assert ended(task) == ("done", "", "")
    assert steps(task) == [("model", "failed", ""), ("model", "done", "Once upon a time.")]


def test_a_hand_over_lets_running_functions_finish_first(
    make_task: MakeTask, scripted: MakeScript, functions: Functions
) -> None:
    script = scripted(say(call("wait", seconds=0.3), call("send", text="Hi")), say("Both."))
    task = make_task("Go.", script)

    async def meanwhile(run: Run) -> None:
        await until(lambda: len(functions()) == 2)
        run.interrupt(Interruption.HAND_OVER)

    assert execute(claimed(task), meanwhile) == [task.pk]
    assert steps(task) == [("model", "done", ""), ("wait", "done", "waited"), ("send", "done", "sent")]
    execute(claimed(task, "another"))
    assert ended(task)[0] == "done"
    assert sorted(functions()) == ["send", "wait"]


def test_who_lost_the_task_writes_nothing_more(make_task: MakeTask, scripted: MakeScript) -> None:
    silent = Hold()
    task = make_task("Tell.", scripted(say("Once upon", silent, " a time."), say("Another story.")))

    async def meanwhile(run: Run) -> None:
        await reach(silent)
        newer = await in_database(taken_over, task)
        silent.released.set()
        await until(lambda: run._coroutine is None or run._coroutine.done())
        assert (await in_database(steps, task)) == [("model", "started", "")]
        journals.append(newer)

    journals: list[Journal] = []
    assert execute(claimed(task), meanwhile) == []
    execute(journals[0])
    assert ended(task)[0] == "done"
    assert steps(task)[-1] == ("model", "done", "Another story.")


def test_redis_tells_a_worker_that_another_one_speaks_for_the_task(make_task: MakeTask, scripted: MakeScript) -> None:
    first, second = Hold(), Hold()
    script = scripted(say("Once upon", first, " a time", second))
    task = make_task("Tell.", script)

    async def meanwhile(run: Run) -> None:
        await reach(first)
        await until(lambda: shown(task)[1] == "Once upon")
        with redis.from_url(settings.REDIS_URL) as client:
            client.xadd(stream_key(task.pk), {"e": json.dumps({"k": "rows"})}, id="2-1")
        first.released.set()  # It goes on, and never hears from the database meanwhile.

    assert execute(claimed(task), meanwhile) == []
    assert ended(task)[0] == "running"
    assert script.open == 0
    assert entries(task)[-1] == {"k": "rows"}


# --- what an earlier worker left -------------------------------------------------------------------------------------


def test_who_takes_over_runs_what_is_open_and_tells_the_model_what_may_have_run(
    make_task: MakeTask, scripted: MakeScript, functions: Functions
) -> None:
    from tests.executor.test_journal import answer

    looked, sent = call("look", topic="tides"), call("send", text="Hi")
    script = scripted(say("I looked."))
    task = make_task("Go.", script, on_unknown="tell_model")
    journal = claimed(task)
    answer(journal, "", looked, sent)
    journal.start_tools([looked, sent])
    execute(taken_over(task))
    assert functions() == ["look"]
    assert [(name, status) for name, status, _ in steps(task)[1:]] == [
        ("look", "done"),
        ("send", "unknown"),
        ("model", "done"),
    ]
    told = {result.call_id: result for message in script.asked[0] for result in message.tool_results}
    assert told[looked.id].content == "All about tides."
    assert "may or may not have had its effect" in told[sent.id].content


def test_an_answer_whose_worker_died_right_after_it_is_not_asked_for_again(
    make_task: MakeTask, scripted: MakeScript
) -> None:
    from tests.executor.test_journal import answer

    task = make_task("Go.", scripted())
    answer(claimed(task), "That was it.")
    execute(taken_over(task))
    assert ended(task)[0] == "done"
    assert steps(task) == [("model", "done", "That was it.")]


def test_a_task_whose_workers_die_again_and_again_is_given_up_until_a_person_looks(
    make_task: MakeTask, scripted: MakeScript
) -> None:
    task = make_task("Go.", scripted(say("At last.")))
    for _ in range(MAX_STALLED_ATTEMPTS):
        claimed(task).begin_model()
        worker_dies(task)
    execute(claimed(task))
    assert ended(task)[0] == "needs_attention"
    assert f"begun {MAX_STALLED_ATTEMPTS} times" in task.error
    assert actions.retry(task)
    execute(claimed(task))
    assert ended(task) == ("done", "", "")


def test_a_worker_that_was_frozen_past_its_lease_right_before_a_call_does_not_make_it(
    make_task: MakeTask, scripted: MakeScript, functions: Functions
) -> None:
    task = make_task("Go.", scripted(say(call("send", text="Hi"))))
    journal, taken = claimed(task), list[Journal]()

    def freeze(run_it: Callable[..., Any], sql: str, params: Any, *rest: Any) -> Any:
        if sql.startswith('UPDATE "executor_step"') and "started" in (params or ()) and not taken:
            transaction.on_commit(lambda: taken.append(taken_over(task)))
            journal.held_until = 0.0  # Long ago.
        return run_it(sql, params, *rest)

    with watched_database_threads(freeze):
        execute(journal)
    assert (len(taken), functions()) == (1, [])


@pytest.mark.parametrize("taken", [True, False])
def test_a_worker_that_was_frozen_on_the_way_to_a_functions_thread_looks_once_more(
    make_task: MakeTask, scripted: MakeScript, functions: Functions, taken: bool
) -> None:
    """Without anybody having taken the task meanwhile, the call is made."""
    task = make_task("Go.", scripted(say(call("send", text="Hi")), *([] if taken else [say("Sent.")])))
    journal = claimed(task)

    async def freeze(run: Run) -> None:
        threads = _threads[asyncio.get_running_loop()] = Threads(size=0)
        await until_started(task)
        if taken:
            await in_database(taken_over, task)
        journal.held_until = 0.0  # Long ago.
        threads._room.release()

    execute(journal, freeze)
    assert functions() == ([] if taken else ["send"])


async def until_started(task: Task) -> None:
    started = Step.objects.filter(task=task, kind=Step.Kind.TOOL, status=Step.Status.STARTED)
    while not await in_database(started.exists):  # noqa: ASYNC110
        await asyncio.sleep(0.01)


def test_a_task_that_takes_its_worker_along_is_given_up_before_up_gives_up_the_worker() -> None:
    assert MAX_STALLED_ATTEMPTS + 1 < QUICK_DEATHS


# --- Redis goes away -------------------------------------------------------------------------------------------------


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[tuple[str, Callable[[], subprocess.Popen[bytes]]]]:
    """Address of a Redis of this test's own, and how to start it (again)."""
    started: list[subprocess.Popen[bytes]] = []
    socket = tmp_path / "r.sock"

    def start() -> subprocess.Popen[bytes]:
        started.append(start_redis(socket))
        return started[-1]

    yield f"unix://{socket}", start
    for process in started:
        process.kill()
        process.wait(10)


def test_when_redis_goes_away_and_comes_back_empty_no_text_is_lost(
    make_task: MakeTask,
    scripted: MakeScript,
    own_redis: tuple[str, Callable[[], subprocess.Popen[bytes]]],
) -> None:
    url, start = own_redis
    first, second, third = Hold(), Hold(), Hold()
    task = make_task("Tell.", scripted(say("Once", first, " upon", second, " a time", third)))

    async def meanwhile(run: Run) -> None:
        await reach(first)
        await until(lambda: shown(task, url)[1] == "Once")
        server.kill()
        await asyncio.to_thread(server.wait)
        first.released.set()
        await reach(second)
        await asyncio.to_thread(start)
        await until(lambda: shown(task, url)[1] == "Once upon")
        second.released.set()
        await reach(third)
        await until(lambda: shown(task, url) == (1, "Once upon a time", ""))
        third.released.set()

    server = start()
    execute(claimed(task), meanwhile, url)
    assert steps(task) == [("model", "done", "Once upon a time")]
    assert entries(task, url) == [{"k": "rows"}]


def test_without_any_redis_the_task_is_done_all_the_same(
    make_task: MakeTask, scripted: MakeScript, tmp_path: Path
) -> None:
    task = make_task("Tell.", scripted(say("Once upon a time.")))
    execute(claimed(task), url=f"unix://{tmp_path / 'none.sock'}")
    assert steps(task) == [("model", "done", "Once upon a time.")]


# --- what was used up, and failures ----------------------------------------------------------------------------------


def test_a_restart_does_not_reset_what_was_used_up(
    make_task: MakeTask, scripted: MakeScript, functions: Functions
) -> None:
    silent = Hold()
    task = make_task("Go.", scripted(say(call("look", topic="a")), say(silent), say("Done.")), max_iterations=2)

    async def meanwhile(run: Run) -> None:
        await reach(silent)
        run.interrupt(Interruption.HAND_OVER)

    execute(claimed(task), meanwhile)
    Task.objects.filter(pk=task.pk).update(status=Status.QUEUED)
    execute(claimed(task))
    assert ended(task)[0] == "done"
    assert task.checkpoints.latest("pk").counters["iterations"] == 2


def test_a_model_that_fails_is_a_failed_task_with_a_hint_that_can_be_tried_again(
    make_task: MakeTask, scripted: MakeScript
) -> None:
    task = make_task("Go.", scripted(say(LLMError("permission", "403: no.")), say("Now.")))
    execute(claimed(task))
    assert ended(task) == ("failed", "", "permission")
    assert (task.error, "administrator" in task.error_hint) == ("403: no.", True)
    assert actions.retry(task)
    execute(claimed(task))
    assert ended(task) == ("done", "", "")
    assert [(step.status, step.error_kind) for step in Step.objects.order_by("seq")] == [
        ("failed", "permission"),
        ("done", ""),
    ]


@pytest.mark.parametrize("error", [RuntimeError("secret detail"), TimeoutError("not ours")])
def test_what_nobody_expected_is_a_failure_with_a_sentence_and_without_its_details(
    make_task: MakeTask, scripted: MakeScript, error: Exception
) -> None:
    task = make_task("Go.", scripted(say("Once upon", error)))
    execute(claimed(task))
    assert ended(task) == ("failed", "", "internal")
    assert task.error == f"Something went wrong inside AgentSite ({type(error).__name__})."
    assert steps(task) == [("model", "cancelled", "Once upon")]


def test_an_answer_that_cannot_be_stored_is_a_failure_and_no_endless_loop(
    make_task: MakeTask, scripted: MakeScript
) -> None:
    twice = call("look", topic="tides")
    task = make_task("Go.", scripted(say(twice, twice)))
    execute(claimed(task))
    assert ended(task) == ("failed", "", "internal")


def test_a_missing_key_is_named_and_nothing_is_asked(make_task: MakeTask, scripted: MakeScript) -> None:
    task = make_task("Go.", scripted(), api_key_variable="NO_SUCH_KEY")
    execute(claimed(task))
    assert ended(task)[0] == "failed"
    assert task.error == "The agent “Agent” has no key: the environment variable NO_SUCH_KEY is not set."
    assert "administrator" in task.error_hint


@pytest.mark.parametrize(
    ("settings_", "sentence"),
    [
        ({"provider": "abacus"}, "There is no agent type 'abacus'. Use one of: "),
        ({"parameters": {"endpoint": "elsewhere"}}, "endpoint"),
    ],
)
def test_settings_that_do_not_work_are_a_failure_with_a_sentence(
    make_task: MakeTask, settings_: dict[str, Any], sentence: str
) -> None:
    task = make_task("Go.", **settings_)
    execute(claimed(task))
    assert ended(task)[0] == "failed"
    assert sentence in task.error
    assert "administrator" in task.error_hint
