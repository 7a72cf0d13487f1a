"""What functions say while they run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from django.conf import settings

from executor.database import in_database
from executor.models import Status, Step, Task
from executor.run import Interruption, Run
from tests.executor.conftest import MakeScript, MakeTask, claimed, taken_over
from tests.executor.scripted import call, say
from tests.executor.test_run import entries, execute, until
from tools.core.context import MAX_OUTPUT, Context

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_server", "functions")]

Functions = Callable[[], list[str]]


def talking(task: Task) -> Step:
    return task.steps.get(name="talk")


async def said(task: Task) -> None:
    def step() -> bool:
        return Step.objects.filter(task=task, output="One.\n").exists()

    async with asyncio.timeout(10):
        while not await in_database(step):
            pass


def go(name: str) -> None:
    (Path(settings.FUNCTIONS_DIR) / name).touch()


def test_what_a_call_says_is_on_record_while_it_runs(make_task: MakeTask, scripted: MakeScript) -> None:
    task = make_task("Go.", scripted(say(call("talk", topic="go-1")), say("Done.")))

    async def meanwhile(run: Run) -> None:
        await said(task)
        await until(lambda: {"k": "rows"} in entries(task))
        go("go-1")

    execute(claimed(task), meanwhile)
    step = talking(task)
    assert (step.status, step.output, step.notes) == (Step.Status.DONE, "One.\nTwo.\n", ["It took a while."])
    assert step.result == "said"


def test_what_it_said_stays_when_it_is_stopped(make_task: MakeTask, scripted: MakeScript) -> None:
    task = make_task("Go.", scripted(say(call("talk", topic="go-2"))))

    async def meanwhile(run: Run) -> None:
        await said(task)
        run.interrupt(Interruption.STOP)

    execute(claimed(task), meanwhile)
    go("go-2")
    task.refresh_from_db()
    assert task.status == Status.STOPPED
    assert talking(task).output == "One.\n"


def test_the_model_is_not_told_of_it(make_task: MakeTask, scripted: MakeScript) -> None:
    go("go-3")
    script = scripted(say(call("talk", topic="go-3")), say("Done."))
    execute(claimed(make_task("Go.", script)))
    assert [result.content for result in script.asked[1][-1].tool_results] == ["said"]
    again = make_task("Go on.", script := scripted(say("Yes.")), previous=Task.objects.get())
    execute(claimed(again))
    assert "One." not in str(script.asked)


def test_a_worker_that_lost_the_task_writes_nothing(make_task: MakeTask, scripted: MakeScript) -> None:
    talk = call("talk", topic="never")
    task = make_task("Go.", scripted(say(talk)))

    async def meanwhile(run: Run) -> None:
        await said(task)
        await in_database(lambda: taken_over(task).recover())
        await run._recorder.save_output(talk, "Late.")
        run.interrupt(Interruption.LOST)

    execute(claimed(task), meanwhile)
    go("never")
    assert talking(task).output == "One.\n"


def test_what_is_too_long_is_cut() -> None:
    context = Context(1, "t", "c", "k")
    for _ in range(3):
        context.write("a" * 40_000)
    assert context.output.startswith("a" * MAX_OUTPUT + "\n[More was said")
    assert len(context.output) < MAX_OUTPUT + 100
