"""Task executors: what runs a task's declared steps in order. `TaskSolver` is the one behind every chat message.

    class Report(TaskExecutor):
        task_steps = (TaskStep("outline", "Outline", required_info=("topic",)), TaskStep("text", "Text"))

        async def handle_outline(self, step_input):
            return {"outline": await self.llm_call("Outline a report.", step_input)}

    result = await Report(llm).execute({"topic": "Tides"})

A step without a `handle_<id>` method asks the model with the step's instruction; what it gives is text, or the JSON
value that the step's `response_schema` demands. `execute` runs anywhere, in a script or a test. Where the executor's
`record` holds what was done before, it goes on at the first step that is not finished: the worker gives it one that
keeps everything in rows.
"""

from __future__ import annotations

import asyncio
import enum
import json
import re
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from executor.core import prices
from executor.core.budget import WINDOW, Budget, ContextFull, size
from executor.core.compaction import Shortening
from executor.core.errors import (
    LimitReached,
    LLMError,
    QuestionTooLong,
    StepFailed,
    StepValidationError,
    TaskExecutionError,
)
from executor.core.events import Finished, LoopEvent, ModelAsked, PersonAsked, ToolFinished
from executor.core.limits import Limits, Spent
from executor.core.llms.base import BaseLlm
from executor.core.llms.parameters import CONTEXT_WINDOW, MAX_TOKENS
from executor.core.loop import Tools, solve
from executor.core.messages import Message, ToolCall, ToolResult, ToolSpec
from executor.core.record import MemoryRecord, Part, PartEffect, Question, Record, Suspended
from executor.core.steps import TaskInput, TaskStep, inputs_of, read_input
from executor.core.validation import ResponseInvalid, answer_problems, parse_answer


@dataclass(frozen=True, slots=True)
class AgentTask:
    """Work for an agent, by name, as plain data: the plans of executor/orchestrator.py are made of these. `after` names
    the tasks whose results it needs."""

    task_id: str
    instruction: str
    agent: str = ""
    context: Mapping[str, Any] = field(default_factory=dict)
    after: tuple[str, ...] = ()


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


Listener = Callable[[LoopEvent], Awaitable[None]]

#: Failures of a step that another attempt may not have. Models that do not answer are asked again elsewhere (retry.py).
TRIED_AGAIN = (StepFailed, StepValidationError, ResponseInvalid)
LONGEST_PAUSE = 20.0


class NoTools:
    """For questions that only need words."""

    specs: Sequence[ToolSpec] = ()

    def must_wait(self, call: ToolCall) -> bool:
        return False

    async def run(self, call: ToolCall) -> ToolFinished:
        said = f"There is no function {call.name}: no functions can be called here."
        return ToolFinished(call, ToolResult(call.id, call.name, said, is_error=True), error_kind="not_found")


@dataclass(frozen=True, slots=True)
class Worker:
    """Who works on a step. `budget` says how much its model is told of a question, given the functions that are offered
    and the tokens of a byte."""

    llm: BaseLlm
    tools: Tools
    instructions: str
    budget: Callable[[Sequence[ToolSpec], float], Budget]

    @classmethod
    def of(cls, llm: BaseLlm, tools: Tools, instructions: str) -> Worker:
        """With what the model's parameters or the list of models say of it."""

        def budget(specs: Sequence[ToolSpec], ratio: float) -> Budget:
            own, longest = (llm.parameters.get(one.name) for one in (CONTEXT_WINDOW, MAX_TOKENS))
            at = llm.endpoint
            window = own or prices.window(getattr(llm, "type", ""), at.model, at.base_url) or WINDOW
            return Budget.of(window, longest or 0, specs, ratio)

        return cls(llm, tools, instructions, budget)


