"""Gemini by generateContent: the contract of every model, the request as it is sent, Google's own ways."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from dataclasses import replace
from typing import Any

import pytest

from executor.core.events import ReasoningDelta, ToolCallDelta, ToolCallStarted
from executor.core.llms._gemini_answer import GeminiAnswer
from executor.core.llms._http import http_client, status_error
from executor.core.llms._transcript import INTERRUPTED
from executor.core.llms._wire import GRACE
from executor.core.llms.base import BaseLlm, Endpoint
from executor.core.llms.factory import create_llm
from executor.core.llms.gemini import SENTINEL, Gemini
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

KEY = "AIza-a-key-that-nobody-may-see"
MODEL = "gemini-3.8-flash"


def gemini(server: ModelServer, model: str = MODEL, **parameters: Any) -> Gemini:
    return Gemini(Endpoint(model, server.address, KEY), **parameters)


@pytest.fixture
def llm(model_server: ModelServer) -> Gemini:
    return gemini(model_server, include_thoughts=True)


class TestContract(WireContract):
    async def test_a_server_that_does_not_close_the_stream_is_not_waited_for(
        self, llm: BaseLlm, model_server: ModelServer
    ) -> None:
        """Not for long: Google has no word behind which nothing follows, and some servers end every chunk with STOP."""
        model_server.reset()
        model_server.script([Turn(text="Done.", quirks=frozenset({"open_end"}))])
        begun = time.perf_counter()
        assert finished(await ask(llm, "Hi")).usage.output_tokens == 1
        assert time.perf_counter() - begun < GRACE + 2


# --- the request ----------------------------------------------------------------------------------------------------


async def test_a_conversation_goes_out_as_contents(model_server: ModelServer) -> None:
    calls = [ToolCall("abcdefghi", "look_up", {"word": "née"}), ToolCall("abcdefghj", "look_up", {"word": "né"})]
    body = await sent(
        gemini(model_server),
        model_server,
        system("Be brief."),
        user("What is née?"),
        assistant("I look.", *calls),
        tool(ToolResult("abcdefghj", "look_up", "no such word", is_error=True)),
        tool(ToolResult("abcdefghi", "look_up", "born")),
        assistant("Born."),
        user("Thanks."),
        tools=[LOOK_UP],
    )
    assert body == {
        "contents": [
            {"role": "user", "parts": [{"text": "What is née?"}]},
            {
                "role": "model",
                "parts": [
                    {"text": "I look."},
                    {"functionCall": {"name": "look_up", "args": {"word": "née"}}, "thoughtSignature": SENTINEL},
                    {"functionCall": {"name": "look_up", "args": {"word": "né"}}},
                ],
            },
            {
                "role": "user",
                "parts": [
                    {"functionResponse": {"name": "look_up", "response": {"output": "born"}}},
                    {"functionResponse": {"name": "look_up", "response": {"error": "no such word"}}},
                ],
            },
            {"role": "model", "parts": [{"text": "Born."}]},
            {"role": "user", "parts": [{"text": "Thanks."}]},
        ],
        "systemInstruction": {"parts": [{"text": "Be brief."}]},
        "tools": [
            {
                "functionDeclarations": [
                    {
                        "name": "look_up",
                        "description": "Look a word up.",
                        "parametersJsonSchema": LOOK_UP.parameters,
                    }
                ]
            }
        ],
    }


@pytest.mark.parametrize(
    ("model", "base", "path"),
    [
        (MODEL, "", f"/v1/models/{MODEL}"),
        ("models/" + MODEL, "/", f"/v1/models/{MODEL}"),
        ("tunedModels/gemini-x", "", "/v1/tunedModels/gemini-x"),
        ("gemini-flash-latest", "/v1beta", "/v1beta/models/gemini-flash-latest"),
        (MODEL, "/gateway/google/v1/", f"/gateway/google/v1/models/{MODEL}"),
    ],
)
async def test_the_address_is_made_of_base_version_and_model(
    model_server: ModelServer, model: str, base: str, path: str
) -> None:
    await sent(Gemini(Endpoint(model, model_server.address + base, KEY)), model_server, user("Hi"))
    assert model_server.asked[0].path == f"{path}:streamGenerateContent"
    assert model_server.asked[0].query == "alt=sse"


async def test_the_sdk_adds_nothing_of_its_own(llm: Gemini, model_server: ModelServer) -> None:
    await sent(llm, model_server, user("Hi"), idle_timeout=7)
    headers = model_server.asked[0].headers
    assert headers["x-goog-api-key"] == KEY
    assert headers["user-agent"] == "AgentSite"
    assert headers["accept-encoding"] == "identity"
    # Neither telemetry nor a deadline for the server, which the SDK would make of a timeout.
    assert headers.keys() <= {
        "host", "connection", "accept", "accept-encoding", "user-agent", "content-type", "content-length",
        "x-goog-api-key",
    }  # fmt: skip


@pytest.mark.parametrize("model", ["", "a b", "gemini?key=1", "../../gemini", "a&b", "x/../y", "/x", "a#b", "née"])
def test_a_name_that_would_change_the_address_is_refused(model: str) -> None:
    with pytest.raises(ValueError, match="not the name of a model"):
        Gemini(Endpoint(model, "", KEY))


def test_google_is_asked_if_no_address_is_given() -> None:
    assert Gemini.default_base_url == "https://generativelanguage.googleapis.com"
    assert isinstance(create_llm("gemini", Endpoint(MODEL, "", KEY)), Gemini)


async def test_every_parameter_reaches_the_server_and_a_call_overrides_the_agent(model_server: ModelServer) -> None:
    llm = gemini(
        model_server,
        temperature=0.2,
        top_p=0.9,
        max_tokens=50,
        thinking_level="low",
        include_thoughts=True,
        safety="block_only_high",
        extra={"generationConfig": {"topK": 40, "topP": 0.5}, "toolConfig": {}},
        idle_timeout=5,
    )
    body = await sent(llm, model_server, user("Hi"), temperature=0)
    assert body == {
        "contents": [{"role": "user", "parts": [{"text": "Hi"}]}],
        "safetySettings": [
            {"category": f"HARM_CATEGORY_{harm}", "threshold": "BLOCK_ONLY_HIGH"}
            for harm in ("HARASSMENT", "HATE_SPEECH", "SEXUALLY_EXPLICIT", "DANGEROUS_CONTENT")
        ],
        "generationConfig": {
            "temperature": 0,
            "topP": 0.5,
            "maxOutputTokens": 50,
            "thinkingConfig": {"thinkingLevel": "LOW", "includeThoughts": True},
            "topK": 40,
        },
        "toolConfig": {},
    }


async def test_a_thinking_budget_of_nothing_is_not_left_out_and_a_level_wins(model_server: ModelServer) -> None:
    llm = gemini(model_server, thinking_budget=0)
    body = await sent(llm, model_server, user("Hi"))
    assert body["generationConfig"] == {"thinkingConfig": {"thinkingBudget": 0}}
    body = await sent(llm, model_server, user("Hi"), thinking_level="high")
    assert body["generationConfig"] == {"thinkingConfig": {"thinkingLevel": "HIGH"}}


def test_parameters_that_are_fine_have_no_problems() -> None:
    fine: dict[str, Any] = {
        "temperature": 2,
        "thinking_budget": -1,
        "thinking_level": None,
        "safety": "off",
        "extra": {},
    }
    assert Gemini.check_parameters(fine) == []
    assert all(parameter.help for parameter in Gemini.PARAMETERS)


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"temperature": 2.1}, "temperature must be"),
        ({"thinking_level": "LOW"}, "thinking_level must be one of minimal, low"),
        ({"thinking_budget": -2}, "thinking_budget must be a whole number"),
        ({"include_thoughts": "yes"}, "include_thoughts must be true or false"),
        ({"safety": "none"}, "safety must be one of"),
        ({"extra": {"contents": []}}, "extra must be"),
        ({"extra": {"generationConfig": []}}, "generationConfig in extra must be a mapping"),
        ({"thinking_level": "low", "thinking_budget": 0}, "exclude each other"),
        ({"top_k": 1}, "no parameter 'top_k'"),
    ],
)
def test_a_wrong_parameter_is_named_with_what_it_must_be(parameters: dict[str, Any], words: str) -> None:
    (problem,) = Gemini.check_parameters(parameters)
    assert words in problem
    with pytest.raises(ValueError, match=words):
        Gemini(Endpoint(MODEL), **parameters)


SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


@pytest.mark.parametrize(
    ("model", "tools", "form"),
    [
        (MODEL, [LOOK_UP], {"responseMimeType": "application/json", "responseJsonSchema": SCHEMA}),
        ("gemini-2.5-flash", [], {"responseMimeType": "application/json", "responseJsonSchema": SCHEMA}),
        # Refused there; the one who asks checks the answer anyway.
        ("gemini-2.5-flash", [LOOK_UP], {}),
    ],
)
async def test_an_answer_may_be_demanded_in_a_form(
    model_server: ModelServer, model: str, tools: list[ToolSpec], form: Any
) -> None:
    llm = gemini(model_server, model, extra={"generationConfig": {"topK": 40}})
    body = await sent(llm, model_server, user("How many?"), tools=tools, response_schema=SCHEMA)
    assert body["generationConfig"] == {**form, "topK": 40}


async def test_a_function_without_parameters_has_no_schema(llm: Gemini, model_server: ModelServer) -> None:
    now = ToolSpec("now", "The time.", {"type": "object", "properties": {}})
    body = await sent(llm, model_server, user("Hi"), tools=[now])
    assert body["tools"] == [{"functionDeclarations": [{"name": "now", "description": "The time."}]}]


async def test_pictures_go_along_and_what_gemini_cannot_see_is_named(llm: Gemini, model_server: ModelServer) -> None:
    files = [
        File("image/png", "data:image/png;base64,AAAA", "a.png"),
        File("image/jpeg", "https://example.org/b.jpg"),
        File("image/svg+xml", "data:image/svg+xml;base64,AAAA", "c.svg"),
        File("image/png", "data:image/png,%00", "d.png"),
        File("image/png", "/resources/17", "e.png"),
    ]
    body = await sent(llm, model_server, user("Look.", *files))
    assert body["contents"][0]["parts"] == [
        {"text": "Look.\n\n[attached file: e.png (image/png)]"},
        {"inlineData": {"mimeType": "image/png", "data": "AAAA"}},
        {"fileData": {"mimeType": "image/jpeg", "fileUri": "https://example.org/b.jpg"}},
        {"text": "[attached file: c.svg (image/svg+xml)]"},
        {"text": "[attached file: d.png (image/png)]"},
    ]


async def test_a_missing_result_is_made_up_for(llm: Gemini, model_server: ModelServer) -> None:
    calls = [ToolCall(id_, "look_up", {"word": id_}) for id_ in ("one", "two")]
    result = tool(ToolResult("two", "look_up", ""), ToolResult("four", "look_up", "belongs to nobody"))
    body = await sent(llm, model_server, user("?"), assistant("", *calls), result, user("Go on."))
    assert [part["functionResponse"]["response"] for part in body["contents"][2]["parts"]] == [
        {"error": INTERRUPTED},
        {"output": "(no output)"},
    ]


async def test_a_call_that_was_no_json_goes_back_as_an_object(llm: Gemini, model_server: ModelServer) -> None:
    call = ToolCall("x", "1 no such function!", None, '{"word": ')
    body = await sent(llm, model_server, user("?"), assistant("", call), tool(ToolResult("x", "f", "Not JSON.", True)))
    (part,) = body["contents"][1]["parts"]
    assert part["functionCall"] == {"name": "_1_no_such_function_", "args": {}}


@pytest.mark.parametrize(
    "transcript",
    [
        [system("Only rules.")],
        [assistant("I begin."), user("Well?")],
        [user("?"), assistant("Once."), assistant("Twice.", ToolCall("x", "look_up", {}))],
        [assistant("", ToolCall("x", "look_up", {}))],
        [user("?"), assistant("I say this last.")],
    ],
)
async def test_a_transcript_that_google_would_not_take_is_made_acceptable(
    llm: Gemini, model_server: ModelServer, transcript: list[Message]
) -> None:
    assert (await sent(llm, model_server, *transcript))["contents"][0]["role"] == "user"


# --- what is replayed -----------------------------------------------------------------------------------------------


async def first_step(llm: Gemini, server: ModelServer, *quirks: Any, **turn: Any) -> tuple[list[Message], Message]:
    """A transcript up to the results of two calls, and what the model said."""
    given = {"reasoning": "Let me see.", "text": "I look both up.", "calls": TWO, "quirks": frozenset(quirks)}
    server.script([Turn(**{**given, **turn})])
    said = finished(await ask(llm, "?", [LOOK_UP])).message
    results = [ToolResult(call.id, call.name, str(call.arguments)) for call in said.tool_calls]
    return [user("?"), said, tool(*results)], said


@pytest.mark.parametrize(
    "quirks",
    [
        (),
        ("calls_apart",),
        ("signed_text",),
        ("signed_text", "unknown_parts", "calls_apart"),
        ("no_ids",),
        ("same_ids",),
        ("no_choices", "no_parts"),
        ("json_body",),
    ],
    ids="+".join,
)
async def test_what_was_said_goes_back_as_it_came(llm: Gemini, model_server: ModelServer, quirks: Any) -> None:
    """The fake server's signatures hold for all parts before them, so it refuses what is merged, moved or left out."""
    transcript, said = await first_step(llm, model_server, *quirks)
    stored = message_from_json(json.loads(json.dumps(message_to_json(said))), said.native)
    body = await sent(llm, model_server, transcript[0], stored, transcript[2], tools=[LOOK_UP])
    parts = body["contents"][1]["parts"]
    assert said.native is not None
    assert parts == said.native.items
    texts = [part["text"] for part in parts if "text" in part]
    assert texts == ["Let", " me", " see.", "I", " look", " both", " up."]
    assert SENTINEL not in json.dumps(body)
    # A second step on top of the first, then the same question again: the same bytes.
    model_server.script([Turn(calls=TWO[:1], quirks=frozenset(quirks))])
    second = finished(await ask(llm, transcript, [LOOK_UP])).message
    more = [*transcript, second, tool(ToolResult(second.tool_calls[0].id, "look_up", "1"))]
    await sent(llm, model_server, *more, tools=[LOOK_UP])
    await sent(llm, model_server, *more, tools=[LOOK_UP])
    assert model_server.asked[-1].raw == model_server.asked[-2].raw
    assert {request.status for request in model_server.asked} == {200}


