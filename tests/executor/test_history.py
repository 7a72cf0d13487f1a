"""What the model is told: from rows to a transcript."""

from __future__ import annotations

from typing import Any

import pytest
from django.db.models.signals import post_init

from executor.actions import stop
from executor.core.compaction import TOLD
from executor.core.errors import LLMError
from executor.core.messages import (
    Message,
    Native,
    Part,
    Reasoning,
    Text,
    ToolCall,
    ToolResult,
    assistant,
    message_to_json,
    system,
    tool,
    user,
)
from executor.history import NOT_RUN, OUTCOME_UNKNOWN
from executor.journal import Journal
from executor.models import Checkpoint, Status, Step, Task
from executor.told import EARLIER_CHARACTERS, LOOK_BACK, transcript, what_is_told
from tests.executor.conftest import MakeScript, MakeTask, claimed, taken_over
from tests.executor.scripted import call, say
from tests.executor.test_journal import answer, finish, result
from tests.executor.test_run import execute

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_server")]


def told(task: Task, instructions: str = "") -> list[Message]:
    return [Message(message.role, tuple(map(as_said, message.parts))) for message in transcript(task, instructions)]


def as_said(part: Part) -> Part:
    """Without what the model wrote literally, which the rows do not keep where it was an object."""
    return ToolCall(part.id, part.name, part.arguments) if isinstance(part, ToolCall) else part


def said(text: str, *calls: ToolCall) -> Message:
    return assistant(text, *(ToolCall(one.id, one.name, one.arguments) for one in calls))


def done(task: Task, text: str, status: Status = Status.DONE) -> Journal:
    journal = claimed(task)
    answer(journal, text)
    journal.end(status)
    return journal


def test_a_chain_of_tasks_is_told_from_its_beginning(make_task: MakeTask) -> None:
    first = make_task("One?")
    look = call("look", topic="tides")
    journal = claimed(first)
    answer(journal, "Let me see.", look)
    journal.start_tools([look])
    result(journal, look, "twice a day")
    answer(journal, "Twice.")
    journal.end(Status.DONE)
    second = make_task("Two?", previous=first)
    done(second, "Second.")
    third = make_task("Three?", previous=second)
    make_task("Another branch?", previous=first)
    assert told(third, "Be brief.") == [
        system("Be brief."),
        user("One?"),
        said("Let me see.", look),
        tool(ToolResult(look.id, "look", "twice a day")),
        said("Twice."),
        user("Two?"),
        said("Second."),
        user("Three?"),
    ]


def test_results_are_told_in_the_order_of_their_calls_whenever_they_came(make_task: MakeTask) -> None:
    task, one, two = make_task(), call("look"), call("look")
    journal = claimed(task)
    answer(journal, "", one, two)
    result(journal, two, "second")
    assert told(task)[-1] == tool(ToolResult(two.id, "look", "second"))
    result(journal, one, "first")
    assert told(task)[-1] == tool(ToolResult(one.id, "look", "first"), ToolResult(two.id, "look", "second"))


def test_of_a_stopped_answer_the_next_task_is_told_what_the_person_had_seen(make_task: MakeTask) -> None:
    stopped = make_task("Tell.")
    journal = claimed(stopped)
    journal.begin_model()
    journal.end(Status.STOPPED, stop_reason="person", partial="Once upon")
    follower = make_task("Go on.", previous=stopped)
    assert told(follower) == [user("Tell."), said("Once upon"), user("Go on.")]


def test_of_a_failed_answer_nothing_is_told(make_task: MakeTask) -> None:
    failed = make_task("Tell.")
    journal = claimed(failed)
    journal.fail_model(journal.begin_model(), LLMError("server", "It broke."), "Once upon")
    journal.end(Status.FAILED, error=LLMError("server", "It broke."))
    assert told(make_task("Again.", previous=failed)) == [user("Tell."), user("Again.")]
    assert told(failed) == [user("Tell.")]


def test_half_an_answer_does_not_count_where_the_task_went_on(make_task: MakeTask) -> None:
    task = make_task("Tell.")
    journal = claimed(task)
    journal.begin_model()
    journal.end(Status.FAILED, partial="Once upon")
    assert told(task) == [user("Tell.")]
    Task.objects.filter(pk=task.pk).update(status=Status.QUEUED)
    done(task, "Once upon a time.")
    assert told(make_task("More.", previous=task)) == [user("Tell."), said("Once upon a time."), user("More.")]


def test_calls_without_a_result_are_closed_for_the_next_task_and_open_for_their_own(make_task: MakeTask) -> None:
    task, looked, sent = make_task("Go."), call("look"), call("send")
    journal = claimed(task)
    answer(journal, "", looked, sent)
    assert told(task) == [user("Go."), said("", looked, sent)]
    journal.start_tools([sent])
    journal.end(Status.STOPPED, stop_reason="person")
    results = told(make_task("And?", previous=task))[2].tool_results
    assert [one.content for one in results] == [NOT_RUN, OUTCOME_UNKNOWN]
    assert all(one.is_error for one in results)


def test_a_call_that_had_begun_before_the_task_was_given_back_and_stopped_may_have_run(make_task: MakeTask) -> None:
    task = make_task("Go.")
    looked, stored, sent, never = call("look"), call("put"), call("send"), call("send")
    journal = claimed(task)
    answer(journal, "", looked, stored, sent, never)
    journal.start_tools([looked, stored, sent])
    taken_over(task).release()
    assert not task.steps.filter(status=Step.Status.STARTED).exists()
    assert stop(task)
    results = told(make_task("Did you?", previous=task))[2].tool_results
    assert [one.content for one in results] == [NOT_RUN, OUTCOME_UNKNOWN, OUTCOME_UNKNOWN, NOT_RUN]


