"""What is said: messages, their parts, and usage. Frozen values, JSON in and out, no vendor's types.

A transcript is a sequence of `Message`. The provider's own form of an assistant message travels along in `native`,
opaque to everybody but the adapter that wrote it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, assert_never

from tools.core.function import ToolSpec

__all__ = [
    "File",
    "Message",
    "Native",
    "Part",
    "Reasoning",
    "Role",
    "Text",
    "ToolCall",
    "ToolResult",
    "ToolSpec",
    "Usage",
    "assistant",
    "system",
    "tool",
    "unanswered",
    "user",
]

Role = Literal["system", "user", "assistant", "tool"]
JsonDict = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Text:
    text: str


@dataclass(frozen=True, slots=True)
class Reasoning:
    """What the model thought aloud: shown to people, never sent back (that is what `Message.native` is for)."""

    text: str


@dataclass(frozen=True, slots=True)
class File:
    """A file by reference: `url` is an address that the caller can resolve, not necessarily a public one.

    `text` is what is told of it in words. It is stored elsewhere, and filled in when the transcript is made.
    """

    media_type: str
    url: str
    name: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call the model asks for. `arguments` is None when what it wrote is not a JSON object; see `raw_arguments`.

    `id` is ours and unique within a task; `provider_id` is what the provider called it ("" when it gave none).
    """

    id: str
    name: str
    arguments: JsonDict | None
    raw_arguments: str = ""
    provider_id: str = ""


@dataclass(frozen=True, slots=True)
class ToolResult:
    """The answer to the call `call_id`. A failure is an answer too (`is_error`), never an exception."""

    call_id: str
    name: str
    content: str
    is_error: bool = False


Part = Text | Reasoning | File | ToolCall | ToolResult


@dataclass(frozen=True, slots=True)
class Native:
    """A provider's whole assistant message, replayed verbatim only where `api`, `scope`, `model` and `digest` agree.

    `scope` is a hash of endpoint and key; `digest` is `Message.digest()` of the message it belongs to.
    """

    api: str
    scope: str
    model: str
    items: Any
    digest: str

    @classmethod
    def from_json(cls, data: JsonDict) -> Native | None:
        """None where something of it is missing: then the message is told in our own form."""
        known = {name: data[name] for name in cls.__slots__ if name in data}
        return cls(**known) if len(known) == len(cls.__slots__) else None


@dataclass(frozen=True, slots=True)
class Message:
    role: Role
    parts: tuple[Part, ...]
    native: Native | None = None

    @property
    def text(self) -> str:
        return "".join(part.text for part in self.parts if isinstance(part, Text))

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        return tuple(part for part in self.parts if isinstance(part, ToolCall))

    @property
    def tool_results(self) -> tuple[ToolResult, ...]:
        return tuple(part for part in self.parts if isinstance(part, ToolResult))

    def digest(self) -> str:
        """A hash of what was said (texts and calls, without reasoning and ids)."""
        said = [
            part.text if isinstance(part, Text) else [part.name, part.arguments]
            for part in self.parts
            if isinstance(part, Text | ToolCall)
        ]
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:32]


def system(text: str) -> Message:
    return Message("system", (Text(text),))


def user(text: str, *files: File) -> Message:
    return Message("user", (Text(text), *files))


def assistant(text: str, *calls: ToolCall) -> Message:
    return Message("assistant", (*((Text(text),) if text else ()), *calls))


def tool(*results: ToolResult) -> Message:
    return Message("tool", results)


def unanswered(transcript: Sequence[Message]) -> tuple[ToolCall, ...]:
    """The calls of the last assistant message that have no result yet, in the order they were asked for."""
    answered: set[str] = set()
    for message in reversed(transcript):
        answered.update(result.call_id for result in message.tool_results)
        if message.role == "assistant":
            return tuple(call for call in message.tool_calls if call.id not in answered)
        if message.role == "user":
            break
    return ()


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the provider counted them. `input` includes what came from the cache, `output` includes reasoning."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cache_read_tokens + other.cache_read_tokens,
            self.cache_write_tokens + other.cache_write_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
        )

    @property
    def total_tokens(self) -> int:
        return self.input_tokens + self.output_tokens


# --- JSON ------------------------------------------------------------------------------------------------------------


def part_to_json(part: Part) -> JsonDict:
    match part:
        case Text(text):
            return {"type": "text", "text": text}
        case Reasoning(text):
            return {"type": "reasoning", "text": text}
        case File(media_type, url, name):
            return {"type": "file", "media_type": media_type, "url": url, "name": name}
        case ToolCall(id_, name, arguments, raw, provider_id):
            call: JsonDict = {"type": "tool_call", "id": id_, "name": name, "arguments": arguments}
            # What the model wrote is kept only where it says more than the parsed arguments do.
            return call | ({"raw": raw} if arguments is None else {}) | ({"pid": provider_id} if provider_id else {})
        case ToolResult(call_id, name, content, is_error):
            return {"type": "tool_result", "call_id": call_id, "name": name, "content": content, "is_error": is_error}
        case _:
            assert_never(part)


def part_from_json(data: JsonDict) -> Part:
    match data["type"]:
        case "text":
            return Text(data["text"])
        case "reasoning":
            return Reasoning(data["text"])
        case "file":
            return File(data["media_type"], data["url"], data.get("name", ""))
        case "tool_call":
            arguments = data["arguments"]
            raw = data["raw"] if "raw" in data else json.dumps(arguments)
            return ToolCall(data["id"], data["name"], arguments, raw, data.get("pid", ""))
        case "tool_result":
            return ToolResult(data["call_id"], data["name"], data["content"], data["is_error"])
        case other:
            raise ValueError(f"A stored message has a part of unknown type {other!r}; it was written by newer code.")


def message_to_json(message: Message) -> JsonDict:
    """The message without `native`, which is stored beside it."""
    return {"role": message.role, "parts": [part_to_json(part) for part in message.parts]}


def message_from_json(data: JsonDict, native: Native | None = None) -> Message:
    return Message(data["role"], tuple(part_from_json(part) for part in data["parts"]), native)
