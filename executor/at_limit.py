"""What a person is told and offered where a task reached a limit: the details of a `Decision` of kind LIMIT."""

from __future__ import annotations

from decimal import ROUND_UP, Decimal, InvalidOperation
from typing import Any

from executor import accounts
from executor.core.errors import LimitReached
from executor.core.limits import Limits

#: In `Task.allowed`, where the task is to end at a limit with a summary: {"limit", "sentence", "after"}, the seq of the
#: step behind which the summary comes.
SUMMARISE = "summarise"
UNITS = {
    "iterations": "rounds",
    "seconds": "seconds",
    "tokens": "tokens",
    "cost": "dollars",
    "tool_calls": "function calls",
    "day_tokens": "tokens",
    "day_cost": "dollars",
}
#: So much more may be allowed at once.
MOST: dict[str, Decimal] = {
    "iterations": Decimal(1_000),
    "seconds": Decimal(86_400),
    "tokens": Decimal(100_000_000),
    "cost": Decimal(1_000),
    "tool_calls": Decimal(10_000),
}
#: What is suggested where the agent's own limit is 0.
_AT_LEAST = {"cost": Decimal(1), "tool_calls": Decimal(10)}
_CENT = Decimal("0.01")


def details(error: LimitReached, own: Limits) -> dict[str, Any]:
    """As JSON. `more` is what is suggested: as much again as the agent may use; None for the limits of a day."""
    found = {
        "limit": error.limit,
        "used": _number(error.used),
        "allowed": _number(error.allowed),
        "more": None,
        "unit": UNITS[error.limit],
        "sentence": error.message,
    }
    if is_of_a_day(error.limit):
        return found | {"renews_at": accounts.renews_at(accounts.today()).isoformat()}
    base = Decimal(getattr(own, error.limit) or 0) or _AT_LEAST.get(error.limit, Decimal(1))
    more = min(base + Decimal(error.short), MOST[error.limit])
    return found | {"more": str(more.quantize(_CENT, ROUND_UP)) if error.limit == "cost" else int(more)}


def is_of_a_day(limit: str) -> bool:
    return limit.startswith("day_")


def amount(limit: str, more: Any) -> int | str:
    """`more` of a limit as `Task.allowed` has it. Raises ValueError with a sentence."""
    try:
        given = Decimal(str(more).strip().lstrip("$"))
    except InvalidOperation:
        given = Decimal("NaN")
    whole = limit != "cost"
    kind = "a whole number" if whole else "an amount in dollars, such as 0.50,"
    if not given.is_finite() or (whole and given != given.to_integral_value()) or given != round(given, 4):
        raise ValueError(f"Give {kind} of {UNITS[limit]}." if whole else f"Give {kind} with up to 4 decimals.")
    if not 0 < given <= MOST[limit]:
        raise ValueError(f"It can be more than 0 and at most {MOST[limit]:,} {UNITS[limit]} at once.")
    return int(given) if whole else str(given)


def added(allowed: dict[str, Any], limit: str, more: int | str) -> dict[str, Any]:
    """`allowed` with so much more."""
    total = Decimal(allowed.get(limit) or 0) + Decimal(more)
    return allowed | {limit: str(total) if limit == "cost" else int(total)}


def _number(value: Any) -> Any:
    match value:
        case Decimal():
            return f"{value.normalize():f}"
        case float():
            return round(value)
    return value
