"""Responses that OpenAI keeps: asked for once, fetched as often as it takes."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

import pytest

from executor.core.events import (
    Failed,
    Finished,
    ModelEvent,
    ModelRetried,
    ReasoningDelta,
    Started,
    TextDelta,
    ToolCallComplete,
)
from executor.core.llms._gpt_answer import GptAnswer
from executor.core.llms.base import Endpoint
from executor.core.llms.gpt import Gpt
from executor.core.llms.openai_compatible import OpenAiCompatible
from executor.core.messages import ToolResult, tool, user
from executor.core.retry import stream_with_retry
from tests.executor.core.contract import LOOK_UP, WireContract, ask, failed, finished, text_of
from tests.fakes.kept_responses import Kept
from tests.fakes.model_server import ModelServer
from tests.fakes.script import Call, Turn

pytestmark = pytest.mark.usefixtures("closed_connections")

WORDS = "One two three four five six seven eight."


@pytest.fixture
def llm(model_server: ModelServer) -> Gpt:
    return keeping(model_server)


def keeping(server: ModelServer, key: str = "sk-alice", **parameters: Any) -> Gpt:
    return Gpt(Endpoint("gpt-test", server.base_url, key), keep_response=True, **parameters)


class TestContract(WireContract):
    """It is a model like any other."""


async def told(llm: Gpt, kept: str = "") -> list[ModelEvent | ModelRetried]:
    """All that a person is told of one answer, whatever happens to the connection."""

    async def at_once(_: float) -> None: ...

    asking = stream_with_retry(llm, [user("Hi")], [LOOK_UP], kept=kept, sleep=at_once)
    return [event async for event in asking]


async def broken_off(llm: Gpt) -> str:
    """Ask, and listen to nothing but the beginning. Returns the response's id."""
    async with aclosing(llm.stream([user("Hi")], [LOOK_UP])) as events:
        async for event in events:
            if isinstance(event, Started):
                assert event.is_kept
                return event.response_id
    raise AssertionError("It did not even begin.")


def retries(events: list[ModelEvent | ModelRetried]) -> list[tuple[str, bool]]:
    return [(event.error.kind, event.begun) for event in events if isinstance(event, ModelRetried)]


def only_kept(server: ModelServer) -> Kept:
    (kept,) = server.kept.by_id.values()
    return kept


# --- what is kept ----------------------------------------------------------------------------------------------------


async def test_a_response_is_kept_where_the_agent_wants_that_and_stored_in_no_case(
    llm: Gpt, model_server: ModelServer
) -> None:
    plain = Gpt(Endpoint("gpt-test", model_server.base_url, "sk-alice"))
    model_server.script([Turn(text=WORDS)] * 2)
    began = [event for model in (llm, plain) for event in await ask(model, "Hi") if isinstance(event, Started)]
    assert [event.is_kept for event in began] == [True, False]
    bodies = [request.body for request in model_server.asked]
    assert [(body["store"], body.get("background")) for body in bodies] == [(False, True), (False, None)]
    assert list(model_server.kept.by_id) == [began[0].response_id]


async def test_a_server_that_keeps_nothing_is_asked_all_the_same(llm: Gpt, model_server: ModelServer) -> None:
    turn = Turn(text=WORDS, quirks=frozenset({"rejects_background"}))
    model_server.script([turn, turn])
    for requests in (2, 3):  # It is tried once.
        events = await ask(llm, "Hi")
        assert finished(events).message.text == WORDS
        assert [event.is_kept for event in events if isinstance(event, Started)] == [False]
        assert len(model_server.asked) == requests


@pytest.mark.parametrize("id_", ["../models", "resp_1/cancel", "resp_1?x=1", "r" * 121, ""])
def test_what_cannot_be_a_part_of_an_address_is_not_fetched(id_: str) -> None:
    (started,) = GptAnswer().feed({"type": "response.created", "response": {"id": id_, "background": True}})
    assert isinstance(started, Started)
    assert not started.is_kept


# --- fetching --------------------------------------------------------------------------------------------------------