async def test_the_signature_of_an_answer_without_calls_goes_back_too(llm: Gemini, model_server: ModelServer) -> None:
    model_server.script([Turn(text="One two.")])
    said = finished(await ask(llm, "?")).message
    body = await sent(llm, model_server, user("?"), said, user("And?"))
    *texts, last = body["contents"][1]["parts"]
    assert texts == [{"text": "One"}, {"text": " two."}]
    assert last.keys() == {"text", "thoughtSignature"}


@pytest.mark.parametrize("quirk", ["no_ids", "same_ids", "no_usage"])
async def test_ids_go_back_as_they_came_and_none_where_none_came(
    llm: Gemini, model_server: ModelServer, quirk: Any
) -> None:
    transcript, said = await first_step(llm, model_server, quirk)
    assert len({call.id for call in said.tool_calls}) == 2
    body = await sent(llm, model_server, *transcript, tools=[LOOK_UP])
    calls = [part["functionCall"] for part in body["contents"][1]["parts"] if "functionCall" in part]
    results = [part["functionResponse"] for part in body["contents"][2]["parts"]]
    assert [result.get("id") for result in results] == [call.get("id") for call in calls]
    assert ["id" in result for result in results] == [quirk != "no_ids"] * 2


@pytest.mark.parametrize("other", ["model", "key", "address", "message", "nothing native", "provider"])
async def test_nothing_of_it_goes_anywhere_else(llm: Gemini, model_server: ModelServer, other: str) -> None:
    (question, said, results), _ = await first_step(llm, model_server)
    asked, native = llm, said.native
    assert native is not None
    match other:
        case "model":
            asked = gemini(model_server, "gemini-4-argon")
        case "key":
            asked = Gemini(Endpoint(MODEL, model_server.address, "another key"))
        case "address":
            asked = Gemini(Endpoint(MODEL, model_server.address + "/v1beta", KEY))
        case "message":
            edited = [Text("Edited.") if isinstance(part, Text) else part for part in said.parts]
            said = Message("assistant", tuple(edited), native)
        case "provider":
            said = replace(said, native=Native("messages", native.scope, MODEL, native.items, native.digest))
        case _:
            said = replace(said, native=None)
    body = await sent(asked, model_server, question, said, results, tools=[LOOK_UP])
    assert body["contents"][1]["parts"] == [
        {"text": "Edited." if other == "message" else "I look both up."},
        {"functionCall": {"name": "look_up", "args": {"word": "a"}}, "thoughtSignature": SENTINEL},
        {"functionCall": {"name": "look_up", "args": {"word": "b"}}},
    ]
    assert [part["functionResponse"].keys() for part in body["contents"][2]["parts"]] == [{"name", "response"}] * 2
    assert "Let me see" not in json.dumps(body)
    assert len(model_server.asked) == 2


