"""The tasks that come with AgentSite, in the worker, with the demonstration: from the form to answer and files."""

from __future__ import annotations

from typing import Any

import pytest

from executor.actions import start_declared
from executor.declared import offered_to, synchronise
from executor.models import Agent, DeclaredTask, Status, Step, Task
from tests.conftest import make_user
from tests.executor.conftest import claimed
from tests.executor.test_run import execute
from tools.models import Resource

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("redis_server", "_database_threads"),
]
SALES = "region,sold\n" + "\n".join(f"{name},{value}" for name, value in (("North", 3), ("South", 5), ("East", 7)))


def worked_through(name: str, **data: str) -> Task:
    synchronise()
    demo = Agent.objects.create(name="demo", title="Demo", provider="demo", parameters={"pause": 0})
    alice = make_user("alice")
    declared = DeclaredTask.objects.get(name=name)
    assert declared in offered_to(alice, demo)
    task, _ = start_declared(alice, declared, data, demo)
    execute(claimed(task))
    task.refresh_from_db()
    assert task.status == Status.DONE, task.error
    return task


def said(task: Task) -> str:
    return task.steps.get(kind=Step.Kind.NOTE).text


def test_a_table_becomes_findings_and_charts_that_are_kept() -> None:
    task = worked_through("data-analysis", data=SALES)
    assert "| sold | 3 | 5 | 5 | 7 | 15 | 0 |" in said(task)
    charts = Resource.objects.filter(task_id=task.pk)
    assert [(chart.media_type, chart.owner) for chart in charts] == [("image/png", task.user)] * 3
    assert [step.status for step in task.steps.filter(kind=Step.Kind.STEP)] == ["done"] * 4


def test_an_outline_becomes_a_document() -> None:
    task = worked_through("document", outline="The moon pulls. So the water comes twice a day.")
    assert "A language model would do this now: Write the final version" in said(task)


@pytest.mark.sandbox
def test_the_tests_of_a_kata_are_run_and_that_is_on_record() -> None:
    task = worked_through("code-kata", task="Add two numbers.")
    assert "This is what the tests said last" in said(task)  # A quote is no code, and is not called done.
    runs = [step for step in task.steps.order_by("seq") if "run the tests" in (step.name, step.text)]
    assert [step.status for step in runs] == ["done"] * 4


def test_without_a_sandbox_a_kata_is_reviewed(settings: Any) -> None:
    settings.SANDBOX_BACKEND = ""
    assert "Nobody has run it" in said(worked_through("code-kata", task="Add two numbers."))
