"""Messages: the contract of every model, the request as it is sent, thoughts that go back as they came."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from dataclasses import asdict
from typing import Any

import pytest

from executor.core.events import Failed, ReasoningDelta, ToolCallDelta, ToolCallStarted
from executor.core.llms._claude_answer import ClaudeAnswer
from executor.core.llms._http import http_client, status_error
from executor.core.llms._transcript import INTERRUPTED, NO_OUTPUT
from executor.core.llms._wire import GRACE
from executor.core.llms.base import Endpoint
from executor.core.llms.claude import API_VERSION, DEFAULT_MAX_TOKENS, Claude
from executor.core.llms.factory import create_llm
from executor.core.llms.openai_compatible import OpenAiCompatible
from executor.core.messages import (
    File,
    Message,
    Native,
    Reasoning,
    Text,
    ToolCall,
    ToolResult,
    ToolSpec,
    Usage,
    assistant,
    message_from_json,
    message_to_json,
    system,
    tool,
    user,
)
from tests.executor.core.contract import LOOK_UP, TWO, WireContract, ask, failed, finished, sent, text_of
from tests.fakes.model_server import ModelServer
from tests.fakes.script import Call, Turn

pytestmark = pytest.mark.usefixtures("closed_connections")

KEY = "sk-ant-a-key-that-nobody-may-see"


@pytest.fixture
def llm(model_server: ModelServer) -> Claude:
    return Claude(Endpoint("any-model", model_server.address, KEY))


class TestContract(WireContract):
    pass


# --- the request ----------------------------------------------------------------------------------------------------


def results_of(message: Message) -> Message:
    """An answer to each call that says its arguments."""
    return tool(*(ToolResult(call.id, call.name, f"for {call.arguments}") for call in message.tool_calls))


async def test_a_conversation_goes_out_as_blocks(llm: Claude, model_server: ModelServer) -> None:
    call = ToolCall("abcdefghi", "look_up", {"word": "née", "n": 1}, '{"word" : "née", "n":1}')
    body = await sent(
        llm,
        model_server,
        system("Be brief."),
        user("What is née?"),
        assistant("I look.", call),
        tool(ToolResult("abcdefghi", "look_up", "born")),
        assistant("Born."),
        user("Thanks."),
        tools=[LOOK_UP],
    )
    assert body == {
        "model": "any-model",
        "max_tokens": DEFAULT_MAX_TOKENS,
        "system": [{"type": "text", "text": "Be brief."}],
        "tools": [{"name": "look_up", "description": "Look a word up.", "input_schema": LOOK_UP.parameters}],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "What is née?"}]},
            {
                "role": "assistant",
                "content": [
                    {"type": "text", "text": "I look."},
                    {"type": "tool_use", "id": "abcdefghi", "name": "look_up", "input": {"word": "née", "n": 1}},
                ],
            },
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "abcdefghi", "content": "born"}]},
            {"role": "assistant", "content": [{"type": "text", "text": "Born."}]},
            {"role": "user", "content": [{"type": "text", "text": "Thanks."}]},
        ],
        "cache_control": {"type": "ephemeral", "ttl": "5m"},
        "stream": True,
    }


async def test_nothing_is_said_of_tools_and_instructions_that_there_are_not(
    llm: Claude, model_server: ModelServer
) -> None:
    body = await sent(llm, model_server, system(" \n"), user("Hi"))
    assert not {"tools", "system", "thinking", "output_config"} & body.keys()


async def test_a_function_without_parameters_still_has_a_schema(llm: Claude, model_server: ModelServer) -> None:
    body = await sent(llm, model_server, user("Hi"), tools=[ToolSpec("now", "The time.", {})])
    assert body["tools"][0]["input_schema"] == {"type": "object", "properties": {}}


async def test_all_results_go_into_one_message_in_order_and_before_what_was_said_then(
    llm: Claude, model_server: ModelServer
) -> None:
    calls = [ToolCall(id_, "look_up", {"word": id_}) for id_ in ("one", "two", "three", "four")]
    body = await sent(
        llm,
        model_server,
        user("?"),
        assistant("", *calls),
        tool(ToolResult("three", "look_up", "No such word.", is_error=True)),
        tool(ToolResult("one", "look_up", "")),
        tool(ToolResult("four", "look_up", " \n")),
        tool(ToolResult("five", "look_up", "belongs to nobody")),
        user("Go on."),
    )
    assert [message["role"] for message in body["messages"]] == ["user", "assistant", "user"]
    assert body["messages"][2]["content"] == [
        {"type": "tool_result", "tool_use_id": "one", "content": NO_OUTPUT},
        {"type": "tool_result", "tool_use_id": "two", "content": INTERRUPTED, "is_error": True},
        {"type": "tool_result", "tool_use_id": "three", "content": "No such word.", "is_error": True},
        {"type": "tool_result", "tool_use_id": "four", "content": NO_OUTPUT},
        {"type": "text", "text": "Go on."},
    ]


async def test_a_call_that_was_no_json_goes_back_as_one(llm: Claude, model_server: ModelServer) -> None:
    call = ToolCall("x", "no such function!", None, '{"word": ')
    body = await sent(llm, model_server, user("?"), assistant("", call), tool(ToolResult("x", "f", "Not JSON.", True)))
    assert body["messages"][1]["content"] == [{"type": "tool_use", "id": "x", "name": "no_such_function_", "input": {}}]


async def test_blank_texts_are_not_sent_and_who_goes_on_has_one_message(llm: Claude, model_server: ModelServer) -> None:
    silent = Message("assistant", (Reasoning("Hm."),))
    body = await sent(
        llm, model_server, user("First."), silent, assistant("\n\n"), user("Second."), assistant("\n"), user(" ")
    )
    assert [message["role"] for message in body["messages"]] == ["user"]
    assert [block["text"] for block in body["messages"][0]["content"]] == ["First.", "Second."]


async def test_pictures_that_it_sees_go_along_and_other_files_are_named(llm: Claude, model_server: ModelServer) -> None:
    files = [
        File("image/png", "data:image/png;base64,AAAA", "a.png"),
        File("image/jpeg", "https://example.org/b.jpg"),
        File("image/svg+xml", "data:image/svg+xml;base64,AAAA", "c.svg"),
        File("image/png", "data:image/png,notbase64", "d.png"),
        File("text/csv", "data:text/csv,1", "e.csv"),
    ]
    body = await sent(llm, model_server, user("Look.", *files))
    words, *pictures = body["messages"][0]["content"]
    assert words["text"].split("\n\n") == [
        "Look.",
        "[attached file: e.csv (text/csv)]",
        "[attached file: c.svg (image/svg+xml)]",
        "[attached file: d.png (image/png)]",
    ]
    assert [picture["source"] for picture in pictures] == [
        {"type": "base64", "media_type": "image/png", "data": "AAAA"},
        {"type": "url", "url": "https://example.org/b.jpg"},
    ]


async def test_the_same_transcript_gives_the_same_bytes_also_after_it_was_stored(
    llm: Claude, model_server: ModelServer
) -> None:
    model_server.script(
        [Turn(text="I look.", reasoning="Hm.", calls=(Call("look_up", {"word": "ü", "a": 1.5}),)), Turn(text="a")]
    )
    first = finished(await ask(llm, "?", [LOOK_UP])).message
    assert first.native
    native = Native(**json.loads(json.dumps(asdict(first.native))))
    stored = message_from_json(json.loads(json.dumps(message_to_json(first))), native)
    finished(await ask(llm, [user("?"), first, results_of(first)], [LOOK_UP]))
    await sent(llm, model_server, user("?"), stored, results_of(first), tools=[LOOK_UP])
    assert model_server.asked[-1].raw == model_server.asked[-2].raw


# --- parameters -----------------------------------------------------------------------------------------------------


async def test_every_parameter_reaches_the_server_and_a_call_overrides_the_agent(model_server: ModelServer) -> None:
    llm = Claude(
        Endpoint("m", model_server.address),
        max_tokens=50,
        effort="low",
        thinking="adaptive",
        thinking_display="omitted",
        cache="1h",
        extra={"stop_sequences": ["END"]},
        idle_timeout=5,
    )
    body = await sent(llm, model_server, user("Hi"), max_tokens=60)
    assert body.keys() - {"model", "messages", "stream"} == {
        "max_tokens", "output_config", "thinking", "cache_control", "stop_sequences"
    }  # fmt: skip
    assert (body["max_tokens"], body["output_config"], body["stop_sequences"]) == (60, {"effort": "low"}, ["END"])
    assert body["thinking"] == {"type": "adaptive", "display": "omitted"}
    assert body["cache_control"] == {"type": "ephemeral", "ttl": "1h"}


@pytest.mark.parametrize(
    ("given", "thinking"),
    [
        ({}, None),
        ({"thinking": "adaptive"}, {"type": "adaptive", "display": "summarized"}),
        ({"thinking": "disabled", "thinking_display": "summarized"}, {"type": "disabled"}),
        ({"thinking": "between_tools"}, {"type": "between_tools"}),
        ({"thinking_display": "omitted"}, {"type": "adaptive", "display": "omitted"}),
        # Older models know other ways.
        ({"extra": {"thinking": {"type": "disabled"}}}, {"type": "disabled"}),
    ],
)
async def test_thinking_is_asked_for_as_it_is_set(
    llm: Claude, model_server: ModelServer, given: dict[str, Any], thinking: Any
) -> None:
    assert (await sent(llm, model_server, user("Hi"), **given)).get("thinking") == thinking


async def test_the_cache_can_be_left_alone(llm: Claude, model_server: ModelServer) -> None:
    assert "cache_control" not in await sent(llm, model_server, user("Hi"), cache="off")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_tokens", 0),
        ("effort", "huge"),
        ("thinking", True),
        ("thinking_display", "full"),
        ("cache", "1d"),
        ("extra", {"messages": []}),
        ("extra", {"output_config": {}}),
        ("idle_timeout", 0),
    ],
)
def test_a_wrong_parameter_is_named_with_what_it_must_be(name: str, value: Any) -> None:
    (problem,) = Claude.check_parameters({name: value})
    assert problem.startswith(f"{name} must be ")
    with pytest.raises(ValueError, match=name):
        Claude(Endpoint("m"), **{name: value})


@pytest.mark.parametrize("name", ["temperature", "top_p", "top_k"])
async def test_there_is_no_temperature_any_more(llm: Claude, model_server: ModelServer, name: str) -> None:
    given: dict[str, Any] = {name: 1}
    with pytest.raises(ValueError, match=rf"no parameter '{name}'. Use: cache, context_window, .*thinking"):
        llm.stream([user("Hi")], **given)
    assert failed(await ask(llm, "Hi", extra={name: 1})).error.kind == "bad_request"


async def test_a_schema_and_an_effort_are_asked_for_together(llm: Claude, model_server: ModelServer) -> None:
    schema = {"type": "object", "properties": {}, "additionalProperties": False}
    body = await sent(llm, model_server, user("Hi"), response_schema=schema, effort="max")
    assert body["output_config"] == {"effort": "max", "format": {"type": "json_schema", "schema": schema}}


async def test_what_a_schema_may_not_say_is_told_in_its_description(llm: Claude, model_server: ModelServer) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}}
    body = await sent(llm, model_server, user("Hi"), response_schema=schema)
    told = body["output_config"]["format"]["schema"]
    assert told["additionalProperties"] is False
    assert told["properties"]["n"] == {"type": "integer", "description": "{minimum: 1}"}
    assert schema == {"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}}


@pytest.mark.parametrize(
    "schema", [{"type": ["string", "null"]}, {"properties": {}}, {"type": "object", "properties": 5}]
)
async def test_a_schema_that_cannot_be_translated_goes_out_as_it_is(llm: Claude, schema: Any) -> None:
    body = llm.request_body([user("Hi")], [], {"response_schema": schema})
    assert body["output_config"]["format"]["schema"] == schema


# --- what goes back as it came --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "quirks",
    [
        set(),
        {"redacted_thinking"},
        {"interleaved"},
        {"interleaved", "redacted_thinking", "blank_text"},
        {"caller"},
        {"null_fields"},
        {"json_body"},
        {"dict_arguments", "unknown_events"},
    ],
    ids=lambda quirks: "+".join(sorted(quirks)),
)
@pytest.mark.parametrize("display", ["summarized", "omitted"])
async def test_thoughts_go_back_complete_unchanged_and_in_order(
    llm: Claude, model_server: ModelServer, quirks: Any, display: str
) -> None:
    model_server.script([Turn(reasoning="Let me  see…\n", text="I look.", calls=TWO, quirks=frozenset(quirks))])
    first = finished(await ask(llm, "?", [LOOK_UP], thinking="adaptive", thinking_display=display)).message
    body = await sent(llm, model_server, user("?"), first, results_of(first), tools=[LOOK_UP])
    blocks, results = body["messages"][1]["content"], body["messages"][2]["content"]
    # The server itself has checked signatures, order, and that no thought is missing.
    assert [block["type"] for block in blocks] == [
        *(["redacted_thinking"] if "redacted_thinking" in quirks else []),
        "thinking", "text", "tool_use", *(["thinking"] if "interleaved" in quirks else []), "tool_use",
    ]  # fmt: skip
    shown = "Let me  see…\n" if display == "summarized" else ""
    assert next(block["thinking"] for block in blocks if block["type"] == "thinking") == shown
    assert [block["input"] for block in blocks if block["type"] == "tool_use"] == [{"word": "a"}, {"word": "b"}]
    assert [r["tool_use_id"] for r in results] == [block["id"] for block in blocks if block["type"] == "tool_use"]
    assert ("caller" in blocks[-1]) == ("caller" in quirks)


@pytest.mark.parametrize("other", ["model", "key", "address", "message", "nothing native"])
async def test_thoughts_go_nowhere_else(llm: Claude, model_server: ModelServer, other: str) -> None:
    model_server.script([Turn(reasoning="Secret thoughts.", text="I look.", calls=TWO)])
    message = finished(await ask(llm, "?", [LOOK_UP])).message
    asked = llm
    match other:
        case "model":
            asked = Claude(Endpoint("other-model", model_server.address, KEY))
        case "key":
            asked = Claude(Endpoint("any-model", model_server.address, "another key"))
        case "address":
            asked = Claude(Endpoint("any-model", f"http://localhost:{model_server.port}", KEY))
        case "message":
            message = Message("assistant", (Text("Edited."), *message.tool_calls), message.native)
        case _:
            message = Message("assistant", message.parts)
    body = await sent(asked, model_server, user("?"), message, results_of(message))
    assert body["messages"][1]["content"] == [
        {"type": "text", "text": message.text},
        *(
            {"type": "tool_use", "id": call.id, "name": "look_up", "input": call.arguments}
            for call in message.tool_calls
        ),
    ]
    assert "Secret" not in json.dumps(body)


async def test_a_foreign_native_part_is_left_alone(llm: Claude, model_server: ModelServer) -> None:
    native = Native("chat", "elsewhere", "any-model", {"reasoning": "Hm."}, assistant("Answer.").digest())
    body = await sent(llm, model_server, user("?"), Message("assistant", (Text("Answer."),), native), user("And?"))
    assert body["messages"][1]["content"] == [{"type": "text", "text": "Answer."}]


async def test_what_can_be_rebuilt_is_not_kept_twice(llm: Claude, model_server: ModelServer) -> None:
    model_server.script([Turn(text="Only words.")])
    assert finished(await ask(llm, "?")).message.native is None


async def test_an_answer_that_was_not_understood_is_rebuilt(llm: Claude, model_server: ModelServer) -> None:
    model_server.script([Turn(reasoning="Hm.", calls=TWO, quirks=frozenset({"unknown_delta"}))])
    message = finished(await ask(llm, "?", [LOOK_UP])).message
    body = await sent(llm, model_server, user("?"), message, results_of(message))
    assert [block["type"] for block in body["messages"][1]["content"]] == ["tool_use", "tool_use"]


async def test_a_paused_answer_is_said_to_be_one_and_goes_back_to_be_continued(
    llm: Claude, model_server: ModelServer
) -> None:
    quirks: Any = frozenset({"server_tool"})
    model_server.script([Turn(text="I search.", reasoning="Hm.", finish="pause_turn", quirks=quirks)])
    end = finished(await ask(llm, "Zebras?"))
    assert (end.reason, end.native_reason, end.message.tool_calls) == ("pause", "pause_turn", ())
    body = await sent(llm, model_server, user("Zebras?"), end.message)
    assert [block["type"] for block in body["messages"][-1]["content"]] == ["thinking", "server_tool_use", "text"]
    assert body["messages"][-1]["content"][1]["input"] == {"query": "zebras"}


async def test_what_the_provider_looked_up_itself_goes_back_with_its_citations(
    llm: Claude, model_server: ModelServer
) -> None:
    model_server.script([Turn(text="Striped.", quirks=frozenset({"server_tool"}))])
    end = finished(await ask(llm, "Zebras?"))
    assert (end.message.text, end.reason) == ("Striped.", "stop")
    body = await sent(llm, model_server, user("Zebras?"), end.message, user("Thanks."))
    search, found, text = body["messages"][1]["content"]
    assert (search["type"], found["type"], text["text"]) == ("server_tool_use", "web_search_tool_result", "Striped.")
    assert len(text["citations"]) == 1


@pytest.mark.parametrize("finish", ["end_turn", "max_tokens"])
async def test_a_thought_that_leads_to_nothing_is_not_sent_back(
    llm: Claude, model_server: ModelServer, finish: str
) -> None:
    quirks: Any = frozenset({"trailing_thought"})
    model_server.script([Turn(reasoning="Hm.", text="Well,", finish=finish, quirks=quirks)])
    end = finished(await ask(llm, "?"))
    body = await sent(llm, model_server, user("?"), end.message, user("Go on."))
    assert [block["type"] for block in body["messages"][1]["content"]] == ["thinking", "text"]


async def test_an_answer_that_was_cut_off_in_its_first_thought_is_not_sent_back(
    llm: Claude, model_server: ModelServer
) -> None:
    model_server.script([Turn(reasoning="Let me", finish="max_tokens")])
    end = finished(await ask(llm, "?"))
    assert (end.reason, end.message.parts, end.message.native) == ("length", (Reasoning("Let me"),), None)
    body = await sent(llm, model_server, user("?"), end.message, user("Go on."))
    assert [message["role"] for message in body["messages"]] == ["user"]


@pytest.mark.parametrize("quirk", ["same_ids", "no_ids"])
async def test_calls_whose_ids_are_no_use_get_others(llm: Claude, model_server: ModelServer, quirk: Any) -> None:
    """Within one answer, and from one answer to the next."""
    model_server.script([Turn(reasoning="Hm.", text=f"{n}.", calls=TWO, quirks=frozenset({quirk})) for n in (1, 2)])
    transcript = [user("?")]
    for _ in range(2):
        message = finished(await ask(llm, transcript, [LOOK_UP])).message
        transcript += [message, results_of(message)]
    body = await sent(llm, model_server, *transcript)
    contents = [block for message in body["messages"] for block in message["content"]]
    asked = [block["id"] for block in contents if block["type"] == "tool_use"]
    assert len(set(asked)) == 4
    assert asked == [block["tool_use_id"] for block in contents if block["type"] == "tool_result"]
    assert sum(block["type"] == "thinking" for block in contents) == 2


async def test_ids_of_calls_go_back_as_the_server_gave_them_but_are_not_ours(
    llm: Claude, model_server: ModelServer
) -> None:
    model_server.script([Turn(calls=(Call("look_up", {"word": "a"}, id="toolu_7"),))])
    message = finished(await ask(llm, "?", [LOOK_UP])).message
    (call,) = message.tool_calls
    assert call.provider_id == "toolu_7" != call.id
    body = await sent(llm, model_server, user("?"), message, results_of(message))
    assert body["messages"][2]["content"][0]["tool_use_id"] == "toolu_7"


async def test_a_conversation_may_change_its_provider_and_come_back(llm: Claude, model_server: ModelServer) -> None:
    chat = OpenAiCompatible(Endpoint("other", model_server.base_url, "another key"))
    transcript = [user("Look both up.")]
    for model, name in ((llm, "claude"), (chat, "chat"), (llm, "claude")):
        model_server.script([Turn(reasoning=f"Thought of {name}.", calls=TWO), Turn(text="Done.")])
        for _ in range(2):
            message = finished(await ask(model, transcript, [LOOK_UP])).message
            transcript += [message, results_of(message)] if message.tool_calls else [message]
        transcript.append(user("Again."))
    last = json.dumps(model_server.asked[-1].body)
    assert last.count("Thought of claude.") == 2
    assert "Thought of chat." not in last
    assert "Thought of claude." not in json.dumps(model_server.asked[3].body)


async def test_six_steps_with_thoughts_and_parallel_calls_run_through(llm: Claude, model_server: ModelServer) -> None:
    quirks: Any = frozenset({"interleaved", "redacted_thinking"})
    model_server.script(
        [Turn(reasoning=f"Step {n}.", text=f"{n}: ", calls=TWO, quirks=quirks) for n in range(6)] + [Turn(text="Done.")]
    )
    transcript = [user("Go.")]
    while (end := finished(await ask(llm, transcript, [LOOK_UP], thinking="adaptive"))).reason == "tool_calls":
        transcript += [end.message, results_of(end.message)]
    assert end.message.text == "Done."
    assert json.dumps(model_server.asked[-1].body).count('"signature"') == 12
    assert model_server.left_over == []


# --- who is asked, and with what ------------------------------------------------------------------------------------

ENVIRONMENT = {
    "ANTHROPIC_API_KEY": "leak",
    "ANTHROPIC_AUTH_TOKEN": "leak",
    "ANTHROPIC_PROFILE": "leak",
    "ANTHROPIC_IDENTITY_TOKEN": "leak",
    "ANTHROPIC_FEDERATION_RULE_ID": "leak",
    "ANTHROPIC_ORGANIZATION_ID": "leak",
    "ANTHROPIC_WORKSPACE_ID": "leak",
    "ANTHROPIC_BASE_URL": "http://127.0.0.1:9",
    "HTTP_PROXY": "http://127.0.0.1:9",
    "ALL_PROXY": "http://127.0.0.1:9",
    "ANTHROPIC_CUSTOM_HEADERS": "X-Leak: 1\nauthorization: Bearer leak\nanthropic-version: 2023-06-01\nX-Api-Key: leak",
}


async def test_the_environment_changes_nothing(model_server: ModelServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    await sent(Claude(Endpoint("m", model_server.address, KEY)), model_server, user("Hi"))
    headers = model_server.asked[0].headers
    assert headers == {
        "host": f"127.0.0.1:{model_server.port}",
        "connection": "keep-alive",
        "content-length": headers["content-length"],
        "accept": "text/event-stream",
        "accept-encoding": "identity",
        "anthropic-version": API_VERSION,
        "authorization": f"Bearer {KEY}",
        "content-type": "application/json",
        "user-agent": "AgentSite",
        "x-api-key": KEY,
    }


def test_the_format_that_is_spoken_is_that_of_the_sdk() -> None:
    """When this fails after an upgrade: read what has changed between the two versions, then change `API_VERSION`."""
    from anthropic import AsyncAnthropic

    assert AsyncAnthropic(api_key=KEY, http_client=http_client_of_nobody()).default_headers["anthropic-version"] == (
        API_VERSION
    )


def http_client_of_nobody() -> Any:
    import httpx2

    return httpx2.AsyncClient(verify=False)


async def test_anthropic_itself_is_asked_at_its_address_with_one_key(monkeypatch: pytest.MonkeyPatch) -> None:
    import httpx2

    requests: list[httpx2.Request] = []

    async def stop(request: httpx2.Request) -> None:
        requests.append(request)
        raise httpx2.ConnectError("not from here")

    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://127.0.0.1:9")
    http_client().event_hooks = {"request": [stop]}
    assert failed(await ask(Claude(Endpoint("m", "", KEY)), "Hi")).error.kind == "connection"
    (request,) = requests
    assert str(request.url) == "https://api.anthropic.com/v1/messages"
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert "x-api-key" not in request.headers


@pytest.mark.parametrize("end", ["", "/", "/v1", "/v1/"])
async def test_an_address_may_have_the_version_at_its_end(model_server: ModelServer, end: str) -> None:
    await sent(Claude(Endpoint("m", model_server.address + end, KEY)), model_server, user("Hi"))
    assert model_server.asked[0].path == "/v1/messages"


async def test_a_server_without_keys_is_asked_without_one(
    model_server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "leak")
    await sent(Claude(Endpoint("m", model_server.address)), model_server, user("Hi"))
    assert model_server.asked[0].headers["authorization"] == "Bearer none"


async def test_a_long_wait_is_reported_and_not_waited_out(llm: Claude, model_server: ModelServer) -> None:
    model_server.script([Turn(fault="429", retry_after="4000000")])
    begun = time.perf_counter()
    assert failed(await ask(llm, "Hi")).error.retry_after == 4_000_000
    assert time.perf_counter() - begun < 5
    assert len(model_server.asked) == 1


def test_the_sdk_is_imported_when_it_is_needed_and_beside_the_event_loop() -> None:
    """In a process of its own, where nobody has imported it yet. Nobody needs to answer."""
    program = """
