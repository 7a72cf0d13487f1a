"""What becomes of a task whose provider does not answer as it should: a real server that misbehaves, real rows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from django.conf import settings
from django.db.models import F
from django.db.models.functions import Now

from executor import actions
from executor.claim import claim
from executor.core.errors import LLMError
from executor.core.llms._http import close_http_client
from executor.core.retry import MAX_POSTPONEMENTS
from executor.core.validation import CORRECTIONS
from executor.journal import Journal
from executor.live import Publisher
from executor.models import Agent, Status, Step, Task
from executor.run import Interruption, Run
from tests.executor.conftest import (
    MakeScript,
    MakeTask,
    claimed,
    taken_over,
    watched_database_threads,
    worker_dies,
)
from tests.executor.scripted import Hold, call, say
from tests.executor.test_journal import answer
from tests.executor.test_run import Functions, Meanwhile, ended, entries, reach, steps, stop
from tests.fakes.model_server import ModelServer
from tests.fakes.script import Call, Turn
from users import api_keys

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_server")]

BUSY = Turn(fault="429", retry_after="30")
KEY = "sk-of-the-person-0123456789-own"
SCHEMA = {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}

AskServer = Callable[..., Task]


@pytest.fixture
def ask(make_task: MakeTask, model_server: ModelServer) -> AskServer:
    """Queue a task whose model is at the server, which answers with these turns."""

    def make(*turns: Turn, previous: Task | None = None, **agent: Any) -> Task:
        model_server.script(turns)
        server = {"provider": "openai_compatible", "model": "m", "base_url": model_server.base_url}
        return make_task("Go.", previous=previous, **{**server, **agent})

    return make


def execute(journal: Journal, meanwhile: Meanwhile | None = None) -> tuple[list[UUID], float | None]:
    """Run the task to the end of this acquisition. Returns the tasks that may begin now, and how long it is put off."""

    async def run_it() -> tuple[list[UUID], float | None]:
        publisher = Publisher(settings.REDIS_URL)
        run = Run(journal, publisher)
        running = asyncio.create_task(run.execute())
        try:
            async with asyncio.timeout(20):
                if meanwhile:
                    await meanwhile(run)
                return await running, run.wait
        finally:
            running.cancel()
            await publisher.aclose()
            await close_http_client()

    return asyncio.run(run_it())


def is_due(task: Task) -> None:
    """As far as the rows tell: the time has come."""
    Task.objects.filter(pk=task.pk).update(not_before=Now() - timedelta(seconds=1))


def pass_by(task: Task, time: timedelta) -> None:
    """As far as the rows tell: so much time went by while nobody did anything."""
    times = ("started_at", "deadline_at", "not_before")
    Task.objects.filter(pk=task.pk).update(**{name: F(name) - time for name in times})


def put_off(task: Task) -> None:
    execute(claimed(task))
    task.refresh_from_db()
    assert task.status == Status.RETRYING


# --- put off ---------------------------------------------------------------------------------------------------------


def test_a_provider_that_asks_to_wait_long_holds_no_worker(ask: AskServer) -> None:
    task = ask(BUSY, Turn(text="Now."))
    follower = ask(previous=task)
    may_begin, wait = execute(claimed(task))
    assert ended(task) == ("retrying", "", "rate_limit")
    assert may_begin == []
    assert wait is not None
    assert 30 <= wait <= 33
    assert (task.owner, task.lease_until, task.postponements, task.ended_at) == ("", None, 1, None)
    assert "30 seconds" in task.error_hint
    assert task.error_hint
    assert Task.objects.filter(pk=task.pk, not_before__gt=Now() + timedelta(seconds=25)).exists()
    assert steps(task) == [("model", "failed", "")]
    assert entries(task) == [{"k": "rows"}]
    assert claim(task.pk, "somebody") is None
    assert claim(follower.pk, "somebody") is None
    is_due(task)
    execute(claimed(task))
    assert ended(task) == ("done", "", "")
    assert (task.error, task.not_before, task.postponements) == ("", None, 0)
    assert steps(task) == [("model", "failed", ""), ("model", "done", "Now.")]
    assert claim(follower.pk, "somebody")


def test_a_worker_that_dies_after_the_wait_is_followed_by_another(ask: AskServer) -> None:
    task = ask(BUSY, Turn(text="Now."))
    put_off(task)
    is_due(task)
    claimed(task).begin_model()
    worker_dies(task)
    execute(claimed(task))
    assert ended(task) == ("done", "", "")
    assert [status for _, status, _ in steps(task)] == ["failed", "failed", "done"]


def test_a_worker_that_dies_before_it_can_put_the_task_off_is_followed_by_one_that_asks_again(ask: AskServer) -> None:
    task = ask(Turn(text="Now."))
    journal = claimed(task)
    journal.fail_model(journal.begin_model(), LLMError("rate_limit", "Busy.", retry_after=30), "")
    execute(taken_over(task))
    assert ended(task)[0] == "done"


def test_quick_attempts_come_first_where_the_provider_names_no_time(ask: AskServer, model_server: ModelServer) -> None:
    task = ask(*[Turn(fault="529", retry_after="0")] * 3)
    put_off(task)
    assert len(model_server.asked) == 3
    assert (task.error_kind, task.steps.get().attempt) == ("overloaded", 3)


def test_it_is_put_off_so_often_and_then_fails_with_the_reason(ask: AskServer) -> None:
    task = ask(*[BUSY] * (MAX_POSTPONEMENTS + 1), Turn(text="Now."))
    for _ in range(MAX_POSTPONEMENTS):
        put_off(task)
        is_due(task)
    execute(claimed(task))
    assert ended(task) == ("failed", "", "rate_limit")
    assert f"put off {MAX_POSTPONEMENTS} times" in task.error
    assert task.attempts == MAX_POSTPONEMENTS + 1
    assert actions.retry(task)
    assert task.postponements == 0
    execute(claimed(task))
    assert ended(task)[0] == "done"


def test_who_asks_to_wait_for_hours_is_not_waited_for_but_it_is_said_when_to_come_back(ask: AskServer) -> None:
    task = ask(Turn(fault="429", retry_after="7200"))
    execute(claimed(task))
    assert ended(task) == ("failed", "", "rate_limit")
    assert "2 hours" in task.error_hint
    in_two_hours = Now() + timedelta(seconds=7100), Now() + timedelta(seconds=7300)
    assert Task.objects.filter(pk=task.pk, not_before__range=in_two_hours).exists()


def test_other_failures_are_not_put_off(ask: AskServer) -> None:
    task = ask(*[Turn(fault="500", retry_after="0")] * 3)
    execute(claimed(task))
    assert ended(task) == ("failed", "", "server")


def test_a_stop_ends_a_task_that_was_put_off_at_once_and_without_a_worker(ask: AskServer) -> None:
    task = ask(BUSY)
    follower = ask(previous=task)
    put_off(task)
    assert actions.stop(task)
    assert (task.status, task.stop_reason, task.not_before) == (Status.STOPPED, "person", None)
    assert task.ended_at
    is_due(task)
    assert claim(task.pk, "somebody") is None
    assert claim(follower.pk, "somebody")


def test_a_stop_that_comes_while_it_is_being_put_off_is_not_lost(ask: AskServer) -> None:
    task = ask()
    journal = claimed(task)
    assert actions.stop(task)
    assert not journal.postpone(LLMError("rate_limit", "Busy.", retry_after=30), 30)
    journal.end(Status.STOPPED)
    assert ended(task)[:2] == ("stopped", "person")


def test_a_person_may_have_it_tried_now(ask: AskServer) -> None:
    task = ask(BUSY, Turn(text="Now."))
    put_off(task)
    assert actions.retry(task)
    assert task.status == Status.RETRYING
    execute(claimed(task))
    assert ended(task)[0] == "done"


def test_waiting_for_the_provider_is_not_part_of_the_time_that_a_task_may_take(ask: AskServer) -> None:
    task = ask(BUSY, max_seconds=10)
    put_off(task)
    pass_by(task, timedelta(seconds=33))
    left = claimed(task).seconds_left
    assert left is not None
    assert 5 < left <= 10


def test_nor_is_waiting_for_a_worker_that_has_time(ask: AskServer) -> None:
    task = ask(BUSY, Turn(text="Now."), max_seconds=10)
    put_off(task)
    pass_by(task, timedelta(minutes=10))
    journal = claimed(task)
    assert journal.seconds_left is not None
    assert 5 < journal.seconds_left <= 10
    execute(journal)
    assert ended(task)[0] == "done"


def test_who_has_it_tried_now_gives_it_no_more_time(ask: AskServer) -> None:
    task = ask(BUSY, max_seconds=10)
    put_off(task)
    assert actions.retry(task)
    assert actions.retry(task), "twice is once"
    left = claimed(task).seconds_left
    assert left is not None
    assert 5 < left <= 10


# --- replaced --------------------------------------------------------------------------------------------------------


def test_an_answer_that_breaks_off_is_kept_and_replaced_by_a_new_one(ask: AskServer) -> None:
    task = ask(Turn(text="Once upon a time", fault="drop", after=3), Turn(text="Twice upon a time."))
    execute(claimed(task))
    assert ended(task) == ("done", "", "")
    (broken, whole) = steps(task)
    assert broken[:2] == ("model", "failed")
    assert broken[2]
    assert "Once upon a time".startswith(broken[2].strip())
    assert whole == ("model", "done", "Twice upon a time.")
    assert task.unpriced_calls == 2  # What was shown of it has to be paid for, and nobody knows the model's price.


def test_it_is_replaced_twice_and_not_more_often(ask: AskServer) -> None:
    broken = Turn(text="Once upon a time", fault="drop", after=3)
    task = ask(broken, broken, broken, Turn(text="Never."))
    execute(claimed(task))
    assert ended(task) == ("failed", "", "connection")
    assert [status for _, status, _ in steps(task)] == ["failed"] * 3


def test_a_worker_that_dies_between_two_attempts_leaves_both_on_record(
    make_task: MakeTask, scripted: MakeScript
) -> None:
    silent = Hold()
    script = scripted(say("Half", LLMError("server", "No.", retry_after=0.01)), say("Half", silent), say("Whole."))
    task = make_task("Go.", script)

    async def meanwhile(run: Run) -> None:
        await reach(silent)
        run.interrupt(Interruption.HAND_OVER)

    execute(claimed(task), meanwhile)
    execute(claimed(task))
    assert [(step.status, step.error_kind) for step in task.steps.order_by("seq")] == [
        ("failed", "server"),
        ("failed", "interrupted"),
        ("done", ""),
    ]


# --- another model takes over ----------------------------------------------------------------------------------------


@pytest.fixture
def claude(make_task: MakeTask, model_server: ModelServer) -> Agent:
    return Agent.objects.create(
        name="claude", title="Claude", provider="claude", model="claude-sonnet-5-5", base_url=model_server.address
    )


@pytest.mark.parametrize("fault", ["401", "403", "404", "quota", "429", "500", "529", "html_200", "clean_end"])
def test_where_the_provider_fails_another_one_takes_over(
    ask: AskServer, claude: Agent, model_server: ModelServer, fault: Any
) -> None:
    again = Turn(text="Half an", fault=fault, retry_after="" if fault == "429" else "0")
    task = ask(fallback=claude, instructions="Be brief.")
    key = api_keys.add(task.user, "claude", KEY, model_server.address)
    model_server.script([again if fault != "429" else BUSY] * 3, model="m")
    model_server.script([Turn(text="I am here.")], model="claude-sonnet-5-5")
    execute(claimed(task))
    assert ended(task) == ("done", "", "")
    *failed, last = task.steps.order_by("seq")
    assert {(step.provider, step.model, step.status, step.api_key_id) for step in failed} == {
        ("openai_compatible", "m", "failed", None)
    }
    assert (last.provider, last.model, last.api_key_id) == ("claude", "claude-sonnet-5-5", key.pk)
    assert (last.name, last.text) == ("Claude", "I am here.")
    assert last.cost
    assert model_server.asked[-1].body["system"][0]["text"] == "Be brief."


def test_where_the_question_is_wrong_nobody_takes_over(
    ask: AskServer, claude: Agent, model_server: ModelServer
) -> None:
    task = ask(Turn(fault="422"), Turn(text="I am here."), fallback=claude)
    api_keys.add(task.user, "claude", KEY, model_server.address)
    execute(claimed(task))
    assert ended(task) == ("failed", "", "bad_request")
    assert len(model_server.asked) == 1


@pytest.mark.parametrize("change", [{"enabled": False}, {"owner": True}])
def test_who_may_not_be_chosen_does_not_take_over(ask: AskServer, claude: Agent, bob: Any, change: Any) -> None:
    task = ask(Turn(fault="403"), fallback=claude)
    Agent.objects.filter(pk=claude.pk).update(**({"owner": bob} if "owner" in change else change))
    execute(claimed(task))
    assert ended(task) == ("failed", "", "permission")


@pytest.mark.parametrize("version", ["of today", "from before keys were kept"])
def test_who_takes_over_may_be_renamed_meanwhile(
    ask: AskServer, claude: Agent, model_server: ModelServer, version: str
) -> None:
    task = ask(Turn(fault="401"), fallback=claude)
    api_keys.add(task.user, "claude", KEY, model_server.address)
    model_server.script([Turn(text="I am here.")], model="claude-sonnet-5-5")
    if version == "of today":
        claude.name = "renamed"
        claude.save()
        Agent.objects.create(name="claude", title="Another", provider="demo")
    else:
        del task.agent_version.config["fallback_id"]
        task.agent_version.save()
    execute(claimed(task))
    assert ended(task) == ("done", "", "")
    assert task.steps.latest("seq").name == "Claude"


def test_without_a_key_another_model_takes_over_and_that_is_on_record(
    ask: AskServer, claude: Agent, model_server: ModelServer
) -> None:
    task = ask(Turn(text="I am here."), fallback=claude, provider="gpt", model="gpt-6.1-sol", base_url="")
    api_keys.add(task.user, "claude", KEY, model_server.address)
    execute(claimed(task))
    assert ended(task) == ("done", "", "")
    failed, done = task.steps.order_by("seq")
    assert (failed.provider, failed.error_kind, failed.cost) == ("gpt", "no_key", Decimal(0))
    assert (done.provider, done.text) == ("claude", "I am here.")


def test_a_missing_key_without_anybody_who_takes_over_is_a_failure_of_its_own_kind(ask: AskServer) -> None:
    task = ask(provider="gpt", model="gpt-6.1-sol", base_url="")
    execute(claimed(task))
    assert ended(task) == ("failed", "", "no_key")
    assert steps(task) == []


def test_one_that_takes_over_goes_on_with_what_was_done_and_stays(
    ask: AskServer, claude: Agent, model_server: ModelServer, functions: Functions
) -> None:
    task = ask(fallback=claude)
    api_keys.add(task.user, "claude", KEY, model_server.address)
    look = Call("look", {"topic": "tides"})
    model_server.script([Turn(calls=(look,)), *[Turn(fault="529", retry_after="0")] * 3], model="m")
    model_server.script([Turn(calls=(look,)), Turn(text="Done.")], model="claude-sonnet-5-5")
    execute(claimed(task))
    assert ended(task)[0] == "done"
    assert [(step.name or step.kind, step.status) for step in task.steps.order_by("seq")] == [
        ("model", "done"),
        ("look", "done"),
        ("model", "failed"),
        ("Claude", "done"),
        ("look", "done"),
        ("Claude", "done"),
    ]
    assert functions() == ["look", "look"]
    assert "All about tides." in str(model_server.asked[-2].body["messages"])
    assert task.checkpoints.latest("pk").counters["iterations"] == 3


def test_where_nobody_answers_both_are_told_and_what_passes_by_itself_is_put_off(
    ask: AskServer, claude: Agent, model_server: ModelServer
) -> None:
    task = ask(BUSY, fallback=claude)  # Which has no key, and wants one.
    model_server.script([Turn(fault="401")] * 2, model="claude-sonnet-5-5")
    put_off(task)
    assert task.error_kind == "rate_limit"
    assert "Claude, which takes over then, did not answer either: " in task.error
    assert "wants a key, and there is none for it yet" in task.error
    other = ask(Turn(fault="403"), fallback=claude)
    execute(claimed(other))
    assert ended(other) == ("failed", "", "permission")
    assert "did not answer either" in other.error


def test_two_agents_that_name_each_other_do_not_go_round_in_circles(ask: AskServer, model_server: ModelServer) -> None:
    task = ask(*[Turn(fault="403")] * 2)
    first = task.agent_version.agent
    assert first is not None
    server = {"provider": "openai_compatible", "model": "n", "base_url": model_server.base_url}
    first.fallback = Agent.objects.create(name="second", title="Second", fallback=first, **server)
    first.save()
    task.agent_version = first.current_version()
    task.save(update_fields=["agent_version"])
    execute(claimed(task))
    assert ended(task) == ("failed", "", "permission")
    assert [step.model for step in task.steps.order_by("seq")] == ["m", "n"]


# --- answers of a demanded form --------------------------------------------------------------------------------------


def test_a_wrong_answer_is_corrected_until_it_has_the_demanded_form(ask: AskServer, model_server: ModelServer) -> None:
    wrong = Turn(text="Four."), Turn(text='{"n": "4"}')
    task = ask(*wrong, Turn(text='{"n": 4}'), response_schema=SCHEMA, max_iterations=3)
    execute(claimed(task))
    assert ended(task) == ("done", "", "")
    assert [text for _, _, text in steps(task)] == ["Four.", '{"n": "4"}', '{"n": 4}']
    bodies = [request.body for request in model_server.asked]
    assert all(body["response_format"]["json_schema"]["schema"] for body in bodies)
    assert "not JSON" in bodies[1]["messages"][-1]["content"]
    assert "is not of type 'integer'" in bodies[2]["messages"][-1]["content"]


def test_a_correction_follows_from_the_rows_after_a_crash(ask: AskServer, model_server: ModelServer) -> None:
    task = ask(Turn(text='{"n": 4}'), response_schema=SCHEMA)
    answer(claimed(task), "Four.")
    execute(taken_over(task))
    assert ended(task) == ("done", "", "")
    (asked,) = model_server.asked
    assert [message["role"] for message in asked.body["messages"]] == ["user", "assistant", "user"]
    assert "not JSON" in asked.body["messages"][-1]["content"]


def test_it_is_given_up_after_so_many_corrections_and_may_be_tried_again(
    ask: AskServer, model_server: ModelServer
) -> None:
    task = ask(*[Turn(text="Four.")] * (CORRECTIONS + 1), Turn(text='{"n": 4}'), response_schema=SCHEMA)
    execute(claimed(task))
    assert ended(task) == ("failed", "", "response_invalid")
    assert [status for _, status, _ in steps(task)] == ["done"] * CORRECTIONS + ["failed"]
    assert actions.retry(task)
    execute(claimed(task))
    assert ended(task) == ("done", "", "")
    follower = ask(Turn(text='{"n": 5}'), previous=task, response_schema=SCHEMA)
    execute(claimed(follower))
    said = [message["content"] for message in model_server.asked[-1].body["messages"]]
    assert said == ["Go.", '{"n": 4}', "Go."]  # What was corrected is no part of the conversation.


def test_a_crash_right_after_the_last_wrong_answer_does_not_ask_once_more(ask: AskServer) -> None:
    task = ask(response_schema=SCHEMA)
    journal = claimed(task)
    for _ in range(CORRECTIONS + 1):
        answer(journal, "Four.")
    execute(taken_over(task))
    assert ended(task) == ("failed", "", "response_invalid")


def test_an_empty_answer_is_corrected_as_well_also_after_a_crash(ask: AskServer, model_server: ModelServer) -> None:
    task = ask(Turn(text='{"n": 4}'), response_schema=SCHEMA)
    answer(claimed(task), "")
    execute(taken_over(task))
    assert ended(task) == ("done", "", "")
    assert "not JSON" in str(model_server.asked[0].body["messages"])


# --- what it costs ---------------------------------------------------------------------------------------------------


def test_each_answer_has_its_price_and_the_task_their_sum(ask: AskServer, functions: Functions) -> None:
    price = {"input_price": Decimal("2"), "output_price": Decimal("10")}
    used = {"prompt_tokens": 1000, "completion_tokens": 100}
    task = ask(Turn(calls=(Call("look", {"topic": "a"}),), usage=used), Turn(text="Done.", usage=used), **price)
    execute(claimed(task))
    assert ended(task)[0] == "done"
    assert [step.cost for step in task.steps.filter(kind="model")] == [Decimal("0.003")] * 2
    assert (task.cost, task.unpriced_calls) == (Decimal("0.006"), 0)
    assert (task.input_tokens, task.output_tokens) == (2000, 200)


def test_a_price_that_nobody_knows_is_counted_and_not_added_as_zero(ask: AskServer) -> None:
    task = ask(Turn(text="Done."))
    execute(claimed(task))
    task.refresh_from_db()
    assert (task.steps.get().cost, task.cost, task.unpriced_calls) == (None, None, 1)


def test_an_answer_without_usage_has_no_price(ask: AskServer) -> None:
    task = ask(Turn(text="Done.", quirks=frozenset({"no_usage"})), input_price=Decimal(2), output_price=Decimal(2))
    execute(claimed(task))
    task.refresh_from_db()
    assert (task.steps.get().cost, task.unpriced_calls) == (None, 1)


def test_what_a_failed_attempt_used_is_paid_for_and_a_refusal_costs_nothing(
    make_task: MakeTask, model_server: ModelServer
) -> None:
    agent = {"provider": "claude", "model": "claude-sonnet-5-5", "base_url": model_server.address}
    task = make_task("Go.", **agent)
    key = api_keys.add(task.user, "claude", KEY, model_server.address)
    model_server.script(
        [
            Turn(fault="529", retry_after="0"),
            Turn(text="Once upon a time", fault="error_event", after=3, usage={"input_tokens": 500}),
            Turn(text="Done."),
        ]
    )
    execute(claimed(task))
    failed, done = task.steps.order_by("seq")
    assert (failed.status, done.status) == ("failed", "done")
    assert failed.input_tokens
    assert failed.cost
    assert done.cost
    task.refresh_from_db()
    assert (task.cost, task.unpriced_calls) == (failed.cost + done.cost, 0)
    assert task.input_tokens == failed.input_tokens + done.input_tokens
    assert (failed.api_key_id, done.api_key_id) == (key.pk, key.pk)


def test_a_refused_question_costs_nothing(ask: AskServer) -> None:
    task = ask(Turn(fault="401"))
    execute(claimed(task))
    task.refresh_from_db()
    assert (task.steps.get().cost, task.cost, task.unpriced_calls) == (Decimal(0), Decimal(0), 0)


@pytest.mark.parametrize("how", ["stopped", "handed over", "crashed"])
def test_what_was_broken_off_costs_what_nobody_knows(make_task: MakeTask, scripted: MakeScript, how: str) -> None:
    silent = Hold()
    if how == "crashed":
        task = make_task("Go.", scripted(say("Once.")))
        journal = claimed(task)
        journal.save_partial(journal.begin_model(), "Half", "")
        execute(taken_over(task))
    else:
        task = make_task("Go.", scripted(say("Half", silent)))

        async def meanwhile(run: Run) -> None:
            await reach(silent)
            if how == "stopped":
                await stop(run, task)
            else:
                run.interrupt(Interruption.HAND_OVER)

        execute(claimed(task), meanwhile)
    task.refresh_from_db()
    assert Step.objects.get(task=task, seq=1).cost is None
    assert task.unpriced_calls == (2 if how == "crashed" else 1)  # The script's model has no price either.


def test_the_demonstration_costs_nothing_however_it_ends(make_task: MakeTask) -> None:
    task = make_task("Hello")
    journal = claimed(task)
    journal.save_partial(journal.begin_model(), "Half", "")
    execute(taken_over(task))
    assert ended(task)[0] == "done"
    assert (task.cost, task.unpriced_calls) == (Decimal(0), 0)
    assert {step.cost for step in task.steps.filter(kind="model")} == {Decimal(0)}


def test_functions_stay_the_tasks_own(make_task: MakeTask, scripted: MakeScript, functions: Functions) -> None:
    first, second = scripted(say(LLMError("quota", "Used up."))), scripted(say(call("look", topic="a")), say("Done."))
    other = Agent.objects.create(name="b", title="B", provider="scripted", model=second.name, functions=[])
    task = make_task("Go.", first, fallback=other)
    execute(claimed(task))
    assert ended(task)[0] == "done"
    assert second.offered[0] == first.offered[0] != ()


def test_a_step_takes_two_transactions_also_with_its_price_and_key(ask: AskServer, functions: Functions) -> None:
    written: list[str] = []

    def watch(execute: Callable[..., Any], sql: str, *rest: Any) -> Any:
        if sql.startswith("UPDATE") and "executor_task" in sql:  # Each one begins with that.
            written.append(sql)
        return execute(sql, *rest)

    look = Turn(calls=(Call("look", {"topic": "a"}),))
    task = ask(*[look] * 4, Turn(text="Done."), max_iterations=10)
    journal = claimed(task)
    with watched_database_threads(watch):
        execute(journal)
    assert ended(task)[0] == "done"
    assert len(written) == 2 * 5  # Four times a question and a call, then a question and the end.
