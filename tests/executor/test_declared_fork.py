"""Trying again from a step of a declared task: what is before it is shared and not done again, what is after it is."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from executor import decisions
from executor.core.messages import user
from executor.decisions import WrongAnswer
from executor.forks import StillAtWork, fork, steps_of
from executor.models import DeclaredTaskVersion, Status, Step, Task
from executor.told import transcript
from tests.executor import declared_for_tests
from tests.executor.conftest import MakeScript, MakeTask, values
from tests.executor.scripted import call, say
from tests.executor.test_declared_run import FETCHED, WORDS, as_survey, asked, die_in, run
from tests.executor.test_fork import other_script

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("redis_server"),
    pytest.mark.xdist_group("declared"),  # They share what declared_for_tests.py counts.
]

Functions = Callable[[], list[str]]


@pytest.fixture(autouse=True)
def done() -> list[str]:
    return declared_for_tests.begin_counting()


@pytest.fixture
def survey(make_task: MakeTask, scripted: MakeScript, functions: Functions, done: list[str]) -> Task:
    """A survey that is done, with a call in its second step and three parts in its third."""
    task = as_survey(make_task("/survey", scripted(WORDS[0], say(call("look", topic="moon")), *WORDS[1:])))
    assert run(task) == Status.DONE
    assert (done, functions()) == (FETCHED, ["look"])
    done.clear()
    return task


def row(task: Task, name: str) -> Step:
    return next(step for step in steps_of(task) if step.name == name)


def part(task: Task, what: str) -> Step:
    return next(step for step in steps_of(task) if step.name == "fetch" and step.arguments == {"1": what})


def gave(task: Task) -> dict[str, str]:
    return {step.name: step.result for step in steps_of(task) if step.kind == Step.Kind.STEP}


def own(task: Task) -> list[str]:
    """The rows of the task itself, by name or kind."""
    return [step.name or step.kind for step in task.steps.order_by("seq")]


def test_a_step_is_begun_anew_with_what_is_before_it_and_so_is_all_after_it(
    survey: Task, scripted: MakeScript, done: list[str]
) -> None:
    before = values(survey.steps.all()), values(Task.objects.filter(pk=survey.pk))
    script = scripted(say("Quite right."), say("Another report."))
    task = other_script(fork(survey, row(survey, "gather").seq), script)
    assert (task.declared, task.data) == (survey.declared, survey.data)
    assert run(task) == Status.DONE
    assert done == FETCHED
    assert gave(task)["plan"] == gave(survey)["plan"]
    assert gave(task)["check"] == '{"verdict": "Quite right."}'
    assert [step.name for step in task.steps.filter(kind=Step.Kind.STEP)] == ["gather", "check", "report"]
    assert task.steps.get(kind=Step.Kind.NOTE).text == "Another report."
    assert task.model_calls == 2
    assert (values(survey.steps.all()), values(Task.objects.filter(pk=survey.pk))) == before


def test_from_its_first_step_it_shares_nothing(survey: Task, scripted: MakeScript) -> None:
    task = other_script(fork(survey, 1), scripted(*WORDS))
    assert run(task) == Status.DONE
    assert steps_of(task) == list(task.steps.all())


def test_another_output_is_what_the_steps_after_it_are_given(
    survey: Task, scripted: MakeScript, done: list[str], functions: Functions
) -> None:
    script = scripted(say("No."), say("On cheese."))
    gather = row(survey, "gather")
    task = other_script(fork(survey, gather.seq, output={"found": ["the moon is cheese"]}), script)
    assert own(task) == ["gather"]
    assert len(steps_of(task)) == max(step.seq for step in steps_of(survey) if step.parent_seq == gather.seq)
    assert run(task) == Status.DONE
    assert (done, functions()) == ([], ["look"])
    assert script.asked[0][-1] == user('Is it right?\n\n{"found": ["the moon is cheese"]}')
    assert gave(survey)["gather"] != gave(task)["gather"] == '{"found": ["the moon is cheese"]}'


def test_another_output_of_the_last_step_is_what_the_task_says(survey: Task) -> None:
    task = fork(survey, row(survey, "report").seq, output={"report": "By hand."})
    assert run(task) == Status.DONE
    assert task.steps.get(kind=Step.Kind.NOTE).text == "By hand."
    assert task.model_calls == 0
    assert [message.text for message in transcript(task, "")][-1] == "By hand."


@pytest.mark.parametrize(
    ("step", "output", "problem"),
    [
        ("plan", {"plan": ["a", "b"]}, "“plan” must be a text"),
        ("plan", {"plans": "a"}, "an object with “plan”, and nothing else"),
        ("check", {"verdict": 3}, "verdict: 3 is not of type 'string'"),
    ],
)
def test_an_output_that_the_step_cannot_give_is_refused(
    survey: Task, monkeypatch: pytest.MonkeyPatch, step: str, output: dict[str, object], problem: str
) -> None:
    steps = declared_for_tests.changed("check", response_schema={"properties": {"verdict": {"type": "string"}}})
    monkeypatch.setattr(declared_for_tests.Survey, "task_steps", steps)
    with pytest.raises(WrongAnswer, match=problem):
        fork(survey, row(survey, step).seq, output=output)
    assert Task.objects.count() == 1


def test_a_part_is_done_again_and_those_before_it_in_its_step_are_not(
    survey: Task, scripted: MakeScript, done: list[str]
) -> None:
    task = other_script(fork(survey, part(survey, "sun").seq), scripted(*WORDS[2:]))
    assert own(task) == ["gather", "fetch"]
    assert run(task) == Status.DONE
    assert done == ["sun", "wind"]
    assert gave(task)["gather"] == gave(survey)["gather"]


def test_another_result_of_a_part_is_what_the_code_gets(survey: Task, scripted: MakeScript, done: list[str]) -> None:
    seq = part(survey, "sun").seq
    with pytest.raises(WrongAnswer, match="This is not JSON"):
        fork(survey, seq, result="all about cheese")
    with pytest.raises(WrongAnswer, match="only its result"):
        fork(survey, seq, arguments={"1": "mars"})
    task = other_script(fork(survey, seq, result='"all about cheese"'), scripted(*WORDS[2:]))
    assert run(task) == Status.DONE
    assert done == ["wind"]
    assert gave(task)["gather"] == '{"found": ["all about moon", "all about cheese", "all about wind"]}'


def test_a_call_in_a_step_is_made_with_other_arguments(
    survey: Task, scripted: MakeScript, done: list[str], functions: Functions
) -> None:
    script = scripted(say("Once a month."), *WORDS[2:])
    task = other_script(fork(survey, row(survey, "look").seq, arguments={"topic": "mars"}), script)
    assert own(task) == ["ask", "look"]
    assert run(task) == Status.DONE
    assert functions() == ["look", "look"]
    assert script.asked[0][-1].tool_results[0].content == "All about mars."
    assert gave(task)["ask"] == '{"ask": "Once a month."}'
    assert done == FETCHED


def test_a_model_in_a_step_is_asked_again_with_what_it_was_told(survey: Task, scripted: MakeScript) -> None:
    answer = next(step for step in steps_of(survey) if step.text == "Twice a day.")
    script = scripted(say("Now and then."), *WORDS[2:])
    task = other_script(fork(survey, answer.seq), script)
    assert run(task) == Status.DONE
    assert script.asked[0][-1].tool_results[0].content == "All about moon."
    assert gave(task)["ask"] == '{"ask": "Now and then."}'


def test_it_goes_on_in_the_attempt_to_which_the_step_belongs(
    make_task: MakeTask, scripted: MakeScript, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = declared_for_tests.changed("check", retries=1)
    monkeypatch.setattr(declared_for_tests.Survey, "task_steps", steps)
    declared_for_tests.FAILING.append("It broke.")
    script = scripted(*WORDS[:2], say("It broke."), say("It holds."), WORDS[3])
    survey = as_survey(make_task("/survey", script))
    assert run(survey) == Status.DONE
    assert row(survey, "check").attempt == 2
    first, second = (step for step in steps_of(survey) if step.text in ("It broke.", "It holds."))
    for answer, attempt in ((first, 1), (second, 2)):
        task = other_script(fork(survey, answer.seq), scripted(say("It may."), WORDS[3]))
        assert run(task) == Status.DONE
        assert (row(task, "check").attempt, gave(task)["check"]) == (attempt, '{"verdict": "It may."}')


def test_a_fork_of_a_fork_shares_what_both_have(survey: Task, scripted: MakeScript, done: list[str]) -> None:
    script = scripted(*WORDS[2:])
    first = other_script(fork(survey, part(survey, "moon").seq, result='"cheese"'), script)
    run(first)
    done.clear()
    task = other_script(fork(first, part(first, "wind").seq), scripted(*WORDS[2:]))
    assert run(task) == Status.DONE
    assert done == ["wind"]
    assert gave(task)["gather"] == '{"found": ["cheese", "all about sun", "all about wind"]}'


def test_a_part_that_came_to_nothing_before_is_the_forks_to_do(
    survey: Task, scripted: MakeScript, done: list[str]
) -> None:
    survey.steps.filter(pk=part(survey, "moon").pk).update(status=Step.Status.CANCELLED)
    task = other_script(fork(survey, part(survey, "sun").seq), scripted(*WORDS[2:]))
    assert run(task) == Status.DONE
    assert done == FETCHED
    assert own(task)[:3] == ["gather", "fetch", "fetch"]


def test_a_part_of_which_nobody_knows_whether_it_ran_is_asked_about_in_the_fork_too(
    survey: Task, scripted: MakeScript, done: list[str]
) -> None:
    survey.steps.filter(pk=part(survey, "moon").pk).update(status=Step.Status.UNKNOWN)
    task = other_script(fork(survey, part(survey, "sun").seq), scripted(*WORDS[2:]))
    assert run(task) == Status.WAITING
    decisions.it_did(asked(task), task.user)
    assert run(task) == Status.DONE
    assert done == ["sun", "wind"]


def test_a_fork_whose_worker_dies_goes_on_and_does_nothing_twice(
    survey: Task, scripted: MakeScript, done: list[str]
) -> None:
    task = other_script(fork(survey, part(survey, "sun").seq), scripted(*WORDS[2:]))
    die_in(task, "wind")
    assert task.status == Status.WAITING
    decisions.run_again(asked(task), task.user)
    assert run(task) == Status.DONE
    assert done == ["sun", "wind…", "wind"]
    assert gave(task)["gather"] == gave(survey)["gather"]


def test_what_failed_is_gone_on_from_with_what_a_person_wrote(make_task: MakeTask, scripted: MakeScript) -> None:
    declared_for_tests.FAILING.append("It broke.")
    survey = as_survey(make_task("/survey", scripted(*WORDS[:3])))
    assert run(survey) == Status.FAILED
    task = other_script(fork(survey, row(survey, "check").seq, output={"verdict": "Mine."}), scripted(WORDS[3]))
    assert run(task) == Status.DONE
    assert gave(task)["report"] == '{"report": "The report."}'


def test_questions_and_what_it_said_in_the_end_are_no_places_to_go_on_from(survey: Task) -> None:
    for kind in (Step.Kind.QUESTION, Step.Kind.NOTE):
        with pytest.raises(WrongAnswer, match="no such step"):
            fork(survey, survey.steps.filter(kind=kind)[0].seq)
    with pytest.raises(WrongAnswer, match="Only a declared step"):
        fork(survey, row(survey, "look").seq, output={})


def test_what_is_at_work_is_not_forked(make_task: MakeTask) -> None:
    with pytest.raises(StillAtWork):
        fork(as_survey(make_task("/survey")), 1)


def test_code_that_is_gone_is_told_where_an_output_is_changed(survey: Task) -> None:
    DeclaredTaskVersion.objects.update(declaration={"title": "Survey", "class": "tests.nowhere.Gone"})
    with pytest.raises(WrongAnswer, match="cannot be used"):
        fork(survey, row(survey, "plan").seq, output={"plan": "Mine."})