@pytest.mark.parametrize("model", ["gemini-2.5-pro", "gemini-2.0-flash", "gemma-4", "gemini-1.5-pro"])
async def test_models_before_gemini_3_get_no_stand_in_for_signatures(model_server: ModelServer, model: str) -> None:
    call = ToolCall("x", "look_up", {"word": "a"})
    messages = (user("?"), assistant("", call), tool(ToolResult("x", "look_up", "1")))
    body = await sent(gemini(model_server, model), model_server, *messages)
    assert body["contents"][1]["parts"] == [{"functionCall": {"name": "look_up", "args": {"word": "a"}}}]


@pytest.mark.parametrize("model", [MODEL, "gemini-4-argon", "gemini-flash-latest", "gemini-10-x"])
async def test_calls_that_came_unsigned_get_the_stand_in(model_server: ModelServer, model: str) -> None:
    llm = gemini(model_server, model)
    transcript, _ = await first_step(llm, model_server, "no_signatures")
    body = await sent(llm, model_server, *transcript, tools=[LOOK_UP])
    signatures = [part.get("thoughtSignature") for part in body["contents"][1]["parts"] if "functionCall" in part]
    assert signatures == [SENTINEL, None]
    assert len(model_server.asked) == 2


async def test_signatures_that_have_become_unreadable_are_left_out(llm: Gemini, model_server: ModelServer) -> None:
    """As when a name such as gemini-flash-latest comes to mean another model: a conversation must go on."""
    transcript, said = await first_step(llm, model_server, "signed_text")
    model_server.script([Turn(text="I begin anew.")])
    answer = finished(await ask(llm, [user("!"), said, transcript[2], user("?")])).message
    for message in (said, answer):
        assert message.native is not None
        for part in message.native.items:
            if "thoughtSignature" in part:
                part["thoughtSignature"] = "c3RhbGU="
    model_server.script([Turn(text="Good.")])
    finished(await ask(llm, [*transcript, answer, user("Go on.")], [LOOK_UP]))
    assert [request.status for request in model_server.asked[-2:]] == [400, 200]
    body = model_server.asked[-1].body
    parts = body["contents"][1]["parts"]
    assert [part.get("thoughtSignature") for part in parts if "functionCall" in part] == [SENTINEL, None]
    assert "c3RhbGU=" not in json.dumps(body)
    assert all(part.get("text", "x") for content in body["contents"] for part in content["parts"])


