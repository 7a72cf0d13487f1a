"""What a task and those below it may use together."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db.models import F, Sum
from django.db.models.functions import Now

from executor import decisions, shared
from executor.allowance import BudgetHeld, BudgetUsedUp
from executor.core.events import Finished
from executor.core.limits import Spent
from executor.core.messages import Usage, assistant
from executor.journal import Journal
from executor.models import Decision, Status, Step, Task
from tests.executor.conftest import MakeScript, MakeTask, claimed, in_threads
from tests.executor.scripted import Script, call, say
from tests.executor.test_decisions import begin
from tests.executor.test_sub_tasks import agent, below, entry, run

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_server")]

Functions = Callable[[], list[str]]
Family = Callable[..., tuple[Task, list[Task]]]
PRICED: dict[str, Any] = {"input_price": Decimal(1_000), "output_price": Decimal(1_000)}


@pytest.fixture
def family(make_task: MakeTask, scripted: MakeScript) -> Family:
    """A task that waits for so many others, which may be asked for answers of 1,000 tokens each: it, and they."""

    def make(count: int, other: Script | None = None, **own: Any) -> tuple[Task, list[Task]]:
        plan = [entry(str(n)) for n in range(count)]
        usage = Usage(10, 10)
        script = scripted(say(call("run_plan", tasks=plan), usage=usage))
        answers = {"parameters": {"max_tokens": 1_000}, "functions": ["look"], "on_unknown": "tell_model"}
        agent("writer", other or scripted(), **{**answers, **PRICED})
        task = make_task("Go.", script, functions=["run_plan"], **{**PRICED, **own})
        assert run(task) == Status.AWAITING
        return task, [below(task, str(n)) for n in range(count)]

    return make


def ask(journal: Journal) -> str:
    try:
        journal.begin_model(350)  # A hundred tokens, and up to a thousand.
    except (BudgetHeld, BudgetUsedUp) as error:
        return error.kind
    return "asked"


@pytest.mark.parametrize("limit", [{"max_tokens": 5_000}, {"max_cost": Decimal(5)}])
def test_tasks_side_by_side_cannot_pass_together_what_the_one_at_the_top_may_use(
    family: Family, limit: dict[str, Any]
) -> None:
    task, given = family(10, **limit)
    journals = [claimed(child) for child in given]
    assert sorted(in_threads(10, lambda n: ask(journals[n]))) == ["asked"] * 5 + ["budget_held"] * 5
    tree = Task.objects.filter(root=task)
    # The fifth was allowed what the others left.
    assert tree.aggregate(held=Sum("reserved_tokens"))["held"] == 5_000 - 20
    begun = [journal for journal in journals if Step.objects.filter(task=journal.task_id).exists()]
    assert sorted(journal.longest_answer or 0 for journal in begun) == [480, 1_000, 1_000, 1_000, 1_000]


def test_what_others_hold_is_waited_for_and_used_when_they_give_it_back(family: Family, scripted: MakeScript) -> None:
    script = scripted(say("A poem."))
    _, (first, second) = family(2, script, max_tokens=1_300)
    journal = claimed(first)
    assert ask(journal) == "asked"
    assert run(second) == Status.RETRYING
    assert second.error.startswith("Tasks beside it hold what is left")
    journal.finish_model(1, Finished(assistant("Hi."), "stop", Usage(100, 50)), Spent(), {}, None)
    Task.objects.filter(pk=second.pk).update(not_before=Now())
    assert run(second) == Status.DONE


def test_what_is_used_up_ends_those_below_and_the_person_of_the_one_at_the_top_is_asked(
    family: Family, scripted: MakeScript
) -> None:
    task, (child,) = family(1, max_tokens=5_000)
    Task.objects.filter(pk=child.pk).update(output_tokens=4_900)
    assert run(child) == Status.FAILED
    assert child.error_kind == "budget"
    assert child.error.startswith(
        "It and the tasks that were given for it used 4,920 of the 5,000 tokens that they may,"
    )
    assert child.error_hint == "Whoever gave the task can allow more, and give it again."
    assert run(task) == Status.WAITING
    limit = task.decisions.get(kind=Decision.Kind.LIMIT)
    assert (limit.details["limit"], limit.details["used"]) == ("tokens", 4_920)


def test_the_one_at_the_top_may_be_allowed_more_for_all(family: Family) -> None:
    task, (child,) = family(1, max_tokens=5_000)
    Task.objects.filter(pk=child.pk).update(output_tokens=4_900)
    journal = claimed(child)
    assert ask(journal) == "budget"
    Task.objects.filter(pk=task.pk).update(allowed={"tokens": 1_000})
    assert ask(journal) == "asked"


def test_function_calls_are_counted_together(family: Family, functions: Functions) -> None:
    task, given = family(3, max_tool_calls=2)
    journals = [claimed(child) for child in given]
    calls = [call("look", topic=str(n)) for n in range(3)]

    def start(n: int) -> str:
        seq = journals[n].begin_model(350)
        asks = Finished(assistant("", calls[n]), "tool_calls", Usage(10, 2))
        journals[n].finish_model(seq, asks, Spent(), {}, None)
        try:
            journals[n].start_tools([calls[n]])
        except BudgetUsedUp as error:
            return error.message
        return "began"

    refused = "It and the tasks that were given for it reached the limit of 2 function calls."
    assert sorted(in_threads(3, start)) == [refused, "began", "began"]
    asked_for = Step.objects.filter(task__root=task, kind=Step.Kind.TOOL)
    assert sorted(asked_for.values_list("status", flat=True)) == ["pending", "started", "started"]


def test_calls_of_the_one_at_the_top_count_those_of_the_others(
    make_task: MakeTask, scripted: MakeScript, functions: Functions
) -> None:
    given = scripted(say(call("look", topic="a")), say("All about a."))
    agent("writer", given)
    script = scripted(say(call("delegate", agent="writer", task="Look.")), say(call("look", topic="b")))
    task = make_task("Go.", script, max_tool_calls=1)
    run(task)
    assert run(below(task)) == Status.DONE
    assert run(task) == Status.WAITING
    details = task.decisions.get(kind=Decision.Kind.LIMIT).details
    assert (details["limit"], details["used"], details["allowed"]) == ("tool_calls", 1, 1)
    assert functions() == ["look"]


def test_the_time_of_the_one_at_the_top_is_for_all(family: Family) -> None:
    task, (child,) = family(1, max_seconds=60)
    long_ago = {"started_at": Now() - timedelta(seconds=100), "deadline_at": Now() - timedelta(seconds=40)}
    Task.objects.filter(pk=task.pk).update(**long_ago)
    assert run(child) == Status.FAILED
    assert child.error == "The time that it shares with the task which gave it is over."
    assert run(task) == Status.WAITING
    assert task.decisions.get(kind=Decision.Kind.LIMIT).details["limit"] == "seconds"


def test_what_a_person_takes_to_decide_is_no_part_of_the_time_of_the_tasks_above(
    make_task: MakeTask, scripted: MakeScript, functions: Functions
) -> None:
    agent("writer", scripted(say(call("order", text="Ink")), say("Ordered.")))
    script = scripted(say(call("delegate", agent="writer", task="Order.")), say("Good."))
    task = make_task("Go.", script, max_seconds=60)
    run(task)
    child = below(task)
    assert run(child) == Status.WAITING
    before = Task.objects.get(pk=task.pk).deadline_at
    Task.objects.filter(pk=child.pk).update(not_before=F("not_before") - timedelta(hours=1))
    decisions.allow(child.decisions.get(), task.user)
    after = Task.objects.get(pk=task.pk).deadline_at
    assert before
    assert after
    assert timedelta(hours=1) <= after - before < timedelta(hours=1, minutes=1)
    assert run(child) == Status.DONE
    assert run(task) == Status.DONE


def test_what_the_others_take_is_part_of_its_time(family: Family) -> None:
    task, (child,) = family(1)
    before = Task.objects.get(pk=task.pk).deadline_at
    Task.objects.filter(pk=task.pk).update(not_before=F("not_before") - timedelta(hours=1))
    claimed(child).end(Status.DONE)
    task.refresh_from_db()
    assert (task.status, task.deadline_at) == (Status.QUEUED, before)


def test_a_task_that_gives_none_looks_at_nobody_else(
    make_task: MakeTask, scripted: MakeScript, functions: Functions, django_assert_num_queries: Any
) -> None:
    journal = claimed(make_task("Go."))
    begin(journal, call("look", topic="a"))
    with django_assert_num_queries(4):  # Begin, hold, insert, commit.
        journal.begin_model(100)
    assert not shared.shares(journal.task)


def test_rounds_are_each_tasks_own(family: Family, scripted: MakeScript) -> None:
    others = scripted(say("One."), say("Two."), say("Three."))
    _, given = family(3, others, max_iterations=2)
    assert [run(child) for child in given] == [Status.DONE] * 3
