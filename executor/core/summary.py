"""The last question of a task that may not go on: what was done, and what is left?"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace

from executor.core.events import Failed, Finished, LoopEvent, ModelAsked
from executor.core.llms.base import BaseLlm
from executor.core.messages import Message, Part, Text, ToolCall, ToolResult, user
from executor.core.retry import stream_with_retry

ASKED = (
    "(This is not from the person.) You cannot call functions any more, because the work on this has reached a limit. "
    "Say in a few sentences what was done, what came of it, and what is left to do."
)


async def summarise(llm: BaseLlm, transcript: Sequence[Message]) -> AsyncGenerator[LoopEvent, None]:
    """Ask once, without functions. The last event is a `Finished` without calls. Raises LLMError."""
    question = [*map(_told, transcript), user(ASKED)]
    yield ModelAsked(question)
    async with aclosing(stream_with_retry(llm, question)) as events:
        async for event in events:
            if isinstance(event, Finished):
                said = tuple(part for part in event.message.parts if not isinstance(part, ToolCall))
                event = replace(event, message=Message("assistant", said), reason="stop")
            yield event
            if isinstance(event, Failed):
                raise event.error


def _told(message: Message) -> Message:
    """Calls and results as words: not every provider takes them where no functions are offered."""
    parts: list[Part] = []
    for part in message.parts:
        match part:
            case ToolCall(_, name, arguments, raw):
                parts.append(Text(f"\n[It called {name} with {raw if arguments is None else arguments}.]"))
            case ToolResult(_, name, content, is_error):
                parts.append(Text(f"[{name} {'failed with' if is_error else 'gave'}: {content}]\n"))
            case _:
                parts.append(part)
    return Message("user" if message.role == "tool" else message.role, tuple(parts))