async def test_another_bad_request_is_not_repeated(llm: Gemini, model_server: ModelServer) -> None:
    model_server.script([Turn(fault="400", message="Thought signature is missing.")])
    assert failed(await ask(llm, "Hi")).error.kind == "bad_request"
    transcript, _ = await first_step(llm, model_server)
    model_server.script([Turn(fault="400", message="Something else.")])
    assert failed(await ask(llm, transcript)).error.kind == "bad_request"
    assert len(model_server.asked) == 3


# --- who is asked, and with what ------------------------------------------------------------------------------------


async def test_not_even_what_no_argument_overrides_is_taken_from_the_environment(
    model_server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("GOOGLE_API_KEY", "GEMINI_API_KEY", "GOOGLE_CLOUD_LOCATION"):
        monkeypatch.setenv(name, "leak")
    monkeypatch.setenv("GOOGLE_API_USE_CLIENT_CERTIFICATE", "true")
    monkeypatch.setenv("GOOGLE_GENAI_HTTP_CLIENT", "httpx")
    monkeypatch.setenv("GOOGLE_GENAI_CLIENT_MODE", "replay")
    monkeypatch.setenv("GOOGLE_GENAI_REPLAYS_DIRECTORY", "/nowhere")
    await sent(gemini(model_server), model_server, user("Hi"))
    await sent(Gemini(Endpoint(MODEL, model_server.address)), model_server, user("Hi"))
    assert [request.headers["x-goog-api-key"] for request in model_server.asked] == [KEY, "none"]
    assert "leak" not in json.dumps([[request.path, request.headers] for request in model_server.asked])


async def test_a_wrong_key_is_told_although_google_calls_it_a_bad_request(
    llm: Gemini, model_server: ModelServer
) -> None:
    model_server.api_key = "another"
    error = failed(await ask(llm, "Hi")).error
    assert (error.kind, error.status) == ("auth", 400)
    assert error.message == "The provider answered 400: API key not valid. Please pass a valid API key."


async def test_the_key_is_in_no_log(llm: Gemini, model_server: ModelServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(0)
    model_server.script([Turn(text="a b"), Turn(fault="400", message=f"Not with {KEY}."), Turn(fault="html_502")])
    for _ in range(3):
        await ask(llm, "Hi")
    assert KEY not in caplog.text


async def test_a_token_for_live_connections_is_a_failure_to_sign_in(model_server: ModelServer) -> None:
    error = failed(await ask(Gemini(Endpoint(MODEL, model_server.address, "auth_tokens/123")), "Hi")).error
    assert error.kind == "auth"
    assert "auth_tokens" not in error.message
    assert model_server.requests == []


async def test_a_hundred_are_answered_at_once_each_with_what_it_asked(llm: Gemini, model_server: ModelServer) -> None:
    begun = time.perf_counter()
    echo = gemini(model_server, "echo")
    answers = await asyncio.gather(*(ask(echo, f"number {n}") for n in range(100)))
    assert [text_of(answer) for answer in answers] == [f"You said: number {n}" for n in range(100)]
    assert time.perf_counter() - begun < 10


def test_the_sdk_is_imported_only_when_a_model_is_asked() -> None:
    code = (
        "import sys\n"
        "from executor.core.llms.base import Endpoint\n"
        "from executor.core.llms.factory import create_llm\n"
        "create_llm('gemini', Endpoint('gemini-3.8-flash', '', 'key'))\n"
        "print([name for name in sys.modules if name.split('.')[0] in ('google', 'aiohttp', 'websockets')])\n"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


# --- the answer -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "quirk",
    [
        "lf",
        "no_choices",
        "no_parts",
        "json_body",
        "no_usage",
        "unknown_parts",
        "signed_text",
    ],
)
async def test_every_way_to_lay_out_chunks_is_read(llm: Gemini, model_server: ModelServer, quirk: Any) -> None:
    text = "Größe 😀 ok"
    model_server.script([Turn(text=text, quirks=frozenset({quirk}))])
    events = await ask(llm, "Hi")
    assert (text_of(events), finished(events).message.text, finished(events).reason) == (text, text, "stop")
    usage = finished(events).usage
    assert usage == Usage() if quirk == "no_usage" else usage.output_tokens == 3


async def test_an_answer_names_itself_and_its_model(llm: Gemini, model_server: ModelServer) -> None:
    model_server.script([Turn(text="Hi.")])
    end = finished(await ask(llm, "Hi"))
    assert end.response_id.startswith("resp-")
    assert (end.model, end.native_reason) == (MODEL, "STOP")


async def test_thoughts_are_shown_only_when_they_are_asked_for_and_are_counted_always(
    model_server: ModelServer,
) -> None:
    model_server.script([Turn(text="So.", reasoning="a b c")] * 2)
    silent, shown = await ask(gemini(model_server), "?"), await ask(gemini(model_server, include_thoughts=True), "?")
    assert not [event for event in silent if isinstance(event, ReasoningDelta)]
    assert finished(shown).message.parts[0] == Reasoning("a b c")
    for events in (silent, shown):
        usage = finished(events).usage
        assert (usage.output_tokens, usage.reasoning_tokens) == (4, 3)


async def test_a_call_comes_whole(llm: Gemini, model_server: ModelServer) -> None:
    _, said = await first_step(llm, model_server, "calls_apart")
    model_server.script([Turn(calls=TWO)])
    events = await ask(llm, "?", [LOOK_UP])
    end = finished(events)
    assert (end.reason, end.native_reason) == ("tool_calls", "STOP")
    assert [(call.name, call.arguments) for call in end.message.tool_calls] == [
        ("look_up", {"word": "a"}),
        ("look_up", {"word": "b"}),
    ]
    assert [(e.index, e.name) for e in events if isinstance(e, ToolCallStarted)] == [(0, "look_up"), (1, "look_up")]
    assert [e.arguments for e in events if isinstance(e, ToolCallDelta)] == ['{"word": "a"}', '{"word": "b"}']
    assert [call.arguments for call in said.tool_calls] == [{"word": "a"}, {"word": "b"}]


async def test_a_call_without_arguments_has_none_and_one_without_a_name_is_a_failure(
    llm: Gemini, model_server: ModelServer
) -> None:
    model_server.script([Turn(calls=TWO[:1], quirks=frozenset({"null_arguments"})), Turn(calls=(Call(""),))])
    assert finished(await ask(llm, "?")).message.tool_calls[0].arguments == {}
    assert failed(await ask(llm, "?")).error.kind == "protocol"


@pytest.mark.parametrize(
    ("native", "reason"),
    [
        ("STOP", "stop"),
        ("MAX_TOKENS", "length"),
        ("CONTINUATION", "pause"),
        ("SAFETY", "content_filter"),
        ("RECITATION", "content_filter"),
        ("MODEL_ARMOR", "content_filter"),
        ("MALFORMED_FUNCTION_CALL", "malformed_tool_call"),
        ("UNEXPECTED_TOOL_CALL", "malformed_tool_call"),
        ("A_REASON_OF_TOMORROW", "other"),
    ],
)
async def test_the_reason_of_the_end_is_translated_and_never_decides_about_calls(
    llm: Gemini, model_server: ModelServer, native: str, reason: str
) -> None:
    model_server.script([Turn(text="So", finish=native), Turn(calls=TWO, finish=native)])
    end = finished(await ask(llm, "Hi"))
    assert (end.reason, end.native_reason, end.message.text) == (reason, native, "So")
    end = finished(await ask(llm, "Hi", [LOOK_UP]))
    assert (end.reason, end.native_reason, len(end.message.tool_calls)) == ("tool_calls", native, 2)
    # Neither functions nor a continuation were asked for by anybody else.
    assert len(model_server.asked) == 2


@pytest.mark.parametrize(
    ("native", "kind", "retryable"),
    [
        ("SAFETY", "content_filter", False),
        ("MALFORMED_FUNCTION_CALL", "protocol", True),
        ("MISSING_THOUGHT_SIGNATURE", "bad_request", False),
        ("OTHER", "protocol", True),
    ],
)
async def test_an_answer_with_nothing_in_it_that_was_stopped_is_a_failure(
    llm: Gemini, model_server: ModelServer, native: str, kind: str, retryable: bool
) -> None:
    model_server.script([Turn(finish=native)])
    end = failed(await ask(llm, "Hi"))
    assert (end.error.kind, end.error.retryable, end.partial) == (kind, retryable, None)
    assert end.usage.input_tokens > 0
    model_server.script([Turn(finish="MAX_TOKENS")])
    assert finished(await ask(llm, "Hi")).reason == "length"


async def test_a_question_that_is_blocked_is_a_failure_that_says_so(llm: Gemini, model_server: ModelServer) -> None:
    model_server.script([Turn(quirks=frozenset({"prompt_block"}), finish="JAILBREAK")])
    end = failed(await ask(llm, "Hi"))
    assert end.error.kind == "content_filter"
    assert end.error.message == "The provider's filter held back the question (JAILBREAK)."
    assert (end.partial, end.error.retryable) == (None, False)
    assert end.usage.input_tokens > 0


async def test_usage_is_the_last_that_was_told_and_counts_the_cache(llm: Gemini, model_server: ModelServer) -> None:
    counts = {"promptTokenCount": 9, "cachedContentTokenCount": 4, "toolUsePromptTokenCount": 2}
    counts |= {"candidatesTokenCount": 5, "thoughtsTokenCount": 3}
    odd: dict[str, Any] = {"promptTokenCount": None, "candidatesTokenCount": -1, "thoughtsTokenCount": "many"}
    model_server.script([Turn(text="a", usage=counts), Turn(text="a", usage=odd)])
    assert finished(await ask(llm, "Hi")).usage == Usage(11, 8, cache_read_tokens=4, reasoning_tokens=3)
    assert finished(await ask(llm, "Hi")).usage == Usage()


# --- what goes wrong ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("quirks", [(), ("raw_error",), ("raw_error", "lf")], ids=str)
async def test_an_error_in_mid_answer_is_what_it_says(llm: Gemini, model_server: ModelServer, quirks: Any) -> None:
    model_server.script([Turn(text="a b c", fault="error_event", message="No\n room", quirks=frozenset(quirks))])
    end = failed(await ask(llm, "Hi"))
    assert (end.error.kind, end.error.status, end.error.partial) == ("overloaded", 503, True)
    assert end.error.message == "The provider answered 503: No room"
    assert end.partial is not None
    assert end.partial.text == "a"


@pytest.mark.parametrize(
    ("fault", "kind"),
    [("408", "timeout"), ("409", "server"), ("422", "bad_request"), ("api_key_invalid", "auth")],
)
async def test_more_refusals_say_what_they_are(llm: Gemini, model_server: ModelServer, fault: Any, kind: str) -> None:
    model_server.script([Turn(fault=fault)])
    assert failed(await ask(llm, "Hi")).error.kind == kind


@pytest.mark.parametrize(("header", "seconds"), [("", 13.4), ("7", 7)])
async def test_how_long_to_wait_is_read_from_the_body_unless_a_header_says_it(
    llm: Gemini, model_server: ModelServer, header: str, seconds: float
) -> None:
    model_server.script([Turn(fault="429", retry_after=header)])
    error = failed(await ask(llm, "Hi")).error
    assert (error.kind, error.retry_after, error.status) == ("rate_limit", seconds, 429)


def _google(code: int, status: str, message: str = "", **detail: Any) -> Any:
    return {"error": {"code": code, "status": status, "message": message, "details": [detail] if detail else None}}


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, _google(400, "INVALID_ARGUMENT", "Request payload size exceeds the limit: 20971520 bytes."), "too_large"),
        (400, _google(400, "FAILED_PRECONDITION", "User location is not supported for the API use."), "permission"),
        (400, [_google(400, "INVALID_ARGUMENT", "API key expired.", reason="API_KEY_INVALID")], "auth"),
        (429, _google(429, "RESOURCE_EXHAUSTED", "Resource has been exhausted (e.g. check quota)."), "rate_limit"),
        (429, _google(429, "RESOURCE_EXHAUSTED", "You exceeded your current quota, limit: 0, model: x"), "quota"),
        (429, _google(429, "RESOURCE_EXHAUSTED", "You exceeded your current quota."), "quota"),
        (429, _google(429, "RESOURCE_EXHAUSTED", "You exceeded your current quota.", retryDelay="2s"), "rate_limit"),
        (429, _google(429, "RESOURCE_EXHAUSTED", "Your prepayment credits are depleted.", retryDelay="2s"), "quota"),
        (429, _google(429, "RESOURCE_EXHAUSTED", "", violations=[{"quotaId": "XPerDayY"}]), "quota"),
        (429, _google(429, "RESOURCE_EXHAUSTED", "", violations=[17], retryDelay="soon"), "rate_limit"),
        (200, _google(504, "DEADLINE_EXCEEDED"), "timeout"),
        (200, _google(500, "INTERNAL"), "server"),
    ],
)
def test_googles_errors_are_understood(status: int, body: Any, kind: str) -> None:
    assert status_error(status, body, {}).kind == kind


