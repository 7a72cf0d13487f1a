"""A declared task in the worker: its steps are rows, and it goes on where these end, whatever came between."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.db import OperationalError

from executor import actions, decisions
from executor.core.errors import LLMError, TaskExecutionError
from executor.core.messages import assistant, user
from executor.core.record import Question
from executor.core.steps import TaskStep
from executor.declared_journal import DeclaredJournal
from executor.models import Agent, Decision, DeclaredTask, Status, Step, Task
from executor.run import Interruption, Run
from executor.told import transcript
from tests.executor import declared_for_tests
from tests.executor.conftest import MakeScript, MakeTask, claimed, taken_over, watched_database_threads
from tests.executor.scripted import Script, call, say
from tests.executor.test_run import execute, until
from tests.fakes.model_server import ModelServer
from tests.fakes.script import Turn
from users.models import User

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("redis_server"),
    pytest.mark.xdist_group("declared"),  # They share what declared_for_tests.py counts.
]

Functions = Callable[[], list[str]]
FETCHED = ["moon", "sun", "wind"]


@pytest.fixture(autouse=True)
def done() -> list[str]:
    return declared_for_tests.begin_counting()


@pytest.fixture
def survey(make_task: MakeTask) -> Callable[..., Task]:
    """A queued survey of the tides by the model of a script."""

    def make(script: Script | None, **agent: Any) -> Task:
        return as_survey(make_task("/survey", script, **agent))

    return make


def as_survey(task: Task) -> Task:
    declaration = {"title": "Survey", "class": "tests.executor.declared_for_tests.Survey"}
    declared, _ = DeclaredTask.objects.get_or_create(
        name="survey", defaults={"title": "Survey", "declaration": declaration}
    )
    task.declared, task.data = declared.current_version(), {"topic": "Tides"}
    task.save(update_fields=["declared", "data"])
    return task


def run(task: Task) -> str:
    execute(claimed(task))
    task.refresh_from_db()
    return task.status


def die_in(task: Task, part: str) -> None:
    """The worker is gone while it does this part, and another one takes the task up."""
    declared_for_tests.HELD.add(part)

    async def lose(run: Run) -> None:
        await until(lambda: f"{part}…" in declared_for_tests.DONE)
        run.interrupt(Interruption.LOST)

    execute(claimed(task), lose)
    declared_for_tests.HELD.clear()
    execute(taken_over(task))
    task.refresh_from_db()


def states(task: Task) -> dict[str, str]:
    return {step.name: step.status for step in task.steps.filter(kind=Step.Kind.STEP).order_by("seq")}


def asked(task: Task) -> Decision:
    return task.decisions.get(status=Decision.Status.PENDING)


WORDS = (say("A plan."), say("Twice a day."), say("It is."), say("The report."))
ALL_DONE = dict.fromkeys(("plan", "ask", "gather", "check", "report"), "done")


def test_steps_run_in_order_and_each_is_on_record_with_what_it_gave(
    survey: Callable[..., Task], scripted: MakeScript, done: list[str]
) -> None:
    script = scripted(*WORDS)
    task = survey(script)
    assert run(task) == Status.DONE
    assert (states(task), done) == (ALL_DONE, FETCHED)
    assert task.steps.get(name="gather").result == '{"found": ["all about moon", "all about sun", "all about wind"]}'
    assert task.steps.get(kind=Step.Kind.NOTE).text == "The report."
    assert script.asked[0][-1] == user('Make a plan.\n\n{"topic": "Tides"}')
    assert script.asked[2][-1].text.startswith('Is it right?\n\n{"found": ["all about moon"')
    for step in task.steps.filter(kind=Step.Kind.STEP):
        assert task.checkpoints.filter(seq=step.seq).exists()
    assert task.model_calls == 4


def test_the_number_of_a_step_is_on_record_with_it(survey: Callable[..., Task], scripted: MakeScript) -> None:
    """Else whoever takes the task over would give it to another one."""
    journal = claimed(survey(scripted()))
    assert isinstance(journal, DeclaredJournal)
    for step in declared_for_tests.Survey.task_steps[:2]:
        journal.begin_step(step)
        row = Task.objects.get(pk=journal.task_id)
        assert row.head_seq == row.steps.get(name=step.id).seq


def test_what_was_finished_is_not_done_again_when_the_worker_dies(
    survey: Callable[..., Task], scripted: MakeScript, done: list[str]
) -> None:
    script = scripted(*WORDS)
    task = survey(script)
    die_in(task, "wind")
    assert (task.status, done) == (Status.WAITING, ["moon", "sun", "wind…"])
    assert asked(task).kind == Decision.Kind.UNKNOWN
    decisions.run_again(asked(task), task.user)
    assert run(task) == Status.DONE
    assert done == ["moon", "sun", "wind…", "wind"]
    assert states(task) == ALL_DONE
    assert len(script.asked) == 4
    assert [step.attempt for step in task.steps.filter(kind=Step.Kind.STEP)] == [1] * 5


@pytest.mark.parametrize("decide", [decisions.it_did, decisions.skip])
def test_a_part_that_a_person_says_is_done_is_not_done_again(
    survey: Callable[..., Task], scripted: MakeScript, done: list[str], decide: Callable[[Decision, User], None]
) -> None:
    task = survey(scripted(*WORDS))
    die_in(task, "wind")
    decide(asked(task), task.user)
    assert run(task) == Status.DONE
    assert task.steps.get(name="gather").result == '{"found": ["all about moon", "all about sun", null]}'


def test_a_part_that_may_have_run_is_asked_about_also_where_agents_end_their_tasks(
    survey: Callable[..., Task], scripted: MakeScript, done: list[str]
) -> None:
    task = survey(scripted(*WORDS), on_unknown="fail")
    die_in(task, "sun")
    assert (task.status, task.error_kind) == (Status.FAILED, "doubtful")
    actions.retry(task)
    assert run(task) == Status.WAITING
    decisions.run_again(asked(task), task.user)
    assert run(task) == Status.DONE


def test_a_call_that_took_too_long_is_not_made_again_by_a_step_that_is_tried_again(
    survey: Callable[..., Task], scripted: MakeScript, functions: Functions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the agent ends its tasks then: the step has not failed, and its model is told what is unknown."""
    steps = declared_for_tests.Survey.task_steps
    ask = replace(steps[1], functions=("look", "dawdle"))
    monkeypatch.setattr(declared_for_tests.Survey, "task_steps", (steps[0], ask, *steps[2:]))
    calls = say(call("look", topic="tides"), call("dawdle"))
    script = scripted(WORDS[0], calls, *WORDS[1:])
    task = survey(script, on_unknown="fail", functions=["look", "dawdle"])
    assert run(task) == Status.FAILED
    assert task.error_kind == "doubtful"
    actions.retry(task)
    assert run(task) == Status.DONE
    assert sorted(functions()) == ["dawdle", "look"]
    assert [message.role for message in script.asked[2]] == ["user", "assistant", "tool"]
    told = {result.name: result.content for result in script.asked[2][2].tool_results}
    assert "It may have done its work" in told["dawdle"]
    assert task.steps.get(kind=Step.Kind.STEP, name="ask").attempt == 1


