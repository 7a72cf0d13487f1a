"""What may have cost something: on the rows of steps, in the count of their task, and wherever it is added up."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from decimal import Decimal
from importlib import import_module
from typing import Any

import pytest
from django.apps import apps
from django.conf import settings
from django.utils import timezone

from executor.core.errors import LLMError
from executor.core.events import Finished
from executor.core.limits import Spent
from executor.core.messages import Usage, assistant
from executor.journal import Journal, Source
from executor.live import Publisher
from executor.models import Agent, Status, Step, Task
from executor.run import Interruption, Run
from executor.usage import Period, Use, step_use, usage
from tests.executor.conftest import MakeScript, MakeTask, claimed, taken_over
from tests.executor.scripted import Hold, say
from tests.executor.test_run import reach, stop
from tests.usage_rows import answered, asked, make_agent
from users.models import User

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_server")]

FREE: dict[str, Any] = {"input_price": Decimal(0), "output_price": Decimal(0)}


def told(task: Task) -> tuple[Decimal | None, int]:
    """Cost and number of answers of unknown price, after making sure that all who tell them agree."""
    task.refresh_from_db()
    steps = Use()
    for step in task.steps.all():
        steps.add(step_use(step))
    total = usage(Period.named("30", timezone.localdate()), task.user).total
    assert total == steps
    assert (total.cost or 0, total.unpriced) == (task.cost or 0, task.unpriced_calls)
    return task.cost, task.unpriced_calls


# --- what is not waited for ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["stopped", "handed over"])
@pytest.mark.parametrize("words", [["Half"], []], ids=["in its words", "before its first word"])
def test_an_answer_that_is_not_waited_for_has_an_unknown_price(
    make_task: MakeTask, scripted: MakeScript, how: str, words: list[str]
) -> None:
    silent = Hold()
    task = make_task("Go.", scripted(say(*words, silent)))

    async def interrupted() -> None:
        publisher = Publisher(settings.REDIS_URL)
        run = Run(claimed_journal, publisher)
        running = asyncio.create_task(run.execute())
        try:
            await reach(silent)
            if how == "stopped":
                await stop(run, task)
            else:
                run.interrupt(Interruption.HAND_OVER)
            await running
        finally:
            await publisher.aclose()

    claimed_journal = claimed(task)
    asyncio.run(interrupted())
    assert told(task) == (None, 1)


@pytest.mark.parametrize("end", ["released", "stopped", "recovered", "stopped by the next"])
@pytest.mark.parametrize(
    ("agent", "unknown"),
    [({"provider": "gpt", "model": "gpt-x"}, 1), ({"provider": "gpt", "model": "gpt-x", **FREE}, 0), ({}, 0)],
    ids=["paid", "free of charge", "demonstration"],
)
def test_a_question_without_a_word_of_an_answer_costs_what_nobody_knows_unless_it_is_free(
    make_task: MakeTask, end: str, agent: dict[str, Any], unknown: int
) -> None:
    task = make_task(**agent)
    journal = claimed(task)
    journal.begin_model()
    assert told(task) == (None, 0)  # While it is being asked.
    if end == "released":
        journal.release()
    elif end == "stopped":
        journal.end(Status.STOPPED)
    elif end == "recovered":
        taken_over(task).recover()
    else:
        taken_over(task).end(Status.STOPPED)
    assert told(task) == ((None, 1) if unknown else (Decimal(0), 0))
    assert [step.cost for step in task.steps.all()] == [None if unknown else 0]


def test_an_answer_that_its_worker_could_not_write_down_any_more_has_an_unknown_price(make_task: MakeTask) -> None:
    task = make_task(provider="gpt", model="gpt-x", input_price=Decimal(1), output_price=Decimal(1))
    journal = claimed(task)
    done = Finished(assistant("Whole."), "stop", Usage(100_000, 5_000))
    journal.finish_model(journal.begin_model(), done, Spent(), {}, 1, later=True)
    taken_over(task).recover()
    assert told(task) == (None, 1)


def test_one_whose_answer_is_written_with_the_end_has_its_own_price(make_task: MakeTask) -> None:
    task = make_task(provider="gpt", model="gpt-x", input_price=Decimal(1), output_price=Decimal(1))
    journal = claimed(task)
    done = Finished(assistant("Whole."), "stop", Usage(100_000, 5_000))
    journal.finish_model(journal.begin_model(), done, Spent(), {}, 1, later=True)
    journal.end(Status.DONE)
    assert told(task) == (Decimal("0.105"), 0)


def test_what_is_left_open_is_counted_once_however_often_it_is_taken_up(make_task: MakeTask) -> None:
    task = make_task(provider="gpt", model="gpt-x")
    claimed(task).begin_model()
    taken_over(task).recover()
    journal = taken_over(task)
    journal.recover()
    journal.end(Status.STOPPED)
    assert told(task) == (None, 1)


def test_who_lost_the_task_counts_nothing(make_task: MakeTask) -> None:
    task = make_task(provider="gpt", model="gpt-x")
    zombie = claimed(task)
    zombie.begin_model()
    taken_over(task).recover()
    with pytest.raises(Exception, match=str(task.pk)):
        zombie.end(Status.DONE)
    assert told(task) == (None, 1)


def test_a_refusal_costs_nothing_and_is_no_answer(make_task: MakeTask) -> None:
    task = make_task(provider="gpt", model="gpt-x")
    journal = claimed(task)
    journal.fail_model(journal.begin_model(), LLMError("auth", "No."), "")
    journal.end(Status.FAILED)
    assert told(task) == (Decimal(0), 0)
    assert not step_use(task.steps.get()).answers


# --- another model took over -----------------------------------------------------------------------------------------


def asks_fallback(task: Task, **agent: Any) -> Journal:
    """The agent's own model gave up, and that of another one is asked."""
    other = Agent.objects.create(name="other", title="Other", **agent)
    journal = claimed(task)
    journal.source = Source(other.config(), took_over=True)
    journal.save_partial(journal.begin_model(), "Half", "")
    return journal