class TaskExecutor:
    """The base class of declared tasks. Subclasses have `task_steps`, and a `handle_<id>` method for each step that
    does more than to ask the model. Handlers get the input and everything that earlier steps gave, and return a dict.

    A handler may be begun again after a crash: what it asks its model, and what it does in `once`, is done once all the
    same, as long as it does these in the same order.
    """

    #: What people type behind the “/”, and what they see; from the class's name and docstring if it does not say.
    name: ClassVar[str] = ""
    title: ClassVar[str] = ""
    description: ClassVar[str] = ""
    #: The name of the agent that works on it; "": the one that the person talks to.
    agent: ClassVar[str] = ""
    task_steps: ClassVar[Sequence[TaskStep]] = ()
    #: What people are asked for; None: what the steps require.
    inputs: ClassVar[Sequence[TaskInput] | None] = None
    #: Seconds before the second attempt of a step. They double with each attempt.
    pause: ClassVar[float] = 1.0

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|_+", " ", cls.__name__).strip().lower()
        own = vars(cls)
        cls.name = own.get("name", words.replace(" ", "-"))
        cls.title = own.get("title", words.capitalize())
        cls.description = own.get("description", " ".join((own.get("__doc__") or "").partition("\n\n")[0].split()))

    def __init__(
        self,
        llm: BaseLlm,
        tools: Tools | None = None,
        *,
        limits: Limits | None = None,
        instructions: str = "",
        record: Record | None = None,
        on_event: Listener | None = None,
        hire: Callable[[TaskStep], Awaitable[Worker]] | None = None,
    ):
        """`hire` says who works on a step, if not always the same model with the same functions."""
        self.llm = llm
        self.tools: Tools = tools or NoTools()
        self.limits = limits or Limits()
        self.instructions = instructions
        self.spent = Spent()
        self._record = record or MemoryRecord()
        self._on_event = on_event
        self._hire = hire
        self._asking = asyncio.Lock()
        self._step: TaskStep | None = None
        self._worker: Worker | None = None
        self._asked: Counter[Question] = Counter()
        self._done: Counter[str] = Counter()
        self._asked_size = 0  # Of the last question, in bytes.

    # --- what a subclass may say -------------------------------------------------------------------------------------

    async def preprocess(self, input_data: dict[str, Any]) -> dict[str, Any]:
        """The input as the steps get it. Called each time that the task is taken up."""
        return input_data

    async def postprocess(self, output: dict[str, Any]) -> dict[str, Any]:
        """The output of the whole, when all steps are finished."""
        return output

    async def on_complete(self, result: ExecutionResult) -> None:
        """The place to clean up, however it ended. Called each time that `execute` comes to an end."""

    def answer(self, output: dict[str, Any]) -> str:
        """The output in words, Markdown: “answer”, else what the last step that gave text wrote."""
        if isinstance(said := output.get("answer"), str):
            return said
        for step in reversed(self.task_steps):
            if isinstance(said := output.get(step.id), str):
                return said
        return f"```json\n{json.dumps(output, ensure_ascii=False, indent=2, default=str)}\n```"

    # --- running -----------------------------------------------------------------------------------------------------

    async def execute(self, input_data: Mapping[str, Any]) -> ExecutionResult:
        """Run all steps in order, from the first that is not finished. Each gets the input and everything the earlier
        ones returned.

        Never raises an error of the task: that is in the result, with the output so far.
        """
        began = time.monotonic()
        output: dict[str, Any] = {}
        status, failure = ExecutionStatus.DONE, None
        try:
            data = await self.preprocess(read_input(self.asks_for(), input_data))
            for step in self.task_steps:
                done = self._record.outputs.get(step.id)
                output |= await self._run_step(step, {**data, **output}) if done is None else done
            output = await self.postprocess(output)
        except TaskExecutionError as error:
            failure = error
            status = ExecutionStatus.STOPPED if isinstance(error, LimitReached) else ExecutionStatus.FAILED
        except Exception as error:  # Of preprocess or postprocess: what fails in a step is told by the step.
            failure, status = _failed(type(self).__name__, error), ExecutionStatus.FAILED
        result = ExecutionResult(status, output, failure, time.monotonic() - began)
        await self.on_complete(result)
        return result

    @classmethod
    def asks_for(cls) -> Sequence[TaskInput]:
        return inputs_of(cls.task_steps) if cls.inputs is None else cls.inputs

    async def _run_step(self, step: TaskStep, step_input: dict[str, Any]) -> dict[str, Any]:
        missing = [name for name in step.required_info if step_input.get(name) in (None, "")]
        if missing:
            raise StepValidationError(f"The step “{step.name}” needs {', '.join(missing)}.")
        while True:
            attempt = await self._record.begin_step(step)
            try:
                output = await self._attempt(step, step_input)
            except TaskExecutionError as error:
                error.step_id, error.step_attempts = step.id, attempt
                if isinstance(error, LLMError | LimitReached):  # Others say what becomes of these.
                    raise
                await self._record.fail_step(step, error)
                if attempt > step.retries or not isinstance(error, TRIED_AGAIN):
                    raise
                await asyncio.sleep(min(self.pause * 2 ** (attempt - 1), LONGEST_PAUSE))
                continue
            await self._record.finish_step(step, output)
            return output

    async def _attempt(self, step: TaskStep, step_input: dict[str, Any]) -> dict[str, Any]:
        self._step, self._worker = step, None
        self._asked.clear()
        self._done.clear()
        try:
            async with asyncio.timeout(step.timeout) as limit:
                result = await self._handle(step, step_input)
        except TaskExecutionError:
            raise
        except TimeoutError as error:
            if limit.expired():
                said = f"The step “{step.name}” took longer than {step.timeout:g} s."
                raise StepFailed(said, hint="Try again, or allow it more time.") from error
            raise _failed(f"The step “{step.name}”", error) from error
        except Exception as error:
            raise _failed(f"The step “{step.name}”", error) from error
        if not isinstance(result, dict):
            raise StepValidationError(f"handle_{step.id} must return a dict, not {type(result).__name__}.")
        try:
            return dict(json.loads(json.dumps(result)))
        except (TypeError, ValueError) as error:
            raise StepValidationError(f"What handle_{step.id} returned cannot be kept as JSON: {error}.") from error

    async def _handle(self, step: TaskStep, step_input: dict[str, Any]) -> Any:
        if not self.has_handler(step):
            ask = self.solve if step.functions else self.llm_call
            text = await ask(step.instruction or step.name, step_input, step.response_schema)
            return {step.id: parse_answer(text) if step.response_schema else text}
        result = await getattr(self, f"handle_{step.id}")(step_input)
        if wrong := self.output_problem(step, result):
            raise StepValidationError(f"What handle_{step.id} returned does not fit: {wrong}")
        return result

    @classmethod
    def has_handler(cls, step: TaskStep) -> bool:
        """Else its model is asked, and what that says is the one thing that the step gives, under its id."""
        return hasattr(cls, f"handle_{step.id}")

    @classmethod
    def output_problem(cls, step: TaskStep, output: Any) -> str:
        """Why a step cannot give this, in words; "" if it can."""
        if not cls.has_handler(step):
            if not isinstance(output, dict) or output.keys() != {step.id}:
                return f"It must be an object with “{step.id}”, and nothing else."
            output = output[step.id]
            if step.response_schema is None and not isinstance(output, str):
                return f"“{step.id}” must be a text."
        if not step.response_schema:
            return ""
        return next(iter(answer_problems(json.dumps(output, default=str), step.response_schema)), "")

    # --- what handlers call ------------------------------------------------------------------------------------------

    async def llm_call(
        self, instruction: str, context: Mapping[str, Any] | None = None, schema: dict[str, Any] | None = None
    ) -> str:
        """What the model answers, without functions: with a `schema`, JSON that fits it.

        Raises LLMError, QuestionTooLong when that is more than the model can read, and ResponseInvalid when corrections
        do not help.
        """
        return await self._ask(instruction, context, schema, NoTools())

    async def solve(
        self, problem: str, context: Mapping[str, Any] | None = None, schema: dict[str, Any] | None = None
    ) -> str:
        """What the model answers after as many rounds with its functions as it needs: the agent loop inside a step.
        Where these become too long for it, old results are left out, then what came first is summarised; what it was
        asked stays.

        Raises as `llm_call`, and LimitReached.
        """
        return await self._ask(problem, context, schema, None)

    async def once(
        self,
        name: str,
        work: Callable[..., Any],
        *arguments: Any,
        effect: PartEffect = "unsafe",
    ) -> Any:
        """The result of `work(*arguments)`, which may be async: that of before if it was done before, also in an
        attempt that failed later. Arguments and result are JSON. A plain function runs in a thread.

        `effect` says what doing it twice would do (docs/adding-a-function.md). After a crash in the middle of it,
        “read” and “idempotent” work is done again; of “unsafe” work the person is asked.
        """
        assert self._step is not None, "once() is for handlers."
        self._done[name] += 1
        return await self._record.once(Part(self._step.id, name, effect, arguments, self._done[name]), work)

    async def _ask(
        self, instruction: str, context: Mapping[str, Any] | None, schema: dict[str, Any] | None, tools: Tools | None
    ) -> str:
        assert self._step is not None, "Models are asked by handlers."
        said = (
            f"{instruction}\n\n{json.dumps(dict(context), ensure_ascii=False, default=str)}" if context else instruction
        )
        async with self._asking:  # One question at a time: what streams belongs to the one that is open.
            if self._worker is None:
                own = Worker.of(self.llm, self.tools, self.instructions)
                self._worker = await self._hire(self._step) if self._hire else own
            who = self._worker
            question = Question(self._step.id, said, who.instructions)
            self._asked[question] += 1
            return await self._talk(who, replace(question, n=self._asked[question]), tools or who.tools, schema)

    async def _talk(self, who: Worker, question: Question, tools: Tools, schema: dict[str, Any] | None) -> str:
        """The answer of the agent loop over what was said so far, and anew over a summary of what was said first."""
        shortening = Shortening(lambda room: self._record.compact(who.llm, room, self.spent))
        opening = question.opening
        while True:
            opened = await self._record.open(question, who.llm)
            self.spent.iterations = opened.rounds
            budget = who.budget(tools.specs, opened.ratio)
            fit = self._fitted(opening, budget, shortening, is_new=not opened.rounds)
            events = solve(who.llm, tools, opened.transcript, self.limits, self.spent, schema, opened.kept, fit)
            try:
                return await self._follow(events, opened.transcript)
            except (ContextFull, LLMError) as error:
                after = self._asked_size - size(opening)
                if await shortening.helps(error, budget.after(opening).room, after, self.spent.iterations):
                    continue
                if isinstance(error, LLMError) and error.kind == "context_too_long" and not self.spent.iterations:
                    raise self._too_long() from error
                raise

    def _fitted(
        self, opening: Sequence[Message], budget: Budget, shortening: Shortening, *, is_new: bool
    ) -> Callable[[Sequence[Message]], Sequence[Message]]:
        """What is told of a transcript: the question itself as it is, and as much as there is room for after it."""
        after = budget.after(opening)

        def fit(said: Sequence[Message]) -> Sequence[Message]:
            if is_new and not budget.takes(opening):
                raise self._too_long()
            return [*said[: len(opening)], *shortening.fit(after)(said[len(opening) :])]

        return fit

    def _too_long(self) -> QuestionTooLong:
        assert self._step is not None
        return QuestionTooLong(self._step.name)

    async def _follow(self, events: AsyncGenerator[LoopEvent, None], transcript: Sequence[Message]) -> str:
        """The answer at the end of the loop. Raises Suspended if it has to wait for somebody."""
        last: Message | None = transcript[-1]
        async with aclosing(events):
            async for event in events:
                await self.emit(event)
                if isinstance(event, ModelAsked):
                    self._asked_size = size(event.question)
                elif isinstance(event, Finished):
                    last = event.message
                elif isinstance(event, ToolFinished | PersonAsked):
                    last = None
        if last is None or last.tool_calls:
            raise Suspended
        return last.text

    async def emit(self, event: LoopEvent) -> None:
        await self._record.note(event)
        if self._on_event is not None:
            await self._on_event(event)


