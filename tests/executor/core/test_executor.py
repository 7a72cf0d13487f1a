"""Declared tasks and the solver, without anything around them."""

from __future__ import annotations

from typing import Any

from executor.core.errors import LimitReached, LLMError, StepValidationError, TaskExecutionError
from executor.core.events import Finished, LoopEvent, ToolFinished
from executor.core.executor import ExecutionStatus, TaskExecutor, TaskSolver, TaskStep
from executor.core.limits import Limits
from executor.core.messages import system, user
from executor.core.validation import CORRECTIONS, ResponseInvalid
from tests.executor.conftest import MakeScript
from tests.executor.core.test_loop import FakeTools
from tests.executor.scripted import call, say


class Report(TaskExecutor):
    task_steps = (
        TaskStep("outline", "Outline", required_info=("topic",)),
        TaskStep("text", "Text", "Write the text.", required_info=("outline",)),
    )

    async def handle_outline(self, step_input: dict[str, Any]) -> dict[str, Any]:
        return {"outline": await self.llm_call("Outline a report.", {"topic": step_input["topic"]})}


async def test_steps_run_in_order_and_each_gets_what_the_earlier_ones_gave(scripted: MakeScript) -> None:
    script = scripted(say("1. Moon"), say("The moon pulls."))
    result = await Report(script.llm(), FakeTools()).execute({"topic": "Tides"})
    assert result.status == ExecutionStatus.DONE
    assert result.output == {"outline": "1. Moon", "text": "The moon pulls."}
    assert result.error is None
    assert result.seconds >= 0
    assert script.asked[0] == (user('Outline a report.\n\n{"topic": "Tides"}'),)
    assert script.asked[1] == (user('Write the text.\n\n{"topic": "Tides", "outline": "1. Moon"}'),)


async def test_a_step_without_what_it_needs_is_refused_before_it_begins(scripted: MakeScript) -> None:
    result = await Report(scripted().llm(), FakeTools()).execute({"topic": ""})
    assert result.status == ExecutionStatus.FAILED
    assert isinstance(result.error, StepValidationError)
    assert result.error.message == "The step “Outline” needs topic."


async def test_a_failure_keeps_what_there_was_by_then(scripted: MakeScript) -> None:
    script = scripted(say("1. Moon"), say(LLMError("quota", "Used up.")))
    result = await Report(script.llm(), FakeTools()).execute({"topic": "Tides"})
    assert result.status == ExecutionStatus.FAILED
    assert result.output == {"outline": "1. Moon"}
    assert isinstance(result.error, LLMError)


async def test_a_handler_that_returns_something_else_than_a_dict_is_told_so(scripted: MakeScript) -> None:
    class Wrong(TaskExecutor):
        task_steps = (TaskStep("one", "One"),)

        async def handle_one(self, step_input: dict[str, Any]) -> Any:
            return "text"

    result = await Wrong(scripted().llm(), FakeTools()).execute({})
    assert isinstance(result.error, StepValidationError)
    assert result.error.message == "handle_one must return a dict, not str."


class Count(TaskExecutor):
    task_steps = (
        TaskStep("words", "Words", "Count.", response_schema={"type": "array", "items": {"type": "integer"}}),
    )


async def test_a_step_that_demands_json_gives_its_value_and_has_wrong_answers_corrected(scripted: MakeScript) -> None:
    script = scripted(say("Three"), say("[3]"))
    result = await Count(script.llm(), FakeTools()).execute({})
    assert result.output == {"words": [3]}
    assert [message.role for message in script.asked[1]] == ["user", "assistant", "user"]
    assert script.demanded == [Count.task_steps[0].response_schema] * 2


async def test_a_step_whose_answers_stay_wrong_fails(scripted: MakeScript) -> None:
    script = scripted(*(say("Three") for _ in range(CORRECTIONS + 1)))
    result = await Count(script.llm(), FakeTools()).execute({})
    assert isinstance(result.error, ResponseInvalid)


async def test_a_step_is_asked_again_when_its_failure_may_pass(scripted: MakeScript) -> None:
    script = scripted(say(LLMError("overloaded", "Busy.", retry_after=0.01)), say("1. Moon"), say("The moon pulls."))
    result = await Report(script.llm(), FakeTools()).execute({"topic": "Tides"})
    assert result.status == ExecutionStatus.DONE


async def test_a_task_may_say_itself_that_it_cannot_go_on(scripted: MakeScript) -> None:
    class Picky(TaskExecutor):
        task_steps = (TaskStep("one", "One"),)

        async def handle_one(self, step_input: dict[str, Any]) -> dict[str, Any]:
            raise TaskExecutionError("Not today.")

    result = await Picky(scripted().llm(), FakeTools()).execute({})
    assert (result.status, str(result.error)) == (ExecutionStatus.FAILED, "Not today.")


async def test_the_solver_gives_the_last_answer_and_tells_what_happens(scripted: MakeScript) -> None:
    script = scripted(say("Let me see.", call("look")), say("They come twice a day."))
    heard: list[LoopEvent] = []

    async def listen(event: LoopEvent) -> None:
        heard.append(event)

    result = await TaskSolver(script.llm(), FakeTools(), on_event=listen).solve("Tides?", "Be brief.")
    assert result.output == {"answer": "They come twice a day."}
    assert script.asked[0] == (system("Be brief."), user("Tides?"))
    assert sum(isinstance(event, Finished | ToolFinished) for event in heard) == 3


async def test_the_solver_stops_at_its_limit_and_says_which(scripted: MakeScript) -> None:
    script = scripted(say("One more look.", call("look")))
    result = await TaskSolver(script.llm(), FakeTools(), limits=Limits(iterations=1)).solve("Tides?")
    assert result.status == ExecutionStatus.STOPPED
    assert isinstance(result.error, LimitReached)
    assert result.error.limit == "iterations"


async def test_the_solver_needs_a_problem(scripted: MakeScript) -> None:
    result = await TaskSolver(scripted().llm(), FakeTools()).solve("")
    assert isinstance(result.error, StepValidationError)
