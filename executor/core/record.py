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
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from executor.core import compaction
from executor.core.budget import TOKENS_PER_BYTE, learnt, size
from executor.core.errors import LLMError, TaskExecutionError
from executor.core.events import Finished, LoopEvent, ModelAsked, ToolFinished
from executor.core.limits import Spent
from executor.core.llms.base import BaseLlm
from executor.core.messages import Message, Usage, system, tool, user
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
class Opened:
    """A question as far as it got in this attempt: what was said, and after how many `rounds`. `kept` is the response
    that it waits for, if its model was asked before and can fetch it (`BaseLlm.resume`); `ratio` is tokens per byte, as
    the provider counted them last."""

    transcript: list[Message]
    rounds: int = 0
    kept: str = ""
    ratio: float = TOKENS_PER_BYTE


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

    async def open(self, question: Question, llm: BaseLlm) -> Opened:
        """The question, of which `llm` is asked. What is noted next belongs to it."""

    async def compact(self, llm: BaseLlm, room: int, spent: Spent) -> bool:
        """Have what was said first of the open question summarised, so that about `room` bytes are enough for what
        comes after the question itself. False if that would not help. `spent` is counted up.

        Raises LLMError where another question would fail as well.
        """

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
        self._talks: dict[tuple[int, Question], _Talk] = {}
        self._parts: dict[tuple[str, str, str, int], str] = {}
        self._talk = _Talk([])
        self._asked = 0  # Bytes.
        self._ratio = TOKENS_PER_BYTE

    async def begin_step(self, step: TaskStep) -> int:
        if step.id not in self._begun:
            self._begun.add(step.id)
            self._attempts[step.id] += 1
        return self._attempts[step.id]

    async def finish_step(self, step: TaskStep, output: dict[str, Any]) -> None:
        self.outputs[step.id] = output

    async def fail_step(self, step: TaskStep, error: TaskExecutionError) -> None:
        self._begun.discard(step.id)

    async def open(self, question: Question, llm: BaseLlm) -> Opened:
        key = self._attempts[question.step], question
        self._talk = self._talks.setdefault(key, _Talk(question.opening))
        return Opened([*self._talk.question, *self._talk.said], self._talk.rounds, ratio=self._ratio)

    async def compact(self, llm: BaseLlm, room: int, spent: Spent) -> bool:
        talk = self._talk
        if not (older := compaction.worth_it(talk.said, room)):
            return False
        asking = compaction.ask(llm, talk.said[:older], room, talk.question)
        await compaction.compact(asking, room, _Shortened(talk, older, spent))
        return True

    async def note(self, event: LoopEvent) -> None:
        if isinstance(event, ModelAsked):
            self._asked = size(event.question)
        elif isinstance(event, Finished):
            self._talk.said.append(event.message)
            self._talk.rounds += 1
            self._ratio = learnt(event.usage.input_tokens, self._asked)
        elif isinstance(event, ToolFinished):
            self._talk.said.append(tool(event.result))

    async def once(self, part: Part, work: Callable[..., Any]) -> Any:
        key = part.step, part.name, json.dumps(part.arguments, sort_keys=True, default=str), part.n
        if key not in self._parts:
            is_async = inspect.iscoroutinefunction(work)
            done = work(*part.arguments) if is_async else asyncio.to_thread(work, *part.arguments)
            self._parts[key] = json.dumps(await done)
        return json.loads(self._parts[key])


@dataclass(slots=True)
class _Talk:
    """`said` is what came after the question, the summary of what came first in its place; `summary` is its text."""

    question: list[Message]
    said: list[Message] = field(default_factory=list)
    rounds: int = 0
    summary: str = ""


@dataclass(slots=True)
class _Shortened:
    """Puts a summary in the place of the `older` messages of a talk."""

    talk: _Talk
    older: int
    spent: Spent

    async def asked(self, size: int) -> None: ...

    async def accepted(self, response_id: str) -> None: ...

    async def broke_off(self, error: LLMError, usage: Usage, *, begun: bool) -> None:
        self.spent.tokens += usage.total_tokens

    async def left_out(self, error: LLMError, usage: Usage) -> None:
        self._put(compaction.told(self.talk.summary, is_partial=True), usage)

    async def finished(self, event: Finished) -> None:
        self.talk.summary = event.message.text
        self._put(compaction.told(event.message.text), event.usage)

    def _put(self, told: Message, usage: Usage) -> None:
        self.talk.said[: self.older] = [told]
        self.spent.tokens += usage.total_tokens
