"""What can go wrong, as a tree:

    TaskExecutionError
    ├── StepValidationError     a step was given, or gave, something that does not fit
    ├── StepFailed              a step's own code failed, or took too long
    ├── QuestionTooLong         a step asks its model more than that can read
    ├── LimitReached            the task used up what it was allowed
    │   └── GoingInCircles      … or does the same over and over again
    └── LLMError                a language model did not answer; `kind` says why

Every error carries a sentence that the person can act on.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

LLMErrorKind = Literal[
    "auth",
    "permission",
    "not_found",
    "rate_limit",
    "quota",
    "overloaded",
    "server",
    "timeout",
    "connection",
    "context_too_long",
    "too_large",
    "bad_request",
    "content_filter",
    "protocol",
    "expired",
]

LLM_ERROR_KINDS: tuple[LLMErrorKind, ...] = get_args(LLMErrorKind)
RETRYABLE: frozenset[LLMErrorKind] = frozenset(
    {"rate_limit", "overloaded", "server", "timeout", "connection", "protocol", "expired"}
)

_HINTS: dict[LLMErrorKind, str] = {
    "auth": "The key was not accepted. Ask an administrator to check the agent's key.",
    "permission": "The key may not use this model. Ask an administrator to choose another model or key.",
    "not_found": "The model or the address does not exist. Ask an administrator to check the agent's settings.",
    "rate_limit": "The provider asks to slow down. Try again in a moment.",
    "quota": "The provider's quota is used up. Add credit there or choose another agent.",
    "overloaded": "The provider is overloaded. Try again in a moment.",
    "server": "The provider had a fault of its own. Try again in a moment.",
    "timeout": "The model took too long to answer. Try again.",
    "connection": "Check that the model's server is running and can be reached, then try again.",
    "context_too_long": "The conversation is longer than the model can read. Start a new one.",
    "too_large": "The message is larger than the provider accepts. Send less at once.",
    "bad_request": "The provider did not accept the request. The details may help an administrator.",
    "content_filter": "The provider's content filter stopped the answer. Put it differently.",
    "protocol": "The model's server broke off or answered in a form that it should not. Try again.",
    "expired": "The answer was not kept any longer. Try again.",
}

# … and what it means once a part of the answer had come.
_PARTIAL_HINTS: dict[LLMErrorKind, str] = {
    "connection": "The connection broke off in the middle of the answer. Try again.",
    "timeout": "The model fell silent in the middle of the answer. Try again.",
}


class TaskExecutionError(Exception):
    """A task could not go on. `retryable` tells whether trying the same again makes sense.

    Of a declared task, `step_id` is the step that failed, after so many `step_attempts`.
    """

    kind: str = "task"
    retryable = False
    step_id: str = ""
    step_attempts: int = 0

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class StepValidationError(TaskExecutionError):
    kind = "validation"


class StepFailed(TaskExecutionError):
    kind = "step"


class QuestionTooLong(TaskExecutionError):
    """A handler that catches it can ask in smaller pieces."""

    kind = "question_too_long"

    def __init__(self, step: str) -> None:
        super().__init__(
            f"What the step “{step}” asks is more than its model can read.",
            hint="Give it less text, or choose an agent whose model reads more.",
        )


class LimitReached(TaskExecutionError):
    """`limit` names which one: "iterations", "seconds", "tokens", "cost", "tool_calls", and of a person's day
    "day_tokens" and "day_cost". `used` and `allowed` are in its unit; it takes more than `allowed + short` to go on."""

    kind = "limit"

    def __init__(self, limit: str, message: str, *, used: Any = None, allowed: Any = None, short: Any = 0) -> None:
        super().__init__(message)
        self.limit = limit
        self.used = used
        self.allowed = allowed
        self.short = short


class GoingInCircles(LimitReached):
    """No amount would help. The sentence says what was repeated."""

    kind = "loop"

    def __init__(self, message: str) -> None:
        super().__init__(self.kind, message)


class LLMError(TaskExecutionError):
    """A language model did not answer.

    `status` is the HTTP status (None when there was none), `retry_after` seconds to wait as the provider said,
    `partial` whether something of the answer had already been shown, `attempts` how often it was tried.
    """

    def __init__(
        self,
        kind: LLMErrorKind,
        message: str,
        *,
        status: int | None = None,
        retry_after: float | None = None,
        request_id: str = "",
        partial: bool = False,
        attempts: int = 1,
    ) -> None:
        super().__init__(message, hint=_HINTS[kind])
        self.kind: LLMErrorKind = kind
        self.status = status
        self.retry_after = retry_after
        self.request_id = request_id
        self.partial = False
        self.attempts = attempts
        if partial:
            self.mark_partial()

    def mark_partial(self) -> None:
        """Something of the answer had already been shown."""
        self.partial = True
        self.hint = _PARTIAL_HINTS.get(self.kind, self.hint)

    @property
    def retryable(self) -> bool:  # type: ignore[override]
        return self.kind in RETRYABLE


def expired() -> LLMError:
    """An answer cannot be fetched from its provider, so its question has to be asked again."""
    return LLMError("expired", "The provider does not keep the answer any more.")