def test_a_call_that_is_on_record_as_begun_is_never_told_as_not_run(make_task: MakeTask) -> None:
    task, looked, sent = make_task("Go."), call("look"), call("send")
    journal = claimed(task)
    answer(journal, "", looked, sent)
    journal.start_tools([looked, sent])
    Task.objects.filter(pk=task.pk).update(status=Status.STOPPED)
    results = told(make_task("Did you?", previous=task))[2].tool_results
    assert [one.content for one in results] == [NOT_RUN, OUTCOME_UNKNOWN]


def test_what_a_provider_wrote_travels_along(make_task: MakeTask) -> None:
    task = make_task()
    journal = claimed(task)
    native = Native("api", "scope", "model", [{"type": "text", "text": "Hi."}], "digest")
    finish(journal, journal.begin_model(), Message("assistant", (Reasoning("Hm."), Text("Hi.")), native))
    assert transcript(task, "")[-1] == Message("assistant", (Reasoning("Hm."), Text("Hi.")), native)


def test_an_answer_of_nothing_is_left_out(make_task: MakeTask) -> None:
    task = make_task("Go.")
    done(task, "")
    assert told(make_task("And?", previous=task)) == [user("Go."), user("And?")]


def test_no_more_is_read_than_is_kept_at_hand_and_the_latest_first(make_task: MakeTask) -> None:
    previous = None
    for number in range(4):
        previous = make_task(f"Question {number}", previous=previous)
        done(previous, "x" * (EARLIER_CHARACTERS - 100))
    last = make_task("The last one", previous=previous)
    left_out, *asked = [message.text for message in told(last) if message.role == "user"]
    assert left_out.startswith(TOLD)
    assert asked == ["Question 2", "Question 3", "The last one"]
    assert what_is_told(last).is_long, "It is summarised before anything is asked."


def test_the_nearest_earlier_task_is_told_however_large_and_none_before_it(make_task: MakeTask) -> None:
    first = make_task("First")
    done(first, "One.")
    large = make_task("x" * (2 * EARLIER_CHARACTERS), previous=first)
    done(large, "It is a row of x.")
    assert told(make_task("How many?", previous=large))[1:] == [
        user(large.text),
        said("It is a row of x."),
        user("How many?"),
    ]


def test_steps_that_are_not_told_are_not_loaded(make_task: MakeTask) -> None:
    previous = None
    tasks = []
    for number in range(4):
        tasks.append(previous := make_task(f"Question {number}", previous=previous))
        done(previous, "x" * (EARLIER_CHARACTERS - 100))
    last = make_task("The last one", previous=previous)
    loaded: list[Step] = []

    def note(instance: Step, **_: Any) -> None:
        loaded.append(instance)

    post_init.connect(note, Step)
    try:
        transcript(last, "")
    finally:
        post_init.disconnect(note, Step)
    assert {step.task_id for step in loaded} == {task.pk for task in tasks[2:]}


def test_no_more_tasks_are_told_than_are_looked_up_at_once(make_task: MakeTask) -> None:
    previous = first = make_task("First")
    for _ in range(LOOK_BACK + 1):
        previous = Task.objects.create(
            user=first.user,
            agent_version=first.agent_version,
            input=message_to_json(user("Next")),
            previous=previous,
        )
    left_out, *asked = [message.text for message in told(previous)]
    assert left_out.startswith(TOLD)
    assert asked == ["Next"] * (LOOK_BACK + 1)


def test_the_same_rows_are_told_in_the_same_bytes_and_what_is_new_comes_behind(make_task: MakeTask) -> None:
    first = make_task("One?")
    look = call("look", b=1, a=[2, {"d": 3, "c": 4}])
    journal = claimed(first)
    answer(journal, "Let me see.", look)
    result(journal, look, "fine")
    journal.end(Status.DONE)
    second = make_task("Two?", previous=first)

    def written() -> list[str]:
        return [repr(message) for message in transcript(second, "Be brief.")]

    before = written()
    assert written() == before
    answer(claimed(second), "Second.")
    assert written()[: len(before)] == before


@pytest.mark.parametrize("v", [0, 2, 30_000])
def test_rows_of_newer_or_older_code_are_read_and_go_on(make_task: MakeTask, scripted: MakeScript, v: int) -> None:
    """While a site is updated, workers of two versions take up each other's tasks."""
    first = make_task("One?")
    done(first, "One.")
    task = make_task("Two?", script := scripted(say("Two.")), previous=first)
    journal, one = claimed(task), call("look", topic="tides")
    native = Native("api", "scope", "model", [{"type": "text"}], "digest")
    finish(journal, journal.begin_model(), Message("assistant", (Text("Let me see."), one), native))
    journal.start_tools([one])
    result(journal, one)
    Task.objects.update(v=v)
    Step.objects.update(v=v)
    for row in [*Task.objects.all(), *Step.objects.exclude(native=None), *Checkpoint.objects.all()]:
        for column in ("input", "allowed", "native", "counters"):
            if isinstance(known := getattr(row, column, None), dict):
                more = {name: value for name, value in known.items() if v or name not in ("scope", "tokens")}
                setattr(row, column, {**more, **({"of the future": [1]} if v else {})})
        row.save()
    version = task.agent_version
    version.config = {**version.config, "future": 1, "limits": {**version.config["limits"], "future": 1}}
    version.save()
    execute(taken_over(task))
    task.refresh_from_db()
    assert (task.status, task.error) == (Status.DONE, "")
    words = [message.text for message in script.asked[0] if message.text]
    assert words == ["One?", "One.", "Two?", "Let me see."]
    assert (script.asked[0][3].native == native) is bool(v)
    assert task.checkpoints.get(seq=3).counters["iterations"] == 2
