"""The agent loop.

It picks up whatever the transcript says is next: calls without a result are run, otherwise the model is asked, until it
answers without calling. It keeps no state of its own, so going on after a crash, a stop or a wait is never a special
case: the caller gives it the transcript as far as it got.

The caller owns time and truth. It writes each event down before it asks for the next one; `ToolsStarted` in particular
is on record before anything of those calls has happened.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Any, Protocol

from executor.core.errors import LLMError
from executor.core.events import (
    Failed,
    Finished,
    LoopEvent,
    ModelAsked,
    ModelRetried,
    PersonAsked,
    ToolFinished,
    ToolsStarted,
)
from executor.core.guard import Guard
from executor.core.limits import Limits, Spent, check, check_calls
from executor.core.llms.base import BaseLlm
from executor.core.llms.parameters import RESPONSE_SCHEMA
from executor.core.messages import Message, ToolCall, ToolSpec, tool, unanswered
from executor.core.retry import stream_with_retry
from executor.core.validation import answer_problems, given_up, with_corrections

#: Seconds that a cancelled call gets to clean up.
LET_GO_WITHIN = 1.0


class Tools(Protocol):
    """What the loop needs of a set of functions."""

    @property
    def specs(self) -> Sequence[ToolSpec]: ...

    def must_wait(self, call: ToolCall) -> bool:
        """Whether somebody has to decide something before this call can have a result."""

    async def run(self, call: ToolCall) -> ToolFinished:
        """Run one call. A failure is an answer for the model, never an exception."""


async def solve(
    llm: BaseLlm,
    tools: Tools,
    transcript: Sequence[Message],
    limits: Limits,
    spent: Spent,
    schema: dict[str, Any] | None = None,
    kept: str = "",
    fit: Callable[[Sequence[Message]], Sequence[Message]] | None = None,
) -> AsyncGenerator[LoopEvent, None]:
    """Run the loop; the last event is a `Finished` without calls, or there is none where the transcript ends with such
    an answer. It also ends where nothing can be done until a person has decided something: `PersonAsked` and open
    `ToolFinished` say what. `spent` is counted up in place.

    With a `schema` (JSON Schema) an answer counts only if it fits. If it does not, the model is told why. `kept` is the
    response to the first question if that was asked before and the provider keeps it (`BaseLlm.resume`).
    `fit` says what of the transcript a question has that is yet to be asked; what it raises ends the loop.

    Raises LLMError when the model does not answer, ResponseInvalid when it does not come up with an answer that fits,
    LimitReached before a question or calls that would be too many, and GoingInCircles.
    """
    transcript, guard = list(transcript), Guard()
    demanded: dict[str, Any] = {RESPONSE_SCHEMA: schema} if schema else {}
    while not _answered(transcript, schema):
        if calls := unanswered(transcript):
            held = tuple(call for call in calls if tools.must_wait(call))
            ready = tuple(call for call in calls if call not in held)
            if held:
                yield PersonAsked(held)
            is_open = bool(held)
            if ready:
                check_calls(limits, spent, len(ready))
                yield ToolsStarted(ready)
                async with aclosing(_run_all(tools, ready)) as finished:
                    async for done in finished:
                        is_open |= done.is_open
                        transcript.append(tool(done.result))
                        spent.tool_calls += 1
                        yield done
            if is_open:
                return
        guard.look(transcript)
        check(limits, spent)
        answered = False
        question = guard.steer(with_corrections(transcript, schema) if schema else transcript)
        if fit is not None and not kept:
            question = fit(question)
        yield ModelAsked(question)
        asking = stream_with_retry(
            llm, question, tools.specs, kept=kept, longest=lambda: spent.longest_answer, **demanded
        )
        async with aclosing(asking) as events:
            async for event in events:
                if isinstance(event, Failed | ModelRetried):
                    spent.tokens += event.usage.total_tokens
                if isinstance(event, Failed):
                    yield event
                    raise event.error
                if isinstance(event, Finished):
                    answered = True
                    transcript.append(event.message)
                    spent.iterations += 1
                    spent.tokens += event.usage.total_tokens
                yield event
        kept = ""
        if not answered:
            raise LLMError("protocol", "The model's stream ended without an answer.")


def _answered(transcript: Sequence[Message], schema: dict[str, Any] | None) -> bool:
    """Whether the last word is an answer that asks for nothing. Whoever wrote that down may have died right after.

    Raises ResponseInvalid if it does not fit, and the model was corrected often enough.
    """
    if not transcript or transcript[-1].role != "assistant" or transcript[-1].tool_calls:
        return False
    if schema and answer_problems(transcript[-1].text, schema):
        if failure := given_up(transcript, schema):
            raise failure
        return False
    return True


async def _run_all(tools: Tools, calls: Sequence[ToolCall]) -> AsyncGenerator[ToolFinished, None]:
    """Run independent calls side by side and yield each as it ends. Closing the generator cancels what still runs, and
    does not wait for long for one that will not be cancelled."""
    running = {asyncio.create_task(tools.run(call), name=f"call {call.name}") for call in calls}
    try:
        while running:
            done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                yield task.result()
    finally:
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running, timeout=LET_GO_WITHIN)
