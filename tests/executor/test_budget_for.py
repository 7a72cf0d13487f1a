"""How much the model of an agent is told: what it is set to, what is known of it, or what is safe."""

from __future__ import annotations

from typing import Any

import pytest

from executor.compaction import budget_for
from executor.core.budget import AFTER_QUESTION, TOKENS_PER_BYTE, Budget
from executor.core.config import AgentConfig
from executor.core.messages import user
from executor.told import Told

NOTHING = Told(())


def room(provider: str, model: str, told: Told = NOTHING, **parameters: Any) -> int:
    return budget_for(AgentConfig("a", "A", provider, model, parameters=parameters), (), told.ratio(provider)).room


@pytest.mark.parametrize(
    ("provider", "model", "window"),
    [("gpt", "gpt-4o", 90_000), ("claude", "claude-haiku-4-5", 90_000), ("gpt", "gpt-4", 8_192), ("demo", "", 20_000)],
)
def test_a_window_is_what_the_list_says_within_what_the_site_wants(
    settings: Any, provider: str, model: str, window: int
) -> None:
    settings.CONTEXT_TOKENS, settings.CONTEXT_WINDOW = 90_000, 20_000
    assert room(provider, model) == Budget.of(window).room


def test_what_the_agent_says_goes_before() -> None:
    assert room("gpt", "gpt-4o", context_window=500_000) == Budget.of(500_000).room
    assert room("openai_compatible", "qwen3:8b", context_window=4_096) == Budget.of(4_096).room


def test_a_question_that_cannot_be_shortened_may_have_all_that_the_model_reads(settings: Any) -> None:
    settings.CONTEXT_TOKENS, settings.CONTEXT_WINDOW = 20_000, 10_000
    large = budget_for(AgentConfig("a", "A", "gpt", "gpt-4o"), (), TOKENS_PER_BYTE)
    assert large.takes([user("x" * 400_000)])
    assert not large.takes([user("x" * 420_000)])
    assert large.after([user("x" * 400_000)]).room == AFTER_QUESTION
    assert not budget_for(AgentConfig("a", "A", "demo", ""), (), TOKENS_PER_BYTE).takes([user("x" * 35_000)])


def test_room_for_the_answer_is_kept() -> None:
    assert room("gpt", "gpt-4", max_tokens=2_000) == Budget.of(8_192, 2_000).room


def test_what_the_provider_counted_last_is_what_a_byte_is() -> None:
    told = Told((), counted=(("gpt", 5_000, 10_000), ("gpt", 1_000, 10_000), ("claude", 1_000, 10_000)))
    assert room("gpt", "gpt-4o", told) == Budget.of(100_000, ratio=0.5).room
    assert room("claude", "claude-haiku-4-5", told) == Budget.of(100_000, ratio=0.1).room
    assert room("gemini", "gemini-3.8-flash", told) == Budget.of(100_000).room
