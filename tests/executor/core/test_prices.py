"""What an answer costs: known where the list knows it, given where an administrator says it, never guessed."""

from __future__ import annotations

from decimal import Decimal

import pytest

from executor.core.messages import Usage
from executor.core.prices import Price, cost, window

MILLION = Usage(input_tokens=1_000_000, output_tokens=1_000_000)
SMALL = Usage(input_tokens=1_000, output_tokens=100)


@pytest.mark.parametrize(
    ("agent_type", "model"), [("gpt", "gpt-6.1-sol"), ("claude", "claude-sonnet-5-5"), ("gemini", "gemini-3.8-flash")]
)
def test_each_provider_is_found_in_the_list(agent_type: str, model: str) -> None:
    found = cost(agent_type, model, SMALL)
    assert found is not None
    assert Decimal("0.0001") < found < Decimal("0.1")


def test_what_came_from_the_cache_costs_less() -> None:
    fresh = cost("claude", "claude-sonnet-5-5", SMALL)
    cached = cost("claude", "claude-sonnet-5-5", Usage(input_tokens=1_000, output_tokens=100, cache_read_tokens=900))
    assert fresh is not None
    assert cached is not None
    assert 0 < cached < fresh


def test_a_dated_name_is_the_same_model() -> None:
    assert cost("claude", "claude-haiku-4-5-20251001", SMALL) == cost("claude", "claude-haiku-4-5", SMALL)


def test_a_gateway_is_known_by_its_address() -> None:
    address = "https://openrouter.ai/api/v1"
    assert cost("openai_compatible", "openai/gpt-5.4-mini", SMALL, base_url=address) == Decimal("0.0012")


def test_a_provider_behind_a_proxy_keeps_its_price() -> None:
    assert cost("gpt", "gpt-6.1-sol", SMALL, base_url="http://proxy/v1") == cost("gpt", "gpt-6.1-sol", SMALL)


@pytest.mark.parametrize(
    ("agent_type", "model", "base_url"),
    [
        ("openai_compatible", "qwen3:8b", "http://127.0.0.1:11434/v1"),
        ("gpt", "gpt-99-nobody", ""),
        ("my.own.Llm", "gpt-6.1-sol", ""),
        ("gpt", "", ""),
    ],
)
def test_what_nobody_knows_has_no_price(agent_type: str, model: str, base_url: str) -> None:
    assert cost(agent_type, model, SMALL, base_url=base_url) is None


def test_a_price_that_was_given_goes_before_the_list() -> None:
    given = Price.from_json({"input": "0.5", "output": 2})
    assert cost("gpt", "gpt-6.1-sol", MILLION, price=given) == Decimal("2.5")
    assert cost("openai_compatible", "local", MILLION, price=Price(Decimal(0), Decimal(0))) == 0
    assert Price.from_json(None) is None


def test_the_demonstration_costs_nothing() -> None:
    assert cost("demo", "", SMALL) == 0


def test_the_list_says_how_much_a_model_can_read() -> None:
    assert window("claude", "claude-haiku-4-5") == 200_000
    assert window("claude", "claude-haiku-4-5-20251001") == 200_000
    assert window("openai_compatible", "gpt-4o", "https://api.openai.com/v1") == 128_000


@pytest.mark.parametrize("agent_type", ["gpt", "openai_compatible", "demo", "my.own.Llm"])
def test_what_a_model_can_read_that_no_list_has_nobody_knows(agent_type: str) -> None:
    assert window(agent_type, "qwen3:8b", "http://127.0.0.1:11434/v1") is None
    assert window(agent_type, "") is None
