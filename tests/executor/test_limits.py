"""Limits that hold: of a task and of a person's day, what is asked at one, and what comes of the answer."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.db.models.functions import Now
from django.utils import timezone

from executor import accounts, actions, decisions, queue
from executor.accounts import DayLimits, Reservation
from executor.core.errors import LimitReached, LLMError
from executor.core.events import Finished
from executor.core.limits import Spent
from executor.core.messages import Usage, assistant
from executor.core.summary import ASKED
from executor.decisions import TooLate, WrongAnswer
from executor.models import DayAccount, Decision, Status, Step, Task
from executor.run import Interruption, Run
from tests.executor.conftest import MakeScript, MakeTask, claimed, in_threads, taken_over
from tests.executor.scripted import Hold, call, say
from tests.executor.test_decisions import asked, begin, run, steps, told
from tests.executor.test_run import execute, reach
from tools.core.toolbox import Outcome
from users.models import User

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_server")]

Functions = Callable[[], list[str]]
#: A dollar for each token read, so that little is much.
PRICED: dict[str, Any] = {"input_price": Decimal(1_000), "output_price": Decimal(1_000)}
A_DAY = timedelta(days=1)


@pytest.fixture
def alice(make_task: MakeTask) -> User:
    return User.objects.get_or_create(username="alice")[0]


def look(topic: str = "tides", **options: Any) -> Any:
    return say(call("look", topic=topic), **options)


def reached(task: Task) -> dict[str, Any]:
    """What its person is told of the limit at which it waits."""
    decision = asked(task)
    assert (task.status, decision.kind, decision.step) == (Status.WAITING, Decision.Kind.LIMIT, None)
    return dict(decision.details)


def account(user: User) -> tuple[Any, ...]:
    """Tokens and dollars, and what is reserved of both."""
    row = DayAccount.objects.get(user=user)
    return row.tokens, row.cost, row.reserved_tokens, row.reserved


# --- of a task -------------------------------------------------------------------------------------------------------


def test_at_the_limit_of_rounds_it_waits_and_goes_on_with_as_many_more_as_are_allowed(
    make_task: MakeTask, scripted: MakeScript, functions: Functions, alice: User
) -> None:
    task = make_task("Go.", scripted(look("a"), look("b"), look("c"), say("Done.")), max_iterations=2)
    assert run(task) == Status.WAITING
    assert (task.owner, task.lease_until) == ("", None)
    assert reached(task) == {
        "limit": "iterations",
        "used": 2,
        "allowed": 2,
        "more": 2,
        "unit": "rounds",
        "sentence": "It reached its limit of 2 rounds with the model.",
    }
    assert [status for _, status in steps(task)] == ["done"] * 4
    decisions.go_on(asked(task), alice, 1)
    assert run(task) == Status.WAITING
    assert reached(task)["allowed"] == 3
    decisions.go_on(asked(task), alice)
    assert run(task) == Status.DONE
    assert task.allowed == {"iterations": 3}
    assert [decision.details["given"] for decision in task.decisions.all()] == [1, 2]


def test_calls_beyond_the_limit_wait_with_the_task_and_are_run_when_it_goes_on(
    make_task: MakeTask, scripted: MakeScript, functions: Functions, alice: User
) -> None:
    script = scripted(look("a"), say(call("look", topic="b"), call("look", topic="c")), say("Done."))
    task = make_task("Go.", script, max_tool_calls=1)
    assert run(task) == Status.WAITING
    assert (reached(task)["used"], reached(task)["more"]) == (1, 3)  # Two of which it knows, and as many as before.
    assert functions() == ["look"]
    decisions.go_on(asked(task), alice)
    assert run(task) == Status.DONE
    assert functions() == ["look"] * 3


def test_the_limit_of_tokens_counts_what_was_read_and_written(
    make_task: MakeTask, scripted: MakeScript, functions: Functions, alice: User
) -> None:
    script = scripted(look(usage=Usage(9_000, 1_000)), say("Done."))
    task = make_task("Go.", script, max_tokens=10_000, functions=["look"])
    assert run(task) == Status.WAITING
    assert (reached(task)["limit"], reached(task)["used"], reached(task)["more"]) == ("tokens", 10_000, 10_000)
    decisions.go_on(asked(task), alice, "5000")
    assert run(task) == Status.DONE


def test_the_limit_of_money_counts_what_answers_cost(
    make_task: MakeTask, scripted: MakeScript, functions: Functions, alice: User
) -> None:
    script = scripted(look(usage=Usage(3_000, 2_000)), say("Done."))
    task = make_task("Go.", script, max_cost=Decimal(5), functions=["look"], **PRICED)
    assert run(task) == Status.WAITING
    details = reached(task)
    assert (details["used"], details["allowed"], details["more"]) == ("5", "5", "5.00")
    assert details["sentence"] == "It reached its limit of $5.00."
    decisions.go_on(asked(task), alice, "2.5")
    assert run(task) == Status.DONE
    assert task.allowed == {"cost": "2.5"}


@pytest.mark.parametrize(
    ("limits", "sentence", "more"),
    [
        ({"max_tokens": 300}, "It used 0 of the 300 tokens that it may, and the next question takes 356 tokens.", 356),
        (
            {"max_cost": Decimal("0.3"), **PRICED},
            "It used $0.00 of the $0.30 that it may, and the next question takes $0.36.",
            "0.36",
        ),
    ],
)
def test_a_question_that_does_not_fit_into_what_is_left_is_not_asked(
    make_task: MakeTask, scripted: MakeScript, limits: dict[str, Any], sentence: str, more: Any
) -> None:
    task = make_task("A" * 350, scripted(), functions=[], **limits)
    assert run(task) == Status.WAITING
    assert (reached(task)["sentence"], reached(task)["more"]) == (sentence, more)
    assert (steps(task), task.reserved_tokens, task.input_tokens) == ([], 0, 0)


@pytest.mark.parametrize("limits", [{"max_tokens": 1_000}, {"max_cost": Decimal(1), **PRICED}])
def test_an_answer_may_be_as_long_as_what_is_left(
    make_task: MakeTask, scripted: MakeScript, limits: dict[str, Any]
) -> None:
    script = scripted(say("A"))
    run(make_task("A" * 350, script, functions=[], **limits))
    assert script.longest == [900]
    script = scripted(say("A"))
    run(make_task("A" * 350, script, functions=[], parameters={"max_tokens": 500}, **limits))
    assert script.longest == [500]
    script = scripted(say("A"))
    run(make_task("A" * 350, script, functions=[]))
    assert script.longest == [None]


def test_an_answer_that_the_limit_cut_off_is_asked_for_again_when_it_is_raised(
    make_task: MakeTask, scripted: MakeScript, alice: User
) -> None:
    half = say("Once upon", usage=Usage(100, 900), reason="length")
    script = scripted(half, say("Once upon a time."))
    task = make_task("A" * 350, script, functions=[], max_tokens=1_000)
    assert run(task) == Status.WAITING
    assert reached(task)["sentence"] == "Its answer did not fit into the limit of 1,000 tokens."
    assert [(step.status, step.text, step.output_tokens) for step in task.steps.all()] == [("failed", "Once upon", 900)]
    assert task.input_tokens + task.output_tokens == 1_000
    decisions.go_on(asked(task), alice)
    assert run(task) == Status.DONE
    assert script.asked[1][-1].text == "A" * 350


def test_an_attempt_that_replaces_another_may_use_less(make_task: MakeTask, scripted: MakeScript) -> None:
    broken = say("Once", LLMError("server", "It broke."), usage=Usage(100, 300))
    script = scripted(broken, say("Once upon a time."))
    task = make_task("A" * 350, script, functions=[], max_tokens=2_000)
    assert run(task) == Status.DONE
    assert script.longest == [1_900, 1_500]


def test_at_the_limit_of_time_it_waits_and_keeps_what_was_said(
    make_task: MakeTask, scripted: MakeScript, alice: User
) -> None:
    task = make_task("Go.", scripted(say("Once upon", Hold()), say("Once upon a time.")), max_seconds=1)
    assert run(task) == Status.WAITING
    assert reached(task)["sentence"] == "It reached its time limit of 1 s."
    assert [(step.status, step.text) for step in task.steps.all()] == [("cancelled", "Once upon")]
    decisions.go_on(asked(task), alice, 60)
    journal = claimed(task)
    assert journal.seconds_left is not None
    assert 55 < journal.seconds_left <= 60
    execute(journal)
    task.refresh_from_db()
    assert (task.status, task.steps.latest("seq").text) == (Status.DONE, "Once upon a time.")


def test_a_call_that_may_have_run_when_the_time_was_up_is_asked_about_as_well(
    make_task: MakeTask, scripted: MakeScript, functions: Functions, alice: User
) -> None:
    script = scripted(say(call("block", seconds=1.5), call("wait", seconds=30)), say("Well."))
    task = make_task("Go.", script, max_seconds=1)
    assert run(task) == Status.WAITING
    assert steps(task)[1:] == [("block", "waiting"), ("wait", "pending")]
    limit, unknown = task.decisions.order_by("-kind")[1], task.decisions.order_by("-kind")[0]
    assert (limit.kind, unknown.kind) == (Decision.Kind.LIMIT, Decision.Kind.UNKNOWN)
    decisions.go_on(limit, alice)
    assert Task.objects.get(pk=task.pk).status == Status.WAITING
    decisions.it_did(unknown, alice)
    assert Task.objects.get(pk=task.pk).status == Status.QUEUED
    actions.stop(task)
    script.asked.append(())  # It is not asked any more.


def test_an_agent_that_is_to_end_then_ends_at_the_limit_of_time(
    make_task: MakeTask, scripted: MakeScript, functions: Functions
) -> None:
    task = make_task("Go.", scripted(say(call("block", seconds=1.5))), max_seconds=1, on_unknown="fail")
    assert run(task) == Status.FAILED
    assert task.error_kind == "doubtful"


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ("many", "Give a whole number of rounds"),
        ("1.5", "Give a whole number of rounds"),
        ("NaN", "Give a whole number of rounds"),
        ("0", "more than 0 and at most 1,000 rounds"),
        (-3, "more than 0 and at most 1,000 rounds"),
        (10**9, "more than 0 and at most 1,000 rounds"),
    ],
)
def test_what_is_no_amount_changes_nothing(
    make_task: MakeTask, scripted: MakeScript, functions: Functions, alice: User, more: Any, sentence: str
) -> None:
    task = make_task("Go.", scripted(look()), max_iterations=1)
    run(task)
    with pytest.raises(WrongAnswer, match=sentence):
        decisions.go_on(asked(task), alice, more)
    task.refresh_from_db()
    assert (task.status, task.allowed) == (Status.WAITING, {})


def test_of_answers_at_once_one_counts(
    make_task: MakeTask, scripted: MakeScript, functions: Functions, alice: User
) -> None:
    task = make_task("Go.", scripted(look(), say("Done.")), max_iterations=1)
    run(task)
    decision = asked(task)

    def decide(_: int) -> str:
        try:
            decisions.go_on(Decision.objects.get(pk=decision.pk), alice, 4)
        except TooLate:
            return "too late"
        return "taken"

    assert sorted(in_threads(4, decide)) == ["taken", "too late", "too late", "too late"]
    assert run(task) == Status.DONE
    assert task.allowed == {"iterations": 4}


def test_a_limit_that_nobody_raises_ends_the_task_and_a_stop_does_at_once(
    make_task: MakeTask, scripted: MakeScript, functions: Functions, alice: User
) -> None:
    waits, stopped = (make_task("Go.", scripted(look()), max_iterations=1) for _ in range(2))
    run(waits)
    run(stopped)
    decision = asked(stopped)
    assert actions.stop(stopped)
    with pytest.raises(TooLate, match="was stopped before"):
        decisions.go_on(decision, alice)
    Decision.objects.filter(task=waits).update(expires_at=Now() - A_DAY)
    assert decisions.expire() == 1
    waits.refresh_from_db()
    assert (waits.status, waits.stop_reason) == (Status.STOPPED, "expired")


# --- counting --------------------------------------------------------------------------------------------------------


def test_a_restart_resets_nothing(make_task: MakeTask, scripted: MakeScript, functions: Functions) -> None:
    silent = Hold()
    task = make_task("Go.", scripted(look(), say(silent), say(call("look", topic="b"))), max_iterations=2)

    async def meanwhile(run: Run) -> None:
        await reach(silent)
        run.interrupt(Interruption.HAND_OVER)

    execute(claimed(task), meanwhile)
    assert run(task) == Status.WAITING
    assert reached(task)["used"] == 2
    assert functions() == ["look"] * 2


def test_a_call_is_counted_together_with_what_it_did_also_if_the_worker_dies_right_after(
    make_task: MakeTask, functions: Functions
) -> None:
    task, kept, broken = make_task(), call("keep", what="a"), call("keep", what="b")
    journal = claimed(task)
    begin(journal, kept, broken)
    journal.transact(kept, lambda: Outcome(Group.objects.create(name="a").name))
    journal.transact(broken, lambda: Outcome("no", is_error=True, error_kind="exception"))
    assert taken_over(task).spent.tool_calls == 2
    task.refresh_from_db()
    assert (task.tool_calls, task.failed_calls) == (2, 1)


def test_a_call_that_may_have_run_is_counted(make_task: MakeTask, functions: Functions) -> None:
    task = make_task()
    begin(claimed(task), call("send", text="a"))
    journal = taken_over(task)
    journal.recover()
    assert journal.spent.tool_calls == 1
    task.refresh_from_db()
    assert task.tool_calls == 1


def test_what_failed_attempts_took_counts_also_for_the_model_that_takes_over(make_task: MakeTask) -> None:
    task = make_task(max_tokens=1_000, **PRICED)
    journal = claimed(task)
    journal.fail_model(
        journal.begin_model(), LLMError("server", "Broke off."), "Half", usage=Usage(100, 20), begun=True
    )
    assert journal.spent == Spent(0, 120, 0, Decimal("0.12"))
    assert taken_over(task).spent == Spent(0, 120, 0, Decimal("0.12"))


# --- a summary -------------------------------------------------------------------------------------------------------


def test_a_task_can_end_at_its_limit_with_a_summary(
    make_task: MakeTask, scripted: MakeScript, functions: Functions, alice: User
) -> None:
    script = scripted(look("a"), say(call("look", topic="b"), call("order", text="x")), say("I looked a up."))
    task = make_task("Go.", script, max_tool_calls=1)
    run(task)
    limit = task.decisions.get(kind=Decision.Kind.LIMIT)
    decisions.summarise(limit, alice)
    assert run(task) == Status.STOPPED
    assert (task.stop_reason, task.error) == ("tool_calls", "It reached its limit of 1 function calls.")
    assert steps(task)[-3:] == [("look", "cancelled"), ("order", "cancelled"), ("model", "done")]
    assert script.offered[-1] == ()
    assert script.asked[-1][-1].text == ASKED
    assert not any(message.tool_calls or message.tool_results for message in script.asked[-1])
    assert "All about a." in "".join(message.text for message in script.asked[-1])
    follower = make_task("Thanks.", after := scripted(say("Welcome.")), previous=task)
    assert run(follower) == Status.DONE
    assert [message.text for message in after.asked[0] if message.role == "assistant"][-1] == "I looked a up."


def test_a_summary_calls_nothing_whatever_the_model_wants(
    make_task: MakeTask, scripted: MakeScript, functions: Functions, alice: User
) -> None:
    task = make_task("Go.", scripted(look("a"), say("Well.", call("look", topic="b"))), max_iterations=1)
    run(task)
    decisions.summarise(asked(task), alice)
    assert run(task) == Status.STOPPED
    assert functions() == ["look"]
    assert steps(task)[-1] == ("model", "done")


def test_a_message_that_was_to_go_into_the_task_is_not_swallowed_by_the_summary(
    make_task: MakeTask, scripted: MakeScript, functions: Functions, alice: User
) -> None:
    task = make_task("Go.", scripted(look("a"), say("I looked.")), max_iterations=1)
    run(task)
    after = make_task("Wait!", previous=task)
    queue.steer(after)
    decisions.summarise(asked(task), alice)
    assert run(task) == Status.STOPPED
    assert Task.objects.filter(pk=after.pk, status=Status.QUEUED).exists()


def test_a_summary_is_asked_for_again_by_the_next_worker_but_not_twice(
    make_task: MakeTask, scripted: MakeScript, functions: Functions, alice: User
) -> None:
    task = make_task("Go.", scripted(look("a"), say("I looked.")), max_iterations=1)
    run(task)
    decisions.summarise(asked(task), alice)
    claimed(task).begin_model()
    execute(taken_over(task))
    task.refresh_from_db()
    assert task.status == Status.STOPPED
    twice = make_task("Go.", scripted(look("a")), max_iterations=1)
    run(twice)
    decisions.summarise(asked(twice), alice)
    journal = claimed(twice)
    journal.finish_model(journal.begin_model(), Finished(assistant("I looked."), "stop"), Spent(), {}, None)
    execute(taken_over(twice))
    twice.refresh_from_db()
    assert (twice.status, twice.stop_reason) == (Status.STOPPED, "iterations")


def test_a_task_ends_at_its_limit_also_if_nobody_gives_the_summary(
    make_task: MakeTask, scripted: MakeScript, functions: Functions, alice: User
) -> None:
    task = make_task("Go.", scripted(look("a"), say(LLMError("auth", "No."))), max_iterations=1)
    run(task)
    decisions.summarise(asked(task), alice)
    assert run(task) == Status.STOPPED
    assert (task.stop_reason, task.error) == ("iterations", "It reached its limit of 1 round with the model.")


# --- of a person's day -----------------------------------------------------------------------------------------------


def limited(user: User, tokens: int | None = None, cost: str | None = None) -> None:
    User.objects.filter(pk=user.pk).update(max_tokens_per_day=tokens, max_cost_per_day=cost and Decimal(cost))


def test_what_everybody_uses_on_a_day_is_counted_with_the_answers(
    make_task: MakeTask, scripted: MakeScript, functions: Functions, alice: User
) -> None:
    for _ in range(2):
        run(make_task("Go.", scripted(look(usage=Usage(100, 20)), say("Done.", usage=Usage(200, 30))), **PRICED))
    assert account(alice) == (700, Decimal("0.7"), 0, 0)
    assert DayAccount.objects.get().day == timezone.localdate()


def test_where_no_limit_applies_nothing_is_reserved_and_a_question_costs_no_transaction_more(
    make_task: MakeTask, scripted: MakeScript, alice: User, django_assert_num_queries: Any
) -> None:
    task = make_task("Go.", **PRICED)
    journal = claimed(task)
    with django_assert_num_queries(4):  # Begin, hold, insert, commit.
        journal.begin_model(100)
    assert not DayAccount.objects.exists()
    assert Task.objects.get(pk=task.pk).reserved is None


def test_a_question_is_asked_only_if_what_it_may_use_at_most_fits_into_the_day(
    make_task: MakeTask, scripted: MakeScript, alice: User
) -> None:
    limited(alice, tokens=1_000)
    script = scripted(say("Done.", usage=Usage(10, 5)))
    task = make_task("Go.", script, parameters={"max_tokens": 5_000})
    assert run(task) == Status.WAITING
    details = reached(task)
    assert (details["limit"], details["used"], details["allowed"], details["more"]) == ("day_tokens", 0, 1_000, None)
    assert "Your tasks used 0 of the 1,000 tokens" in details["sentence"]
    assert "tomorrow at 00:00 (UTC), and an administrator can raise it" in details["sentence"]
    assert details["renews_at"] == accounts.renews_at(timezone.localdate()).isoformat()
    assert steps(task) == []
    decisions.go_on(asked(task), alice)  # It just tries again.
    assert run(task) == Status.WAITING
    limited(alice, tokens=10_000)
    decisions.go_on(asked(task), alice)
    assert run(task) == Status.DONE
    assert account(alice) == (15, 0, 0, 0)


def test_a_limit_that_was_raised_while_a_task_is_at_work_holds_for_it(make_task: MakeTask, alice: User) -> None:
    limited(alice, tokens=10)
    journal = claimed(make_task("Go."))
    limited(alice, tokens=100_000)
    assert journal.begin_model(100) == 1


def test_a_result_is_on_record_although_the_next_question_does_not_fit(
    make_task: MakeTask, scripted: MakeScript, functions: Functions, alice: User
) -> None:
    limited(alice, cost="1")
    script = scripted(look(usage=Usage(700, 200)))
    task = make_task("Go.", script, functions=["look"], parameters={"max_tokens": 500}, **PRICED)
    assert run(task) == Status.WAITING
    assert (reached(task)["limit"], reached(task)["used"]) == ("day_cost", "0.9")
    assert steps(task) == [("model", "done"), ("look", "done")]
    task.refresh_from_db()
    assert (task.head_seq, task.reserved, task.reserved_tokens, task.reserved_on) == (2, None, 0, None)
    assert account(alice) == (900, Decimal("0.9"), 0, 0)


def test_a_summary_that_the_day_does_not_allow_is_left_out(
    make_task: MakeTask, scripted: MakeScript, functions: Functions, alice: User
) -> None:
    limited(alice, cost="1")
    script = scripted(look(usage=Usage(700, 200)))
    task = make_task("Go.", script, functions=["look"], parameters={"max_tokens": 500}, **PRICED)
    run(task)
    decisions.summarise(asked(task), alice)
    assert run(task) == Status.STOPPED
    assert task.stop_reason == "day_cost"


def test_tasks_side_by_side_cannot_pass_the_limit_together(make_task: MakeTask, alice: User) -> None:
    limited(alice, cost="10")
    tasks = [make_task("Go.", parameters={"max_tokens": 1_000}, **PRICED) for _ in range(16)]
    journals = [claimed(task) for task in tasks]

    def ask(number: int) -> str:
        try:
            journals[number].begin_model(350)  # A hundred tokens, and up to a thousand: $1.10.
        except LimitReached as error:
            return error.limit
        return "asked"

    assert sorted(in_threads(16, ask)) == ["asked"] * 9 + ["day_cost"] * 7
    assert account(alice) == (0, 0, 9 * 1_100, Decimal("9.9"))
    begun = [journal for journal in journals if Step.objects.filter(task=journal.task_id).exists()]
    for journal in begun:
        journal.finish_model(1, Finished(assistant("Hi."), "stop", Usage(100, 50)), Spent(), {}, None)
    assert account(alice) == (9 * 150, Decimal("1.35"), 0, 0)


@pytest.mark.parametrize("how", ["dies", "hands over", "is stopped", "fails", "waits for its provider", "loses it all"])
def test_what_was_reserved_is_given_back_whatever_becomes_of_the_question(
    make_task: MakeTask, alice: User, how: str
) -> None:
    limited(alice, tokens=100_000, cost="100")
    task = make_task("Go.", parameters={"max_tokens": 1_000}, **PRICED)
    journal = claimed(task)
    seq = journal.begin_model(350)
    assert account(alice) == (0, 0, 1_100, Decimal("1.1"))
    match how:
        case "dies":
            taken_over(task).recover()
        case "hands over":
            journal.release()
        case "is stopped":
            journal.end(Status.STOPPED)
        case "fails":
            journal.fail_model(seq, LLMError("auth", "No."), "")
        case "waits for its provider":
            journal.postpone(LLMError("rate_limit", "Slowly."), 30)
        case "loses it all":
            taken_over(task).end(Status.NEEDS_ATTENTION)
    assert account(alice) == (0, 0, 0, 0)
    task.refresh_from_db()
    assert (task.reserved, task.reserved_tokens, task.reserved_on) == (None, 0, None)


def test_an_attempt_that_replaces_another_takes_over_what_was_reserved(make_task: MakeTask, alice: User) -> None:
    limited(alice, tokens=2_000)
    journal = claimed(make_task("Go.", parameters={"max_tokens": 1_000}))
    seq = journal.begin_model(350)
    journal.fail_model(seq, LLMError("server", "Broke."), "Half", usage=Usage(80, 20), begun=True, later=True)
    journal.begin_model(350)
    assert account(alice) == (100, 0, 1_100, 0)


def test_a_question_is_estimated_by_what_the_provider_counted_last(make_task: MakeTask, alice: User) -> None:
    limited(alice, tokens=100_000)
    journal = claimed(make_task("Go.", parameters={"max_tokens": 1_000}))
    seq = journal.begin_model(350)
    journal.finish_model(seq, Finished(assistant("Hi."), "stop", Usage(350, 10)), Spent(), {}, None)
    journal.begin_model(700)
    assert account(alice) == (360, 0, 1_700, 0)


def test_what_was_reserved_before_midnight_is_given_back_to_the_day_before(alice: User) -> None:
    today, yesterday = date(2026, 11, 20), date(2026, 11, 19)
    held = Reservation(yesterday, 100, Decimal(1))
    assert accounts.reserve(alice.pk, held, DayLimits(tokens=100))
    assert not accounts.reserve(alice.pk, held, DayLimits(tokens=199))
    accounts.book(alice.pk, today, 30, Decimal("0.3"), held)
    rows: Any = DayAccount.objects.order_by("day").values_list("day", "tokens", "cost", "reserved_tokens", "reserved")
    assert list(rows) == [(yesterday, 0, 0, 0, 0), (today, 30, Decimal("0.3"), 0, 0)]


def test_dollars_fit_to_the_last_cent(alice: User) -> None:
    """Where a database counts in floating point, 0.1 + 0.2 would be more than 0.3."""
    day, limits = timezone.localdate(), DayLimits(cost=Decimal("0.3"))
    assert accounts.reserve(alice.pk, Reservation(day, cost=Decimal("0.1")), limits)
    assert accounts.reserve(alice.pk, Reservation(day, cost=Decimal("0.2")), limits)
    assert not accounts.reserve(alice.pk, Reservation(day, cost=Decimal("0.00000001")), limits)


def test_the_sites_limits_are_for_those_who_have_none_of_their_own(settings: Any, alice: User) -> None:
    assert not DayLimits.of(alice)
    settings.DAY_LIMIT_TOKENS, settings.DAY_LIMIT_COST = 1_000, Decimal("2.5")
    assert DayLimits.of(alice) == DayLimits(1_000, Decimal("2.5"))
    alice.max_tokens_per_day = 5
    assert DayLimits.of(alice) == DayLimits(5, Decimal("2.5"))


# --- circles ---------------------------------------------------------------------------------------------------------


def test_a_task_that_goes_in_circles_is_told_and_then_stopped_with_a_reason(
    make_task: MakeTask, scripted: MakeScript, functions: Functions
) -> None:
    script = scripted(*[look() for _ in range(5)])
    task = make_task("Go.", script, max_iterations=50)
    assert run(task) == Status.STOPPED
    assert (task.stop_reason, task.error_kind) == ("loop", "loop")
    assert task.error == ("It went in circles: it called look 5 times with the same arguments and the same result.")
    assert ["go in circles" in transcript[-1].text for transcript in script.asked] == [False] * 3 + [True] * 2
    assert not task.decisions.exists()


def test_a_task_that_was_taken_over_is_told_the_same_in_the_same_words_and_goes_on_counting(
    make_task: MakeTask, scripted: MakeScript, functions: Functions
) -> None:
    silent = Hold()
    script = scripted(look(), look(), look(), say(silent), look(), look())
    task = make_task("Go.", script, max_iterations=50)

    async def meanwhile(run: Run) -> None:
        await reach(silent)
        run.interrupt(Interruption.HAND_OVER)

    execute(claimed(task), meanwhile)
    assert run(task) == Status.STOPPED
    assert task.stop_reason == "loop"
    before, after = script.asked[3], script.asked[4]
    assert [message.text for message in before] == [message.text for message in after]
    assert told(script.asked[5])["look"] == "All about tides."


def test_an_earlier_task_does_not_count(make_task: MakeTask, scripted: MakeScript, functions: Functions) -> None:
    first = make_task("Go.", scripted(*[look() for _ in range(5)]), max_iterations=50)
    run(first)
    script = scripted(look(), say("All about tides."))
    assert run(make_task("Go on.", script, previous=first)) == Status.DONE
    assert "circles" not in script.asked[1][-1].text