async def test_a_fetched_answer_is_the_one_that_was_asked_for(llm: Gpt, model_server: ModelServer) -> None:
    turn = Turn(reasoning="Let me see.\n\nYes.", text=WORDS, calls=(Call("look_up", {"word": "a"}),))
    model_server.script([turn])
    asked = await ask(llm, "Hi", [LOOK_UP])
    end = finished(asked)
    fetched = [event async for event in llm.resume(end.response_id)]
    again = finished(fetched)
    assert text_of(fetched) == text_of(asked) == WORDS
    assert [e for e in fetched if isinstance(e, ReasoningDelta)] == [e for e in asked if isinstance(e, ReasoningDelta)]
    assert (again.reason, again.usage, again.response_id) == (end.reason, end.usage, end.response_id)
    assert [call.arguments for call in again.message.tool_calls] == [{"word": "a"}]
    assert len(model_server.asked) == 1
    # It goes back as the model said it, with its reasoning, which the server insists on.
    assert again.message.native
    assert "encrypted_content" in str(again.message.native.items)
    model_server.script([Turn(text="Good.")])
    (call,) = again.message.tool_calls
    next_question = [user("Hi"), again.message, tool(ToolResult(call.id, call.name, "1"))]
    assert finished(await ask(llm, next_question, [LOOK_UP])).message.text == "Good."


async def test_it_goes_on_while_nobody_listens_and_is_told_as_it_comes(llm: Gpt, model_server: ModelServer) -> None:
    model_server.script([Turn(text=WORDS, first_token=0.1, rate=40)])
    id_ = await broken_off(llm)
    events = [event async for event in llm.resume(id_)]
    assert text_of(events) == WORDS
    assert len([event for event in events if isinstance(event, TextDelta)]) == 8
    assert len(model_server.asked) == 1


async def test_a_model_that_does_not_reason_is_fetched_too(llm: Gpt, model_server: ModelServer) -> None:
    model_server.script([Turn(text=WORDS, quirks=frozenset({"rejects_include"}))])
    id_ = await broken_off(llm)
    another = keeping(model_server)  # Which does not know yet.
    assert text_of([event async for event in another.resume(id_)]) == WORDS


async def test_an_old_response_is_waited_for_and_told_as_a_whole(llm: Gpt, model_server: ModelServer) -> None:
    model_server.script([Turn(reasoning="Hm.", text=WORDS, rate=5)])
    model_server.kept.streamed_for = 0.0
    id_ = await broken_off(llm)
    events = [event async for event in llm.resume(id_)]
    assert text_of(events) == WORDS
    assert finished(events).usage.output_tokens == 9
    assert only_kept(model_server).fetched >= 2


async def test_an_old_response_that_does_not_end_is_given_up_as_a_silent_one_is(model_server: ModelServer) -> None:
    llm = keeping(model_server, idle_timeout=0.1)
    model_server.script([Turn(text=WORDS, rate=1)])
    model_server.kept.streamed_for = 0.0
    id_ = await broken_off(llm)
    failure = failed([event async for event in llm.resume(id_)])
    assert (failure.error.kind, failure.kept) == ("timeout", id_)


@pytest.mark.parametrize("why", ["expired", "another key", "never heard of it"])
async def test_what_is_gone_is_said_to_be_gone(llm: Gpt, model_server: ModelServer, why: str) -> None:
    model_server.script([Turn(text=WORDS)])
    id_ = await broken_off(llm)
    if why == "expired":
        model_server.kept.kept_for = 0.0
    asking = keeping(model_server, "sk-bob") if why == "another key" else llm
    failure = failed([event async for event in asking.resume("resp_0" if why == "never heard of it" else id_)])
    assert (failure.error.kind, failure.kept) == ("expired", "")
    assert failure.error.retryable


async def test_a_model_whose_provider_keeps_nothing_has_nothing_to_fetch(model_server: ModelServer) -> None:
    llm = OpenAiCompatible(Endpoint("any", model_server.base_url, "key"))
    assert [event.error.kind async for event in llm.resume("resp_1") if isinstance(event, Failed)] == ["expired"]
    await llm.cancel("resp_1")
    assert model_server.requests == []


