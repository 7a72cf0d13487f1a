"""Task executors: what runs a task's declared steps in order. `TaskSolver` is the one behind every chat message.

    class Report(TaskExecutor):
        task_steps = (TaskStep("outline", "Outline", required_info=("topic",)), TaskStep("text", "Text"))

        async def handle_outline(self, step_input):
            return {"outline": await self.llm_call("Outline a report.", step_input)}

    result = await Report(llm, tools).execute({"topic": "Tides"})

A step without a `handle_<id>` method asks the model with the step's instruction; what it gives is text, or the JSON
value that the step's `response_schema` demands. `execute` runs anywhere, in a script or a test, and keeps no record.
The worker drives `TaskSolver.run` instead and writes down every event.
"""

from __future__ import annotations

import enum
import json
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, ClassVar

from executor.core.errors import LimitReached, LLMError, StepValidationError, TaskExecutionError
from executor.core.events import Failed, Finished, LoopEvent
from executor.core.limits import Limits, Spent
from executor.core.llms.base import BaseLlm
from executor.core.llms.parameters import RESPONSE_SCHEMA
from executor.core.loop import Tools, solve
from executor.core.messages import Message, system, user
from executor.core.retry import stream_with_retry
from executor.core.validation import answer_problems, given_up, parse_answer, with_corrections


@dataclass(frozen=True, slots=True)
class AgentTask:
    """Work for an agent, by name, as plain data for code that plans such work. Nothing here runs it: the worker's tasks
    are rows (executor.models.Task)."""

    task_id: str
    instruction: str
    agent: str = ""
    context: Mapping[str, Any] = field(default_factory=dict)


class ExecutionStatus(enum.StrEnum):
    DONE = "done"
    FAILED = "failed"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class ExecutionResult:
    """How it ended. `output` has what there is, also when it failed half-way; `seconds` is the time it took.

    STOPPED is an end at a limit, with a `LimitReached` as its error.
    """

    status: ExecutionStatus
    output: dict[str, Any]
    error: TaskExecutionError | None = None
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class TaskStep:
    """One declared step. `required_info` names the keys that must be there when it begins. With a `response_schema`
    (JSON Schema), what the model answers must be JSON that fits it."""

    id: str
    name: str
    instruction: str = ""
    required_info: tuple[str, ...] = ()
    response_schema: dict[str, Any] | None = None


Listener = Callable[[LoopEvent], Awaitable[None]]


class TaskExecutor:
    task_steps: ClassVar[Sequence[TaskStep]] = ()

    def __init__(self, llm: BaseLlm, tools: Tools, *, limits: Limits | None = None, on_event: Listener | None = None):
        self.llm = llm
        self.tools = tools
        self.limits = limits or Limits()
        self._on_event = on_event

    async def execute(self, input_data: Mapping[str, Any]) -> ExecutionResult:
        """Run all steps in order. Each gets the input and everything the earlier ones returned.

        Never raises an error of the task: that is in the result, with the output so far.
        """
        began = time.monotonic()
        output: dict[str, Any] = {}
        try:
            for step in self.task_steps:
                output |= await self._run_step(step, {**input_data, **output})
        except TaskExecutionError as error:
            status = ExecutionStatus.STOPPED if isinstance(error, LimitReached) else ExecutionStatus.FAILED
            return ExecutionResult(status, output, error, time.monotonic() - began)
        return ExecutionResult(ExecutionStatus.DONE, output, None, time.monotonic() - began)

    async def llm_call(self, instruction: str, context: Mapping[str, Any], schema: dict[str, Any] | None = None) -> str:
        """What the model answers, without functions: with a `schema`, JSON that fits it.

        Raises LLMError, and ResponseInvalid when corrections do not help.
        """
        question = (
            f"{instruction}\n\n{json.dumps(context, ensure_ascii=False, default=str)}" if context else instruction
        )
        transcript = [user(question)]
        if schema is None:
            return (await self._ask(transcript)).text
        while True:
            answer = await self._ask(with_corrections(transcript, schema), **{RESPONSE_SCHEMA: schema})
            if not answer_problems(answer.text, schema):
                return answer.text
            transcript.append(answer)
            if failure := given_up(transcript, schema):
                raise failure

    async def _ask(self, messages: Sequence[Message], **parameters: Any) -> Message:
        async with aclosing(stream_with_retry(self.llm, messages, **parameters)) as events:
            async for event in events:
                if isinstance(event, Finished):
                    return event.message
                if isinstance(event, Failed):
                    raise event.error
        raise LLMError("protocol", "The model's stream ended without an answer.")

    async def _run_step(self, step: TaskStep, step_input: dict[str, Any]) -> dict[str, Any]:
        missing = [name for name in step.required_info if step_input.get(name) in (None, "")]
        if missing:
            raise StepValidationError(f"The step “{step.name}” needs {', '.join(missing)}.")
        handler = getattr(self, f"handle_{step.id}", None)
        if handler is None:
            text = await self.llm_call(step.instruction or step.name, step_input, step.response_schema)
            return {step.id: parse_answer(text) if step.response_schema else text}
        result = await handler(step_input)
        if not isinstance(result, dict):
            raise StepValidationError(f"handle_{step.id} must return a dict, not {type(result).__name__}.")
        return result

    async def emit(self, event: LoopEvent) -> None:
        if self._on_event is not None:
            await self._on_event(event)


class TaskSolver(TaskExecutor):
    """The executor whose one step is the agent loop: `await TaskSolver(llm, tools).solve("…")`."""

    task_steps = (TaskStep("solve", "Solve", required_info=("problem",)),)

    async def handle_solve(self, step_input: dict[str, Any]) -> dict[str, Any]:
        opening: list[Message] = [system(text)] if (text := step_input.get("instructions")) else []
        answer = ""
        async with aclosing(self.run([*opening, user(step_input["problem"])])) as events:
            async for event in events:
                await self.emit(event)
                if isinstance(event, Finished):
                    answer = event.message.text
        return {"answer": answer}

    async def solve(self, problem: str, instructions: str = "") -> ExecutionResult:
        return await self.execute({"problem": problem, "instructions": instructions})

    def run(
        self, transcript: Sequence[Message], spent: Spent | None = None, schema: dict[str, Any] | None = None
    ) -> AsyncGenerator[LoopEvent, None]:
        """The loop over `transcript`, from wherever that stands, to an answer that fits `schema`. `spent` is counted up
        in place."""
        return solve(self.llm, self.tools, transcript, self.limits, spent if spent is not None else Spent(), schema)
