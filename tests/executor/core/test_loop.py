"""The agent loop, without anything around it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, suppress
from typing import ClassVar

import pytest

from executor.core.errors import LimitReached, LLMError
from executor.core.events import (
    Failed,
    Finished,
    LoopEvent,
    ModelAsked,
    ModelEvent,
    ModelRetried,
    ToolFinished,
    ToolsStarted,
)
from executor.core.limits import Limits, Spent
from executor.core.llms.base import BaseLlm
from executor.core.loop import solve
from executor.core.messages import Message, ToolCall, ToolResult, ToolSpec, Usage, assistant, tool, user
from executor.core.validation import CORRECTIONS, ResponseInvalid
from tests.executor.conftest import MakeScript
from tests.executor.scripted import Hold, call, say


class FakeTools:
    """Functions by name: `meet` waits until two of it run at once, `fail` fails, `wait` does not end, others answer."""

    specs: Sequence[ToolSpec] = (ToolSpec("look", "Look it up.", {"type": "object"}),)

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.cancelled: list[str] = []
        self.two_wait = asyncio.Event()
        self._both = asyncio.Barrier(2)
        self.held: set[str] = set()

    def must_wait(self, call: ToolCall) -> bool:
        return call.name in self.held

    async def run(self, call: ToolCall) -> ToolFinished:
        self.ran.append(call.name)
        try:
            if call.name == "meet":
                await self._both.wait()
            if call.name == "wait":
                if self.ran.count("wait") == 2:
                    self.two_wait.set()
                await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.append(call.name)
            raise
        failed = call.name == "fail"
        return ToolFinished(call, ToolResult(call.id, call.name, "It broke." if failed else "fine", failed))


async def run(
    llm: BaseLlm,
    tools: FakeTools,
    transcript: Sequence[Message],
    limits: Limits | None = None,
    spent: Spent | None = None,
) -> list[LoopEvent]:
    return [event async for event in solve(llm, tools, transcript, limits or Limits(), spent or Spent())]


def kinds(events: Sequence[LoopEvent]) -> list[str]:
    wanted = (ModelAsked, Finished, Failed, ToolsStarted, ToolFinished)
    return [type(event).__name__ for event in events if isinstance(event, wanted)]


async def test_it_asks_runs_what_was_asked_for_and_asks_again_until_no_call_comes(scripted: MakeScript) -> None:
    look = call("look")
    script = scripted(say("Let me see.", look), say("Here it is."))
    events = await run(script.llm(), FakeTools(), [user("What?")])
    assert kinds(events) == ["ModelAsked", "Finished", "ToolsStarted", "ToolFinished", "ModelAsked", "Finished"]
    first, second = script.asked
    assert first == (user("What?"),)
    assert second == (*first, assistant("Let me see.", look), tool(ToolResult(look.id, "look", "fine")))
    assert script.offered == [tuple(FakeTools.specs)] * 2


async def test_calls_without_a_result_are_run_before_anything_is_asked(scripted: MakeScript) -> None:
    first, second = call("look"), call("list")
    script = scripted(say("Done."))
    tools = FakeTools()
    before = [user("What?"), assistant("", first, second), tool(ToolResult(first.id, "look", "fine"))]
    events = await run(script.llm(), tools, before)
    assert kinds(events) == ["ToolsStarted", "ToolFinished", "ModelAsked", "Finished"]
    assert tools.ran == ["list"]


async def test_what_is_answered_already_is_not_asked_again(scripted: MakeScript) -> None:
    assert await run(scripted().llm(), FakeTools(), [user("What?"), assistant("That.")]) == []


async def test_a_call_that_will_not_be_cancelled_is_not_waited_for(scripted: MakeScript) -> None:
    class Stubborn(FakeTools):
        async def run(self, call: ToolCall) -> ToolFinished:
            self.ran.append(call.name)
            while not self.two_wait.is_set():
                with suppress(asyncio.CancelledError):
                    await self.two_wait.wait()
            return await super().run(call)

    tools = Stubborn()
    async with aclosing(solve(scripted(say(call("a"))).llm(), tools, [user("Go.")], Limits(), Spent())) as events:
        stepping = asyncio.create_task(_drain(events))
        while not tools.ran:  # noqa: ASYNC110
            await asyncio.sleep(0)
        stepping.cancel()
        async with asyncio.timeout(2):
            await asyncio.gather(stepping, return_exceptions=True)
    tools.two_wait.set()


async def _drain(events: AsyncIterator[LoopEvent]) -> None:
    async for _ in events:
        pass


async def test_calls_of_one_answer_run_side_by_side(scripted: MakeScript) -> None:
    script = scripted(say(call("meet"), call("meet")), say("Both met."))
    async with asyncio.timeout(5):
        await run(script.llm(), FakeTools(), [user("Meet.")])


async def test_a_result_is_told_as_soon_as_it_is_there(scripted: MakeScript) -> None:
    script = scripted(say(call("wait"), call("look")))
    tools = FakeTools()
    async with aclosing(solve(script.llm(), tools, [user("Go.")], Limits(), Spent())) as events:
        async for event in events:
            if isinstance(event, ToolFinished):
                assert event.call.name == "look"
                break
    assert tools.cancelled == ["wait"]


async def test_a_call_that_fails_is_an_answer_for_the_model(scripted: MakeScript) -> None:
    script = scripted(say(call("fail")), say("I could not."))
    await run(script.llm(), FakeTools(), [user("Try.")])
    (result,) = script.asked[1][-1].tool_results
    assert (result.content, result.is_error) == ("It broke.", True)


async def test_nothing_of_a_call_has_happened_when_it_is_announced(scripted: MakeScript) -> None:
    script = scripted(say(call("look")))
    tools = FakeTools()
    async with aclosing(solve(script.llm(), tools, [user("Go.")], Limits(), Spent())) as events:
        async for event in events:
            if isinstance(event, ToolsStarted):
                await asyncio.sleep(0)
                break
    assert tools.ran == []


@pytest.mark.parametrize(
    ("limits", "spent", "which"),
    [
        (Limits(iterations=2), Spent(iterations=2), "iterations"),
        (Limits(tokens=100), Spent(tokens=100), "tokens"),
    ],
)
async def test_a_limit_holds_before_the_model_is_asked(
    scripted: MakeScript, limits: Limits, spent: Spent, which: str
) -> None:
    with pytest.raises(LimitReached) as reached:
        await run(scripted().llm(), FakeTools(), [user("Go.")], limits, spent)
    assert reached.value.limit == which
    assert "limit" in reached.value.message


async def test_calls_beyond_the_limit_are_not_run_but_those_up_to_it_are_and_may_be_answered(
    scripted: MakeScript,
) -> None:
    limits = Limits(tool_calls=2)
    tools = FakeTools()
    await run(scripted(say(call("look"), call("look")), say("Two.")).llm(), tools, [user("Go.")], limits)
    assert tools.ran == ["look", "look"]
    tools = FakeTools()
    three = scripted(say(call("look"), call("look"), call("look")))
    with pytest.raises(LimitReached) as reached:
        await run(three.llm(), tools, [user("Go.")], limits)
    assert (reached.value.limit, tools.ran) == ("tool_calls", [])


async def test_it_counts_what_it_spends(scripted: MakeScript) -> None:
    spent = Spent(iterations=1)
    script = scripted(say(call("look"), call("fail"), usage=Usage(100, 5)), say("Done.", usage=Usage(200, 7)))
    await run(script.llm(), FakeTools(), [user("Go.")], spent=spent)
    assert spent == Spent(iterations=3, tokens=312, tool_calls=2)


async def test_closing_it_ends_the_models_stream(scripted: MakeScript) -> None:
    script = scripted(say("Once upon", Hold()))
    async with aclosing(solve(script.llm(), FakeTools(), [user("Tell.")], Limits(), Spent())) as events:
        async for event in events:
            if not isinstance(event, ModelAsked):
                assert script.open == 1
                break
    assert script.open == 0


async def test_cancelling_who_waits_for_it_cancels_running_calls_and_leaves_nothing_behind(
    scripted: MakeScript,
) -> None:
    script = scripted(say(call("wait"), call("wait")))
    tools = FakeTools()
    before = asyncio.all_tasks()
    running = asyncio.create_task(run(script.llm(), tools, [user("Go.")]))
    await tools.two_wait.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert tools.cancelled == ["wait", "wait"]
    assert asyncio.all_tasks() == before


async def test_a_failure_is_told_and_then_raised(scripted: MakeScript) -> None:
    script = scripted(say("I was about", LLMError("bad_request", "It broke.")))
    events: list[LoopEvent] = []
    try:
        async for event in solve(script.llm(), FakeTools(), [user("Go.")], Limits(), Spent()):
            events.append(event)  # noqa: PERF401
    except LLMError as error:
        raised = error
    assert isinstance(events[-1], Failed)
    assert events[-1].error is raised
    assert raised.kind == "bad_request"


async def test_what_failed_before_anything_was_shown_is_asked_again(scripted: MakeScript) -> None:
    soon = LLMError("rate_limit", "Slow down.", retry_after=0.01)
    script = scripted(say(soon), say("Now."))
    events = await run(script.llm(), FakeTools(), [user("Go.")])
    assert [event.delay for event in events if isinstance(event, ModelRetried)] == [0.01]
    assert kinds(events) == ["ModelAsked", "Finished"]


SCHEMA = {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}


async def test_an_answer_that_does_not_fit_is_corrected_until_it_does(scripted: MakeScript) -> None:
    script = scripted(say("Four."), say(call("look")), say('{"n": "4"}'), say('{"n": 4}'))
    transcript, spent = [user("2 + 2?")], Spent()
    events = [event async for event in solve(script.llm(), FakeTools(), transcript, Limits(), spent, SCHEMA)]
    assert [e.message.text for e in events if isinstance(e, Finished)] == ["Four.", "", '{"n": "4"}', '{"n": 4}']
    assert [message.role for message in script.asked[1]] == ["user", "assistant", "user"]
    assert "not JSON" in script.asked[1][-1].text
    assert "is not of type 'integer'" in script.asked[3][-1].text
    assert script.demanded == [SCHEMA] * 4
    assert spent.iterations == 4


async def test_what_fits_is_not_asked_again_and_what_does_not_is_asked_again_from_where_it_stood(
    scripted: MakeScript,
) -> None:
    fits = [user("2 + 2?"), assistant("Four."), assistant('{"n": 4}')]
    assert [e async for e in solve(scripted().llm(), FakeTools(), fits, Limits(), Spent(), SCHEMA)] == []
    script = scripted(say('{"n": 4}'))
    begun = solve(script.llm(), FakeTools(), fits[:2], Limits(), Spent(), SCHEMA)
    assert kinds([event async for event in begun]) == ["ModelAsked", "Finished"]
    assert "not JSON" in script.asked[0][-1].text


async def test_an_answer_that_never_fits_is_given_up(scripted: MakeScript) -> None:
    script = scripted(*(say(str(n)) for n in range(CORRECTIONS + 1)))
    with pytest.raises(ResponseInvalid):
        [event async for event in solve(script.llm(), FakeTools(), [user("2 + 2?")], Limits(), Spent(), SCHEMA)]


async def test_what_failed_attempts_used_counts_too(scripted: MakeScript) -> None:
    class Paid(BaseLlm):
        left: ClassVar[list[ModelEvent]] = [
            Failed(LLMError("server", "No."), usage=Usage(5, 1)),
            Finished(assistant("Yes."), "stop", Usage(5, 2)),
        ]

        async def stream(self, *_: object, **__: object) -> AsyncGenerator[ModelEvent, None]:
            yield self.left.pop(0)

    spent = Spent()
    await run(Paid(scripted().llm().endpoint), FakeTools(), [user("Go.")], spent=spent)
    assert (spent.tokens, spent.iterations) == (13, 1)


async def test_a_model_that_ends_without_an_answer_is_a_failure(scripted: MakeScript) -> None:
    class Silent(BaseLlm):
        async def stream(self, *_: object, **__: object):  # type: ignore[no-untyped-def]
            return
            yield

    with pytest.raises(LLMError) as raised:
        await run(Silent(scripted().llm().endpoint), FakeTools(), [user("Go.")])
    assert raised.value.kind == "protocol"