# --- a connection that breaks off ------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["drop", "clean_end", "half_frame", "stall"])
async def test_an_answer_goes_on_where_its_connection_broke_off(model_server: ModelServer, fault: Any) -> None:
    llm = keeping(model_server, idle_timeout=0.3)
    call = Call("look_up", {"word": "a"})
    model_server.script([Turn(reasoning="Let me see.", text=WORDS, calls=(call,), fault=fault, after=7)])
    events = await told(llm)
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == WORDS
    assert "".join(event.text for event in events if isinstance(event, ReasoningDelta)) == "Let me see."
    assert [begun for _, begun in retries(events)] == [False]
    assert len([event for event in events if isinstance(event, ToolCallComplete)]) == 1
    end = events[-1]
    assert isinstance(end, Finished)
    assert (end.message.text, end.usage.output_tokens) == (WORDS, 19)
    assert len(model_server.asked) == 1
    assert only_kept(model_server).fetched == 1


async def test_of_an_old_response_only_the_rest_is_told(llm: Gpt, model_server: ModelServer) -> None:
    model_server.script([Turn(reasoning="Let me see.", text=WORDS, fault="drop", after=7)])
    model_server.kept.streamed_for = 0.0
    events = await told(llm)
    pieces = [event.text for event in events if isinstance(event, TextDelta)]
    assert "".join(pieces) == WORDS
    assert len(pieces) > 1
    assert len(model_server.asked) == 1


async def test_a_response_that_is_gone_is_asked_for_anew_and_both_are_on_record(
    llm: Gpt, model_server: ModelServer
) -> None:
    model_server.script([Turn(text=WORDS, fault="drop", after=4), Turn(text="Once more.")])
    model_server.kept.kept_for = 0.0
    events = await told(llm)
    assert retries(events) == [("connection", False), ("expired", True)]
    assert isinstance(events[-1], Finished)
    after = events[[isinstance(event, ModelRetried) and event.begun for event in events].index(True) :]
    assert "".join(event.text for event in after if isinstance(event, TextDelta)) == "Once more."
    assert len(model_server.asked) == 2


async def test_a_response_that_failed_is_not_fetched_but_asked_for_anew(llm: Gpt, model_server: ModelServer) -> None:
    failing = Turn(text=WORDS, fault="error_event", after=4, quirks=frozenset({"failed_event"}))
    model_server.script([failing, Turn(text="Now.")])
    events = await told(llm)
    assert retries(events) == [("server", True)]
    assert [kept.fetched for kept in model_server.kept.by_id.values()] == [0, 0]


async def test_what_was_asked_before_is_fetched_first(llm: Gpt, model_server: ModelServer) -> None:
    model_server.script([Turn(text=WORDS)])
    id_ = await broken_off(llm)
    events = await told(llm, id_)
    assert (retries(events), len(model_server.asked)) == ([], 1)
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == WORDS


async def test_what_was_asked_before_and_is_gone_has_begun_and_is_asked_again(
    llm: Gpt, model_server: ModelServer
) -> None:
    model_server.script([Turn(text="Once more.")])
    events = await told(llm, "resp_0")
    assert retries(events) == [("expired", True)]
    assert isinstance(events[-1], Finished)


# --- ending it -------------------------------------------------------------------------------------------------------


async def test_a_response_that_nobody_waits_for_is_ended(llm: Gpt, model_server: ModelServer) -> None:
    model_server.script([Turn(text=WORDS, rate=2)])
    id_ = await broken_off(llm)
    assert not only_kept(model_server).cancelled
    await llm.cancel(id_)
    assert only_kept(model_server).cancelled
    failure = failed([event async for event in llm.resume(id_)])
    assert failure.kept == ""


async def test_who_cannot_be_reached_keeps_nobody_from_going_on() -> None:
    llm = Gpt(Endpoint("gpt-test", "http://127.0.0.1:9", "sk-alice"), keep_response=True)
    async with asyncio.timeout(5):
        await llm.cancel("resp_1")
