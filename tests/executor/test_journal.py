"""Who has a task, and what is written down of it: on the database, with real threads."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, connection
from django.db.models.functions import Now

from executor.claim import claim
from executor.core.errors import LimitReached, LLMError, TaskExecutionError
from executor.core.events import Finished, FinishReason, ToolFinished
from executor.core.limits import Spent
from executor.core.messages import Message, Native, Reasoning, Text, ToolCall, ToolResult, Usage, assistant
from executor.history import OUTCOME_UNKNOWN
from executor.journal import Covers, Journal
from executor.lease import LeaseLost, give_up, heartbeat
from executor.models import Checkpoint, DayAccount, Decision, Status, Step, Task
from executor.told import transcript
from tests.executor.conftest import MakeTask, claimed, in_threads, taken_over, values, worker_dies
from tests.executor.measures import bytes_per_step, contest, refused
from tests.executor.scripted import call
from tools.core.context import NewFile
from tools.core.function import describe, function
from tools.core.toolbox import Outcome
from tools.models import Resource

pytestmark = pytest.mark.django_db(transaction=True)


@function(effect="read")
def look() -> str:
    """Look."""
    return ""


@function(effect="idempotent")
def put() -> str:
    """Put."""
    return ""


@function
def send() -> str:
    """Send."""
    return ""


FUNCTIONS = {name.__name__: describe(name) for name in (look, put, send)}


def woken(journal: Journal) -> Journal:
    """Of a worker that was frozen for longer than its lease."""
    journal.held_until = 0.0
    return journal


def answer(journal: Journal, text: str, *calls: ToolCall) -> int:
    """A whole model step. Returns its seq."""
    seq = journal.begin_model()
    finish(journal, seq, assistant(text, *calls))
    return seq


def finish(journal: Journal, seq: int, message: Message, later: bool = False, **event: Any) -> Journal:
    reason: FinishReason = "tool_calls" if message.tool_calls else "stop"
    done = Finished(message, reason, Usage(10, 2), **event)
    journal.finish_model(seq, done, Spent(1, 12), FUNCTIONS, 7, later=later)
    return journal


def result(journal: Journal, call: ToolCall, content: str = "fine", failed: bool = False, *files: NewFile) -> None:
    event = ToolFinished(call, ToolResult(call.id, call.name, content, failed), files, "exception" if failed else "")
    journal.finish_tool(event, Spent(1, 12, 1))


def statuses(task: Task) -> list[tuple[str, str]]:
    return [(step.name or step.kind, step.status) for step in task.steps.order_by("seq")]


def make_again(task: Task) -> Task:
    """Another one of the same agent: many agents take longer to make than tasks."""
    return Task.objects.create(user=task.user, agent_version=task.agent_version, input=task.input)


# --- who has it ------------------------------------------------------------------------------------------------------


def test_of_sixteen_who_want_two_hundred_tasks_each_task_has_one_who_gets_it(make_task: MakeTask) -> None:
    first = make_task()
    ids = [first.pk, *(make_again(first).pk for _ in range(199))]
    won = contest(ids)
    assert sorted(pk for each in won for pk in each) == sorted(ids)
    for index, each in enumerate(won):
        for task in Task.objects.filter(pk__in=each):
            assert (task.owner, task.fence, task.attempts) == (f"worker {index}", 1, 1)


def test_of_those_who_lost_a_task_nobody_writes_into_it(make_task: MakeTask) -> None:
    first = make_task()
    assert refused([first.pk, make_again(first).pk]) == 2


def test_of_sixteen_who_want_to_take_over_the_same_task_one_gets_it(make_task: MakeTask) -> None:
    task = make_task()
    claimed(task)
    worker_dies(task)
    won = [journal for journal in in_threads(16, lambda index: claim(task.pk, f"worker {index}")) if journal]
    assert len(won) == 1
    assert won[0].fence == 2


def test_a_task_that_is_held_or_over_cannot_be_had(make_task: MakeTask) -> None:
    task = make_task()
    journal = claimed(task)
    assert claim(task.pk, "another") is None
    journal.end(Status.DONE)
    assert claim(task.pk, "another") is None


def test_a_task_waits_for_the_one_before_it_and_the_end_of_that_names_it(make_task: MakeTask) -> None:
    first = make_task()
    second = make_task(previous=first)
    third = make_task(previous=second)
    assert claim(second.pk, "somebody") is None
    journal = claimed(first)
    assert claim(second.pk, "somebody") is None
    assert journal.end(Status.FAILED, error=TaskExecutionError("No.")) == [second.pk]
    assert claim(third.pk, "somebody") is None
    assert claim(second.pk, "somebody")


def test_a_heartbeat_extends_the_leases_and_names_those_that_are_lost(make_task: MakeTask) -> None:
    kept, lost, over = make_task(), make_task(), make_task()
    for task in (kept, lost):
        claimed(task, "me")
        worker_dies(task)
    claimed(lost, "another")
    claimed(over, "me").end(Status.DONE)
    assert heartbeat("me", [kept.pk, lost.pk, over.pk]) == {lost.pk, over.pk}
    assert heartbeat("me", []) == set()
    assert list(Task.objects.filter(lease_until__gt=Now() + timedelta(seconds=10), owner="me")) == [kept]


def test_every_write_about_who_has_a_task_waits_its_turn_as_a_transaction_does(make_task: MakeTask) -> None:
    task = make_task()
    written: list[bool] = []

    def watch(execute: Callable[..., Any], sql: str, *rest: Any) -> Any:
        if sql.startswith("UPDATE"):
            written.append(connection.in_atomic_block)
        return execute(sql, *rest)

    with connection.execute_wrapper(watch):
        assert claim(task.pk, "me")
        assert heartbeat("me", [task.pk]) == set()
        give_up("me")
    assert written == [True, True, True]


# --- a worker that lost its task -------------------------------------------------------------------------------------


def left_behind(journal: Journal, seq: int) -> Journal:
    """The journal, as if it had found the question `seq`, whose answer is kept."""
    journal.kept = Step.objects.get(task=journal.task_id, seq=seq)
    return journal


def late_answer() -> Finished:
    return Finished(assistant("late"), "stop", Usage(10, 2))


LATE = {
    "recover": lambda journal, seq, one: journal.recover(),
    "begin_model": lambda journal, seq, one: journal.begin_model(),
    "save_partial": lambda journal, seq, one: journal.save_partial(seq, "late", ""),
    "finish_model": lambda journal, seq, one: finish(journal, seq, assistant("late", call("look"))),
    "fail_model": lambda journal, seq, one: journal.fail_model(seq, LLMError("server", "late"), "late"),
    "start_tools": lambda journal, seq, one: journal.start_tools([one]),
    "save_output": lambda journal, seq, one: journal.save_output(one, "late"),
    "finish_tool": lambda journal, seq, one: result(journal, one, "late", False, NewFile("a", b"a", "text/plain")),
    "commit": lambda journal, seq, one: finish(journal, seq, assistant("late"), later=True).commit(),
    "end": lambda journal, seq, one: journal.end(Status.DONE, partial="late"),
    "ask": lambda journal, seq, one: journal.ask({one.id: Decision.Kind.APPROVAL}),
    "wait": lambda journal, seq, one: journal.wait(),
    "wait_at_limit": lambda journal, seq, one: journal.wait_at_limit(LimitReached("tokens", "late", used=1, allowed=1)),
    "transact": lambda journal, seq, one: journal.transact(one, lambda: Outcome("late")),
    "postpone": lambda journal, seq, one: journal.postpone(LLMError("rate_limit", "late"), 30),
    "release": lambda journal, seq, one: journal.release(),
    "make_sure": lambda journal, seq, one: woken(journal).make_sure(),
    "take_in": lambda journal, seq, one: journal.take_in(),
    "give": lambda journal, seq, one: journal.give({one.id: "late"}),
    "accept": lambda journal, seq, one: journal.accept(seq, "late"),
    "take_up_model": lambda journal, seq, one: left_behind(journal, seq).take_up_model(),
    "finish_compaction": lambda journal, seq, one: journal.finish_compaction(seq, late_answer(), Covers(None, 0)),
    "leave_out": lambda journal, seq, one: journal.leave_out(seq, LLMError("server", "late"), Covers(None, 0), ""),
}


@pytest.mark.parametrize("late", LATE.values(), ids=LATE.keys())
def test_what_a_worker_writes_after_it_lost_the_task_is_refused(
    make_task: MakeTask, late: Callable[[Journal, int, ToolCall], object]
) -> None:
    def everything() -> list[Any]:
        kept = (Task, Step, Checkpoint, Decision, DayAccount)
        return [values(model.objects.all()) for model in kept]

    for meanwhile in ("it runs", "it is over", "it was given back"):
        task, one = make_task(), call("send")
        zombie = claimed(task)
        answer(zombie, "", one)
        seq = zombie.begin_model()
        newer = taken_over(task)
        if meanwhile == "it is over":
            newer.end(Status.DONE)
        elif meanwhile == "it was given back":
            newer.release()
        before = everything()
        with pytest.raises(LeaseLost):
            late(zombie, seq, one)
        assert everything() == before, meanwhile
    assert not Resource.objects.exists()


def test_every_method_that_writes_is_among_those_that_are_refused() -> None:
    assert set(LATE) == {name for name in dir(Journal) if callable(getattr(Journal, name)) and name[0] != "_"}


# --- what an earlier worker left behind ------------------------------------------------------------------------------


def test_calls_that_had_begun_are_run_again_only_where_that_does_no_harm(make_task: MakeTask) -> None:
    task = make_task(on_unknown="tell_model")
    looked, stored, sent, never = call("look"), call("put"), call("send"), call("send")
    journal = claimed(task)
    answer(journal, "", looked, stored, sent, never)
    journal.start_tools([looked, stored, sent])

    journal = taken_over(task)
    journal.recover()
    assert statuses(task)[1:] == [("look", "pending"), ("put", "pending"), ("send", "unknown"), ("send", "pending")]
    assert [step.attempt for step in task.steps.filter(kind="tool").order_by("seq")] == [2, 2, 1, 1]
    messages = transcript(journal.task, "")
    (told,) = messages[-1].tool_results
    assert (told.call_id, told.content, told.is_error) == (sent.id, OUTCOME_UNKNOWN, True)


def test_half_an_answer_is_dropped(make_task: MakeTask) -> None:
    task = make_task()
    journal = claimed(task)
    journal.save_partial(journal.begin_model(), "Half an", "Hm")
    journal = taken_over(task)
    journal.recover()
    step = task.steps.get()
    assert (step.status, step.error_kind, step.text) == ("failed", "interrupted", "Half an")
    assert [message.role for message in transcript(journal.task, "")] == ["user"]
    assert journal.begin_model() == 2


def test_what_was_finished_stays_finished(make_task: MakeTask) -> None:
    task, one = make_task(), call("look")
    journal = claimed(task)
    answer(journal, "Let me see.", one)
    journal.start_tools([one])
    result(journal, one)
    before = values(task.steps.all())
    journal = taken_over(task)
    journal.recover()
    assert values(task.steps.all()) == before
    assert journal.begin_model() == 3


def test_a_task_that_was_being_stopped_when_its_worker_died_is_still_being_stopped(make_task: MakeTask) -> None:
    task = make_task()
    journal = claimed(task)
    journal.save_partial(journal.begin_model(), "Half an", "")
    Task.objects.filter(pk=task.pk).update(status=Status.STOPPING)
    assert taken_over(task).task.status == Status.STOPPING


def test_what_is_given_back_can_be_had_at_once_with_nothing_left_open(make_task: MakeTask) -> None:
    task = make_task()
    journal = claimed(task)
    journal.save_partial(journal.begin_model(), "Half an", "")
    journal.release()
    assert statuses(task) == [("model", "failed")]
    task.refresh_from_db()
    assert (task.owner, task.lease_until) == ("", None)
    assert claimed(task, "another").fence == 2


def test_a_stop_is_not_forgotten_when_the_task_is_given_back(make_task: MakeTask) -> None:
    task = make_task()
    journal = claimed(task)
    Task.objects.filter(pk=task.pk).update(status=Status.STOPPING)
    journal.release()
    assert taken_over(task).task.status == Status.STOPPING


# --- what is written down --------------------------------------------------------------------------------------------


def test_an_answer_and_its_calls_are_written_together(make_task: MakeTask) -> None:
    task = make_task()
    journal = claimed(task)
    looked, unheard_of = call("look", topic="tides"), call("fly")
    native = Native("api", "scope", "model", [{"type": "text"}], "digest")
    message = Message("assistant", (Reasoning("Hm."), Text("Let me see."), looked, unheard_of), native)
    seq = journal.begin_model()
    finish(journal, seq, message, response_id="r-1", model="small")

    asked, one, two = task.steps.order_by("seq")
    assert (asked.status, asked.text, asked.reasoning) == ("done", "Let me see.", "Hm.")
    assert asked.native
    assert (asked.native["items"], asked.model, asked.response_id) == ([{"type": "text"}], "small", "r-1")
    assert (asked.input_tokens, asked.output_tokens, asked.first_token_ms) == (10, 2, 7)
    assert (one.parent_seq, one.status, one.arguments, one.effect) == (1, "pending", {"topic": "tides"}, "read")
    assert (two.parent_seq, two.name, two.call_id) == (1, "fly", unheard_of.id)
    task.refresh_from_db()
    assert (task.head_seq, task.model_calls, task.input_tokens, task.output_tokens) == (3, 1, 10, 2)


def test_an_answer_whose_calls_cannot_be_written_leaves_nothing(make_task: MakeTask) -> None:
    task, twice = make_task(), call("look")
    journal = claimed(task)
    seq = journal.begin_model()
    before = values([*Task.objects.all(), *task.steps.all()])
    with pytest.raises(IntegrityError):
        finish(journal, seq, assistant("Both.", twice, twice))
    assert values([*Task.objects.all(), *task.steps.all()]) == before
    assert not task.checkpoints.exists()
    finish(journal, seq, assistant("One.", twice))
    assert statuses(task) == [("model", "done"), ("look", "pending")]
    task.refresh_from_db()
    assert (task.head_seq, task.model_calls, task.input_tokens) == (2, 1, 10)


def test_what_is_left_for_later_is_written_with_what_comes_next_or_not_at_all(make_task: MakeTask) -> None:
    task, one = make_task(), call("look")
    journal = claimed(task)
    seq = journal.begin_model()
    finish(journal, seq, assistant("", one), later=True)
    assert statuses(task) == [("model", "started")]
    journal.start_tools([one])
    assert statuses(task) == [("model", "done"), ("look", "started")]
    fine = ToolFinished(one, ToolResult(one.id, "look", "fine"))
    journal.finish_tool(fine, Spent(1, 12, 1), later=True)
    assert statuses(task)[1] == ("look", "started")
    journal.begin_model()
    assert statuses(task) == [("model", "done"), ("look", "done"), ("model", "started")]
    finish(journal, 3, assistant("Done."), later=True)
    journal.end(Status.DONE)
    assert statuses(task)[2] == ("model", "done")
    assert task.checkpoints.count() == 3


def test_what_was_left_for_later_is_lost_with_the_lease(make_task: MakeTask) -> None:
    task, one = make_task(), call("send")
    zombie = claimed(task)
    answer(zombie, "", one)
    zombie.start_tools([one])
    zombie.finish_tool(ToolFinished(one, ToolResult(one.id, "send", "late")), Spent(1, 12, 1), later=True)
    taken_over(task).recover()
    with pytest.raises(LeaseLost):
        zombie.begin_model()
    assert statuses(task) == [("model", "done"), ("send", "waiting")]


def test_a_result_whose_checkpoint_cannot_be_written_leaves_nothing(make_task: MakeTask) -> None:
    task, one = make_task(), call("look")
    journal = claimed(task)
    answer(journal, "", one)
    journal.start_tools([one])
    in_the_way = Checkpoint.objects.create(task=task, seq=2, counters={})
    with pytest.raises(IntegrityError):
        result(journal, one, "fine", False, NewFile("a.txt", b"a", "text/plain"))
    assert statuses(task)[1] == ("look", "started")
    assert not Resource.objects.exists()
    in_the_way.delete()
    result(journal, one, "fine", False, NewFile("a.txt", b"a", "text/plain"))
    assert statuses(task)[1] == ("look", "done")
    assert Resource.objects.get().call_id == one.id


def test_calls_are_on_record_before_they_begin_and_failures_are_counted(make_task: MakeTask) -> None:
    task, one, two = make_task(), call("look"), call("send")
    journal = claimed(task)
    answer(journal, "", one, two)
    journal.start_tools([one, two])
    assert statuses(task)[1:] == [("look", "started"), ("send", "started")]
    result(journal, two, "It broke.", failed=True)
    result(journal, one)
    assert statuses(task)[1:] == [("look", "done"), ("send", "failed")]
    task.refresh_from_db()
    assert (task.tool_calls, task.failed_calls) == (2, 1)


def test_a_call_that_took_too_long_may_have_had_its_effect_unless_that_does_no_harm(make_task: MakeTask) -> None:
    task, looked, stored, sent = make_task(), call("look"), call("put"), call("send")
    journal = claimed(task)
    answer(journal, "", looked, stored, sent)
    journal.start_tools([looked, stored, sent])
    for one in (looked, stored, sent):
        too_long = ToolResult(one.id, one.name, f"{one.name} did not answer within 60 seconds.", True)
        journal.finish_tool(ToolFinished(one, too_long, (), "timeout"), Spent())
    assert statuses(task)[1:] == [("look", "failed"), ("put", "failed"), ("send", "unknown")]
    told = transcript(journal.task, "")[-1].tool_results[-1]
    assert (told.content, told.is_error) == ("send did not answer within 60 seconds.", True)
    task.refresh_from_db()
    assert task.failed_calls == 3


def test_text_that_no_database_stores_is_made_storable(make_task: MakeTask) -> None:
    task = make_task()
    journal = claimed(task)
    odd = "a\x00b\ud800c"
    one = ToolCall("id-1", odd, {odd: [odd, float("nan"), float("inf"), 1.5]}, "", odd)
    two = ToolCall("id-2", "look", None, odd)
    seq = journal.begin_model()
    journal.save_partial(seq, odd, odd)
    native = Native("api", "scope", "model", [{"text": odd}], "digest")
    message = Message("assistant", (Reasoning(odd), Text(odd), one, two), native)
    finish(journal, seq, message, response_id=odd, model=odd)
    journal.start_tools([one, two])
    result(journal, one, odd, failed=True)
    result(journal, two, odd)
    last = journal.begin_model()
    journal.fail_model(last, LLMError("server", odd), odd)
    journal.end(Status.FAILED, error=TaskExecutionError(odd, hint=odd))

    clean = "a\ufffdb?c"
    asked, first, second, failed = task.steps.order_by("seq")
    assert (asked.text, asked.reasoning, asked.response_id, asked.model) == (clean, clean, clean, clean)
    assert asked.native
    assert asked.native["items"] == [{"text": clean}]
    assert (first.name, first.provider_call_id) == (clean, clean)
    assert (first.arguments, first.result) == ({clean: [clean, "nan", "inf", 1.5]}, clean)
    assert (second.arguments, second.raw_arguments) == (None, clean)
    assert (failed.text, failed.error) == (clean, clean)
    task.refresh_from_db()
    assert (task.error, task.error_hint) == (clean, clean)


def test_each_finished_step_has_a_checkpoint_and_costs_the_same_however_many_there_were(make_task: MakeTask) -> None:
    task = make_task()
    journal = claimed(task)
    sizes = []
    for number in range(1, 101):
        one = call("look", number=number)
        rows_before = Step.objects.count() + Checkpoint.objects.count()
        seq = answer(journal, f"Step {number:3}.", one)
        journal.start_tools([one])
        result(journal, one, "x" * 200)
        assert Step.objects.count() + Checkpoint.objects.count() == rows_before + 4
        written = values([*task.steps.filter(seq__gte=seq), *task.checkpoints.filter(seq__gte=seq)])
        sizes.append(len(json.dumps(written, default=lambda value: type(value).__name__)))
    assert list(task.checkpoints.values_list("seq", flat=True)) == list(task.steps.values_list("seq", flat=True))
    assert max(sizes) - min(sizes) < 30  # The numbers in it get longer.


def test_a_step_takes_as_much_of_the_database_in_a_long_task_as_in_a_short_one(make_task: MakeTask) -> None:
    first = make_task()
    taken = bytes_per_step(lambda: make_again(first))
    assert max(taken.values()) / min(taken.values()) < 1.1, taken


def test_what_was_spent_is_counted_in_whatever_order_calls_ended(make_task: MakeTask) -> None:
    task, one, two = make_task(), call("look"), call("look")
    journal = claimed(task)
    answer(journal, "", one, two)
    for number, done in enumerate((two, one), start=1):
        journal.finish_tool(ToolFinished(done, ToolResult(done.id, "look", "fine")), Spent(1, 12, number))
    assert journal.spent == Spent(1, 12, 2)


# --- the end ---------------------------------------------------------------------------------------------------------


def test_the_end_of_a_task_leaves_nothing_open_and_says_what_may_have_happened(make_task: MakeTask) -> None:
    task = make_task()
    looked, sent, never = call("look"), call("send"), call("send")
    journal = claimed(task)
    answer(journal, "", looked, sent, never)
    journal.start_tools([looked, sent])
    journal.end(Status.STOPPED, stop_reason="person")
    assert statuses(task)[1:] == [("look", "cancelled"), ("send", "unknown"), ("send", "cancelled")]
    task.refresh_from_db()
    assert (task.status, task.stop_reason, task.owner, task.lease_until) == ("stopped", "person", "", None)
    assert task.ended_at


def test_the_end_keeps_what_had_been_said(make_task: MakeTask) -> None:
    task = make_task()
    journal = claimed(task)
    journal.save_partial(journal.begin_model(), "Half", "")
    journal.end(Status.STOPPED, partial="Half an answer")
    assert (task.steps.get().status, task.steps.get().text) == ("cancelled", "Half an answer")
