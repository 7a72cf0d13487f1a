"""What a task may use up before it has to stop and say so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from executor.core.errors import LimitReached


@dataclass(frozen=True, slots=True)
class Limits:
    """`iterations` counts questions to the model; None is unlimited.

    `seconds` is wall clock from the first start of the task. It is the caller's to enforce: the core has no clock.
    """

    iterations: int = 5
    seconds: float | None = 1800
    tokens: int | None = None
    tool_calls: int | None = 200

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Limits:
        return cls(**{name: data[name] for name in cls.__slots__ if name in data})


@dataclass(slots=True)
class Spent:
    """What a task has used up so far. Counted from its rows, so a restart does not reset it."""

    iterations: int = 0
    tokens: int = 0
    tool_calls: int = 0

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Spent:
        """What was written by newer or older code, as far as it is known here."""
        return cls(**{name: data[name] for name in cls.__slots__ if name in data})


def check(limits: Limits, spent: Spent) -> None:
    """Raise LimitReached if another question to the model would be one too many. Called before each."""
    if spent.iterations >= limits.iterations:
        raise LimitReached("iterations", f"It reached its limit of {limits.iterations} rounds with the model.")
    if limits.tokens is not None and spent.tokens >= limits.tokens:
        raise LimitReached("tokens", f"It reached its limit of {limits.tokens:,} tokens.")


def check_calls(limits: Limits, spent: Spent, count: int) -> None:
    """Raise LimitReached if `count` more function calls would be too many. Called before they begin."""
    if limits.tool_calls is not None and spent.tool_calls + count > limits.tool_calls:
        raise LimitReached("tool_calls", f"It reached its limit of {limits.tool_calls} function calls.")