def test_a_step_that_fails_ends_the_task_and_trying_again_begins_there(
    survey: Callable[..., Task], scripted: MakeScript, done: list[str]
) -> None:
    declared_for_tests.FAILING.append("No luck.")
    script = scripted(*WORDS[:3], say("Now it is."), WORDS[3])
    task = survey(script)
    assert run(task) == Status.FAILED
    assert task.error == "The step “Check” failed: RuntimeError: No luck."
    assert list(states(task).items())[-1] == ("check", "failed")
    actions.retry(task)
    assert run(task) == Status.DONE
    assert (states(task), done) == (ALL_DONE, FETCHED)
    assert task.steps.get(name="check").attempt == 2


def test_a_model_that_does_not_answer_is_asked_that_one_question_again(
    survey: Callable[..., Task], scripted: MakeScript, done: list[str]
) -> None:
    script = scripted(*WORDS[:2], say(LLMError("quota", "Used up.")), *WORDS[2:])
    task = survey(script)
    assert run(task) == Status.FAILED
    assert (task.error_kind, states(task)["check"]) == ("quota", "failed")
    actions.retry(task)
    assert run(task) == Status.DONE
    assert (done, task.steps.get(name="check").attempt) == (FETCHED, 1)


def test_a_call_that_must_be_agreed_to_lets_the_task_wait_and_go_on(
    survey: Callable[..., Task], scripted: MakeScript, functions: Functions, done: list[str]
) -> None:
    script = scripted(WORDS[0], say(call("order", text="Hi")), *WORDS[1:])
    task = survey(script)
    assert run(task) == Status.WAITING
    assert (functions(), states(task)) == ([], {"plan": "done", "ask": "started"})
    decisions.allow(asked(task), task.user)
    assert run(task) == Status.DONE
    assert functions() == ["order"]
    assert [message.role for message in script.asked[2]] == ["user", "assistant", "tool"]


