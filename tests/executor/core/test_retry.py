"""The retry policy: when, how long, and when not."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Any, ClassVar

import pytest

from executor.core.errors import LLM_ERROR_KINDS, RETRYABLE, LLMError, LLMErrorKind
from executor.core.events import (
    Failed,
    Finished,
    ModelEvent,
    ModelRetried,
    ReasoningDelta,
    Started,
    TextDelta,
    ToolCallStarted,
)
from executor.core.llms._http import close_http_client
from executor.core.llms.base import BaseLlm, Endpoint
from executor.core.llms.openai_compatible import OpenAiCompatible
from executor.core.messages import Message, ToolSpec, Usage, assistant, user
from executor.core.retry import postponement, stream_with_retry
from tests.fakes.model_server import ModelServer
from tests.fakes.script import Turn

ANSWER: list[ModelEvent] = [Started(), TextDelta("Hello."), Finished(assistant("Hello."), "stop")]


class Scripted(BaseLlm):
    """Streams one list of events per attempt; an attempt too many is a failure of the test."""

    type: ClassVar[str] = "scripted"

    def __init__(self, *attempts: list[ModelEvent]) -> None:
        super().__init__(Endpoint("scripted"))
        self.attempts = list(attempts)
        self.closed = 0

    async def stream(
        self, messages: Sequence[Message], tools: Sequence[ToolSpec] = (), **parameters: Any
    ) -> AsyncGenerator[ModelEvent, None]:
        try:
            for event in self.attempts.pop(0):
                yield event
        finally:
            self.closed += 1


def failure(kind: LLMErrorKind = "overloaded", retry_after: float | None = None) -> list[ModelEvent]:
    return [Failed(LLMError(kind, "Not now.", retry_after=retry_after))]


async def run(llm: BaseLlm, *, random: float = 1.0, **options: Any) -> tuple[list[Any], list[float]]:
    """The events, and the seconds waited between the attempts."""
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    stream = stream_with_retry(llm, [user("Hi")], sleep=sleep, random=lambda: random, **options)
    return [event async for event in stream], waits


async def test_an_answer_at_the_first_attempt_is_passed_on_unchanged() -> None:
    assert await run(Scripted(ANSWER)) == (ANSWER, [])


async def test_a_failure_that_may_pass_is_tried_again_and_announced_before_the_wait() -> None:
    events, waits = await run(Scripted(failure(), failure(), ANSWER))
    assert [(e.attempt, e.delay) for e in events if isinstance(e, ModelRetried)] == [(1, 0.5), (2, 1.0)]
    assert waits == [0.5, 1.0]
    assert events[-1] == ANSWER[-1]


async def test_the_last_failure_is_reported_with_the_number_of_attempts() -> None:
    llm = Scripted(failure(), failure(), failure())
    events, _ = await run(llm)
    assert isinstance(events[-1], Failed)
    assert events[-1].error.attempts == 3
    assert [type(e) for e in events] == [ModelRetried, ModelRetried, Failed]
    assert llm.closed == 3


@pytest.mark.parametrize("kind", LLM_ERROR_KINDS)
async def test_only_kinds_that_may_pass_are_tried_again(kind: LLMErrorKind) -> None:
    events, _ = await run(Scripted(failure(kind), ANSWER))
    assert isinstance(events[-1], Finished if kind in RETRYABLE else Failed)


@pytest.mark.parametrize("shown", [TextDelta("He"), ReasoningDelta("Hm"), ToolCallStarted(0, "1", "look_up")])
async def test_what_failed_once_something_was_shown_is_tried_again_and_said_to_have_begun(shown: ModelEvent) -> None:
    events, waits = await run(Scripted([Started(), shown, *failure()], ANSWER))
    assert events[:2] == [Started(), shown]
    assert [event.begun for event in events if isinstance(event, ModelRetried)] == [True]
    assert events[3:] == ANSWER
    assert waits == [0.5]


async def test_what_has_to_be_paid_for_has_begun_also_if_nothing_of_it_was_shown() -> None:
    paid = Failed(LLMError("overloaded", "Not now."), usage=Usage(10, 0))
    events, _ = await run(Scripted([Started(), paid], failure(), ANSWER))
    retried = [event for event in events if isinstance(event, ModelRetried)]
    assert [(event.begun, event.usage) for event in retried] == [(True, Usage(10, 0)), (False, Usage())]


async def test_an_answer_that_breaks_off_is_replaced_twice_and_not_more_often() -> None:
    broken: list[ModelEvent] = [Started(), TextDelta("He"), *failure("connection")]
    llm = Scripted(broken, broken, broken, ANSWER)
    events, _ = await run(llm)
    assert [type(event) for event in events if not isinstance(event, Started | TextDelta)] == [
        *(ModelRetried, ModelRetried, Failed)
    ]
    assert llm.closed == 3


@pytest.mark.parametrize("kind", LLM_ERROR_KINDS)
def test_only_a_provider_that_asks_to_slow_down_is_given_more_time(kind: LLMErrorKind) -> None:
    wait = postponement(LLMError(kind, "Not now.", retry_after=30), 0, lambda: 0)
    assert wait == (30 if kind in ("rate_limit", "overloaded") else None)


@pytest.mark.parametrize(
    ("retry_after", "before", "wait"),
    [
        *((None, 0, 30), (None, 1, 60), (5, 2, 120), (None, 4, 480)),  # Quick attempts did not help.
        *((21, 0, 21), (90, 3, 90), (3600, 0, 3600)),
        *((3601, 0, None), (30, 5, None), (None, 5, None)),
    ],
)
def test_it_is_put_off_as_long_as_the_provider_wants_up_to_an_hour_and_five_times(
    retry_after: float | None, before: int, wait: float | None
) -> None:
    error = LLMError("rate_limit", "Not now.", retry_after=retry_after)
    assert postponement(error, before, lambda: 0) == wait
    if wait is not None:  # So that those who were refused together do not come back together.
        assert postponement(error, before, lambda: 1) == pytest.approx(wait * 1.1)


async def test_a_stream_that_only_started_is_tried_again() -> None:
    events, _ = await run(Scripted([Started(), *failure("protocol")], ANSWER))
    assert isinstance(events[-1], Finished)


@pytest.mark.parametrize(("random", "waits"), [(0.0, [0.0, 0.0, 0.0]), (0.5, [0.25, 0.5, 1.0])])
async def test_waits_have_full_jitter(random: float, waits: list[float]) -> None:
    llm = Scripted(failure(), failure(), failure(), ANSWER)
    assert (await run(llm, random=random, attempts=4))[1] == waits


async def test_waits_are_capped_at_twenty_seconds() -> None:
    llm = Scripted(*[failure() for _ in range(9)], ANSWER)
    assert (await run(llm, attempts=10))[1] == [0.5, 1, 2, 4, 8, 16, 20, 20, 20]


async def test_what_the_provider_asks_to_wait_takes_the_place_of_our_own_wait() -> None:
    assert (await run(Scripted(failure("rate_limit", 7.5), ANSWER), random=0.1))[1] == [7.5]


async def test_a_wait_that_is_too_long_fails_at_once_and_says_so() -> None:
    events, waits = await run(Scripted(failure("rate_limit", 90.0), ANSWER))
    assert waits == []
    assert isinstance(events[-1], Failed)
    error = events[-1].error
    assert error.message == "Not now."
    assert error.hint == "The provider asks to wait 90 seconds. Try again then, or choose another agent."
    assert (error.kind, error.retry_after, error.attempts) == ("rate_limit", 90.0, 1)


@pytest.mark.parametrize(("delay", "words"), [(119, "119 seconds"), (180, "3 minutes"), (10800, "3 hours")])
async def test_how_long_to_wait_is_said_once_and_nothing_else_contradicts_it(delay: float, words: str) -> None:
    (event,), _ = await run(Scripted(failure("rate_limit", delay)))
    assert isinstance(event, Failed)
    assert event.error.hint == f"The provider asks to wait {words}. Try again then, or choose another agent."
    assert "moment" not in event.error.message + event.error.hint


async def test_closing_the_retried_stream_closes_the_model_stream() -> None:
    llm = Scripted(ANSWER)
    events = stream_with_retry(llm, [user("Hi")])
    await anext(events)
    await events.aclose()
    assert llm.closed == 1


async def test_a_real_server_that_is_busy_once_is_asked_again_after_its_retry_after(model_server: ModelServer) -> None:
    model_server.script([Turn(fault="429", retry_after="3"), Turn(text="Now.")])
    llm = OpenAiCompatible(Endpoint("any", model_server.base_url, "key"))
    events, waits = await run(llm)
    await close_http_client()
    assert waits == [3.0]
    assert events[-1].message.text == "Now."
