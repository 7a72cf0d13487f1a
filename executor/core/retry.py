"""The one retry policy for language models.

A question whose failure may pass (`LLMError.retryable`) is asked again at once, a few times. What a person has read of
the answer by then is not taken back: `ModelRetried.begun` says that the next attempt visibly replaces it. An answer
that its provider keeps is not asked for again: it is fetched, and goes on where it broke off. Waits double
from half a second with full jitter, so that many tasks that failed together do not come back together; a provider's
`Retry-After` takes their place.

Where that is not enough, a provider that asks to slow down is given more time (`postponement`), in which nobody sleeps,
or another model takes over (`FALLS_BACK`). Both are the caller's to do.
"""

from __future__ import annotations

import asyncio
import random as random_module
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Any

from executor.core.errors import RETRYABLE, LLMError
from executor.core.events import Failed, ModelEvent, ModelRetried, ReasoningDelta, Started, TextDelta
from executor.core.llms.base import BaseLlm
from executor.core.llms.parameters import MAX_TOKENS
from executor.core.messages import Message, ToolSpec

FIRST_DELAY = 0.5
LONGEST_DELAY = 20.0

#: Failures that are put off, and how long: in seconds, the first time, and at the most.
POSTPONED = frozenset({"rate_limit", "overloaded"})
FIRST_POSTPONEMENT = 30.0
LONGEST_POSTPONEMENT = 3600.0
#: … and how often in a row.
MAX_POSTPONEMENTS = 5

#: Failures of a provider, and of nothing else: another one may well answer the same question.
FALLS_BACK = RETRYABLE | {"auth", "permission", "not_found", "quota", "no_key"}


async def stream_with_retry(
    llm: BaseLlm,
    messages: Sequence[Message],
    tools: Sequence[ToolSpec] = (),
    *,
    kept: str = "",
    longest: Callable[[], int | None] = lambda: None,
    attempts: int = 3,
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    random: Callable[[], float] = random_module.random,
    **parameters: Any,
) -> AsyncGenerator[ModelEvent | ModelRetried, None]:
    """`llm.stream`, with `ModelRetried` between an attempt that failed and the next. With `kept`, the question was
    asked before: the response with this id is fetched, and the question asked again only where that is gone. `longest`
    says before each attempt how many tokens its answer may have; None: as the parameters say.

    Ends with exactly one `Finished` or `Failed`, whose error counts the `attempts` made. `sleep` takes seconds,
    `random` gives a number from 0 up to 1. Each attempt has its own `Started`, and tells only its own usage.
    """
    seen = _Seen(bool(kept))
    for attempt in range(1, attempts + 1):
        retry: ModelRetried | None = None
        if (at_most := longest()) is not None:
            parameters[MAX_TOKENS.name] = at_most
        asking = llm.resume(kept, **parameters) if kept else llm.stream(messages, tools, **parameters)
        async with aclosing(asking) as events:
            async for event in events:
                if isinstance(event, Failed):
                    event.error.attempts = attempt
                    if event.error.retryable and attempt < attempts:
                        delay = _delay(event.error, attempt, random)
                        if delay <= LONGEST_DELAY:
                            kept = event.kept
                            begun = not kept and (seen.anything or event.usage.total_tokens > 0)
                            retry = ModelRetried(event.error, attempt, delay, begun, event.usage)
                            break
                        _say_when(event.error, delay)
                if new := seen.new(event):
                    yield new
        if retry is None:
            return
        yield retry
        await sleep(retry.delay)
        seen = seen.again() if kept else _Seen()


class _Seen:
    """What was told of one answer, of which an attempt that fetches it tells the beginning `again`. It is `accepted` if
    it has to be paid for even where nothing was told."""

    def __init__(self, accepted: bool = False) -> None:
        self.anything = accepted
        self._told: Counter[type] = Counter()  # Characters of text, and of reasoning.
        self._known: Counter[type] = Counter()

    def again(self) -> _Seen:
        seen = _Seen(True)
        seen._told, seen._known = self._told, self._told.copy()
        return seen

    def new(self, event: ModelEvent) -> ModelEvent | None:
        """What is new in `event`."""
        match event:
            case TextDelta(text) | ReasoningDelta(text):
                kind = type(event)
                rest = text[self._known[kind] :]
                self._known[kind] -= len(text) - len(rest)
                self._told[kind] += len(rest)
                self.anything = True
                return kind(rest) if rest else None
            case Started():
                self.anything |= event.is_kept
            case _:
                self.anything = True
        return event


def postponement(error: LLMError, before: int, random: Callable[[], float] = random_module.random) -> float | None:
    """Seconds after which a question that failed with `error` may be asked again, None if a person has to decide.

    `before`: how often it was put off already. Never sooner than the provider wants.
    """
    if error.kind not in POSTPONED or before >= MAX_POSTPONEMENTS:
        return None
    if error.retry_after is None or error.retry_after <= LONGEST_DELAY:  # Quick attempts did not help.
        wait = FIRST_POSTPONEMENT * float(2**before)
    elif error.retry_after <= LONGEST_POSTPONEMENT:
        wait = error.retry_after
    else:
        return None
    return wait * (1 + random() / 10)


def _delay(error: LLMError, attempt: int, random: Callable[[], float]) -> float:
    if error.retry_after is not None:
        return error.retry_after
    longest: float = min(LONGEST_DELAY, FIRST_DELAY * 2 ** (attempt - 1))
    return random() * longest


def _say_when(error: LLMError, delay: float) -> None:
    wait = f"{delay:.0f} seconds" if delay < 120 else f"{delay / 60:.0f} minutes"
    if delay >= 7200:
        wait = f"{delay / 3600:.0f} hours"
    error.hint = f"The provider asks to wait {wait}. Try again then, or choose another agent."
