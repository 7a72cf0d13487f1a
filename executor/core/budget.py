"""How large a question is, and how that is estimated before anybody has counted it.

Sizes are in bytes of what is said.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from executor.core.messages import File, Message, Text, ToolCall, ToolResult, ToolSpec

#: How a question is estimated before a provider has counted one, and an answer whose length nobody limits.
TOKENS_PER_BYTE = 1 / 3.5
ANSWER_TOKENS = 8_192

#: About as much as the words that a picture takes the place of.
PICTURE = 5_000


def size(messages: Iterable[Message], specs: Iterable[ToolSpec] = ()) -> int:
    """In bytes, about as many as a provider reads."""
    return sum(len(str(spec.parameters)) + len(spec.description) for spec in specs) + sum(map(_size, messages))


def _size(message: Message) -> int:
    return sum(map(_part_size, message.parts))


def _part_size(part: Any) -> int:
    match part:
        case Text(text):
            return _length(text)
        case ToolCall(name=name, arguments=arguments, raw_arguments=raw):
            return len(name) + _length(raw if arguments is None else str(arguments))
        case ToolResult(content=content):
            return _length(content)
        case File():
            return PICTURE
        case _:
            return 0


def _length(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode(errors="replace"))