import asyncio, sys, threading
from executor.core.llms.base import Endpoint
from executor.core.llms.factory import create_llm, llm_class
from executor.core.messages import user

importers = []

class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "anthropic":
            importers.append(threading.current_thread() is threading.main_thread())

sys.meta_path.insert(0, Watch())
assert llm_class("claude").check_parameters({"effort": "low"}) == []
llm = create_llm("claude", Endpoint("m", "http://127.0.0.1:9", "k"))
stream = llm.stream([user("Hi")], response_schema={"type": "string"})
assert importers == [] and "anthropic" not in sys.modules, importers

async def main():
    print([type(event).__name__ async for event in stream], importers)

asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.strip() == "['Failed'] [False]", done.stderr


def test_the_factory_makes_it() -> None:
    assert isinstance(create_llm("claude", Endpoint("claude-sonnet-5-5")), Claude)


# --- how the answer comes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "quirk",
    [
        "no_usage",
        "no_finish_reason",
        "unknown_events",
        "null_fields",
        "json_body",
    ],
)
async def test_every_way_to_write_an_answer_is_read(llm: Claude, model_server: ModelServer, quirk: Any) -> None:
    text = "Größe 😀 ok"
    model_server.script([Turn(text=text, quirks=frozenset({quirk}), write=1)])
    events = await ask(llm, "Hi")
    assert (text_of(events), finished(events).message.text, finished(events).reason) == (text, text, "stop")
    # The first event counts what has gone in and a token to begin with, the last but one all that came out.
    counted = {"no_usage": 0, "no_finish_reason": 1}.get(quirk, 3)
    assert finished(events).usage.output_tokens == counted