@pytest.mark.parametrize("end", ["recovered", "stopped by the next", "released"])
def test_a_model_that_took_over_for_a_free_one_is_not_free(make_task: MakeTask, end: str) -> None:
    task = make_task(provider="openai_compatible", model="m", **FREE)
    journal = asks_fallback(task, provider="claude", model="claude-sonnet-5-5")
    if end == "released":
        journal.release()
    elif end == "recovered":
        taken_over(task).recover()
    else:
        taken_over(task).end(Status.STOPPED)
    assert told(task) == (None, 1)


def test_a_free_model_that_took_over_is_free(make_task: MakeTask) -> None:
    task = make_task(provider="gpt", model="gpt-x")
    asks_fallback(task, provider="demo")
    taken_over(task).recover()
    assert told(task) == (Decimal(0), 0)


# --- tasks from before -----------------------------------------------------------------------------------------------


def test_tasks_from_before_the_counter_are_counted(alice: User, demo: Agent) -> None:
    when, nothing = datetime.now(UTC), {"finish_reason": "", "input_tokens": 0, "output_tokens": 0, "text": ""}
    turn = asked(alice, make_agent(), "Hello", when)
    answered(turn, None)
    answered(turn, "0.5", 2)
    answered(turn, None, 3, status="cancelled", **nothing | {"text": "Half"})
    answered(turn, None, 4, status="failed", error_kind="interrupted", **nothing)
    answered(turn, None, 5, status="failed", error_kind="rate_limit", **nothing)
    answered(turn, None, 6, status="failed", error_kind="rate_limit", **nothing | {"text": "Half"})
    answered(turn, None, 7, status="started", **nothing)
    answered(turn, None, 8, kind="tool", status="done", provider="", **nothing)
    shown = asked(alice, demo, "Hello", when)
    answered(shown, None)
    Task.objects.update(unpriced_calls=0)
    import_module("executor.migrations.0005_unknown_costs").count_unknown_costs(apps, None)
    assert Task.objects.get(pk=turn.task_id).unpriced_calls == 4
    assert Task.objects.get(pk=shown.task_id).unpriced_calls == 0
    assert Step.objects.get(task=turn.task_id, seq=5).cost == 0
    total = usage(Period.named("30", timezone.localdate()), alice).total
    assert (total.cost, total.unpriced) == (Decimal("0.5"), 4)
