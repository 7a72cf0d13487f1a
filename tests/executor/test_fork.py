"""Trying again from a step: what is shared, what is done anew, and that nothing of the first try changes."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from executor import actions, history
from executor.core.events import Finished
from executor.core.limits import Spent
from executor.core.messages import Message, Usage, assistant
from executor.decisions import WrongAnswer
from executor.forks import StillAtWork, fork, steps_of
from executor.models import Agent, Decision, Status, Step, Task
from executor.told import transcript
from tests.executor.conftest import MakeScript, MakeTask, claimed, values
from tests.executor.scripted import Script, call, say
from tests.executor.test_decisions import asked, run, told

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_server")]

Functions = Callable[[], list[str]]


def other_script(task: Task, script: Script) -> Task:
    """Let another script answer from now on."""
    name = f"other-{Agent.objects.count()}"
    agent = Agent.objects.create(name=name, title="Other", provider="scripted", model=script.name, max_iterations=20)
    Task.objects.filter(pk=task.pk).update(agent_version=agent.current_version())
    task.refresh_from_db()
    return task


def outline(task: Task) -> list[tuple[int, str, str, bool]]:
    """Seq, name, status and whether the row is the task's own, of each step."""
    return [(step.seq, step.name or "model", step.status, step.task_id == task.pk) for step in steps_of(task)]


def said(messages: Sequence[Message]) -> list[str]:
    """What a model was told, in a line for each part."""
    lines = []
    for message in messages:
        lines += [f"{message.role}: {message.text}"] if message.text else []
        lines += [f"call {one.name} {json.dumps(one.arguments)}" for one in message.tool_calls]
        lines += [f"result {one.content}" for one in message.tool_results]
    return lines


@pytest.fixture
def eight(make_task: MakeTask, scripted: MakeScript, functions: Functions) -> Task:
    """A task of eight steps: three times a function, the last time beside another one, and an answer."""
    script = scripted(
        say("First.", call("look", topic="tides")),
        say(call("look", topic="moon")),
        say(call("look", topic="sun"), call("send", text="Hi")),
        say("All done."),
    )
    task = make_task("Go.", script, max_iterations=20)
    assert run(task) == Status.DONE
    assert task.head_seq == 8
    return task


def test_a_fork_with_other_arguments_shares_what_is_before_and_goes_on_from_there(
    eight: Task, scripted: MakeScript, functions: Functions
) -> None:
    before = values(eight.steps.all()), values(Task.objects.filter(pk=eight.pk))
    script = scripted(say("Mars it is."))
    task = other_script(fork(eight, 4, arguments={"topic": "mars"}), script)
    assert outline(task) == [
        (1, "model", "done", False),
        (2, "look", "done", False),
        (3, "model", "done", False),
        (4, "look", "pending", True),
    ]
    assert run(task) == Status.DONE
    assert said(script.asked[0]) == [
        "user: Go.",
        "assistant: First.",
        'call look {"topic": "tides"}',
        "result All about tides.",
        'call look {"topic": "mars"}',
        "result All about mars.",
    ]
    assert functions()[4:] == ["look"]
    assert list(task.steps.values_list("seq", flat=True)) == [4, 5]
    assert (values(eight.steps.all()), values(Task.objects.filter(pk=eight.pk))) == before


def test_a_fork_counts_only_what_it_did_itself(eight: Task, scripted: MakeScript) -> None:
    usage = Usage(input_tokens=100, output_tokens=7)
    task = other_script(fork(eight, 4), scripted(say("Again.", usage=usage)))
    run(task)
    assert (task.model_calls, task.tool_calls, task.input_tokens, task.output_tokens) == (1, 1, 100, 7)
    assert task.head_seq == 5
    counters = [checkpoint.counters for checkpoint in task.checkpoints.all()]
    assert counters[-1] == {**counters[-1], "iterations": 1, "tokens": 107, "tool_calls": 1}


def test_a_changed_result_is_what_the_model_is_told_and_nothing_is_run(
    eight: Task, scripted: MakeScript, functions: Functions
) -> None:
    script = scripted(say("Cheese."))
    task = other_script(fork(eight, 4, result="It is made of cheese."), script)
    assert run(task) == Status.DONE
    assert said(script.asked[0])[-2:] == ['call look {"topic": "moon"}', "result It is made of cheese."]
    assert sorted(functions()) == ["look", "look", "look", "send"]


def test_from_a_models_step_the_model_is_asked_again(eight: Task, scripted: MakeScript) -> None:
    script = scripted(say("Enough."))
    task = other_script(fork(eight, 3), script)
    assert run(task) == Status.DONE
    assert said(script.asked[0])[-1] == "result All about tides."
    assert outline(task)[-1] == (3, "model", "done", True)


def test_results_of_the_calls_beside_it_stay(eight: Task, scripted: MakeScript, functions: Functions) -> None:
    script = scripted(say("Both again."))
    task = other_script(fork(eight, 6, arguments={"topic": "stars"}), script)
    assert run(task) == Status.DONE
    assert functions()[4:] == ["look"]
    calls, results = said(script.asked[0])[-4:-2], said(script.asked[0])[-2:]
    assert calls == ['call look {"topic": "stars"}', 'call send {"text": "Hi"}']
    assert sorted(results) == ["result All about stars.", "result sent"]
    assert [entry[0] for entry in outline(task)] == [1, 2, 3, 4, 5, 6, 7, 8]