async def test_an_answer_without_its_last_event_is_a_failure(llm: Claude, model_server: ModelServer) -> None:
    model_server.script([Turn(text="Done.", quirks=frozenset({"no_done"}))])
    error = failed(await ask(llm, "Hi")).error
    assert (error.kind, error.partial) == ("protocol", True)


async def test_nothing_is_waited_for_after_the_last_event(llm: Claude, model_server: ModelServer) -> None:
    model_server.script([Turn(text="Done.", quirks=frozenset({"open_end"}))])
    begun = time.perf_counter()
    assert finished(await ask(llm, "Hi")).message.text == "Done."
    assert time.perf_counter() - begun < GRACE / 2


@pytest.mark.parametrize(
    ("native", "reason"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("tool_use", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "context_window"),
        ("refusal", "content_filter"),
        ("pause_turn", "pause"),
        ("tired", "other"),
    ],
)
async def test_the_reason_of_the_end_is_translated(
    llm: Claude, model_server: ModelServer, native: str, reason: str
) -> None:
    model_server.script([Turn(text="So", finish=native)])
    end = finished(await ask(llm, "Hi"))
    assert (end.reason, end.native_reason) == (reason, native)


@pytest.mark.parametrize("why", ["Could enable harm.", ""])
async def test_a_refusal_to_say_anything_is_a_failure_that_says_why(
    llm: Claude, model_server: ModelServer, why: str
) -> None:
    model_server.script([Turn(refusal=why, finish="refusal", reasoning="Hm.")])
    end = failed(await ask(llm, "How?"))
    assert (end.error.kind, end.error.retryable) == ("content_filter", False)
    assert (why or "cyber") in end.error.message
    assert end.usage.input_tokens > 0


