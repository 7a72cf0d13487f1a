"""What a task may use up before it has to wait and say so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from decimal import Decimal
from typing import Any

from executor.core.errors import LimitReached
from executor.money import dollars


@dataclass(frozen=True, slots=True)
class Limits:
    """`iterations` counts questions to the model, `cost` is in US dollars; None is unlimited.

    `seconds` is wall clock from the first start of the task. It is the caller's to enforce: the core has no clock.
    """

    iterations: int = 5
    seconds: float | None = 1800
    tokens: int | None = None
    tool_calls: int | None = 200
    cost: Decimal | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"cost": None if self.cost is None else str(self.cost)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Limits:
        known = {name: data[name] for name in cls.__slots__ if name in data}
        cost = known.get("cost")
        return cls(**known | {"cost": None if cost is None else Decimal(cost)})

    def raised(self, allowed: Mapping[str, Any]) -> Limits:
        """With so much more of each as `allowed` says, in JSON. What is unlimited stays so."""
        more = {name: allowed[name] for name in self.__slots__ if allowed.get(name) and getattr(self, name) is not None}
        if not more:
            return self
        if "cost" in more:
            more["cost"] = Decimal(more["cost"])
        return replace(self, **{name: getattr(self, name) + amount for name, amount in more.items()})


@dataclass(slots=True)
class Spent:
    """What a task has used up so far. Counted from its rows, so a restart does not reset it.

    `cost` is the caller's to count up, in US dollars and as far as it is known: the loop knows no prices. So is
    `longest_answer`, in tokens, when it is told that a model is asked: how long the answer may get to fit into the
    limits, None if it may be as long as the model likes.
    """

    iterations: int = 0
    tokens: int = 0
    tool_calls: int = 0
    cost: Decimal = Decimal(0)
    longest_answer: int | None = field(default=None, compare=False)

    def to_json(self) -> dict[str, Any]:
        """What was used up."""
        used = asdict(self) | {"cost": f"{self.cost:.8f}"}
        del used["longest_answer"]
        return used


def check(limits: Limits, spent: Spent) -> None:
    """Raise LimitReached if another question to the model would be one too many. Called before each."""
    if spent.iterations >= limits.iterations:
        raise _reached(
            "iterations",
            f"{limits.iterations} round{'' if limits.iterations == 1 else 's'} with the model",
            spent,
            limits,
        )
    if limits.tokens is not None and spent.tokens >= limits.tokens:
        raise _reached("tokens", f"{limits.tokens:,} tokens", spent, limits)
    if limits.cost is not None and 0 < spent.cost >= limits.cost:  # What is free may go on.
        raise _reached("cost", dollars(limits.cost), spent, limits)


def check_calls(limits: Limits, spent: Spent, count: int) -> None:
    """Raise LimitReached if `count` more function calls would be too many. Called before they begin."""
    if limits.tool_calls is not None and spent.tool_calls + count > limits.tool_calls:
        raise _reached("tool_calls", f"{limits.tool_calls} function calls", spent, limits, count)


def _reached(limit: str, words: str, spent: Spent, limits: Limits, count: int = 0) -> LimitReached:
    used, allowed = getattr(spent, limit), getattr(limits, limit)
    short = max(used + count - allowed, 0)
    return LimitReached(limit, f"It reached its limit of {words}.", used=used, allowed=allowed, short=short)
