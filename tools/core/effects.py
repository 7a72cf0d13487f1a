"""What is known of a call that was interrupted: by the check of a verifiable function, or by the function itself."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Done:
    """It had its effect; `result` is what the call returns."""

    result: Any = None


@dataclass(frozen=True)
class NotDone:
    """It had no effect, so it may be run."""


@dataclass(frozen=True)
class Unclear:
    """Nobody can tell. It is treated as an unsafe one: `reason`, a sentence, is told to the person."""

    reason: str = ""


class MayHaveRun(Exception):
    """Raised by a function that was cut off from what it asked: it cannot tell whether that had its effect. The message
    is a sentence. An unsafe call is treated as one that was interrupted."""


Verdict = Done | NotDone | Unclear
#: From the arguments of a call, by name, and its idempotency key to what became of it.
Verify = Callable[[dict[str, Any], str], Verdict | Awaitable[Verdict]]
