"""Tasks that agents give to other agents: what comes back, in which order, and what a stop or a failure takes along."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from executor import actions, decisions, sub_tasks
from executor.core.errors import LLMError
from executor.core.messages import Message, user
from executor.journal import Journal
from executor.models import ACTIVE, Agent, Decision, DeclaredTask, Status, Step, Task
from tests.executor.conftest import MakeScript, MakeTask, claimed, in_threads
from tests.executor.scripted import Script, call, say
from tests.executor.test_run import execute

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_server")]

Functions = Callable[[], list[str]]


def agent(name: str, script: Script, **more: Any) -> Agent:
    return Agent.objects.create(name=name, title=name.title(), provider="scripted", model=script.name, **more)


def run(task: Task) -> str:
    execute(claimed(task))
    task.refresh_from_db()
    return task.status


def below(task: Task, name: str = "task") -> Task:
    return Task.objects.get(parent=task, name=name)


def told(transcript: tuple[Message, ...]) -> tuple[str, bool]:
    (result,) = transcript[-1].tool_results
    return result.content, result.is_error


def entry(name: str, *after: str, agent: str = "writer") -> dict[str, Any]:
    return {"id": name, "agent": agent, "task": f"Do {name}.", "after": list(after)}


def test_work_given_to_another_agent_comes_back_as_the_result_and_nobody_holds_a_worker_meanwhile(
    make_task: MakeTask, scripted: MakeScript
) -> None:
    script, other = (
        scripted(say(call("delegate", agent="writer", task="Write.")), say("Good.")),
        scripted(say("A poem.")),
    )
    agent("writer", other, instructions="Be brief.")
    task = make_task("Go.", script)
    assert run(task) == Status.AWAITING
    assert (task.owner, task.lease_until) == ("", None)
    child = below(task)
    assert (child.status, child.root, child.user) == (Status.QUEUED, task, task.user)
    assert run(child) == Status.DONE
    assert [message.text for message in other.asked[0]] == ["Be brief.", "Write."]
    task.refresh_from_db()
    assert task.status == Status.QUEUED
    assert run(task) == Status.DONE
    assert told(script.asked[1]) == ("A poem.", False)


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        ({"agent": "nobody", "task": "Write."}, "There is no agent nobody. There are: "),
        ({"agent": "writer"}, "delegate was not run: its arguments are wrong."),
    ],
)
def test_what_cannot_be_given_is_told_to_the_model(
    make_task: MakeTask, scripted: MakeScript, wanted: dict[str, Any], sentence: str
) -> None:
    script = scripted(say(call("delegate", **wanted)), say("A pity."))
    task = make_task("Go.", script)
    assert run(task) == Status.DONE
    content, is_error = told(script.asked[1])
    assert content.startswith(sentence)
    assert is_error
    assert not Task.objects.filter(parent=task).exists()


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        ([], "There is no task to give."),
        ([entry("a"), entry("a")], "Two tasks have the same id."),
        ([entry("a", "b")], "a comes after b, which is not among the tasks."),
        ([entry("a", "b"), entry("b", "a")], "The tasks wait for each other in a circle."),
        ([entry(str(n)) for n in range(25)], "One task gives 24 others at most. Do the rest yourself."),
    ],
)
def test_a_plan_that_cannot_work_is_refused_as_a_whole(
    make_task: MakeTask, scripted: MakeScript, wanted: list[dict[str, Any]], sentence: str
) -> None:
    agent("writer", scripted())
    task = make_task("Go.", scripted())
    with pytest.raises(sub_tasks.CannotGive) as refused:
        sub_tasks.give(task, "call", wanted)
    assert str(refused.value) == sentence
    assert not Task.objects.filter(parent=task).exists()


def test_work_is_given_on_only_so_often(make_task: MakeTask, scripted: MakeScript) -> None:
    agent("writer", scripted())
    task = make_task("Go.", scripted())
    for _ in range(sub_tasks.MAX_DEPTH):
        sub_tasks.give(task, "call", [entry("a")])
        task = below(task, "a")
    with pytest.raises(sub_tasks.CannotGive, match="Tasks are given on 3 times at most"):
        sub_tasks.give(task, "call", [entry("a")])


def test_tasks_of_a_plan_begin_when_those_that_they_need_are_done_and_are_told_what_came_of_them(
    make_task: MakeTask, scripted: MakeScript
) -> None:
    plan = [entry("sun"), entry("moon"), entry("tides", "sun", "moon")]
    script = scripted(say(call("run_plan", tasks=plan)), say("Good."))
    writer = scripted(say("It is hot."), say("It is near."), say("They pull."))
    agent("writer", writer)
    task = make_task("Go.", script)
    assert run(task) == Status.AWAITING
    assert below(task, "tides").status == Status.AWAITING
    run(below(task, "sun"))
    assert below(task, "tides").status == Status.AWAITING
    run(below(task, "moon"))
    assert below(task, "tides").status == Status.QUEUED
    assert Task.objects.get(pk=task.pk).status == Status.AWAITING
    run(below(task, "tides"))
    assert writer.asked[2][-1] == user(
        "Do tides.\n\nWhat the tasks before this one came up with:\nsun: It is hot.\nmoon: It is near."
    )
    assert run(task) == Status.DONE
    content, is_error = told(script.asked[1])
    assert (json.loads(content), is_error) == (
        {"sun": "It is hot.", "moon": "It is near.", "tides": "They pull."},
        False,
    )


def test_a_task_that_fails_takes_only_those_along_that_need_it(make_task: MakeTask, scripted: MakeScript) -> None:
    plan = [entry("bad", agent="broken"), entry("good"), entry("next", "bad"), entry("last", "next")]
    script = scripted(say(call("run_plan", tasks=plan)), say("Well."))
    agent("writer", scripted(say("Fine.")))
    agent("broken", scripted(say(LLMError("quota", "Used up."))))
    task = make_task("Go.", script)
    run(task)
    run(below(task, "bad"))
    assert [below(task, name).status for name in ("next", "last")] == [Status.STOPPED] * 2
    run(below(task, "good"))
    assert run(task) == Status.DONE
    content, is_error = told(script.asked[1])
    assert not is_error
    assert json.loads(content) == {
        "bad": "It failed: Used up.",
        "good": "Fine.",
        "next": sub_tasks.NOT_BEGUN,
        "last": sub_tasks.NOT_BEGUN,
    }


def test_a_stop_ends_everything_below(make_task: MakeTask, scripted: MakeScript) -> None:
    plan = [entry("a"), entry("b", "a"), entry("c")]
    task = make_task("Go.", scripted(say(call("run_plan", tasks=plan))))
    deeper = [say(call("delegate", agent="writer", task="More."))]
    agent("writer", scripted(*deeper))
    run(task)
    run(below(task, "c"))
    assert actions.stop(task)
    assert task.status == Status.STOPPED
    assert not Task.objects.filter(root=task, status__in=ACTIVE).exists()
    assert Task.objects.filter(root=task).count() == 4


def test_a_task_that_is_stopped_alone_is_told_to_the_one_that_gave_it(
    make_task: MakeTask, scripted: MakeScript
) -> None:
    script = scripted(say(call("delegate", agent="writer", task="Write.")), say("A pity."))
    agent("writer", scripted())
    task = make_task("Go.", script)
    run(task)
    actions.stop(below(task))
    assert run(task) == Status.DONE
    assert told(script.asked[1]) == ("It was stopped.", True)


def test_a_task_below_may_wait_for_the_person(make_task: MakeTask, scripted: MakeScript, functions: Functions) -> None:
    script = scripted(say(call("delegate", agent="writer", task="Write.")), say("Good."))
    agent("writer", scripted(say(call("order", text="Ink")), say("Ordered.")))
    task = make_task("Go.", script)
    run(task)
    child = below(task)
    assert run(child) == Status.WAITING
    assert Task.objects.get(pk=task.pk).status == Status.AWAITING
    decisions.allow(child.decisions.get(status=Decision.Status.PENDING), task.user)
    assert run(child) == Status.DONE
    assert run(task) == Status.DONE
    assert told(script.asked[1]) == ("Ordered.", False)


def test_a_person_and_other_agents_may_be_asked_at_once(
    make_task: MakeTask, scripted: MakeScript, functions: Functions
) -> None:
    asked_for = (call("delegate", agent="writer", task="Write."), call("order", text="Ink"))
    task = make_task("Go.", scripted(say(*asked_for), say("Good.")))
    agent("writer", scripted(say("A poem.")))
    assert run(task) == Status.WAITING
    decisions.allow(task.decisions.get(), task.user)
    assert run(task) == Status.AWAITING
    assert functions() == ["order"]
    run(below(task))
    assert run(task) == Status.DONE


def test_the_last_two_that_end_at_once_let_the_task_go_on(make_task: MakeTask, scripted: MakeScript) -> None:
    plan = [entry(str(n)) for n in range(4)]
    task = make_task("Go.", scripted(say(call("run_plan", tasks=plan))))
    agent("writer", scripted())
    run(task)
    journals: list[Journal] = [claimed(below(task, str(n))) for n in range(4)]
    in_threads(4, lambda n: journals[n].end(Status.DONE))
    task.refresh_from_db()
    assert task.status == Status.QUEUED
    assert task.steps.get(name="run_plan").status == Step.Status.DONE


def test_a_task_whose_others_were_deleted_goes_on(make_task: MakeTask, scripted: MakeScript) -> None:
    script = scripted(say(call("delegate", agent="writer", task="Write.")), say("A pity."))
    agent("writer", scripted())
    task = make_task("Go.", script)
    run(task)
    assert sub_tasks.find_forgotten() == 0
    below(task).delete()
    assert sub_tasks.find_forgotten() == 1
    assert run(task) == Status.DONE
    assert told(script.asked[1]) == ("The tasks were deleted.", True)


# --- declared tasks --------------------------------------------------------------------------------------------------


@pytest.fixture
def essay() -> DeclaredTask:
    steps = [{"id": "text", "name": "Text", "instruction": "Write it.", "required_info": ["topic"]}]
    inputs = [{"name": "topic", "label": "Topic", "kind": "text"}]
    declaration = {"name": "essay", "title": "Essay", "inputs": inputs, "steps": steps}
    return DeclaredTask.objects.create(name="essay", title="Essay", declaration=declaration)


def test_an_agent_starts_a_declared_task_and_is_told_what_it_came_up_with(
    make_task: MakeTask, scripted: MakeScript, essay: DeclaredTask
) -> None:
    script = scripted(
        say(call("list_tasks")),
        say(call("start_task", task="essay", inputs={"topic": "Tides"})),
        say("They rise and fall."),
        say("Here it is."),
    )
    task = make_task("Go.", script)
    assert run(task) == Status.AWAITING
    listed = json.loads(told(script.asked[1])[0])
    assert [(one["name"], one["inputs"][0]["name"]) for one in listed] == [("essay", "topic")]
    child = below(task)
    assert (child.declared, child.data, child.text) == (
        essay.current_version(),
        {"topic": "Tides"},
        "/essay\nTopic: Tides",
    )
    assert run(child) == Status.DONE
    assert run(task) == Status.DONE
    assert told(script.asked[3]) == ("They rise and fall.", False)


@pytest.mark.parametrize(
    ("name", "inputs", "sentence"),
    [
        ("poem", {}, "There is no task poem that can be started. There are: essay."),
        ("essay", {}, "“Topic” is missing."),
    ],
)
def test_a_declared_task_that_cannot_be_started_is_told_to_the_model(
    make_task: MakeTask,
    scripted: MakeScript,
    essay: DeclaredTask,
    name: str,
    inputs: dict[str, Any],
    sentence: str,
) -> None:
    script = scripted(say(call("start_task", task=name, inputs=inputs)), say("A pity."))
    task = make_task("Go.", script)
    assert run(task) == Status.DONE
    assert told(script.asked[1]) == (sentence, True)
    assert not Task.objects.filter(parent=task).exists()