async def test_calls_that_a_refusal_took_back_are_not_made(llm: Claude, model_server: ModelServer) -> None:
    model_server.script([Turn(text="Sure: ", calls=TWO, finish="refusal")])
    end = finished(await ask(llm, "How?", [LOOK_UP]))
    assert (end.reason, end.message.text, end.message.tool_calls) == ("content_filter", "Sure: ", ())


async def test_two_trains_of_thought_are_two_paragraphs(llm: Claude, model_server: ModelServer) -> None:
    model_server.script([Turn(reasoning="First.", calls=TWO, quirks=frozenset({"interleaved"}))])
    events = await ask(llm, "?", [LOOK_UP])
    assert "".join(e.text for e in events if isinstance(e, ReasoningDelta)) == "First.\n\nAnd 1."
    assert finished(events).message.parts[0] == Reasoning("First.\n\nAnd 1.")


async def test_usage_counts_the_cache_within_the_input(llm: Claude, model_server: ModelServer) -> None:
    usage = {
        "input_tokens": 5,
        "cache_read_input_tokens": 100,
        "cache_creation_input_tokens": 20,
        "output_tokens": 9,
        "output_tokens_details": {"thinking_tokens": 4},
    }
    model_server.script(
        [Turn(text="a", usage=usage), Turn(text="a", usage={"input_tokens": None, "output_tokens": -1})]
    )
    assert finished(await ask(llm, "Hi")).usage == Usage(125, 9, 100, 20, 4)
    assert finished(await ask(llm, "Hi")).usage == Usage()


