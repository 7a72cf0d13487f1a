"""Declared tasks and the solver, without anything around them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from executor.core.errors import LimitReached, LLMError, StepFailed, StepValidationError, TaskExecutionError
from executor.core.events import Finished, LoopEvent, ToolFinished
from executor.core.executor import ExecutionResult, ExecutionStatus, NoTools, TaskExecutor, TaskSolver
from executor.core.limits import Limits
from executor.core.messages import system, user
from executor.core.record import MemoryRecord, Suspended
from executor.core.steps import TaskInput, TaskStep
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
    class Unasked(Report):
        inputs = ()

    result = await Unasked(scripted().llm(), FakeTools()).execute({"topic": ""})
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
        task_steps = (TaskStep("one", "One", retries=0),)

        async def handle_one(self, step_input: dict[str, Any]) -> Any:
            return "text"

    result = await Wrong(scripted().llm(), FakeTools()).execute({})
    assert isinstance(result.error, StepValidationError)
    assert result.error.message == "handle_one must return a dict, not str."


class Count(TaskExecutor):
    task_steps = (
        TaskStep(
            "words", "Words", "Count.", response_schema={"type": "array", "items": {"type": "integer"}}, retries=0
        ),
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


# --- what is tried again, and what is kept ---------------------------------------------------------------------------


class Sums(TaskExecutor):
    """Its second step fails as often as `failures` says."""

    task_steps = (
        TaskStep("draft", "Draft", "Write a draft."),
        TaskStep("check", "Check", required_info=("draft",), retries=2),
    )
    pause = 0

    def __init__(self, *args: Any, failures: int = 0, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.failures = failures
        self.counted = 0
        self.results: list[ExecutionResult] = []

    def count(self, text: str) -> int:
        self.counted += 1
        return len(text.split())

    async def handle_check(self, step_input: dict[str, Any]) -> dict[str, Any]:
        words = await self.once("count", self.count, step_input["draft"], effect="read")
        verdict = await self.llm_call("Is it good?", {"words": words})
        if self.failures:
            self.failures -= 1
            raise RuntimeError("No luck.")
        return {"verdict": verdict, "words": words}

    async def on_complete(self, result: ExecutionResult) -> None:
        self.results.append(result)


async def test_a_step_that_fails_is_begun_again_and_what_it_did_once_is_not_done_again(scripted: MakeScript) -> None:
    script = scripted(say("Two words"), say("Bad."), say("Well."), say("Good."))
    task = Sums(script.llm(), failures=2)
    result = await task.execute({})
    assert result.output == {"draft": "Two words", "verdict": "Good.", "words": 2}
    assert task.counted == 1
    assert task.results == [result]


async def test_a_step_that_fails_too_often_says_which_it_was_and_how_often_it_was_tried(scripted: MakeScript) -> None:
    script = scripted(say("Two words"), say("Bad."), say("Bad."), say("Bad."))
    result = await Sums(script.llm(), failures=3).execute({})
    assert (result.status, result.output) == (ExecutionStatus.FAILED, {"draft": "Two words"})
    assert isinstance(result.error, StepFailed)
    assert (result.error.step_id, result.error.step_attempts) == ("check", 3)
    assert result.error.message == "The step “Check” failed: RuntimeError: No luck."


async def test_another_executor_goes_on_where_the_record_ends(scripted: MakeScript) -> None:
    """As after a crash: the model does not answer for good, and somebody tries the whole again."""
    record = MemoryRecord()
    first = Sums((one := scripted(say("Two words"), say(LLMError("quota", "Used up.")))).llm(), record=record)
    assert (await first.execute({})).status == ExecutionStatus.FAILED
    second = Sums((two := scripted(say("Good."))).llm(), record=record)
    result = await second.execute({})
    assert result.output == {"draft": "Two words", "verdict": "Good.", "words": 2}
    assert (len(one.asked), len(two.asked), first.counted, second.counted) == (2, 1, 1, 0)


async def test_the_same_question_asked_twice_is_asked_twice_and_remembered_twice(scripted: MakeScript) -> None:
    class Twice(TaskExecutor):
        task_steps = (TaskStep("one", "One", retries=0),)

        async def handle_one(self, step_input: dict[str, Any]) -> dict[str, Any]:
            said = [await self.llm_call("A number?") for _ in range(2)]
            return {"said": [*said, await self.llm_call("Another?")]}

    record = MemoryRecord()
    first = Twice(scripted(say("1"), say("2"), say(LLMError("quota", "Used up."))).llm(), record=record)
    assert (await first.execute({})).status == ExecutionStatus.FAILED
    result = await Twice(scripted(say("3")).llm(), record=record).execute({})
    assert result.output == {"said": ["1", "2", "3"]}


async def test_a_step_that_takes_too_long_fails(scripted: MakeScript) -> None:
    class Slow(TaskExecutor):
        task_steps = (TaskStep("wait", "Wait", timeout=0.01, retries=0),)

        async def handle_wait(self, step_input: dict[str, Any]) -> dict[str, Any]:
            await asyncio.Event().wait()
            return {}

    result = await Slow(scripted().llm()).execute({})
    assert isinstance(result.error, StepFailed)
    assert result.error.message == "The step “Wait” took longer than 0.01 s."


async def test_a_handler_that_returns_what_does_not_fit_is_told_so(scripted: MakeScript) -> None:
    class Typed(TaskExecutor):
        task_steps = (TaskStep("one", "One", retries=0, response_schema={"required": ["sum"]}),)

        async def handle_one(self, step_input: dict[str, Any]) -> dict[str, Any]:
            return {"total": 1}

    result = await Typed(scripted().llm()).execute({})
    assert str(result.error) == "What handle_one returned does not fit: 'sum' is a required property"


async def test_what_a_handler_returns_must_be_json(scripted: MakeScript) -> None:
    class Odd(TaskExecutor):
        task_steps = (TaskStep("one", "One", retries=0),)

        async def handle_one(self, step_input: dict[str, Any]) -> dict[str, Any]:
            return {"made": object()}

    result = await Odd(scripted().llm()).execute({})
    assert "cannot be kept as JSON" in str(result.error)


# --- the loop inside a step, and what goes in and comes out ----------------------------------------------------------


class Look(TaskExecutor):
    task_steps = (TaskStep("facts", "Facts", "Find out.", functions=("look",), retries=0),)
    inputs = (
        TaskInput("topic", "The topic"),
        TaskInput("length", kind="number", required=False, default=100),
        TaskInput("tone", kind="choice", choices=("dry", "warm"), required=False),
    )

    async def preprocess(self, input_data: dict[str, Any]) -> dict[str, Any]:
        return {**input_data, "topic": input_data["topic"].strip()}

    async def postprocess(self, output: dict[str, Any]) -> dict[str, Any]:
        return {**output, "answer": f"Found: {output['facts']}"}


async def test_a_step_with_functions_lets_its_model_call_them(scripted: MakeScript) -> None:
    script = scripted(say(call("look")), say("Twice a day."))
    task = Look(script.llm(), FakeTools(), instructions="Be brief.")
    result = await task.execute({"topic": " Tides "})
    assert result.output == {"facts": "Twice a day.", "answer": "Found: Twice a day."}
    assert task.answer(result.output) == "Found: Twice a day."
    assert script.asked[0] == (system("Be brief."), user('Find out.\n\n{"topic": "Tides", "length": 100}'))


async def test_a_step_that_must_wait_for_a_person_is_suspended_and_goes_on_when_they_have_decided(
    scripted: MakeScript,
) -> None:
    record, tools = MemoryRecord(), FakeTools()
    tools.held = {"look"}
    script = scripted(say(call("look")), say("Twice a day."))
    with pytest.raises(Suspended):
        await Look(script.llm(), tools, record=record).execute({"topic": "Tides"})
    assert tools.ran == []
    tools.held.clear()
    result = await Look(script.llm(), tools, record=record).execute({"topic": "Tides"})
    assert (result.output["facts"], tools.ran) == ("Twice a day.", ["look"])


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ({}, "“The topic” is missing."),
        ({"topic": "  "}, "“The topic” is missing."),
        ({"topic": "Tides", "length": "long"}, "“Length” must be a number."),
        ({"topic": "Tides", "tone": "loud"}, "“Tone” must be one of: dry, warm."),
    ],
)
async def test_input_that_does_not_fit_is_refused_before_anything_is_asked(
    scripted: MakeScript, data: dict[str, Any], sentence: str
) -> None:
    result = await Look(scripted().llm()).execute(data)
    assert (result.status, str(result.error)) == (ExecutionStatus.FAILED, sentence)


def test_what_steps_require_and_no_earlier_one_gives_is_asked_for() -> None:
    assert Report.asks_for() == (TaskInput("topic"),)


async def test_a_model_that_calls_where_nothing_can_be_called_is_told_so(scripted: MakeScript) -> None:
    script = scripted(say(call("look")), say("1. Moon"), say("The moon pulls."))
    result = await Report(script.llm(), NoTools()).execute({"topic": "Tides"})
    assert result.status == ExecutionStatus.DONE
    assert "There is no function look" in script.asked[1][-1].tool_results[0].content


@pytest.mark.parametrize(
    ("asked", "value", "read"),
    [
        (TaskInput("n", kind="number"), "1e999", "“N” must be a number."),
        (TaskInput("n", kind="number"), "nan", "“N” must be a number."),
        (TaskInput("n", kind="number"), "2.50", 2.5),
        (TaskInput("n"), {"a": 1}, "“N” must be a text."),
        (TaskInput("n"), 12, "12"),
        (TaskInput("n", kind="boolean"), None, False),
        (TaskInput("n", kind="boolean", default=True), "", True),
        (TaskInput("n", kind="boolean"), "on", True),
    ],
)
def test_an_input_is_read_as_its_kind_demands(asked: TaskInput, value: Any, read: Any) -> None:
    if isinstance(read, str) and read.startswith("“"):
        with pytest.raises(StepValidationError, match=read):
            asked.read(value)
    else:
        assert asked.read(value) == read