def test_what_may_do_harm_asks_again_unless_the_person_has_just_changed_it(
    make_task: MakeTask, scripted: MakeScript, functions: Functions
) -> None:
    task = make_task("Go.", scripted(say(call("order", text="Hi")), say("Ordered.")))
    run(task)
    actions.stop(task)
    again = fork(task, 2)
    assert run(again) == Status.WAITING
    assert asked(again).step == again.steps.get()
    assert functions() == []
    actions.stop(again)
    changed = fork(task, 2, arguments={"text": "Ho"})
    decision = changed.decisions.get()
    assert (decision.status, decision.choice, decision.decided_by) == ("decided", "allow", changed.user)
    assert run(changed) == Status.DONE
    assert functions() == ["order"]
    decision.refresh_from_db()
    assert decision.consumed_at is not None
    same = fork(task, 2, arguments={"text": "Hi"})  # Nothing was changed, so nothing was agreed to.
    assert not Decision.objects.filter(task=same).exists()
    actions.stop(same)


def test_what_cannot_be_done_is_said_and_leaves_nothing(eight: Task, make_task: MakeTask) -> None:
    with pytest.raises(WrongAnswer, match="topic: is missing"):
        fork(eight, 4, arguments={"subject": "mars"})
    with pytest.raises(WrongAnswer, match="no such step"):
        fork(eight, 99)
    with pytest.raises(WrongAnswer, match="Only a function call"):
        fork(eight, 3, result="No.")
    with pytest.raises(StillAtWork, match="Stop it first"):
        fork(make_task("Wait."), 1)
    assert not Task.objects.exclude(base=None).exists()


def test_a_fork_can_be_forked_before_and_after_where_it_was(eight: Task, scripted: MakeScript) -> None:
    first = scripted(say(call("look", topic="rings")), say("Saturn."))
    one = other_script(fork(eight, 4, arguments={"topic": "saturn"}), first)
    assert run(one) == Status.DONE
    second = scripted(say("After."))
    after = other_script(fork(one, 6, result="Dust."), second)
    assert run(after) == Status.DONE
    assert said(second.asked[0])[3:] == [
        "result All about tides.",
        'call look {"topic": "saturn"}',
        "result All about saturn.",
        'call look {"topic": "rings"}',
        "result Dust.",
    ]
    third = scripted(say("Before."))
    before = other_script(fork(after, 2, result="Nothing."), third)
    assert run(before) == Status.DONE
    assert said(third.asked[0])[2:] == ['call look {"topic": "tides"}', "result Nothing."]
    assert list(before.steps.values_list("seq", flat=True)) == [2, 3]


def test_a_fork_and_its_base_are_told_apart_when_both_are_asked_for(eight: Task) -> None:
    task, later = fork(eight, 4), fork(eight, 8)
    found = history.whole([eight, task, later], Step.objects.all())
    assert [[step.seq for step in found[one.pk]] for one in (eight, task, later)] == [
        [1, 2, 3, 4, 5, 6, 7, 8],
        [1, 2, 3, 4],
        [1, 2, 3, 4, 5, 6, 7],
    ]


def test_what_goes_on_from_a_fork_knows_all_of_it(eight: Task, make_task: MakeTask, scripted: MakeScript) -> None:
    task = other_script(fork(eight, 4, result="Cheese."), scripted(say("Cheese, then.")))
    run(task)
    script = scripted(say("Yes."))
    later = make_task("Really?", script, previous=task)
    assert run(later) == Status.DONE
    assert said(script.asked[0])[3:] == [
        "result All about tides.",
        'call look {"topic": "moon"}',
        "result Cheese.",
        "assistant: Cheese, then.",
        "user: Really?",
    ]


def test_shared_steps_take_room_like_others(
    make_task: MakeTask, scripted: MakeScript, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = make_task("Old.")
    journal = claimed(old)
    journal.finish_model(journal.begin_model(), Finished(assistant("Old."), "stop", Usage()), Spent(), {}, 1)
    journal.end(Status.DONE)
    long = make_task("Go.", previous=old)
    step = {"task": long, "fence": 1, "status": "done"}
    Step.objects.create(seq=1, kind="model", text="x" * 600, **step)
    Step.objects.create(seq=2, kind="tool", parent_seq=1, name="look", call_id="1", result="y", arguments={}, **step)
    Task.objects.filter(pk=long.pk).update(status=Status.DONE, head_seq=2)
    task = fork(long, 2, result="z")
    Task.objects.filter(pk=task.pk).update(status=Status.DONE)
    monkeypatch.setattr("executor.told.EARLIER_CHARACTERS", 250)
    assert "user: Old." not in said(transcript(make_task("Next.", previous=task), ""))


def test_only_a_fork_costs_more_queries(eight: Task, make_task: MakeTask) -> None:
    def queries(task: Task) -> int:
        with CaptureQueriesContext(connection) as captured:
            transcript(task, "")
        return len(captured)

    alone, forked = queries(eight), queries(fork(eight, 4))
    assert (alone, forked) == (1, 2)


def test_half_an_answer_at_the_end_of_the_first_try_is_not_part_of_the_second(
    make_task: MakeTask, scripted: MakeScript, functions: Functions
) -> None:
    task = make_task("Go.", scripted(say(call("look", topic="tides"))), max_iterations=1)
    assert run(task) == Status.WAITING  # For somebody to say whether it may ask once more.
    actions.stop(task)
    Step.objects.create(task=task, seq=3, kind="model", status="cancelled", text="The ti", fence=1)
    script = scripted(say("Anew."))
    again = other_script(fork(task, 3), script)
    assert run(again) == Status.DONE
    assert said(script.asked[0])[-1] == "result All about tides."
    assert told(script.asked[0]) == {"look": "All about tides."}
