"""How large a question is, and what is left out of one that is too large."""

from __future__ import annotations

from executor.core.budget import PICTURE, size
from executor.core.messages import File, Message, Reasoning, ToolCall, ToolResult, ToolSpec, assistant, tool, user


def test_what_a_provider_reads_is_counted_in_bytes_and_what_the_model_thought_is_not() -> None:
    assert size([user("Grüße")]) == 7
    assert size([Message("assistant", (Reasoning("Hm, well."),))]) == 0
    assert size([tool(ToolResult("1", "look", "fine"))]) == 4
    assert size([user("", File("image/png", "data:image/png;base64,AAAA"))]) == PICTURE
    assert size([], [ToolSpec("look", "Looks.", {"type": "object"})]) == len("Looks.") + len("{'type': 'object'}")


def test_a_call_is_as_large_in_the_rows_as_it_was_when_it_was_asked_for() -> None:
    said, kept = ToolCall("1", "look", {"at": 1}, '{ "at":   1 }'), ToolCall("1", "look", {"at": 1}, "")
    assert size([assistant("", said)]) == size([assistant("", kept)]) > 0