async def test_counts_that_the_end_does_not_repeat_still_hold() -> None:
    answer = ClaudeAnswer()
    start = {"usage": {"input_tokens": 7, "cache_read_input_tokens": 3, "output_tokens": 1}}
    list(answer.feed({"type": "message_start", "message": start}))
    assert answer.usage == Usage(10, 1, 3)
    list(answer.feed({"type": "message_delta", "delta": {}, "usage": {"output_tokens": 8, "input_tokens": None}}))
    assert answer.usage == Usage(10, 8, 3)


# --- calls ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("quirks", [set(), {"dict_arguments"}, {"json_body"}], ids=lambda q: "+".join(sorted(q)))
async def test_parallel_calls_are_told_apart(llm: Claude, model_server: ModelServer, quirks: Any) -> None:
    model_server.script([Turn(text="I look.", calls=(*TWO, Call("now")), quirks=frozenset(quirks))])
    events = await ask(llm, "?", [LOOK_UP])
    end = finished(events)
    assert [(call.name, call.arguments) for call in end.message.tool_calls] == [
        ("look_up", {"word": "a"}),
        ("look_up", {"word": "b"}),
        ("now", {}),
    ]
    ids = [call.id for call in end.message.tool_calls]
    assert [(e.index, e.id) for e in events if isinstance(e, ToolCallStarted)] == list(enumerate(ids))
    written = "".join(e.arguments for e in events if isinstance(e, ToolCallDelta))
    assert written == ("" if quirks else '{"word": "a"}{"word": "b"}')


