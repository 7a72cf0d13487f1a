"""What happened in tasks, told once it is on record: for metrics, and for handlers of the site's owner.

Nothing is told of words while they stream, and nothing that was said: only what kind of thing happened, and its
numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from uuid import UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskEvent:
    """`agent` is its name. `is_personal`: a person made it for themselves, and chose what its model is called."""

    task_id: UUID
    user_id: int
    agent: str
    is_personal: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskBegun(TaskEvent):
    """A worker took it up for the first time, `waited` seconds after its turn had come."""

    waited: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelAsked(TaskEvent):
    """A model was asked, and that is over. `outcome` is "done", "interrupted" or a kind of LLMError. `cost` in US
    dollars; None is what nobody knows. `first_token` in seconds, where words came."""

    provider: str
    model: str
    outcome: str
    input_tokens: int
    output_tokens: int
    cost: Decimal | None
    first_token: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionCalled(TaskEvent):
    """`outcome` is "done", "cached", "failed", or "unknown" where it may have run."""

    name: str
    outcome: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskEnded(TaskEvent):
    """`status` is "done", "stopped", "failed" or "needs_attention"; `reason` says why it was not done."""

    status: str
    reason: str