def _failed(what: str, error: Exception) -> StepFailed:
    return StepFailed(
        f"{what} failed: {type(error).__name__}: {error}",
        hint="Trying again begins at this step. What the steps before it gave is kept.",
    )


class TaskSolver(TaskExecutor):
    """The executor whose one step is the agent loop: `await TaskSolver(llm, tools).solve("…")`."""

    task_steps = (TaskStep("solve", "Solve", required_info=("problem",), retries=0),)

    async def handle_solve(self, step_input: dict[str, Any]) -> dict[str, Any]:
        return {"answer": await super().solve(step_input["problem"])}

    async def solve(self, problem: str, instructions: str = "") -> ExecutionResult:  # type: ignore[override]
        """The whole task, not a question inside of it."""
        self.instructions = instructions or self.instructions
        return await self.execute({"problem": problem})

    def run(
        self,
        transcript: Sequence[Message],
        spent: Spent | None = None,
        schema: dict[str, Any] | None = None,
        kept: str = "",
        fit: Callable[[Sequence[Message]], Sequence[Message]] | None = None,
    ) -> AsyncGenerator[LoopEvent, None]:
        """The loop over `transcript`, from wherever that stands, to an answer that fits `schema`. `spent` is counted up
        in place. `kept` and `fit`: see `solve`."""
        spent = spent if spent is not None else Spent()
        return solve(self.llm, self.tools, transcript, self.limits, spent, schema, kept, fit)