@pytest.mark.parametrize("raw", ['{"word": ', "word=a", "[1]", '"word"', '{"n": NaN}', "[" * 100_000])
async def test_arguments_that_are_no_json_object_are_passed_on_as_written_and_go_back_empty(
    llm: Claude, model_server: ModelServer, raw: str
) -> None:
    model_server.script([Turn(reasoning="Hm.", calls=(Call("look_up", raw),), chunk=5000)])
    end = finished(await ask(llm, "?", [LOOK_UP]))
    (call,) = end.message.tool_calls
    assert (call.arguments, call.raw_arguments, end.reason) == (None, raw, "tool_calls")
    answer = tool(ToolResult(call.id, call.name, "Not JSON.", is_error=True))
    body = await sent(llm, model_server, user("?"), end.message, answer)
    assert [block.get("input") for block in body["messages"][1]["content"]] == [None, {}]


@pytest.mark.parametrize(
    ("finish", "reason"), [("max_tokens", "length"), ("model_context_window_exceeded", "context_window")]
)
async def test_a_call_that_was_cut_off_is_dropped_and_a_whole_one_kept(
    llm: Claude, model_server: ModelServer, finish: str, reason: str
) -> None:
    cut = Call("look_up", '{"word": "b')
    model_server.script(
        [
            Turn(reasoning="Hm.", text="I look.", calls=(cut,), finish=finish),
            Turn(reasoning="Hm.", calls=(TWO[0], cut), finish=finish),
            Turn(calls=(Call("look_up", ""),), finish=finish),
        ]
    )
    nothing, one, bare = [finished(await ask(llm, "?", [LOOK_UP])) for _ in range(3)]
    assert (nothing.reason, nothing.message.tool_calls) == (reason, ())
    assert (one.reason, [call.arguments for call in one.message.tool_calls]) == ("tool_calls", [{"word": "a"}])
    assert (bare.reason, bare.message.tool_calls) == (reason, ())
    await sent(llm, model_server, user("?"), nothing.message, user("Go on."))
    await sent(llm, model_server, user("?"), one.message, results_of(one.message))


