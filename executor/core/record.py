"""Where an executor says what it does, and finds what it did before: in memory here, rows in the worker.

An executor keeps no state of its own. A handler that is begun again after a crash asks the same questions in the same
order and gets the answers that are on record; only what has none yet is done.
"""

from __future__ import annotations

import asyncio
import inspect
import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from executor.core.errors import TaskExecutionError
from executor.core.events import Finished, LoopEvent, ToolFinished
from executor.core.llms.base import BaseLlm
from executor.core.messages import Message, system, tool, user
from executor.core.steps import TaskStep

#: What doing a part twice would do, as of functions (docs/adding-a-function.md).
PartEffect = Literal["read", "idempotent", "unsafe"]


class Suspended(BaseException):
    """Somebody has to decide something before the step can go on. No error: handlers let it through."""


@dataclass(frozen=True, slots=True)
class Question:
    """What a step asks its model, as the `n`th time that it asks just this."""

    step: str
    text: str
    instructions: str = ""
    n: int = 1

    @property
    def opening(self) -> list[Message]:
        return [*([system(self.instructions)] if self.instructions else []), user(self.text)]


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a step's own code that is done once, as the `n`th with this name in the step."""

    step: str
    name: str
    effect: PartEffect
    arguments: tuple[Any, ...] = ()
    n: int = 1


class Record(Protocol):
    @property
    def outputs(self) -> Mapping[str, dict[str, Any]]:
        """What the finished steps gave, by their ids."""

    async def begin_step(self, step: TaskStep) -> int:
        """Which attempt this is, from 1. One that was interrupted goes on; one that failed is another."""

    async def finish_step(self, step: TaskStep, output: dict[str, Any]) -> None: ...

    async def fail_step(self, step: TaskStep, error: TaskExecutionError) -> None:
        """Raises Suspended if somebody has to decide what became of something that it did."""

    async def open(self, question: Question) -> list[Message]:
        """The transcript of the question, as far as it got in this attempt. What is noted next belongs to it."""

    async def kept(self, llm: BaseLlm) -> str:
        """The response that the question which was opened last waits for, if its model was asked before and `llm` can
        fetch it (`BaseLlm.resume`)."""

    async def note(self, event: LoopEvent) -> None:
        """On record before the loop goes on."""

    async def once(self, part: Part, work: Callable[..., Any]) -> Any:
        """What `work`, given the arguments of the part, returns or raises. What it returned before, if it did, in
        whatever attempt."""


class MemoryRecord:
    """Lasts as long as the object: given to another executor of the same task, that goes on where the first ended."""

    def __init__(self) -> None:
        self.outputs: dict[str, dict[str, Any]] = {}
        self._attempts: Counter[str] = Counter()
        self._begun: set[str] = set()
        self._transcripts: dict[tuple[int, Question], list[Message]] = {}
        self._parts: dict[tuple[str, str, str, int], str] = {}
        self._open: list[Message] = []

    async def begin_step(self, step: TaskStep) -> int:
        if step.id not in self._begun:
            self._begun.add(step.id)
            self._attempts[step.id] += 1
        return self._attempts[step.id]

    async def finish_step(self, step: TaskStep, output: dict[str, Any]) -> None:
        self.outputs[step.id] = output

    async def fail_step(self, step: TaskStep, error: TaskExecutionError) -> None:
        self._begun.discard(step.id)

    async def open(self, question: Question) -> list[Message]:
        key = self._attempts[question.step], question
        self._open = self._transcripts.setdefault(key, question.opening)
        return list(self._open)

    async def kept(self, llm: BaseLlm) -> str:
        return ""

    async def note(self, event: LoopEvent) -> None:
        if isinstance(event, Finished):
            self._open.append(event.message)
        elif isinstance(event, ToolFinished):
            self._open.append(tool(event.result))

    async def once(self, part: Part, work: Callable[..., Any]) -> Any:
        key = part.step, part.name, json.dumps(part.arguments, sort_keys=True, default=str), part.n
        if key not in self._parts:
            is_async = inspect.iscoroutinefunction(work)
            done = work(*part.arguments) if is_async else asyncio.to_thread(work, *part.arguments)
            self._parts[key] = json.dumps(await done)
        return json.loads(self._parts[key])