def test_a_database_that_is_away_in_a_call_is_no_failure_of_the_step(
    survey: Callable[..., Task], scripted: MakeScript, functions: Functions, done: list[str]
) -> None:
    """It would be begun anew then, and the model would call everything once more."""
    script = scripted(WORDS[0], say(call("keep", what="tides")), *WORDS[1:])
    task = survey(script)

    cut: list[str] = []

    def go_away(run_it: Callable[..., Any], sql: str, *rest: Any) -> Any:
        if functions() == ["keep"] and sql.startswith('UPDATE "executor_step"') and not cut:
            cut.append(sql)
            raise OperationalError("The server closed the connection.")
        return run_it(sql, *rest)

    with watched_database_threads(go_away):
        execute(claimed(task))
    execute(taken_over(task))
    task.refresh_from_db()
    assert (task.status, states(task)) == (Status.DONE, ALL_DONE)
    assert task.steps.get(kind=Step.Kind.STEP, name="ask").attempt == 1
    assert (functions(), Group.objects.filter(name="tides").count()) == (["keep", "keep"], 1)


def test_a_stop_ends_it_and_leaves_what_there_is(
    survey: Callable[..., Task], scripted: MakeScript, done: list[str]
) -> None:
    task = survey(scripted(*WORDS[:2]))
    declared_for_tests.HELD.add("sun")

    async def stop(run: Run) -> None:
        await until(lambda: "sun…" in done)
        run.interrupt(Interruption.STOP)

    execute(claimed(task), stop)
    task.refresh_from_db()
    assert task.status == Status.STOPPED
    assert states(task) == {"plan": "done", "ask": "done", "gather": "cancelled"}
    assert [step.status for step in task.steps.filter(name="fetch").order_by("seq")] == ["done", "unknown"]


def test_a_worker_that_leaves_hands_it_over_between_two_parts(
    survey: Callable[..., Task], scripted: MakeScript, done: list[str]
) -> None:
    task = survey(scripted(*WORDS))

    async def leave(run: Run) -> None:
        await until(lambda: "moon" in done)
        run.interrupt(Interruption.HAND_OVER)

    execute(claimed(task), leave)
    task.refresh_from_db()
    assert task.status == Status.QUEUED
    assert run(task) == Status.DONE
    assert done == FETCHED


