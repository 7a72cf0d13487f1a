"""What a server says in its answers, and what is made of it."""

from __future__ import annotations

import pytest

from executor.core.llms._chat_answer import ChatAnswer


@pytest.mark.parametrize(
    ("said", "counted"), [(7, 7), (10**19, 2**31 - 1), (2**31, 2**31 - 1), (-1, 0), ("7", 0), (None, 0)]
)
def test_token_counts_are_ones_that_can_be_stored(said: object, counted: int) -> None:
    answer = ChatAnswer()
    list(answer.feed({"usage": {"prompt_tokens": said, "completion_tokens": said}}))
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (counted, counted)
