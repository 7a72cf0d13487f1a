"""The one retry policy for language models.

A question is asked again when its failure may pass (`LLMError.retryable`) and nothing of the answer was shown yet: what
a person has read is never taken back. Waits double from half a second with full jitter, so that many tasks that failed
together do not come back together; a provider's `Retry-After` takes their place.
"""

from __future__ import annotations

import asyncio
import random as random_module
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from executor.core.errors import LLMError
from executor.core.events import Failed, ModelEvent, ModelRetried, Started
from executor.core.llms.base import BaseLlm
from executor.core.messages import Message, ToolSpec

FIRST_DELAY = 0.5
LONGEST_DELAY = 20.0


async def stream_with_retry(
    llm: BaseLlm,
    messages: Sequence[Message],
    tools: Sequence[ToolSpec] = (),
    *,
    attempts: int = 3,
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    random: Callable[[], float] = random_module.random,
    **parameters: Any,
) -> AsyncGenerator[ModelEvent | ModelRetried, None]:
    """`llm.stream`, with `ModelRetried` between an attempt that failed and the next.

    Ends with exactly one `Finished` or `Failed`, whose error counts the `attempts` made. `sleep` takes seconds,
    `random` gives a number from 0 up to 1. Each attempt has its own `Started`.
    """
    for attempt in range(1, attempts + 1):
        shown = False
        retry: ModelRetried | None = None
        async with aclosing(llm.stream(messages, tools, **parameters)) as events:
            async for event in events:
                if isinstance(event, Failed):
                    event.error.attempts = attempt
                    if event.error.retryable and not shown and attempt < attempts:
                        delay = _delay(event.error, attempt, random)
                        if delay <= LONGEST_DELAY:
                            retry = ModelRetried(event.error, attempt, delay)
                            break
                        event = replace(event, error=_too_long(event.error, delay))
                elif not isinstance(event, Started):
                    shown = True
                yield event
        if retry is None:
            return
        yield retry
        await sleep(retry.delay)


def _delay(error: LLMError, attempt: int, random: Callable[[], float]) -> float:
    if error.retry_after is not None:
        return error.retry_after
    longest: float = min(LONGEST_DELAY, FIRST_DELAY * 2 ** (attempt - 1))
    return random() * longest


def _too_long(error: LLMError, delay: float) -> LLMError:
    wait = f"{delay:.0f} seconds" if delay < 120 else f"{delay / 60:.0f} minutes"
    return LLMError(
        error.kind,
        f"{error.message.rstrip('.')}. The provider asks to wait {wait} before the next try.",
        status=error.status,
        retry_after=error.retry_after,
        request_id=error.request_id,
        partial=error.partial,
        attempts=error.attempts,
    )
