"""Messages: JSON and back, and which calls are still open."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor.core.messages import (
    File,
    Message,
    Reasoning,
    Text,
    ToolCall,
    ToolResult,
    assistant,
    message_from_json,
    message_to_json,
    tool,
    unanswered,
    user,
)

text = st.text(max_size=30)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=8,
)


@st.composite
def calls(draw: st.DrawFn) -> ToolCall:
    """As an adapter makes them: what the model wrote is kept as it was only where it is not an object."""
    arguments = draw(st.none() | st.dictionaries(text, values, max_size=3))
    raw = draw(text) if arguments is None else json.dumps(arguments)
    return ToolCall(draw(text), draw(text), arguments, raw, draw(text))


parts = (
    st.builds(Text, text)
    | st.builds(Reasoning, text)
    | st.builds(File, text, text, text)
    | calls()
    | st.builds(ToolResult, text, text, text, st.booleans())
)
messages = st.builds(
    Message,
    st.sampled_from(["system", "user", "assistant", "tool"]),
    st.lists(parts, max_size=4).map(tuple),
)


@given(messages)
def test_a_message_comes_back_from_json_as_it_was(message: Message) -> None:
    stored = json.loads(json.dumps(message_to_json(message)))
    back = message_from_json(stored)
    assert back == message
    assert back.digest() == message.digest()


def test_a_part_written_by_newer_code_is_named() -> None:
    with pytest.raises(ValueError, match=r"'hologram'.*newer code"):
        message_from_json({"role": "user", "parts": [{"type": "hologram"}]})


def call(id_: str) -> ToolCall:
    return ToolCall(id_, "look", {}, "{}")


def result(id_: str) -> ToolResult:
    return ToolResult(id_, "look", "fine")


ONE, TWO = call("1"), call("2")
ASKED = [user("Go."), assistant("", ONE, TWO)]


@pytest.mark.parametrize(
    ("transcript", "open_calls"),
    [
        ([], ()),
        ([user("Go.")], ()),
        ([user("Go."), assistant("Done.")], ()),
        (ASKED, (ONE, TWO)),
        ([*ASKED, tool(result("2"))], (ONE,)),
        ([*ASKED, tool(result("1")), tool(result("2"))], ()),
        ([*ASKED, tool(result("2"), result("1"))], ()),
        ([*ASKED, tool(result("1"), result("2")), assistant("", call("3"))], (call("3"),)),
        ([*ASKED, user("Never mind.")], ()),
    ],
)
def test_unanswered_are_the_calls_of_the_last_answer_without_a_result(
    transcript: list[Message], open_calls: tuple[ToolCall, ...]
) -> None:
    assert unanswered(transcript) == open_calls


def test_a_digest_is_of_what_was_said_and_not_of_how_it_was_found() -> None:
    said = assistant("Hello", call("1"))
    assert said.digest() == Message("assistant", (Reasoning("Hm."), Text("Hello"), call("2"))).digest()
    assert said.digest() != assistant("Hello.", call("1")).digest()