async def test_a_page_in_another_alphabet_does_not_hide_the_status(llm: Gemini) -> None:
    head = "HTTP/1.1 502 Bad Gateway\r\nConnection: close\r\nContent-Type: application/json; charset=latin-1\r\n\r\n"
    events = await _served(head.encode() + "Zurückgewiesen".encode("latin-1"))
    assert failed(events).error.kind == "server"
    assert "Zurückgewiesen" in failed(events).error.message


@pytest.mark.parametrize(("fault", "words"), [("html_200", "web page"), ("empty_200", "before it was complete")])
async def test_a_200_without_an_answer_in_it_is_a_failure(
    llm: Gemini, model_server: ModelServer, fault: Any, words: str
) -> None:
    model_server.script([Turn(fault=fault)])
    error = failed(await ask(llm, "Hi")).error
    assert error.kind == "protocol"
    assert words in error.message


async def test_an_answer_without_its_last_chunk_is_a_failure(llm: Gemini, model_server: ModelServer) -> None:
    model_server.script(
        [Turn(text="So", quirks=frozenset({"no_finish_reason", *quirks})) for quirks in ((), ("json_body",))]
    )
    assert failed(await ask(llm, "Hi")).error.kind == "protocol"
    assert failed(await ask(llm, "Hi")).error.kind == "protocol"