# --- what goes wrong ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "kind"), [("408", "timeout"), ("409", "server"), ("422", "bad_request"), ("context", "context_too_long")]
)
async def test_more_refusals_say_what_they_are(llm: Claude, model_server: ModelServer, fault: Any, kind: str) -> None:
    model_server.script([Turn(fault=fault, message="prompt is too long: 9 > 8" if fault == "context" else "")])
    error = failed(await ask(llm, "Hi")).error
    assert (error.kind, error.request_id) == (kind, "req_011")


@pytest.mark.parametrize(
    ("status", "type_", "code", "message", "kind"),
    [
        (400, "invalid_request_error", "", "Your credit balance is too low to access the API.", "quota"),
        (400, "invalid_request_error", "", "input and `max_tokens` exceed context limit: 9 > 8", "context_too_long"),
        (400, "invalid_request_error", "organization_on_hold", "On hold.", "permission"),
        (402, "billing_error", "", "Pay first.", "quota"),
        (402, "billing_error", "linked_organization_spend_limit_reached", "Limit.", "quota"),
        (429, "rate_limit_error", "contract_spend_limit_reached", "Limit.", "quota"),
        (429, "rate_limit_error", "ramp_limit_exceeded", "Slower.", "rate_limit"),
        (503, "api_error", "cmek_key_unreachable", "Later.", "overloaded"),
        (504, "timeout_error", "", "Too long.", "timeout"),
        (200, "overloaded_error", "", "Overloaded", "overloaded"),
        (200, "api_error", "", "Internal server error", "server"),
        (200, "rate_limit_error", "", "Slower.", "rate_limit"),
        (200, "timeout_error", "", "Too long.", "timeout"),
    ],
)  # fmt: skip
def test_errors_are_understood(status: int, type_: str, code: str, message: str, kind: str) -> None:
    error = {"type": type_, "message": message} | ({"details": {"error_code": code}} if code else {"details": None})
    assert status_error(status, {"type": "error", "error": error}, {}).kind == kind
    found = status_error(status, {"type": "error", "error": error}, {"request-id": "req_1"})
    assert found.request_id == "req_1"


async def test_an_error_within_the_answer_says_what_it_is(llm: Claude, model_server: ModelServer) -> None:
    model_server.script([Turn(text="a b c", fault="error_event", message="We are\n full")])
    end = failed(await ask(llm, "Hi"))
    assert end.error.message == "The provider broke off the answer with an error: We are full"
    assert (end.error.kind, end.error.partial, end.error.request_id) == ("overloaded", True, "req_011")
    assert end.usage.input_tokens > 0