def test_an_agent_that_a_step_names_works_on_it(
    survey: Callable[..., Task], scripted: MakeScript, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, other = scripted(*WORDS[:3]), scripted(WORDS[3])
    Agent.objects.create(
        name="writer", title="Writer", provider="scripted", model=other.name, instructions="Write well."
    )
    task = survey(own)
    steps = declared_for_tests.Survey.task_steps
    monkeypatch.setattr(declared_for_tests.Survey, "task_steps", (*steps[:-1], replace(steps[-1], agent="writer")))
    assert run(task) == Status.DONE
    assert other.asked[0][0].text == "Write well."
    assert [step.model for step in task.steps.filter(kind=Step.Kind.MODEL).order_by("seq")][-1] == other.name


def test_the_next_message_is_told_what_it_said_and_not_how_it_came_to_that(
    survey: Callable[..., Task], make_task: MakeTask, scripted: MakeScript
) -> None:
    task = survey(scripted(*WORDS))
    run(task)
    follower = make_task("Thanks.", previous=task)
    assert transcript(follower, "") == [user("/survey"), assistant("The report."), user("Thanks.")]


def test_input_that_does_not_fit_ends_it_with_a_sentence(survey: Callable[..., Task], scripted: MakeScript) -> None:
    task = survey(scripted())
    Task.objects.filter(pk=task.pk).update(data={})
    assert run(task) == Status.FAILED
    assert task.error == "“Topic” is missing."


def test_a_task_without_code_is_worked_through_as_it_was_declared_when_it_began(
    survey: Callable[..., Task], scripted: MakeScript
) -> None:
    script = scripted(say("1. Moon"), say("The moon pulls."))
    task = survey(script)
    steps = [
        {"id": "outline", "name": "Outline", "instruction": "Outline it.", "required_info": ["topic"]},
        {"id": "text", "name": "Text", "instruction": "Write it.", "required_info": ["outline"]},
    ]
    row = DeclaredTask.objects.create(name="essay", title="Essay", declaration={"name": "essay", "steps": steps})
    Task.objects.filter(pk=task.pk).update(declared=row.current_version())
    row.declaration = {"name": "essay", "steps": steps[:1]}
    row.save()
    assert run(task) == Status.DONE
    assert states(task) == {"outline": "done", "text": "done"}
    assert task.steps.get(kind=Step.Kind.NOTE).text == "The moon pulls."


def test_a_task_whose_code_is_gone_says_so(survey: Callable[..., Task], scripted: MakeScript) -> None:
    task = survey(scripted())
    assert task.declared is not None
    task.declared.declaration = {"title": "Tides", "class": "dropped_tasks.gone.Tides"}
    task.declared.save(update_fields=["declaration"])
    assert run(task) == Status.FAILED
    assert task.error.startswith("The code of “Tides” cannot be used (dropped_tasks.gone.Tides): ModuleNotFoundError")
    assert task.error_hint.startswith("Ask an administrator to put its file right.")


def kept_by(server: ModelServer, survey: Callable[..., Task]) -> Task:
    """A survey by a model whose provider keeps its answers."""
    import_module("openai")  # What a worker does once, and what takes seconds on a busy machine.
    fields = {"provider": "gpt", "model": "gpt-6.1-sol", "base_url": server.base_url}
    return survey(None, parameters={"keep_response": True}, **fields)


@pytest.mark.parametrize("how", [Interruption.LOST, Interruption.HAND_OVER])
def test_an_answer_that_its_provider_keeps_is_fetched_for_the_question_that_it_belongs_to(
    survey: Callable[..., Task], model_server: ModelServer, done: list[str], how: Interruption
) -> None:
    """The worker goes away in the middle of the third of four answers."""
    answers = ["A plan.", "Twice a day.", "It is right, as far as I can see.", "The report."]
    turns = [Turn(text=answer) for answer in answers]
    turns[2] = replace(turns[2], fault="stall", after=4)
    model_server.script(turns)
    task = kept_by(model_server, survey)

    async def leave(run: Run) -> None:
        await until(lambda: "It is right" in run._stream.text)
        run.interrupt(how)

    execute(claimed(task), leave)
    execute(taken_over(task) if how is Interruption.LOST else claimed(task))
    task.refresh_from_db()
    assert (task.status, states(task), done) == (Status.DONE, ALL_DONE, FETCHED)
    said = task.steps.filter(kind=Step.Kind.MODEL).order_by("seq")
    assert [(step.text, step.status, step.attempt) for step in said] == [
        (answer, "done", 2 if answer == answers[2] else 1) for answer in answers
    ]
    assert len(model_server.asked) == 4
    assert [kept.fetched for kept in model_server.kept.by_id.values()] == [0, 0, 1, 0]
    assert not any(kept.cancelled for kept in model_server.kept.by_id.values())


def test_an_answer_is_fetched_for_no_other_question_and_not_when_its_step_has_failed(
    survey: Callable[..., Task], model_server: ModelServer
) -> None:
    model_server.script([Turn(text="A plan.", fault="stall"), Turn(text="Another plan.")])
    task = kept_by(model_server, survey)

    async def die(run: Run) -> None:
        await until(lambda: "A" in run._stream.text)
        run.interrupt(Interruption.LOST)

    execute(claimed(task), die)
    next_one = taken_over(task)
    next_one.recover()
    assert isinstance(next_one, DeclaredJournal)
    next_one.begin_step(TaskStep("plan", "Plan"))
    next_one.open(Question("plan", "Something else first."))
    assert next_one.take_up_model() is None  # That was not asked yet.
    assert next_one.kept
    next_one.fail_step(TaskExecutionError("No."))
    assert [step.status for step in task.steps.filter(kind=Step.Kind.MODEL)] == ["failed"]
    assert next_one.take_up_model() is None
