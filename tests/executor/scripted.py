"""A language model that says what a test wrote down, and insists on it.

    script = scripted(say("Let me look.", call("look", topic="tides")), say("They come twice a day."))
    TaskSolver(script.llm(), tools)                      without a database, or
    Agent(provider="scripted", model=script.name)        as an agent of the site

One answer for each time it is asked. Being asked once more is a mistake, and so is an answer that nobody asked for: the
fixture `scripted` (tests/executor/conftest.py) looks at the end of the test.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from executor.core.errors import LLMError
from executor.core.events import (
    Failed,
    Finished,
    FinishReason,
    ModelEvent,
    ReasoningDelta,
    Started,
    TextDelta,
    ToolCallComplete,
)
from executor.core.llms.base import BaseLlm, Endpoint
from executor.core.messages import Message, Part, Reasoning, Text, ToolCall, ToolSpec, Usage

_ids = itertools.count(1)
SCRIPTS: dict[str, Script] = {}


class Hold:
    """Here the model falls silent until it is released, from whatever thread. `reached` once it does."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.released = threading.Event()

    def wait_until_reached(self) -> None:
        assert self.reached.wait(10), "The model never came to this point."


NOTHING = Usage()
Piece = str | Reasoning | Hold | LLMError | Exception | ToolCall


@dataclass(frozen=True)
class Answer:
    """Text and reasoning piece by piece, then calls. An error among the pieces ends it; another exception is raised."""

    pieces: tuple[Piece, ...]
    usage: Usage
    reason: FinishReason | None = None
    #: What an attempt that fails took, as far as a test says.
    failed: Usage = NOTHING


def say(*pieces: Piece, usage: Usage | None = None, reason: FinishReason | None = None) -> Answer:
    return Answer(pieces, usage or Usage(input_tokens=10, output_tokens=2), reason, usage or NOTHING)


def call(name: str, **arguments: Any) -> ToolCall:
    """A call with an id of its own."""
    return ToolCall(f"id-{next(_ids)}", name, arguments, json.dumps(arguments))


@dataclass
class Script:
    """The answers, and what was `asked`: a transcript for each time."""

    answers: list[Answer]
    name: str = field(default_factory=lambda: f"script-{next(_ids)}")
    asked: list[tuple[Message, ...]] = field(default_factory=list)
    offered: list[tuple[ToolSpec, ...]] = field(default_factory=list)
    demanded: list[Any] = field(default_factory=list)
    longest: list[int | None] = field(default_factory=list)
    #: How many streams are open now; one that was left unfinished has to be closed.
    open: int = 0
    complaints: list[str] = field(default_factory=list)

    def llm(self) -> Scripted:
        return Scripted(Endpoint(self.name))

    def check(self) -> None:
        """Raise AssertionError unless exactly what was written down has happened."""
        assert not self.complaints, self.complaints
        left = len(self.answers) - len(self.asked)
        assert not left, f"{self.name}: {left} answers were not asked for."
        assert not self.open, f"{self.name}: {self.open} streams were not closed."


class Scripted(BaseLlm):
    """The model of the script whose name is the endpoint's model."""

    type: ClassVar[str] = "scripted"

    async def stream(
        self, messages: Sequence[Message], tools: Sequence[ToolSpec] = (), **parameters: Any
    ) -> AsyncGenerator[ModelEvent, None]:
        script = SCRIPTS[self.endpoint.model]
        if len(script.asked) >= len(script.answers):
            script.complaints.append(f"It was asked once more than written down: {messages[-1]}")
            raise AssertionError(script.complaints[-1])
        answer = script.answers[len(script.asked)]
        script.asked.append(tuple(messages))
        script.offered.append(tuple(tools))
        script.demanded.append(parameters.get("response_schema"))
        script.longest.append(parameters.get("max_tokens"))
        script.open += 1
        try:
            yield Started(model=script.name)
            parts: list[Part] = []
            for piece in answer.pieces:
                match piece:
                    case str():
                        parts.append(Text(piece))
                        yield TextDelta(piece)
                    case Reasoning():
                        parts.append(piece)
                        yield ReasoningDelta(piece.text)
                    case ToolCall():
                        parts.append(piece)
                        yield ToolCallComplete(0, piece)
                    case Hold():
                        piece.reached.set()
                        while not piece.released.is_set():  # noqa: ASYNC110  (set from other threads, too)
                            await asyncio.sleep(0.005)
                    case LLMError():
                        yield Failed(piece, usage=answer.failed)
                        return
                    case _:
                        raise piece
            message = Message("assistant", tuple(parts))
            reason = answer.reason or ("tool_calls" if message.tool_calls else "stop")
            yield Finished(message, reason, answer.usage, model=script.name)
        finally:
            script.open -= 1
