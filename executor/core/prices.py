"""What an answer costs, in US dollars, from the provider's own counts and the price list of `genai-prices`. The list
also says how much a model can read.

The list is compiled into that package and never fetched. What it does not know has no price; that is not the same as
costing nothing, and nobody may add it up as if it were.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from executor.core.messages import Usage

logger = logging.getLogger(__name__)

#: Agent type → how the list calls its provider. Other types are looked up by their address.
_PROVIDERS = {"gpt": "openai", "claude": "anthropic", "gemini": "google"}
_MILLION = Decimal(1_000_000)
_SMALLEST = Decimal("0.00000001")


@dataclass(frozen=True, slots=True)
class Price:
    """Dollars per million tokens, as an administrator knows them for a model that no list has."""

    input: Decimal
    output: Decimal

    @classmethod
    def from_json(cls, data: dict[str, Any] | None) -> Price | None:
        return cls(Decimal(str(data["input"])), Decimal(str(data["output"]))) if data else None

    def of(self, usage: Usage) -> Decimal:
        return ((self.input * usage.input_tokens + self.output * usage.output_tokens) / _MILLION).quantize(_SMALLEST)


def load() -> None:
    """Import and read the price list: a tenth of a second, best spent in a thread before the first answer is there."""
    cost("gpt", "gpt-4o", Usage(1, 1))


def window(agent_type: str, model: str, base_url: str = "") -> int | None:
    """How many tokens the model reads at once, its answer among them. None where the list does not say."""
    from genai_prices.data_snapshot import get_snapshot

    provider = _PROVIDERS.get(agent_type)
    try:
        _, found = get_snapshot().find_provider_model(
            model, None, provider, None if provider else base_url or "unknown"
        )
    except LookupError:
        return None
    return found.context_window


def cost(
    agent_type: str, model: str, usage: Usage, *, base_url: str = "", price: Price | None = None
) -> Decimal | None:
    """Dollars, None where nobody knows. `price` goes before the list. The demonstration costs nothing."""
    if price:
        return price.of(usage)
    if agent_type == "demo":
        return Decimal(0)
    # 100 ms and 30 MB, needed by workers only.
    from genai_prices import Usage as ListUsage
    from genai_prices import calc_price

    counts = {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cache_read_tokens": usage.cache_read_tokens or None,
        "cache_write_tokens": usage.cache_write_tokens or None,
    }
    # A provider's own format behind another address is still that provider's price; any other server is known by it.
    provider, counted = _PROVIDERS.get(agent_type), ListUsage(**counts)
    try:
        # Dated names ("…-2026-08-07") and aliases are understood by the list.
        if provider:
            found = calc_price(counted, model_ref=model, provider_id=provider)
        else:
            found = calc_price(counted, model_ref=model, provider_api_url=base_url or "unknown")
    except LookupError:
        return None
    except Exception:
        logger.exception("The price list stumbled over %s", model)
        return None
    return Decimal(found.total_price).quantize(_SMALLEST)
