"""A question without functions about what was said: the last one of a task that may not go on, or one for a summary."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace

from executor.core.events import Failed, Finished, LoopEvent, ModelAsked
from executor.core.llms.base import BaseLlm
from executor.core.messages import File, Message, Text, ToolCall, ToolResult, user
from executor.core.retry import stream_with_retry

ASKED = (
    "(This is not from the person.) You cannot call functions any more, because the work on this has reached a limit. "
    "Say in a few sentences what was done, what came of it, and what is left to do."
)


async def summarise(
    llm: BaseLlm,
    transcript: Sequence[Message],
    kept: str = "",
    asked: str = ASKED,
    longest: Callable[[], int | None] = lambda: None,
) -> AsyncGenerator[LoopEvent, None]:
    """Ask once, without functions. The last event is a `Finished` without calls. Raises LLMError.

    `kept`: see `solve`; `longest`: see `stream_with_retry`.
    """
    question = [*map(_told, transcript), user(asked)]
    yield ModelAsked(question)
    async with aclosing(stream_with_retry(llm, question, kept=kept, longest=longest)) as events:
        async for event in events:
            if isinstance(event, Finished):
                said = tuple(part for part in event.message.parts if not isinstance(part, ToolCall))
                event = replace(event, message=Message("assistant", said), reason="stop")
            yield event
            if isinstance(event, Failed):
                raise event.error


def _told(message: Message) -> Message:
    """Calls and results as words: not every provider takes them where no functions are offered."""
    said, files = [], []
    for part in message.parts:
        match part:
            case Text(text):
                said.append(text)
            case ToolCall(_, name, arguments, raw):
                said.append(f"[It called {name} with {raw if arguments is None else json.dumps(arguments)}.]")
            case ToolResult(_, name, content, is_error):
                said.append(f"[{name} {'failed with' if is_error else 'gave'}: {content}]")
            case File():
                files.append(part)
    return Message("user" if message.role == "tool" else message.role, (Text("\n".join(said)), *files))
