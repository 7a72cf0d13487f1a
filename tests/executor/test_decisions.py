"""Calls that wait for a person: what is asked, what comes of the answer, and that nothing is done twice or unasked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import timedelta
from uuid import uuid4

import pytest
from django.contrib.auth.models import Group
from django.db.models.functions import Now

from executor import actions, decisions
from executor.approvals import with_changes
from executor.core.events import Finished
from executor.core.limits import Spent
from executor.core.messages import Message, ToolCall, assistant
from executor.database import in_database
from executor.decisions import TooLate, WrongAnswer
from executor.history import OUTCOME_UNKNOWN
from executor.journal import Journal
from executor.lease import LeaseLost
from executor.models import ApprovalRule, Decision, Status, Task
from tests.executor.conftest import MakeScript, MakeTask, claimed, in_threads, taken_over
from tests.executor.scripted import call, say
from tests.executor.test_run import execute
from tools.core.toolbox import Outcome
from tools.registry import get_registry
from users.models import User

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_server")]

Functions = Callable[[], list[str]]


def steps(task: Task) -> list[tuple[str, str]]:
    return [(step.name or "model", step.status) for step in task.steps.order_by("seq")]


def run(task: Task) -> str:
    """One acquisition of the task. Returns its state after that."""
    execute(claimed(task))
    task.refresh_from_db()
    return task.status


def asked(task: Task) -> Decision:
    return task.decisions.get(status=Decision.Status.PENDING)


def told(transcript: Sequence[Message]) -> dict[str, str]:
    """What the model was told last of each function."""
    return {result.name: result.content for message in transcript for result in message.tool_results}


@pytest.fixture
def alice(make_task: MakeTask) -> User:
    return User.objects.get_or_create(username="alice")[0]


# --- may it run? -----------------------------------------------------------------------------------------------------


def test_a_call_that_may_do_harm_waits_without_a_worker_and_runs_once_it_is_allowed(
    make_task: MakeTask, scripted: MakeScript, functions: Functions, alice: User
) -> None:
    script = scripted(say(call("order", text="Hi")), say("Ordered."))
    task = make_task("Go.", script)
    assert run(task) == Status.WAITING
    assert (task.owner, task.lease_until, functions()) == ("", None, [])
    assert steps(task) == [("model", "done"), ("order", "waiting")]
    decision = asked(task)
    assert decision.kind == Decision.Kind.APPROVAL
    decisions.allow(decision, alice)
    task.refresh_from_db()
    assert task.status == Status.QUEUED
    assert run(task) == Status.DONE
    assert functions() == ["order"]
    decision.refresh_from_db()
    assert decision.decided_by == alice
    assert decision.consumed_at is not None
    assert told(script.asked[1])["order"] == "ordered Hi"


def test_calls_that_need_nobody_go_on_meanwhile(
    make_task: MakeTask, scripted: MakeScript, functions: Functions, alice: User
) -> None:
    script = scripted(say(call("order", text="Hi"), call("look", topic="tides")), say("Both."))
    task = make_task("Go.", script)
    assert run(task) == Status.WAITING
    assert functions() == ["look"]
    assert steps(task) == [("model", "done"), ("order", "waiting"), ("look", "done")]
    decisions.allow(asked(task), alice)
    assert run(task) == Status.DONE
    assert functions() == ["look", "order"]


def test_what_is_denied_is_not_run_and_the_model_hears_why(
    make_task: MakeTask, scripted: MakeScript, functions: Functions, alice: User
) -> None:
    script = scripted(say(call("order", text="Hi")), say("Then not."))
    task = make_task("Go.", script)
    run(task)
    decisions.deny(asked(task), alice, "Too expensive.")
    assert run(task) == Status.DONE
    assert functions() == []
    assert steps(task)[1] == ("order", "denied")
    assert told(script.asked[1])["order"] == f"{decisions.DENIED} They said: Too expensive."


def test_changed_arguments_are_what_runs_and_what_the_model_is_told_of(
    make_task: MakeTask, scripted: MakeScript, functions: Functions, alice: User
) -> None:
    script = scripted(say(call("order", text="Hi")), say("Ordered."))
    task = make_task("Go.", script)
    run(task)
    with pytest.raises(WrongAnswer, match="text"):
        decisions.allow(asked(task), alice, {"text": ["no"]})
    decisions.allow(asked(task), alice, {"text": "Ho"})
    assert run(task) == Status.DONE
    assert told(script.asked[1])["order"].endswith("ordered Ho")
    assert '{"text": "Ho"}' in told(script.asked[1])["order"]
    assert task.steps.get(name="order").arguments == {"text": "Hi"}  # What the model said stays what it said.


def test_always_here_holds_for_later_calls_of_the_function_in_the_thread_and_nowhere_else(
    make_task: MakeTask, scripted: MakeScript, functions: Functions, alice: User
) -> None:
    thread = uuid4()
    script = scripted(say(call("order", text="1"), call("order", text="2")), say(call("order", text="3")), say("Done."))
    task = make_task("Go.", script)
    Task.objects.filter(pk=task.pk).update(thread=thread)
    run(task)
    decisions.allow(task.decisions.order_by("pk")[0], alice, always=True)
    assert run(task) == Status.DONE
    assert functions() == ["order"] * 3
    elsewhere = make_task("Go.", scripted(say(call("order", text="4"))))
    assert run(elsewhere) == Status.WAITING


@pytest.mark.parametrize(("policy", "state"), [({"order": "never"}, "done"), ({"*": "never"}, "done")])
def test_an_agent_may_not_ask(
    make_task: MakeTask, scripted: MakeScript, functions: Functions, policy: dict[str, str], state: str
) -> None:
    task = make_task("Go.", scripted(say(call("order", text="Hi")), say("Ordered.")), approvals=policy)
    assert run(task) == state


def test_an_agent_may_always_ask_whatever_was_said_before(
    make_task: MakeTask, scripted: MakeScript, functions: Functions, alice: User
) -> None:
    task = make_task("Go.", scripted(say(call("look", topic="tides"))), approvals={"look": "always"})
    thread = uuid4()
    Task.objects.filter(pk=task.pk).update(thread=thread)
    ApprovalRule.objects.create(user=alice, thread=thread, function="look")
    assert run(task) == Status.WAITING


def test_an_agent_of_a_persons_own_has_no_function_that_asks(
    make_task: MakeTask, scripted: MakeScript, functions: Functions, alice: User
) -> None:
    script = scripted(say(call("order", text="Hi")), say("I cannot."))
    task = make_task("Go.", script, owner=alice)
    assert run(task) == Status.DONE
    assert "order" not in {spec.name for spec in script.offered[0]}
    assert "There is no function 'order'." in told(script.asked[1])["order"]


def test_a_call_with_wrong_arguments_is_not_asked_about(
    make_task: MakeTask, scripted: MakeScript, functions: Functions
) -> None:
    script = scripted(say(call("order", txt="Hi")), say("Sorry."))
    task = make_task("Go.", script)
    assert run(task) == Status.DONE
    assert "txt: there is no such parameter" in told(script.asked[1])["order"]


def test_of_answers_at_once_one_is_taken_and_the_others_hear_which(
    make_task: MakeTask, scripted: MakeScript, functions: Functions, alice: User
) -> None:
    task = make_task("Go.", scripted(say(call("order", text="Hi")), say("Well.")))
    run(task)
    decision = asked(task)

    def decide(number: int) -> str:
        try:
            if number % 2:
                decisions.allow(Decision.objects.get(pk=decision.pk), alice)
            else:
                decisions.deny(Decision.objects.get(pk=decision.pk), alice)
        except TooLate as late:
            return str(late)
        return "taken"

    said = in_threads(8, decide)
    assert said.count("taken") == 1
    assert all(sentence.startswith(("taken", "This was decided already: ")) for sentence in said)
    decision.refresh_from_db()
    assert run(task) == Status.DONE
    assert functions() == (["order"] if decision.choice == "allow" else [])


def test_an_answer_while_other_calls_still_run_is_not_lost(
    make_task: MakeTask, scripted: MakeScript, functions: Functions, alice: User
) -> None:
    """It comes before the task begins to wait, so nobody has to wake it up."""
    script = scripted(say(call("order", text="Hi"), call("wait", seconds=0.5)), say("Both."))
    task = make_task("Go.", script)

    async def answer_soon(_: object) -> None:
        pending = Decision.objects.filter(task=task, status=Decision.Status.PENDING)
        while not await in_database(pending.exists):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await in_database(lambda: decisions.allow(asked(task), alice))

    execute(claimed(task), answer_soon)
    task.refresh_from_db()
    assert task.status == Status.DONE
    assert functions() == ["wait", "order"]


def test_what_was_agreed_to_is_used_up_even_if_the_worker_dies_then(
    make_task: MakeTask, scripted: MakeScript, functions: Functions, alice: User
) -> None:
    task = make_task("Go.", scripted(say(call("order", text="Hi"))))
    run(task)
    decisions.allow(asked(task), alice)
    run_and_die(task, "order")
    task.refresh_from_db()
    assert task.status == Status.WAITING
    assert functions() == []
    assert asked(task).kind == Decision.Kind.UNKNOWN


def test_a_stop_withdraws_the_question(
    make_task: MakeTask, scripted: MakeScript, functions: Functions, alice: User
) -> None:
    task = make_task("Go.", scripted(say(call("order", text="Hi"))))
    run(task)
    decision = asked(task)
    assert actions.stop(task)
    assert steps(task)[1] == ("order", "cancelled")
    with pytest.raises(TooLate, match="was stopped before"):
        decisions.allow(decision, alice)
    assert Task.objects.get(pk=task.pk).status == Status.STOPPED


def test_a_question_that_nobody_answers_expires_and_a_late_answer_is_refused_kindly(
    make_task: MakeTask, scripted: MakeScript, functions: Functions, alice: User
) -> None:
    task = make_task("Go.", scripted(say(call("order", text="Hi"))))
    run(task)
    decision = asked(task)
    assert decision.expires_at is not None
    assert decision.expires_at - decision.created_at == timedelta(days=7)
    assert decisions.expire() == 0
    Decision.objects.update(expires_at=Now() - timedelta(seconds=1))
    assert decisions.expire() == 1
    task.refresh_from_db()
    assert (task.status, task.stop_reason) == (Status.STOPPED, "expired")
    with pytest.raises(TooLate, match="Nobody answered in time"):
        decisions.allow(decision, alice)


def test_the_time_that_a_person_takes_is_not_that_of_the_task(
    make_task: MakeTask, scripted: MakeScript, functions: Functions, alice: User
) -> None:
    task = make_task("Go.", scripted(say(call("order", text="Hi")), say("Ordered.")), max_seconds=60)
    run(task)
    an_hour = timedelta(hours=1)
    task.refresh_from_db()
    assert task.started_at is not None
    assert task.not_before is not None
    assert task.deadline_at is not None
    Task.objects.filter(pk=task.pk).update(
        started_at=task.started_at - an_hour,
        not_before=task.not_before - an_hour,
        deadline_at=task.deadline_at - an_hour,
    )
    decisions.allow(asked(task), alice)
    journal = claimed(task)
    assert journal.seconds_left is not None
    assert 50 < journal.seconds_left <= 60
    execute(journal)


# --- questions and plans ---------------------------------------------------------------------------------------------


def test_a_question_of_the_model_is_answered_by_the_person(
    make_task: MakeTask, scripted: MakeScript, alice: User
) -> None:
    script = scripted(say(call("ask_user", question="Which colour?", choices=["red", "blue"])), say("Red it is."))
    task = make_task("Go.", script)
    assert run(task) == Status.WAITING
    assert asked(task).kind == Decision.Kind.QUESTION
    with pytest.raises(WrongAnswer):
        decisions.answer(asked(task), alice, "  ")
    decisions.answer(asked(task), alice, "red")
    assert run(task) == Status.DONE
    assert told(script.asked[1])["ask_user"] == "red"


def test_a_plan_is_agreed_to_changed_or_refused(make_task: MakeTask, scripted: MakeScript, alice: User) -> None:
    plan = {"goal": "Tea", "steps": ["Boil water", "Wait"]}
    script = scripted(say(call("propose_plan", **plan)), say(call("propose_plan", **plan)), say("Fine."))
    task = make_task("Go.", script)
    run(task)
    decisions.deny(asked(task), alice, "Coffee, please.")
    assert run(task) == Status.WAITING
    decisions.allow(asked(task), alice, {**plan, "steps": ["Boil water", "Drink"]})
    assert run(task) == Status.DONE
    assert [step.status for step in task.steps.filter(name="propose_plan").order_by("seq")] == ["denied", "done"]
    assert "Drink" in told(script.asked[2])["propose_plan"]


def run_and_die(task: Task, name: str) -> None:
    """The call that was agreed to is begun, its worker dies, and another one takes the task up."""
    step = task.steps.get(name=name)
    calls = [ToolCall(step.call_id or "", name, step.arguments)]
    decided = task.decisions.get(status=Decision.Status.DECIDED)
    claimed(task).start_tools(calls, {step.call_id or "": decided})
    execute(taken_over(task))


# --- may have run ----------------------------------------------------------------------------------------------------


def begin(journal: Journal, *calls: ToolCall) -> None:
    """The model asked for these calls, and they are running."""
    asked_for = Finished(assistant("", *calls), "tool_calls")
    journal.finish_model(journal.begin_model(), asked_for, Spent(1), dict(get_registry().functions), None)
    journal.start_tools(calls)


def interrupted(task: Task, *calls: ToolCall) -> None:
    """The worker died while these calls ran, and another one takes the task up."""
    journal = claimed(task)
    begin(journal, *calls)
    execute(taken_over(task))
    task.refresh_from_db()


def test_the_person_says_that_an_interrupted_call_did_run(
    make_task: MakeTask, scripted: MakeScript, functions: Functions, alice: User
) -> None:
    script = scripted(say("Good."))
    task = make_task("Go.", script)
    interrupted(task, call("send", text="Hi"))
    assert (task.status, steps(task)[1]) == (Status.WAITING, ("send", "waiting"))
    assert asked(task).kind == Decision.Kind.UNKNOWN
    decisions.it_did(asked(task), alice, "I saw the mail.")
    assert run(task) == Status.DONE
    assert functions() == []
    assert told(script.asked[0])["send"] == f"{decisions.DID_RUN} They said: I saw the mail."


def test_an_interrupted_call_is_run_again_when_the_person_says_so(
    make_task: MakeTask, scripted: MakeScript, functions: Functions, alice: User
) -> None:
    script = scripted(say("Good."))
    task = make_task("Go.", script)
    interrupted(task, call("order", text="Hi"))
    decisions.run_again(asked(task), alice)
    assert run(task) == Status.DONE
    assert functions() == ["order"]  # Nor is it asked about a second time.
    assert task.steps.get(name="order").attempt == 2


def test_a_call_is_run_again_with_the_arguments_that_the_person_changed(
    make_task: MakeTask, scripted: MakeScript, functions: Functions, alice: User
) -> None:
    script = scripted(say(call("order", text="Hi")), say("Good."))
    task = make_task("Go.", script)
    run(task)
    decisions.allow(asked(task), alice, {"text": "Ho"})
    run_and_die(task, "order")
    assert (asked(task).kind, asked(task).arguments) == (Decision.Kind.UNKNOWN, {"text": "Ho"})
    decisions.run_again(asked(task), alice)
    assert run(task) == Status.DONE
    assert functions() == ["order"]
    assert told(script.asked[-1])["order"] == with_changes({"text": "Ho"}, "ordered Ho")


def test_the_model_is_told_with_which_arguments_a_call_did_run(
    make_task: MakeTask, scripted: MakeScript, functions: Functions, alice: User
) -> None:
    script = scripted(say(call("order", text="Hi")), say("Good."))
    task = make_task("Go.", script)
    run(task)
    decisions.allow(asked(task), alice, {"text": "Ho"})
    run_and_die(task, "order")
    decisions.it_did(asked(task), alice)
    assert run(task) == Status.DONE
    assert told(script.asked[-1])["order"] == with_changes({"text": "Ho"}, decisions.DID_RUN)


def test_an_interrupted_call_is_skipped(
    make_task: MakeTask, scripted: MakeScript, functions: Functions, alice: User
) -> None:
    script = scripted(say("Good."))
    task = make_task("Go.", script)
    interrupted(task, call("send", text="Hi"), call("send", text="Ho"))
    first, second = task.decisions.order_by("pk")
    decisions.skip(first, alice)
    assert Task.objects.get(pk=task.pk).status == Status.WAITING
    decisions.run_again(second, alice)
    assert run(task) == Status.DONE
    assert functions() == ["send"]
    assert [step.status for step in task.steps.filter(name="send").order_by("seq")] == ["skipped", "done"]


def test_what_took_too_long_and_may_do_harm_is_asked_about(
    make_task: MakeTask, scripted: MakeScript, functions: Functions, alice: User
) -> None:
    script = scripted(say(call("dawdle"), call("look", topic="tides")), say("Well."))
    task = make_task("Go.", script)
    assert run(task) == Status.WAITING
    assert asked(task).kind == Decision.Kind.UNKNOWN
    decisions.it_did(asked(task), alice)
    assert run(task) == Status.DONE
    assert functions() == ["dawdle", "look"]


def test_a_stop_leaves_an_interrupted_call_unknown(
    make_task: MakeTask, scripted: MakeScript, functions: Functions
) -> None:
    task = make_task("Go.", scripted())
    interrupted(task, call("send", text="Hi"))
    actions.stop(task)
    assert steps(task)[1] == ("send", "unknown")
    follower = make_task("And now?", script := scripted(say("It may have been sent.")), previous=task)
    assert run(follower) == Status.DONE
    assert told(script.asked[0])["send"] == OUTCOME_UNKNOWN


def test_an_agent_may_end_its_task_instead(make_task: MakeTask, scripted: MakeScript, functions: Functions) -> None:
    task = make_task("Go.", scripted(), on_unknown="fail")
    interrupted(task, call("send", text="Hi"))
    assert (task.status, task.error_kind) == (Status.FAILED, "doubtful")
    assert "send" in task.error
    slow = make_task("Go.", scripted(say(call("dawdle"))), on_unknown="fail")
    assert run(slow) == Status.FAILED


# --- effects ---------------------------------------------------------------------------------------------------------


def test_a_transactional_call_is_on_record_together_with_what_it_did(
    make_task: MakeTask, scripted: MakeScript, functions: Functions
) -> None:
    script = scripted(say(call("keep", what="a"), call("keep", what="b"), call("look", topic="x")), say("Kept."))
    task = make_task("Go.", script)
    assert run(task) == Status.DONE
    assert set(Group.objects.values_list("name", flat=True)) == {"a", "b"}
    assert told(script.asked[1])["keep"].startswith("kept ")
    assert task.tool_calls == 3


def test_a_transactional_call_that_fails_leaves_nothing(
    make_task: MakeTask, scripted: MakeScript, functions: Functions
) -> None:
    script = scripted(say(call("keep", what="a", fails=True)), say("It broke."))
    task = make_task("Go.", script)
    assert run(task) == Status.DONE
    assert not Group.objects.exists()
    assert steps(task)[1] == ("keep", "failed")
    assert told(script.asked[1])["keep"] == "ValueError: It broke."


def test_a_transactional_call_whose_worker_lost_the_task_does_nothing(
    make_task: MakeTask, functions: Functions
) -> None:
    task, one = make_task(), call("keep", what="a")
    zombie = claimed(task)
    begin(zombie, one)
    taken_over(task)
    with pytest.raises(LeaseLost):
        zombie.transact(one, lambda: Outcome(Group.objects.create(name="a").name))
    assert not Group.objects.exists()


def test_a_transactional_call_that_was_interrupted_is_simply_run(
    make_task: MakeTask, scripted: MakeScript, functions: Functions
) -> None:
    task = make_task("Go.", scripted(say("Kept.")))
    interrupted(task, call("keep", what="a"))
    assert task.status == Status.DONE
    assert Group.objects.count() == 1


@pytest.mark.parametrize(
    ("text", "result", "ran"), [("arrived", "posted before", []), ("lost", "posted now", ["post"])]
)
def test_of_a_verifiable_call_the_world_is_asked_first(
    make_task: MakeTask, scripted: MakeScript, functions: Functions, text: str, result: str, ran: list[str]
) -> None:
    script = scripted(say("Good."))
    task = make_task("Go.", script)
    interrupted(task, call("post", text=text))
    assert task.status == Status.DONE
    assert functions() == ran
    assert told(script.asked[0])["post"] == result


def test_where_the_check_cannot_tell_the_person_is_asked(
    make_task: MakeTask, scripted: MakeScript, functions: Functions, alice: User
) -> None:
    script = scripted(say("Good."))
    task = make_task("Go.", script)
    interrupted(task, call("post", text="?"))
    assert task.status == Status.WAITING
    assert "The post office is closed." in task.steps.get(name="post").result
    decisions.run_again(asked(task), alice)
    assert run(task) == Status.DONE
    assert functions() == ["post"]


def test_a_verifiable_call_that_was_never_begun_is_not_checked(
    make_task: MakeTask, scripted: MakeScript, functions: Functions
) -> None:
    script = scripted(say(call("post", text="?")), say("Good."))
    assert run(make_task("Go.", script)) == Status.DONE
    assert functions() == ["post"]
