"""A transcript, made acceptable to every provider: what they have in common in what they refuse.

Every call has exactly one result, results follow their calls, no message is empty, and names are names.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

from executor.core.messages import File, Message, Reasoning, Text, ToolCall, ToolResult

INTERRUPTED = "Error: the call was interrupted. Whether it took effect is not known."
NO_OUTPUT = "(no output)"


@dataclass(frozen=True, slots=True)
class Answered:
    """A call and what the model is told about it."""

    call: ToolCall
    content: str
    is_error: bool


@dataclass(frozen=True, slots=True)
class UserTurn:
    text: str
    pictures: tuple[File, ...] = ()


@dataclass(frozen=True, slots=True)
class AssistantTurn:
    """What the model said, and its calls in their order with their results, which providers want right behind it."""

    message: Message
    calls: tuple[Answered, ...]


def turns(transcript: Sequence[Message]) -> tuple[str, list[UserTurn | AssistantTurn]]:
    """The system's words, and who said what after another.

    Empty turns are left out. After a stop two questions can follow each other, which many models refuse: they are one.
    """
    system: list[str] = []
    found: list[UserTurn | AssistantTurn] = []
    for position, message in enumerate(transcript):
        match message.role:
            case "system":
                system.append(message.text)
            case "user":
                turn = _user_turn(message)
                if found and isinstance(previous := found[-1], UserTurn):
                    texts = (previous.text, turn.text)
                    turn = UserTurn("\n\n".join(t for t in texts if t), (*previous.pictures, *turn.pictures))
                    found.pop()
                if turn.text or turn.pictures:
                    found.append(turn)
            case "assistant":
                calls = _answered(transcript, position)
                if message.text or calls:
                    found.append(AssistantTurn(message, calls))
            case "tool":
                pass  # Found from the calls.
            case _:
                assert_never(message.role)
    return "\n\n".join(text for text in system if text), found


def _answered(transcript: Sequence[Message], position: int) -> tuple[Answered, ...]:
    results: dict[str, ToolResult] = {}
    for message in transcript[position + 1 :]:
        if message.role == "assistant":
            break
        for result in message.tool_results:
            results.setdefault(result.call_id, result)
    found = ((call, results.get(call.id)) for call in transcript[position].tool_calls)
    return tuple(
        Answered(call, result.content or NO_OUTPUT, result.is_error) if result else Answered(call, INTERRUPTED, True)
        for call, result in found
    )


def function_name(name: str) -> str:
    """A model may have asked for a function by a name that no provider takes back."""
    name = re.sub(r"[^A-Za-z0-9_-]", "_", name)[:64] or "_"
    return name if name[0].isalpha() or name[0] == "_" else f"_{name[:63]}"


def _user_turn(message: Message) -> UserTurn:
    """What a person said, with the pictures that the provider can fetch or read; other files are named."""
    texts: list[str] = []
    pictures: list[File] = []
    for part in message.parts:
        match part:
            case Text(text):
                texts.append(text)
            case File(media_type, url):
                if media_type.startswith("image/") and url.startswith(("data:", "http://", "https://")):
                    pictures.append(part)
                else:
                    texts.append(file_note(part))
            case Reasoning() | ToolCall() | ToolResult():
                pass
            case _:
                assert_never(part)
    return UserTurn("\n\n".join(text for text in texts if text), tuple(pictures))


def file_note(file: File) -> str:
    """What is said of a file that the model cannot be given."""
    note = f"[attached file: {file.name or 'unnamed'} ({file.media_type})]"
    return f"{note}\n{file.text}\n[end of the attached file]" if file.text else note


def split_data_url(url: str) -> tuple[str, str] | None:
    """(media type, base64) of a `data:` address in base64, else None."""
    head, comma, data = url.partition(",")
    if not comma or not head.startswith("data:") or not head.endswith(";base64"):
        return None
    return head.removeprefix("data:").removesuffix(";base64"), data