START = '{"type": "message_start", "message": {}}'
TEXT = '{"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}'


async def served(*payloads: str) -> Failed:
    """How an answer of these events ends, which must be a failure. No real server sends them, and so no fake one."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = "".join(f"data: {payload}\n\n" for payload in payloads)
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + body.encode())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        return failed(await ask(Claude(Endpoint("m", f"http://127.0.0.1:{port}", KEY)), "Hi"))


@pytest.mark.parametrize(
    "payloads",
    [
        ["[]"],
        ["17"],
        ['"text"'],
        ["[[[["],
        ['{"choices": 5}'],
        ['{"type": "message_stop"}'],
        [TEXT],
        [START, '{"type": "content_block_start", "index": 0}'],
        [START, '{"type": "content_block_start", "index": [], "content_block": {"type": "text"}}'],
        [START, '{"type": "content_block_start", "index": 0, "content_block": {"type": "tool_use", "id": "1"}}'],
        [START, '{"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "a"}}'],
        [START, '{"type": "content_block_delta", "index": {}}'],
        [START, TEXT, '{"type": "content_block_delta", "index": 0, "delta": 5}'],
        [START, TEXT, '{"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": null}}'],
        [START, '{"type": "message_delta", "delta": [], "usage": "much"}'],
        ['{"type": "message_start", "message": {"usage": {"output_tokens_details": 5}}}'],
    ],
)
async def test_no_json_that_a_server_may_send_raises(payloads: list[str], caplog: pytest.LogCaptureFixture) -> None:
    assert (await served(*payloads)).error.kind == "protocol"
    assert caplog.records == []


async def test_an_error_of_no_known_form_is_the_providers() -> None:
    assert (await served(START, '{"type": "error"}')).error.kind == "server"


async def test_the_fake_server_is_as_strict_as_a_real_one(model_server: ModelServer) -> None:
    """Its refusals are what lets the tests above say that a request was acceptable."""
    hi = {"role": "user", "content": "Hi"}
    use = {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}}
    thoughtful = use | {"id": "toolu_thought_1"}
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "x"}
    text = {"type": "text", "text": "x"}
    thought = {"type": "thinking", "thinking": "x", "signature": "made up"}

    def said(*blocks: Any) -> list[Any]:
        return [hi, {"role": "assistant", "content": list(blocks)}]

    def answered(*blocks: Any, of: Any = use) -> list[Any]:
        return [*said(of), {"role": "user", "content": list(blocks)}]

    bad: dict[str, dict[str, Any]] = {
        "at least one message": {"messages": []},
        "must use the `user` role": {"messages": [{"role": "assistant", "content": "x"}, hi]},
        "roles must alternate": {"messages": [hi, hi]},
        "non-whitespace": {"messages": [{"role": "user", "content": " "}]},
        "NUL": {"messages": [{"role": "user", "content": "a\0"}]},
        "prefill": {"messages": said(text)},
        "without `tool_result`": {"messages": [*said(use), hi]},
        "unexpected `tool_use_id`": {"messages": answered(result, result | {"tool_use_id": "toolu_2"})},
        "must come before": {"messages": answered(text, result)},
        "single result": {"messages": answered(result, result)},
        "Expected `thinking`": {"messages": answered(result | {"tool_use_id": "toolu_thought_1"}, of=thoughtful)},
        "Invalid `signature`": {"messages": [*said(thought, text), hi]},
        "cannot be `thinking`": {"messages": [*said(text, {"type": "redacted_thinking", "data": "?"}), hi]},
        "ids must be unique": {"messages": [*said(use, use), hi]},
        "should not be null": {"messages": [*said(use | {"caller": None}), hi]},
        "temperature": {"messages": [hi], "temperature": 1},
        "Extra inputs": {"messages": [hi], "surprise": 1},
        "max_tokens": {"messages": [hi], "max_tokens": None},
        "at least 1 item": {"messages": [hi], "tools": []},
        "input_schema": {"messages": [hi], "tools": [{"name": "f", "input_schema": {}}]},
        "ttl": {"messages": [hi], "cache_control": {"type": "ephemeral", "ttl": "1d"}},
        "thinking.adaptive": {"messages": [hi], "thinking": {"type": "adaptive", "budget_tokens": 2000}},
        "additionalProperties": {
            "messages": [hi],
            "output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}},
        },
    }
    good = {"Authorization": "Bearer x", "anthropic-version": API_VERSION, "Content-Type": "application/json"}
    url = f"{model_server.address}/v1/messages"
    for words, body in bad.items():
        request = {"model": "echo", "max_tokens": 9} | body
        response = await http_client().post(url, content=json.dumps(request), headers=good)
        assert (response.status_code, response.json()["type"]) == (400, "error"), body
        if words != "cannot be `thinking`":
            assert words in response.json()["error"]["message"]
    for header, status in (("Authorization", 401), ("anthropic-version", 400)):
        headers = {name: value for name, value in good.items() if name != header}
        body = {"model": "echo", "max_tokens": 9, "messages": [hi]}
        assert (await http_client().post(url, content=json.dumps(body), headers=headers)).status_code == status
