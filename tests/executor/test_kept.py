"""Answers that their provider keeps: one question is asked and paid for once, whatever becomes of who asked it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from importlib import import_module
from typing import Any

import pytest
from django.conf import settings

from conversations.present import task_view
from executor import actions
from executor.core.errors import LimitReached
from executor.database import in_database
from executor.journal import Journal
from executor.live import Publisher
from executor.models import Agent, Status, Step, Task
from executor.run import Interruption, Run
from tests.executor.conftest import MakeTask, claimed, taken_over, worker_dies
from tests.executor.test_compaction import after, talk
from tests.executor.test_costs import told
from tests.executor.test_run import ended, execute, shown, until
from tests.fakes.kept_responses import Kept
from tests.fakes.model_server import ModelServer
from tests.fakes.script import Call, Turn
from users import api_keys

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_server")]

WORDS = "One two three four five six seven eight."
#: Who asked hears two words of it; whoever fetches it, hears all.
CUT = Turn(text=WORDS, fault="stall", after=3)
#: The same, and it takes eight seconds until it is there.
SLOW = replace(CUT, rate=1)
USED = {"input_tokens": 1000, "output_tokens": 100, "total_tokens": 1100}


@pytest.fixture
def task(make_task: MakeTask, model_server: ModelServer) -> Task:
    return make_task("Go.", **keeping(model_server))


@pytest.fixture(autouse=True)
def _imported() -> None:
    """What a worker does once, and what takes seconds on a busy machine."""
    import_module("openai")


def keeping(server: ModelServer, **parameters: Any) -> dict[str, Any]:
    """Fields of an agent."""
    return {
        "provider": "gpt",
        "model": "gpt-6.1-sol",
        "base_url": server.base_url,
        "parameters": {"keep_response": True, **parameters},
        "input_price": Decimal(2),
        "output_price": Decimal(10),
    }


def interrupted(journal: Journal, how: Callable[[Run], object], said: str | Callable[[Run], bool] = "One two") -> None:
    """Work on the task until it has `said` something, then do that to the worker and wait until it left."""

    async def work() -> None:
        publisher = Publisher(settings.REDIS_URL)
        run = Run(journal, publisher)
        running = asyncio.create_task(run.execute())
        await until(lambda: said in run._stream.text if isinstance(said, str) else said(run))
        how(run)
        await asyncio.wait([running], timeout=10)
        await publisher.aclose()

    asyncio.run(work())


def killed(run: Run) -> None:
    """As far as the rows tell: it writes nothing more."""
    run.interrupt(Interruption.LOST)


def handed_over(run: Run) -> None:
    run.interrupt(Interruption.HAND_OVER)


def steps(task: Task) -> list[tuple[str, str, str]]:
    return [(step.kind, step.status, step.text or step.result) for step in task.steps.order_by("seq")]


def kept(server: ModelServer) -> Kept:
    """The first response."""
    return next(iter(server.kept.by_id.values()))


# --- whoever asked dies, or goes away --------------------------------------------------------------------------------


def test_a_question_is_on_record_with_its_response_before_anything_of_it_is_told(
    task: Task, model_server: ModelServer
) -> None:
    model_server.script([Turn(text=WORDS, first_token=2)])

    async def look(_: Run) -> None:
        await until(lambda: bool(model_server.kept.by_id))

        def is_on_record() -> bool:
            return Step.objects.get(task=task).response_id == next(iter(model_server.kept.by_id))

        while not await in_database(is_on_record):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        step = await in_database(Step.objects.get, task=task)
        assert (step.status, step.text) == ("started", "")

    execute(claimed(task), look)
    assert steps(task) == [("model", "done", WORDS)]


@pytest.mark.parametrize("how", [killed, handed_over])
def test_an_answer_is_fetched_by_whoever_takes_over_and_paid_for_once(
    task: Task, model_server: ModelServer, how: Callable[[Run], object]
) -> None:
    model_server.script([replace(CUT, usage=USED)])
    interrupted(claimed(task), how)
    assert len(model_server.asked) == 1
    execute(taken_over(task) if how is killed else claimed(task))
    assert ended(task)[0] == "done"
    assert steps(task) == [("model", "done", WORDS)]
    assert len(model_server.asked) == 1
    assert kept(model_server).fetched == 1
    assert not kept(model_server).cancelled
    step = task.steps.get()
    assert (step.attempt, step.fence, step.input_tokens) == (2, 2, 1000)
    assert (task.model_calls, task.input_tokens, task.output_tokens) == (1, 1000, 100)
    assert told(task) == (Decimal("0.003"), 0)


def test_while_nobody_works_on_it_the_answer_so_far_is_shown_and_costs_nothing_yet(
    task: Task, model_server: ModelServer
) -> None:
    model_server.script([replace(CUT, rate=2.5, after=7)])
    interrupted(claimed(task), handed_over, "One two three four five six")  # Some of it was saved by then.
    assert [status for _, status, _ in steps(task)] == ["pending"]
    assert ended(task)[0] == "queued"
    assert told(task) == (None, 0)
    view = task_view(task, list(task.steps.all()))
    assert (view.steps, view.error, view.is_still) == ((), "", True)
    assert "One two three" in view.open_blocks + view.open_block


def test_an_answer_survives_more_than_one_worker(task: Task, model_server: ModelServer) -> None:
    model_server.script([replace(CUT, rate=2)])
    interrupted(claimed(task), killed)
    interrupted(taken_over(task), handed_over, "One two three")
    execute(claimed(task))
    assert steps(task) == [("model", "done", WORDS)]
    assert task.steps.get().attempt == 3
    assert len(model_server.asked) == 1


def test_the_calls_of_a_fetched_answer_are_made_and_the_task_goes_on(
    make_task: MakeTask, model_server: ModelServer
) -> None:
    task = make_task("Go.", functions=["calculate"], max_iterations=5, **keeping(model_server))
    call = Call("calculate", {"expression": "6 * 7"})
    model_server.script([replace(CUT, calls=(call,)), Turn(text="It is 42.")])
    interrupted(claimed(task), killed)
    execute(taken_over(task))
    assert [(kind, status) for kind, status, _ in steps(task)] == [
        ("model", "done"),
        ("tool", "done"),
        ("model", "done"),
    ]
    assert len(model_server.asked) == 2


def test_the_page_is_told_the_whole_answer_again_from_its_first_word(task: Task, model_server: ModelServer) -> None:
    model_server.script([replace(CUT, rate=2)])
    interrupted(claimed(task), killed)

    async def look(_: Run) -> None:
        await until(lambda: "three" in shown(task)[1])
        seq, text, reasoning = shown(task)
        assert (seq, reasoning) == (1, "")
        assert WORDS.startswith(text)

    execute(taken_over(task), look)
    assert steps(task) == [("model", "done", WORDS)]


def test_a_message_said_meanwhile_goes_in_after_the_fetched_answer(
    make_task: MakeTask, model_server: ModelServer
) -> None:
    task = make_task("Go.", functions=["calculate"], max_iterations=5, **keeping(model_server))
    call = Call("calculate", {"expression": "6 * 7"})
    model_server.script([replace(CUT, calls=(call,)), Turn(text="In German: 42.")])
    interrupted(claimed(task), killed)
    make_task("In German, please.", previous=task)
    Task.objects.filter(previous=task).update(steers=True)
    execute(taken_over(task))
    assert [kind for kind, _, _ in steps(task)] == ["model", "tool", "message", "model"]
    assert len(model_server.asked) == 2


# --- a summary of what was said first --------------------------------------------------------------------------------


@pytest.fixture
def long(make_task: MakeTask, model_server: ModelServer) -> Task:
    """A message after others, which are more than the model can be told."""
    agent = keeping(model_server, context_window=3_000)
    return after(talk(make_task("Question 0", functions=[], **agent), 9))


def is_kept(server: ModelServer) -> Callable[[Run], bool]:
    return lambda run: bool(server.kept.by_id) and run._recorder._kept is not None


@pytest.mark.parametrize("how", [killed, handed_over])
def test_a_summary_is_fetched_by_whoever_takes_over_and_paid_for_once(
    long: Task, model_server: ModelServer, how: Callable[[Run], object]
) -> None:
    model_server.script([replace(CUT, usage=USED), Turn(text="Fine.", usage=USED)])
    interrupted(claimed(long), how, is_kept(model_server))
    execute(taken_over(long) if how is killed else claimed(long))
    assert ended(long)[0] == "done"
    assert steps(long) == [("compaction", "done", WORDS), ("model", "done", "Fine.")]
    assert len(model_server.asked) == 2
    assert (kept(model_server).fetched, kept(model_server).cancelled) == (1, False)
    summary = long.steps.get(seq=1)
    assert (summary.attempt, summary.fence, summary.covers_seq) == (2, 2, 1)
    assert (long.cost, long.unpriced_calls) == (Decimal("0.006"), 0)
    assert WORDS in json.dumps(model_server.asked[1].body)


def test_a_summary_that_is_gone_is_asked_for_anew(long: Task, model_server: ModelServer) -> None:
    model_server.script([CUT, Turn(text="They like tides."), Turn(text="Fine.")])
    interrupted(claimed(long), killed, is_kept(model_server))
    model_server.kept.kept_for = 0.0
    execute(taken_over(long))
    assert [(kind, status) for kind, status, _ in steps(long)] == [
        ("compaction", "failed"),
        ("compaction", "done"),
        ("model", "done"),
    ]
    assert len(model_server.asked) == 3


def test_a_summary_of_something_else_than_is_wanted_by_now_is_not_fetched(
    long: Task, model_server: ModelServer
) -> None:
    model_server.script([CUT, Turn(text="They like tides."), Turn(text="Fine.")])
    interrupted(claimed(long), killed, is_kept(model_server))
    left = long.steps.get()
    assert left.arguments is not None
    Step.objects.filter(pk=left.pk).update(arguments=left.arguments | {"covers_seq": 77})
    execute(taken_over(long))
    assert [text for _, status, text in steps(long) if status == "done"] == ["They like tides.", "Fine."]
    assert kept(model_server).fetched == 0


def test_a_summary_that_is_whole_is_not_asked_for_again(long: Task, model_server: ModelServer) -> None:
    model_server.script([Turn(text="They like tides."), CUT])
    interrupted(claimed(long), killed)
    execute(taken_over(long))
    assert steps(long) == [("compaction", "done", "They like tides."), ("model", "done", WORDS)]
    assert len(model_server.asked) == 2


def test_stop_ends_a_summary_at_the_provider_too(long: Task, model_server: ModelServer) -> None:
    model_server.script([SLOW])

    async def stop(run: Run) -> None:
        await until(lambda: is_kept(model_server)(run))
        await in_database(actions.stop, long)
        run.interrupt(Interruption.STOP)
        await is_cancelled(model_server)

    execute(claimed(long), stop)
    assert ended(long)[:2] == ("stopped", "person")
    assert [(kind, status) for kind, status, _ in steps(long)] == [("compaction", "cancelled")]


# --- where it cannot be fetched --------------------------------------------------------------------------------------


def test_what_is_gone_is_asked_anew_and_nobody_knows_what_the_first_one_cost(
    task: Task, model_server: ModelServer
) -> None:
    model_server.script([CUT, Turn(text="Once more.", usage=USED)])
    interrupted(claimed(task), killed)
    model_server.kept.kept_for = 0.0
    execute(taken_over(task))
    assert ended(task)[0] == "done"
    assert [(status, text) for _, status, text in steps(task)] == [("failed", ""), ("done", "Once more.")]
    assert len(model_server.asked) == 2
    assert told(task) == (Decimal("0.003"), 1)
    # As after every other crash, the person is not bothered with the half answer.
    assert task_view(task, list(task.steps.order_by("seq")), every_step=True).steps == ()


@pytest.mark.parametrize("other", ["key", "none", "first"])
def test_another_key_cannot_fetch_it_so_it_is_asked_anew(task: Task, model_server: ModelServer, other: str) -> None:
    if other != "first":
        first = api_keys.add(task.user, "gpt", "sk-the-first-one-0123456789", model_server.base_url)
    model_server.script([CUT, Turn(text="Once more.", usage=USED)])
    interrupted(claimed(task), killed)
    if other != "first":
        first.delete()
    if other != "none":
        api_keys.add(task.user, "gpt", "sk-the-second-one-0123456789", model_server.base_url)
    execute(taken_over(task))
    assert ended(task)[0] == "done"
    assert [(status, text) for _, status, text in steps(task)][1:] == [("done", "Once more.")]
    assert len(model_server.asked) == 2
    if other != "none":
        assert [request.path for request in model_server.requests if request.method == "GET"] == []
    assert told(task) == (Decimal("0.003"), 1)


def test_an_agent_that_does_not_want_it_has_nothing_kept(make_task: MakeTask, model_server: ModelServer) -> None:
    task = make_task("Go.", **keeping(model_server, keep_response=False))
    model_server.script([CUT, Turn(text="Once more.")])
    interrupted(claimed(task), killed)
    execute(taken_over(task))
    assert [status for _, status, _ in steps(task)] == ["failed", "done"]
    assert model_server.kept.by_id == {}
    assert task.steps.first().error_kind == "interrupted"  # type: ignore[union-attr]


def test_a_model_that_took_over_is_not_waited_for_by_the_next_worker(
    make_task: MakeTask, model_server: ModelServer
) -> None:
    second = Agent.objects.create(name="second", title="Second", **keeping(model_server))
    first = {"provider": "openai_compatible", "model": "echo", "base_url": "http://127.0.0.1:9/v1"}
    task = make_task("Go.", fallback=second, **first)
    model_server.script([CUT, Turn(text="Once more.")])
    interrupted(claimed(task), killed)
    execute(taken_over(task))
    assert ended(task)[0] == "done"
    assert [text for _, status, text in steps(task) if status == "done"] == ["Once more."]
    assert not task.steps.filter(status__in=("started", "pending")).exists()


# --- a connection that breaks off ------------------------------------------------------------------------------------


def test_an_answer_whose_connection_broke_off_is_one_step_and_paid_for_once(
    task: Task, model_server: ModelServer
) -> None:
    model_server.script([Turn(text=WORDS, fault="drop", after=4, usage=USED)])
    execute(claimed(task))
    assert steps(task) == [("model", "done", WORDS)]
    assert len(model_server.asked) == 1
    assert told(task) == (Decimal("0.003"), 0)


# --- nobody waits for it any more ------------------------------------------------------------------------------------


async def is_cancelled(server: ModelServer) -> None:
    await until(lambda: kept(server).cancelled)


def test_stop_ends_it_at_the_provider_too(task: Task, model_server: ModelServer) -> None:
    model_server.script([SLOW])

    async def stop(run: Run) -> None:
        await until(lambda: "One" in run._stream.text)
        await in_database(actions.stop, task)
        run.interrupt(Interruption.STOP)
        await is_cancelled(model_server)

    execute(claimed(task), stop)
    assert ended(task)[:2] == ("stopped", "person")
    assert [(status, text.split()[0]) for _, status, text in steps(task)] == [("cancelled", "One")]
    assert told(task) == (None, 1)


def test_stop_does_not_wait_for_a_provider_that_does_not_answer(task: Task, model_server: ModelServer) -> None:
    model_server.script([SLOW])
    model_server.kept.silent = True

    async def stop(run: Run) -> None:
        await until(lambda: "One" in run._stream.text)
        await in_database(actions.stop, task)
        run.interrupt(Interruption.STOP)
        async with asyncio.timeout(3):
            await until(lambda: run.is_over)

    execute(claimed(task), stop)
    assert ended(task)[0] == "stopped"


def test_a_task_at_its_time_limit_ends_it_at_the_provider_too(make_task: MakeTask, model_server: ModelServer) -> None:
    task = make_task("Go.", max_seconds=3, **keeping(model_server))
    model_server.script([SLOW])

    async def look(_: Run) -> None:
        await until(lambda: bool(model_server.kept.by_id))
        await is_cancelled(model_server)

    execute(claimed(task), look)
    assert ended(task)[0] == "waiting"
    assert [status for _, status, _ in steps(task)] == ["cancelled"]
    assert told(task) == (None, 1)


@pytest.mark.parametrize("how", ["idle", "held by the dead", "held by the next", "at a limit"])
def test_a_task_that_ends_before_anybody_fetches_leaves_nothing_open(
    task: Task, model_server: ModelServer, how: str
) -> None:
    model_server.script([CUT])
    interrupted(claimed(task), killed if how == "held by the dead" else handed_over)
    match how:
        case "held by the next":
            claimed(task).end(Status.STOPPED)
        case "at a limit":
            claimed(task).wait_at_limit(LimitReached("tokens", "Enough.", used=1, allowed=1))
        case _:
            worker_dies(task)
            task.refresh_from_db()
            assert actions.stop(task)
    assert ended(task)[0] == ("waiting" if how == "at a limit" else "stopped")
    assert [status for _, status, _ in steps(task)] == ["cancelled"]
    assert told(task) == (None, 1)
