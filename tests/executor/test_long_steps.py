"""What a declared step tells its model is shortened as in a conversation, and that is on record in the same way."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest
from django.template.loader import render_to_string

from conversations.present import task_view
from executor import actions
from executor.core.compaction import ASKED, TOLD
from executor.core.messages import Usage, assistant, user
from executor.core.steps import TaskStep
from executor.models import DeclaredTask, Status, Step, Task
from executor.run import Interruption, Run
from executor.told import transcript, what_is_told
from tests.executor import declared_for_tests
from tests.executor.conftest import MakeScript, MakeTask, claimed, taken_over
from tests.executor.core.test_long_steps import LONG, say
from tests.executor.scripted import Answer, Hold, Script, call
from tests.executor.test_run import execute, reach, until
from tests.fakes.model_server import ModelServer
from tests.fakes.script import Call, Turn

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("redis_server"),
    pytest.mark.xdist_group("declared"),
]

Functions = Callable[[], list[str]]
SMALL: dict[str, Any] = {"functions": ["look"], "parameters": {"context_window": 3_200}, "max_iterations": 20}
QUESTION = user("Find out.")


@pytest.fixture
def look(make_task: MakeTask, functions: Functions, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Task]:
    """A queued task of one step, which has the function `look`."""
    step = TaskStep("ask", "Ask", "Find out.", functions=("look",))
    monkeypatch.setattr(declared_for_tests.Survey, "task_steps", (step,))
    monkeypatch.setattr(declared_for_tests.Survey, "inputs", ())

    def make(script: Script | None, **agent: Any) -> Task:
        declaration = {"title": "Survey", "class": "tests.executor.declared_for_tests.Survey"}
        declared = DeclaredTask.objects.create(name="survey", title="Survey", declaration=declaration)
        task = make_task("/survey", script, **{**SMALL, **agent})
        task.declared, task.data = declared.current_version(), {}
        task.save(update_fields=["declared", "data"])
        return task

    return make


Look = Callable[..., Task]


def rounds(number: int) -> list[Answer]:
    return [say(f"Round {n} {LONG}", call("look", topic=f"tide {n}")) for n in range(number)]


def run(task: Task) -> str:
    execute(claimed(task))
    task.refresh_from_db()
    return task.status


def summaries(task: Task) -> list[Step]:
    return list(task.steps.filter(kind=Step.Kind.COMPACTION).order_by("seq"))


def test_a_loop_in_a_step_is_summarised_as_a_step_that_belongs_to_its_question(
    look: Look, scripted: MakeScript, functions: Functions
) -> None:
    script = scripted(*rounds(6), say("Six looks.", usage=Usage(700, 30)), say("Twice a day."))
    task = look(script)
    assert run(task) == Status.DONE
    assert functions() == ["look"] * 6
    (summary,) = summaries(task)
    asked = task.steps.get(kind=Step.Kind.QUESTION)
    last = task.steps.filter(kind=Step.Kind.TOOL, seq__lte=summary.covers_seq).last()
    assert (summary.status, summary.text, summary.parent_seq) == ("done", "Six looks.", asked.seq)
    assert (summary.covers_task, summary.covers_seq, summary.input_tokens) == (None, last and last.seq, 700)
    assert script.asked[6][0] == QUESTION
    assert script.asked[6][-1].text.startswith(ASKED)
    assert script.asked[7][0] == QUESTION
    assert script.asked[7][1].text.startswith(TOLD)
    assert "Six looks." in script.asked[7][1].text
    assert (task.model_calls, task.input_tokens) == (7, 700)


def test_a_summary_in_a_step_stands_for_nothing_in_the_conversation(
    look: Look, make_task: MakeTask, scripted: MakeScript
) -> None:
    task = look(scripted(*rounds(6), say("Six looks."), say("Twice a day.")))
    run(task)
    follower = make_task("Thanks.", previous=task)
    assert transcript(follower, "") == [user("/survey"), assistant("Twice a day."), user("Thanks.")]
    assert what_is_told(follower).summary is None


def test_the_page_shows_it_among_what_the_step_did(look: Look, scripted: MakeScript) -> None:
    task = look(scripted(*rounds(6), say("Six looks."), say("Twice a day.")))
    run(task)
    task = Task.objects.select_related("declared__task").get(pk=task.pk)
    view = task_view(task, list(task.steps.order_by("seq")), every_step=True)
    assert view.declared is not None
    (part,) = view.declared.parts
    (shown,) = [step for step in part.steps if step.kind == Step.Kind.COMPACTION]
    assert (shown.title, shown.text) == ("Earlier messages were summarised", "<p>Six looks.</p>\n")
    assert view.summaries == (), "What was said in the conversation was not."
    html = render_to_string("conversations/_step.html", {"step": shown})
    assert html.count("Six looks.") == 1
    assert "Nothing was deleted." in html


def test_what_was_said_in_another_question_is_not_part_of_it(
    look: Look, scripted: MakeScript, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def twice(self: Any, step_input: dict[str, Any]) -> dict[str, Any]:
        return {"ask": [await self.solve("Find out."), await self.solve("And then?")]}

    monkeypatch.setattr(declared_for_tests.Survey, "handle_ask", twice, raising=False)
    script = scripted(*rounds(6), say("Six looks."), say("Twice a day."), say("That is all."))
    task = look(script)
    assert run(task) == Status.DONE
    assert script.asked[-1] == (user("And then?"),)


def test_a_worker_that_dies_in_it_leaves_nothing_and_it_is_asked_again(
    look: Look, scripted: MakeScript, functions: Functions
) -> None:
    hold = Hold()
    script = scripted(*rounds(6), say("Six", hold), say("Six looks."), say("Twice a day."))
    task = look(script)

    async def die(run: Run) -> None:
        await reach(hold)
        run.interrupt(Interruption.LOST)

    execute(claimed(task), die)
    execute(taken_over(task))
    task.refresh_from_db()
    assert task.status == Status.DONE
    assert [(step.status, step.error_kind) for step in summaries(task)] == [("failed", "interrupted"), ("done", "")]
    assert functions() == ["look"] * 6


def test_rounds_that_were_summarised_count_all_the_same(look: Look, scripted: MakeScript) -> None:
    hold = Hold()
    task = look(scripted(*rounds(6), say("Six looks."), say("More.", hold), *rounds(1)), max_iterations=7)

    async def die(run: Run) -> None:
        await reach(hold)
        run.interrupt(Interruption.LOST)

    execute(claimed(task), die)
    execute(taken_over(task))
    task.refresh_from_db()
    assert task.status == Status.WAITING
    assert task.decisions.get().details["limit"] == "iterations"


def test_a_question_that_is_more_than_its_model_reads_fails_its_step_with_a_sentence(
    look: Look, scripted: MakeScript, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = TaskStep("ask", "Ask", "Find out. " + "." * 9_000)
    monkeypatch.setattr(declared_for_tests.Survey, "task_steps", (step,))
    task = look(scripted(say("Twice a day.")))
    assert run(task) == Status.FAILED
    assert (task.error_kind, task.error) == (
        "question_too_long",
        "What the step “Ask” asks is more than its model can read.",
    )
    row = task.steps.get(kind=Step.Kind.STEP)
    assert (row.status, row.attempt, row.error_kind) == ("failed", 1, "question_too_long")
    monkeypatch.setattr(declared_for_tests.Survey, "task_steps", (TaskStep("ask", "Ask", "Find out."),))
    actions.retry(task)
    assert run(task) == Status.DONE


# --- an answer that its provider keeps -------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [Interruption.LOST, Interruption.HAND_OVER])
def test_a_summary_that_its_provider_keeps_is_fetched(
    look: Look, model_server: ModelServer, functions: Functions, how: Interruption
) -> None:
    import_module("openai")
    turns = [Turn(text=f"Round {n} {LONG}", calls=(Call("look", {"topic": f"tide {n}"}),)) for n in range(6)]
    model_server.script([*turns, Turn(text="Six looks, all alike.", fault="stall", after=3), Turn(text="Twice a day.")])
    fields = {"provider": "gpt", "model": "gpt-6.1-sol", "base_url": model_server.base_url}
    task = look(None, **fields, parameters={"keep_response": True, "context_window": 3_200})

    async def leave(run: Run) -> None:
        await until(lambda: len(model_server.kept.by_id) == 7 and run._recorder._kept is not None)
        run.interrupt(how)

    execute(claimed(task), leave)
    (left,) = summaries(task)
    assert (left.status, bool(left.response_id)) == ("started" if how is Interruption.LOST else "pending", True)
    execute(taken_over(task) if how is Interruption.LOST else claimed(task))
    task.refresh_from_db()
    assert task.status == Status.DONE, task.error
    (summary,) = summaries(task)
    assert (summary.status, summary.text, summary.attempt) == ("done", "Six looks, all alike.", 2)
    assert len(model_server.asked) == 8
    assert [kept.fetched for kept in model_server.kept.by_id.values()][6] == 1
    assert not any(kept.cancelled for kept in model_server.kept.by_id.values())
