"""What every language model promises, written once. See `BaseLlm.stream`.

`LlmContract` holds for all of them; `WireContract` for those that ask a server, which is the fake one. A test module
subclasses it with a `Test…` class that provides the fixtures `llm` and, for `LlmContract`, `question`.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from executor.core.errors import LLMError
from executor.core.events import (
    Failed,
    Finished,
    ModelEvent,
    ReasoningDelta,
    Started,
    TextDelta,
    ToolCallComplete,
    ToolCallStarted,
)
from executor.core.llms._wire import GRACE
from executor.core.llms.base import BaseLlm
from executor.core.messages import Message, ToolResult, ToolSpec, tool, user
from tests.fakes.model_server import MODELS, ModelServer
from tests.fakes.script import Call, Turn

LOOK_UP = ToolSpec(
    "look_up",
    "Look a word up.",
    {"type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]},
)
TWO = (Call("look_up", {"word": "a"}), Call("look_up", {"word": "b"}))


async def ask(
    llm: BaseLlm, messages: Sequence[Message] | str, tools: Sequence[ToolSpec] = (), **parameters: Any
) -> list[ModelEvent]:
    """All events of one answer."""
    transcript = [user(messages)] if isinstance(messages, str) else messages
    return [event async for event in llm.stream(transcript, tools, **parameters)]


def finished(events: Sequence[ModelEvent]) -> Finished:
    assert isinstance(events[-1], Finished), events[-1]
    return events[-1]


def failed(events: Sequence[ModelEvent]) -> Failed:
    assert isinstance(events[-1], Failed), events[-1]
    return events[-1]


async def sent(llm: BaseLlm, server: ModelServer, *messages: Message, **more: Any) -> Any:
    """The body that the server gets, which it has found acceptable as it is."""
    before = len(server.asked)
    server.script([Turn(text="Good.")])
    finished(await ask(llm, messages, **more))
    (request,) = server.asked[before:]
    return request.body


def text_of(events: Sequence[ModelEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


class LlmContract:
    @pytest.fixture
    def question(self) -> Sequence[Message]:
        return [user("What can you do?")]

    async def test_a_stream_starts_once_and_ends_with_exactly_one_terminal_event(
        self, llm: BaseLlm, question: Sequence[Message]
    ) -> None:
        events = await ask(llm, question)
        assert [type(e) for e in events if isinstance(e, Started)] == [Started]
        assert isinstance(events[0], Started)
        assert [e for e in events if isinstance(e, Finished | Failed)] == events[-1:]

    async def test_the_message_says_what_was_streamed(self, llm: BaseLlm, question: Sequence[Message]) -> None:
        events = await ask(llm, question)
        end = finished(events)
        assert end.message.role == "assistant"
        assert end.message.text == text_of(events)
        assert end.message.text
        assert end.message.tool_calls == tuple(e.call for e in events if isinstance(e, ToolCallComplete))

    async def test_the_whole_answer_is_the_stream_drained(self, llm: BaseLlm, question: Sequence[Message]) -> None:
        whole = await llm.generate_content_async(question)
        assert whole.message.text == text_of(await ask(llm, question))

    async def test_a_stream_may_be_closed_early_and_the_model_asked_again(
        self, llm: BaseLlm, question: Sequence[Message]
    ) -> None:
        events = llm.stream(question)
        await anext(events)
        await events.aclose()
        await llm.aclose()
        assert finished(await ask(llm, question)).reason == "stop"


class WireContract(LlmContract):
    @pytest.fixture(autouse=True)
    def _an_answer_for_every_question(self, model_server: ModelServer) -> None:
        model_server.script([Turn(text="I can tell you things.")] * 2)

    async def test_reasoning_and_text_are_told_apart(self, llm: BaseLlm, model_server: ModelServer) -> None:
        model_server.reset()
        model_server.script([Turn(reasoning="Let me see.", text="Here it is.")])
        events = await ask(llm, "Go on.")
        assert "".join(e.text for e in events if isinstance(e, ReasoningDelta)) == "Let me see."
        assert finished(events).message.text == "Here it is."

    async def test_usage_is_what_the_server_counted(self, llm: BaseLlm, model_server: ModelServer) -> None:
        model_server.reset()
        model_server.script([Turn(text="one two three", reasoning="a b")])
        usage = finished(await ask(llm, "Count.")).usage
        assert usage.input_tokens > 0
        assert (usage.output_tokens, usage.reasoning_tokens) == (5, 2)

    async def test_calls_are_made_answered_and_replayed(self, llm: BaseLlm, model_server: ModelServer) -> None:
        model_server.reset()
        model_server.script(
            [Turn(calls=(Call("look_up", {"word": "née"}), Call("look_up", {}))), Turn(text="It means born.")]
        )
        events = await ask(llm, "What does née mean?", [LOOK_UP])
        end = finished(events)
        assert end.reason == "tool_calls"
        assert [(c.name, c.arguments) for c in end.message.tool_calls] == [
            ("look_up", {"word": "née"}),
            ("look_up", {}),
        ]
        started = [(e.index, e.id) for e in events if isinstance(e, ToolCallStarted)]
        assert started == [(0, end.message.tool_calls[0].id), (1, end.message.tool_calls[1].id)]
        # Answered in another order than asked, as calls that run side by side are.
        results = [
            tool(ToolResult(call.id, call.name, f"result for {call.arguments}")) for call in end.message.tool_calls
        ]
        transcript = [user("What does née mean?"), end.message, *reversed(results)]
        assert finished(await ask(llm, transcript, [LOOK_UP])).message.text == "It means born."

    async def test_ids_of_calls_are_unique_across_answers(self, llm: BaseLlm, model_server: ModelServer) -> None:
        model_server.reset()
        model_server.script([Turn(calls=(Call("look_up", {"word": "a"}, id="1"),))] * 3)
        ids = {finished(await ask(llm, "?", [LOOK_UP])).message.tool_calls[0].id for _ in range(3)}
        assert len(ids) == 3

    async def test_a_call_without_a_result_is_answered_for_the_model(
        self, llm: BaseLlm, model_server: ModelServer
    ) -> None:
        model_server.reset()
        model_server.script([Turn(calls=(Call("look_up", {"word": "a"}),)), Turn(text="Then not.")])
        first = finished(await ask(llm, "?", [LOOK_UP])).message
        assert finished(await ask(llm, [user("?"), first, user("Stop.")], [LOOK_UP])).message.text == "Then not."

    async def test_an_answer_may_be_demanded_in_a_form_by_a_call_but_not_by_an_agent(
        self, llm: BaseLlm, model_server: ModelServer
    ) -> None:
        model_server.reset()
        model_server.script([Turn(text='{"zebras": 3}'), Turn(text="Three.")])
        schema = {
            "type": "object",
            "properties": {"zebras": {"type": "integer"}},
            "required": ["zebras"],
            "additionalProperties": False,
        }
        assert finished(await ask(llm, "How many?", response_schema=schema)).message.text == '{"zebras": 3}'
        assert finished(await ask(llm, "How many?", response_schema=None)).message.text == "Three."
        assert [json.dumps(schema) in json.dumps(request.body) for request in model_server.asked] == [True, False]
        with pytest.raises(ValueError, match="response_schema"):
            llm.stream([user("How many?")], response_schema="zebras")
        with pytest.raises(ValueError, match="no parameter 'response_schema'"):
            type(llm)(llm.endpoint, response_schema=schema)

    @pytest.mark.parametrize(
        ("fault", "kind", "retryable"),
        [
            ("400", "bad_request", False),
            ("401", "auth", False),
            ("403", "permission", False),
            ("404", "not_found", False),
            ("413", "too_large", False),
            ("429", "rate_limit", True),
            ("quota", "quota", False),
            ("500", "server", True),
            ("503", "overloaded", True),
            ("529", "overloaded", True),
            ("html_502", "server", True),
            ("context", "context_too_long", False),
        ],
    )
    async def test_a_refusal_says_what_kind_it_is(
        self, llm: BaseLlm, model_server: ModelServer, fault: Any, kind: str, retryable: bool
    ) -> None:
        model_server.reset()
        model_server.script([Turn(fault=fault)])
        events = await ask(llm, "Hello?")
        assert len(model_server.asked) == 1, "adapters do not retry; executor.core.retry does"
        error = failed(events).error
        assert (error.kind, error.retryable, error.partial) == (kind, retryable, False)
        assert "<" not in error.message
        assert error.hint

    async def test_the_whole_answer_raises_what_the_stream_reports(
        self, llm: BaseLlm, model_server: ModelServer
    ) -> None:
        model_server.reset()
        model_server.script([Turn(fault="529")])
        with pytest.raises(LLMError) as caught:
            await llm.generate_content_async([user("Hello?")])
        assert caught.value.kind == "overloaded"

    @pytest.mark.parametrize("fault", ["drop", "clean_end", "half_frame", "malformed", "error_event"])
    async def test_an_answer_that_breaks_off_is_a_failure_with_what_had_come(
        self, llm: BaseLlm, model_server: ModelServer, fault: Any
    ) -> None:
        model_server.reset()
        model_server.script([Turn(text="one two three four", fault=fault, after=3)])
        end = failed(await ask(llm, "Count."))
        assert end.error.partial
        assert ("broke off in the middle of the answer" in end.error.hint) == (end.error.kind == "connection")
        assert end.error.retryable
        assert end.partial is not None
        assert end.partial.text == "one two"

    async def test_a_failed_answer_keeps_no_calls(self, llm: BaseLlm, model_server: ModelServer) -> None:
        model_server.reset()
        model_server.script([Turn(text="Look: ", calls=(Call("look_up", {"word": "abc"}),), fault="drop", after=4)])
        end = failed(await ask(llm, "?", [LOOK_UP]))
        assert end.partial is not None
        assert end.partial.tool_calls == ()

    async def test_how_much_the_model_can_read_is_not_told_to_it(self, llm: BaseLlm, model_server: ModelServer) -> None:
        model_server.reset()
        model_server.script([Turn(text="Good.")])
        await ask(llm, "Hello?", context_window=54_321)
        assert "54321" not in str(model_server.asked[0].body)

    @pytest.mark.parametrize("fault", ["hang", "stall"])
    async def test_silence_ends_with_a_timeout(self, llm: BaseLlm, model_server: ModelServer, fault: Any) -> None:
        model_server.reset()
        model_server.script([Turn(text="one two three", fault=fault)])
        error = failed(await ask(llm, "Hello?", idle_timeout=0.3)).error
        assert (error.kind, error.partial) == ("timeout", fault == "stall")

    async def test_closing_the_stream_hangs_up(self, llm: BaseLlm, model_server: ModelServer) -> None:
        model_server.reset()
        model_server.script([Turn(text="token " * 1000, rate=50)])
        events = llm.stream([user("Talk.")])
        async for event in events:
            if isinstance(event, TextDelta):
                break
        await events.aclose()
        assert await asyncio.to_thread(model_server.asked[0].disconnected.wait, 5)

    async def test_cancelling_hangs_up_and_is_not_swallowed(self, llm: BaseLlm, model_server: ModelServer) -> None:
        model_server.reset()
        model_server.script([Turn(text="token " * 1000, rate=50)])
        streaming = asyncio.Event()

        async def listen() -> None:
            async for event in llm.stream([user("Talk.")]):
                if isinstance(event, TextDelta):
                    streaming.set()

        task = asyncio.create_task(listen())
        async with asyncio.timeout(10):
            await streaming.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(model_server.asked[0].disconnected.wait, 5)

    async def test_an_odd_transcript_is_made_acceptable(self, llm: BaseLlm, model_server: ModelServer) -> None:
        model_server.reset()
        model_server.script([Turn(text="Fine.")])
        transcript = [
            user("lone \ud800 half and \0 nul"),
            Message("assistant", ()),
            tool(ToolResult("nobody asked", "look_up", "orphan")),
            user(""),
            user("Go on."),
        ]
        assert finished(await ask(llm, transcript)).message.text == "Fine."

    # --- who is asked, and with what ----------------------------------------------------------------------------------

    async def test_the_environment_changes_nothing(
        self, llm: BaseLlm, model_server: ModelServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("OPENAI_BASE_URL", "ANTHROPIC_BASE_URL", "GOOGLE_GEMINI_BASE_URL", "GOOGLE_VERTEX_BASE_URL"):
            monkeypatch.setenv(name, "http://127.0.0.1:9/v1")
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, "http://127.0.0.1:9")
        for name in ("OPENAI", "ANTHROPIC"):
            monkeypatch.setenv(f"{name}_CUSTOM_HEADERS", "X-Leak: 1\nAuthorization: Bearer leak")
        for name in (
            "OPENAI_API_KEY", "OPENAI_ADMIN_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "ANTHROPIC_API_KEY",
            "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_PROFILE", "GOOGLE_API_KEY", "GEMINI_API_KEY", "GOOGLE_CLOUD_PROJECT",
        ):  # fmt: skip
            monkeypatch.setenv(name, "leak")
        for name in ("GOOGLE_GENAI_USE_VERTEXAI", "GOOGLE_GENAI_USE_ENTERPRISE"):
            monkeypatch.setenv(name, "true")
        monkeypatch.setenv("GOOGLE_GENAI_API_VERSION", "leak")
        finished(await ask(type(llm)(llm.endpoint), "Hi"))
        (request,) = model_server.asked
        assert "leak" not in json.dumps([request.path, request.headers]).lower()
        assert llm.endpoint.api_key in json.dumps(request.headers)

    async def test_a_redirect_is_not_followed(self, llm: BaseLlm, model_server: ModelServer) -> None:
        model_server.reset()
        model_server.script([Turn(fault="redirect")])
        error = failed(await ask(llm, "Hi")).error
        assert (error.kind, error.status) == ("not_found", 307)
        assert len(model_server.requests) == 1

    async def test_the_key_is_in_no_error(self, llm: BaseLlm, model_server: ModelServer) -> None:
        key = llm.endpoint.api_key
        model_server.reset()
        model_server.script([Turn(text="a b c", fault="error_event", message=f"The key {key} gave up.")])
        model_server.api_key = key
        in_answer = failed(await ask(llm, "Hi")).error
        model_server.api_key = "another"
        refused = failed(await ask(llm, "Hi")).error
        assert refused.kind == "auth"
        assert "API key" in refused.message
        assert "gave up" in in_answer.message
        for error in (in_answer, refused):
            assert key not in f"{error!r} {error.message} {error.hint} {llm.endpoint!r}"

    @pytest.mark.parametrize("key", ["käse", "two\nlines", "“quoted”"])
    async def test_a_key_that_cannot_be_one_is_a_failure_to_sign_in(
        self, llm: BaseLlm, model_server: ModelServer, key: str
    ) -> None:
        error = failed(await ask(type(llm)(replace(llm.endpoint, api_key=key)), "Hi")).error
        assert error.kind == "auth"
        assert key not in error.message
        assert model_server.requests == []

    async def test_a_server_that_is_not_there_is_a_failure_to_connect(
        self, llm: BaseLlm, model_server: ModelServer
    ) -> None:
        with ModelServer() as gone:
            pass
        address = llm.endpoint.base_url.replace(str(model_server.port), str(gone.port))
        error = failed(await ask(type(llm)(replace(llm.endpoint, base_url=address)), "Hi")).error
        assert (error.kind, error.retryable) == ("connection", True)
        assert f"127.0.0.1:{gone.port}" in error.message

    @pytest.mark.parametrize("url", ["localhost:11434", "ftp://host/v1", "http://", "file:///etc/passwd"])
    def test_an_address_that_is_none_is_refused(self, llm: BaseLlm, url: str) -> None:
        with pytest.raises(ValueError, match="not the address of a model server"):
            type(llm)(replace(llm.endpoint, base_url=url))

    def test_one_model_can_be_asked_from_one_event_loop_after_another(
        self, llm: BaseLlm, model_server: ModelServer
    ) -> None:
        async def once() -> str:
            try:
                return finished(await ask(llm, "Hi")).message.text
            finally:
                await llm.aclose()

        model_server.reset()
        model_server.script([Turn(text="one"), Turn(text="two")])
        assert [asyncio.run(once()), asyncio.run(once())] == ["one", "two"]

    async def test_connections_are_kept_and_shared(self, llm: BaseLlm, model_server: ModelServer) -> None:
        before = model_server.connections
        for key in ("first-key", "second-key"):
            finished(await ask(type(llm)(replace(llm.endpoint, api_key=key)), "Hi"))
        assert model_server.connections == before + 1

    async def test_a_server_that_does_not_close_the_stream_is_not_waited_for(
        self, llm: BaseLlm, model_server: ModelServer
    ) -> None:
        model_server.reset()
        model_server.script([Turn(text="Done.", quirks=frozenset({"open_end"}))])
        begun = time.perf_counter()
        assert finished(await ask(llm, "Hi")).usage.output_tokens == 1
        assert time.perf_counter() - begun < GRACE

    @pytest.mark.parametrize(
        "quirk", ["crlf", "cr", "bom", "comments", "extra_fields", "multi_line", "no_last_newline", "surrogate_halves"]
    )
    async def test_every_dialect_of_server_sent_events_is_read(
        self, llm: BaseLlm, model_server: ModelServer, quirk: Any
    ) -> None:
        text = "Größe 😀 ok"
        model_server.reset()
        model_server.script([Turn(text=text, quirks=frozenset({quirk}), write=write) for write in (0, 3)])
        for _ in range(2):
            events = await ask(llm, "Hi")
            assert (text_of(events), finished(events).message.text, finished(events).reason) == (text, text, "stop")
            assert finished(events).usage.output_tokens == 3

    async def test_the_models_that_can_be_asked_are_listed(self, llm: BaseLlm, model_server: ModelServer) -> None:
        assert await llm.list_models() == list(MODELS)
        assert "redirect" not in [request.path for request in model_server.requests]
        model_server.api_key = "another key"
        with pytest.raises(LLMError) as refused:
            await llm.list_models()
        assert refused.value.kind == "auth"

    async def test_an_address_that_no_administrator_chose_must_be_public_or_allowed(
        self, llm: BaseLlm, model_server: ModelServer
    ) -> None:
        def reached_with(*allowed: str) -> BaseLlm:
            return type(llm)(replace(llm.endpoint, allowed_hosts=frozenset(allowed)))

        for allowed in ((), ("127.0.0.1:1",), ("localhost",)):
            error = failed(await ask(reached_with(*allowed), "Hi")).error
            assert (error.kind, error.retryable) == ("bad_request", False)
            assert "127.0.0.1 is not on the public internet" in error.message
            assert "MODEL_HOSTS" in error.message
            with pytest.raises(LLMError, match="not on the public internet"):
                await reached_with(*allowed).list_models()
        assert model_server.requests == []
        for host in ("127.0.0.1", f"127.0.0.1:{model_server.port}"):
            assert finished(await ask(reached_with(host), "Hi")).message.text

    @pytest.mark.parametrize(("fault", "kind"), [("endless_500", "server"), ("endless_blank", "protocol")])
    async def test_a_server_without_end_is_given_up_soon(
        self, llm: BaseLlm, model_server: ModelServer, fault: Any, kind: str
    ) -> None:
        model_server.reset()
        model_server.script([Turn(fault=fault)])
        async with asyncio.timeout(10):
            error = failed(await ask(llm, "Hi")).error
        assert error.kind == kind
        assert await asyncio.to_thread(model_server.asked[0].disconnected.wait, 5)