@pytest.mark.parametrize(
    "payload",
    [
        "[]", "17", "null", '"text"', '{"candidates": 5}', '{"candidates": [null]}', "[[[[",
        '{"candidates": [{"content": {"parts": [null, 1, {"functionCall": 1}, {"text": 1}]}}]}',
        '{"promptFeedback": 1, "usageMetadata": 1, "responseId": {}}', '{"error": 1}', '{"error": {"details": 1}}',
        '[{"error": {"code": 503}}]',
    ],
)  # fmt: skip
async def test_no_json_that_a_server_may_send_raises(payload: str) -> None:
    """Served raw, because the fake server only sends what some server really sends."""
    for body in (payload, f"data: {payload}\r\n\r\n"):
        events = await _served(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + body.encode())
        assert failed(events).error.kind in ("protocol", "server", "overloaded")


async def test_an_error_in_the_list_of_a_server_that_does_not_stream_is_what_it_says() -> None:
    events = await _served(b'HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n[{"error": {"code": 503, "message": "Busy"}}]')
    assert (failed(events).error.kind, failed(events).error.status) == ("overloaded", 503)


async def _served(response: bytes) -> list[Any]:
    """The events of an answer that is these bytes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(response)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        return await ask(Gemini(Endpoint(MODEL, f"http://127.0.0.1:{port}", KEY)), "Hi")


def test_texts_that_cannot_be_stored_are_cleaned_also_in_what_is_replayed() -> None:
    answer = GeminiAnswer()
    parts = [{"text": "a\0b"}, {"functionCall": {"name": "f\0", "id": "\ud800", "args": {"x\0": "\ud800"}}}]
    events = list(answer.feed({"candidates": [{"content": {"parts": parts}, "finishReason": "STOP"}]}))
    events += list(answer.close())
    assert "\0" not in repr(events).replace("\\x00", "\0")
    assert json.dumps(answer.native, ensure_ascii=False).encode()
    assert answer.calls[0].arguments == {"x\ufffd": "\ufffd"}


async def test_the_fake_server_is_as_strict_as_a_real_one(model_server: ModelServer) -> None:
    """Its refusals are what lets the tests above say that a request was acceptable."""
    hi, call = {"role": "user", "parts": [{"text": "Hi"}]}, {"functionCall": {"name": "f", "args": {}}}
    signed = {**call, "thoughtSignature": SENTINEL}
    result = {"functionResponse": {"name": "f", "response": {"output": "1"}}}
    bad: list[dict[str, Any]] = [
        {"contents": []},
        {"contents": [{"role": "robot", "parts": [{"text": "x"}]}]},
        {"contents": [{"role": "user", "parts": []}]},
        {"contents": [{"role": "user", "parts": [{"text": ""}]}]},
        {"contents": [{"role": "user", "parts": [{"text": "a", "functionCall": {}}]}]},
        {"contents": [{"role": "model", "parts": [{"text": "x"}]}]},
        {"contents": [hi, {"role": "model", "parts": [signed]}]},
        {"contents": [hi, {"role": "model", "parts": [call]}, {"role": "user", "parts": [result]}]},
        {"contents": [hi, {"role": "model", "parts": [signed, call]}, {"role": "user", "parts": [result]}]},
        {"contents": [hi, {"role": "user", "parts": [result]}]},
        {"contents": [hi, {"role": "model", "parts": [{"text": "x", "thoughtSignature": "AAAA"}]}, hi]},
        {"contents": [hi], "surprise": 1},
        {"contents": [hi], "tools": []},
        {"contents": [hi], "generationConfig": {"thinkingConfig": {"thinkingLevel": "LOW", "thinkingBudget": 1}}},
        {"contents": [hi], "generationConfig": {"responseJsonSchema": {}}},
    ]
    url = f"{model_server.address}/v1/models/{MODEL}:streamGenerateContent"
    for body in bad:
        response = await http_client().post(url, json=body, headers={"x-goog-api-key": "x"})
        assert response.status_code == 400, body
        assert response.json()["error"]["status"] == "INVALID_ARGUMENT"
    response = await http_client().post(url, json={"contents": [hi]})
    assert response.json()["error"]["details"][0]["reason"] == "API_KEY_INVALID"
    models = (await http_client().get(f"{model_server.address}/v1/models", headers={"x-goog-api-key": "x"})).json()
    assert models["models"][0]["name"] == "models/echo"
