"""A plan for several agents from Python, run by a real worker."""

from __future__ import annotations

import ast
import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest
from django.db import connections

from executor.core.errors import LLMError
from executor.core.executor import AgentTask, ExecutionStatus
from executor.models import Agent, Status, Task
from executor.orchestrator import ProjectOrchestrator
from executor.sub_tasks import NOT_BEGUN
from tests.executor.conftest import MakeScript, MakeTask
from tests.executor.scripted import Hold, say
from tests.executor.test_adding_a_task import PLAN as PAGE_PLAN
from tests.executor.test_sub_tasks import agent
from tests.executor.test_worker import StartWorker, start_worker  # noqa: F401
from users.models import User

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_server")]

T = TypeVar("T")


@pytest.fixture
def alice(make_task: MakeTask) -> User:
    return User.objects.get_or_create(username="alice")[0]


def wait_for(work: Coroutine[Any, Any, T]) -> T:
    async def within() -> T:
        async with asyncio.timeout(20):
            return await work

    try:
        return asyncio.run(within())
    finally:
        connections.close_all()


PLAN = (
    AgentTask("sun", "What does the sun do?", "writer"),
    AgentTask("moon", "What does the moon do?", "writer", {"near": True}),
    AgentTask("tides", "Explain the tides.", "editor", after=("sun", "moon")),
)


def test_a_task_is_done_after_those_that_it_needs_and_is_told_what_came_of_them(
    alice: User,
    scripted: MakeScript,
    start_worker: StartWorker,  # noqa: F811
) -> None:
    agent("writer", scripted(say("It pulls."), say("It pulls.")))
    editor = scripted(say("Both pull."))
    agent("editor", editor)
    start_worker()
    result = wait_for(ProjectOrchestrator(alice, PLAN).execute_task("tides"))
    assert (result.status, result.output, result.error) == (ExecutionStatus.DONE, {"answer": "Both pull."}, None)
    assert editor.asked[0][-1].text == (
        "Explain the tides.\n\nWhat the tasks before this one came up with:\nsun: It pulls.\nmoon: It pulls."
    )
    assert {"What does the sun do?", 'What does the moon do?\n\n{"near": true}'} < {
        task.text for task in Task.objects.all()
    }


def test_all_are_done_and_each_only_once(
    alice: User,
    scripted: MakeScript,
    start_worker: StartWorker,  # noqa: F811
) -> None:
    agent("writer", scripted(say("It pulls."), say("It pulls.")))
    agent("editor", scripted(say("Both pull.")))
    start_worker()
    orchestrator = ProjectOrchestrator(alice, PLAN)

    async def twice() -> list[str]:
        first = await orchestrator.execute_task("sun")
        results = await orchestrator.execute_all()
        return [first.output["answer"], *(result.output["answer"] for result in results.values())]

    assert wait_for(twice()) == ["It pulls.", "It pulls.", "It pulls.", "Both pull."]
    assert Task.objects.count() == 3


def test_another_agent_may_be_named_for_a_task(
    alice: User,
    scripted: MakeScript,
    start_worker: StartWorker,  # noqa: F811
) -> None:
    agent("writer", scripted())
    agent("editor", scripted(say("It warms.")))
    start_worker()
    result = wait_for(ProjectOrchestrator(alice, PLAN).execute_task("sun", agent="editor"))
    assert result.output == {"answer": "It warms."}


def test_a_failure_is_a_result_and_what_needs_it_is_not_begun(
    alice: User,
    scripted: MakeScript,
    start_worker: StartWorker,  # noqa: F811
) -> None:
    agent("writer", scripted(say("It pulls.")))
    agent("broken", scripted(say(LLMError("quota", "Used up."))))
    agent("editor", scripted())
    start_worker()
    orchestrator = ProjectOrchestrator(alice, (AgentTask("sun", "The sun?", "broken"), *PLAN[1:]))
    results = wait_for(orchestrator.execute_all())
    assert (results["sun"].status, str(results["sun"].error)) == (ExecutionStatus.FAILED, "Used up.")
    assert results["moon"].status == ExecutionStatus.DONE
    assert (results["tides"].status, str(results["tides"].error)) == (ExecutionStatus.STOPPED, NOT_BEGUN)


def test_a_stop_ends_what_was_begun(
    alice: User,
    scripted: MakeScript,
    start_worker: StartWorker,  # noqa: F811
) -> None:
    hold = Hold()
    agent("writer", scripted(say("It", hold)))
    agent("editor", scripted())
    start_worker()
    orchestrator = ProjectOrchestrator(alice, (PLAN[0], AgentTask("tides", "Explain.", "editor", after=("sun",))))

    async def begin_and_stop() -> Any:
        running = asyncio.create_task(orchestrator.execute_all())
        await asyncio.to_thread(hold.wait_until_reached)
        await orchestrator.stop()
        return await running

    results = wait_for(begin_and_stop())
    hold.released.set()
    assert results["tides"].status == ExecutionStatus.STOPPED
    assert not Task.objects.filter(status=Status.RUNNING).exists()


@pytest.mark.parametrize(
    ("tasks", "sentence"),
    [
        ([AgentTask("a", "A."), AgentTask("a", "A.")], "Two tasks have the id 'a'."),
        ([AgentTask("a", "A.", after=("b",))], "a comes after b, which is not among the tasks."),
        (
            [AgentTask("a", "A.", after=("b",)), AgentTask("b", "B.", after=("a",))],
            "The tasks wait for each other in a circle.",
        ),
    ],
)
def test_a_plan_that_cannot_work_is_refused_at_once(alice: User, tasks: list[AgentTask], sentence: str) -> None:
    with pytest.raises(ValueError) as refused:
        ProjectOrchestrator(alice, tasks)
    assert str(refused.value) == sentence


def test_who_is_not_there_is_named(alice: User) -> None:
    with pytest.raises(LookupError, match=r"no task 'wind'\. There are: sun, moon, tides"):
        wait_for(ProjectOrchestrator(alice, PLAN).execute_task("wind"))
    with pytest.raises(LookupError, match="There is no agent writer"):
        wait_for(ProjectOrchestrator(alice, PLAN).execute_task("sun"))


def test_the_plan_of_the_page_works_as_printed(
    alice: User,
    demo: Agent,
    capsys: pytest.CaptureFixture[str],
    start_worker: StartWorker,  # noqa: F811
) -> None:
    start_worker()
    printed = compile(PAGE_PLAN, "the page", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    wait_for(eval(printed, {"user": alice}))
    assert capsys.readouterr().out.startswith("done ")
    assert [task.status for task in Task.objects.filter(user=alice)] == [Status.DONE] * 2
