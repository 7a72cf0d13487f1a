"""Chat Completions: the contract of every model, the request as it is sent, the oddities of the servers out there."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace
from email.utils import formatdate
from typing import Any

import pytest

from executor.core.events import ReasoningDelta, ToolCallStarted
from executor.core.llms._http import http_client, retry_after, status_error
from executor.core.llms._json import clean, dumps, parse_arguments
from executor.core.llms._transcript import INTERRUPTED
from executor.core.llms.base import Endpoint
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
from tests.fakes.script import Call, Turn, analyse_and_draw

pytestmark = pytest.mark.usefixtures("closed_connections")

KEY = "sk-a-key-that-nobody-may-see"


@pytest.fixture
def llm(model_server: ModelServer) -> OpenAiCompatible:
    return OpenAiCompatible(Endpoint("any-model", model_server.base_url, KEY))


class TestContract(WireContract):
    pass


# --- the request ----------------------------------------------------------------------------------------------------


async def test_a_conversation_goes_out_as_chat_messages(llm: OpenAiCompatible, model_server: ModelServer) -> None:
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
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "What is née?"},
            {
                "role": "assistant",
                "content": "I look.",
                "tool_calls": [
                    {
                        "id": "abcdefghi",
                        "type": "function",
                        "function": {"name": "look_up", "arguments": '{"word":"née","n":1}'},
                    }
                ],
            },
            {"role": "tool", "tool_call_id": "abcdefghi", "content": "born"},
            {"role": "assistant", "content": "Born."},
            {"role": "user", "content": "Thanks."},
        ],
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": "look_up",
                    "description": "Look a word up.",
                    "parameters": LOOK_UP.parameters,
                },
            }
        ],
        "stream": True,
        "stream_options": {"include_usage": True},
    }


async def test_tools_are_left_out_when_there_are_none(llm: OpenAiCompatible, model_server: ModelServer) -> None:
    assert "tools" not in await sent(llm, model_server, user("Hi"))


async def test_a_function_without_parameters_still_has_a_schema(
    llm: OpenAiCompatible, model_server: ModelServer
) -> None:
    body = await sent(llm, model_server, user("Hi"), tools=[ToolSpec("now", "The time.", {})])
    assert body["tools"][0]["function"]["parameters"] == {"type": "object", "properties": {}}


async def test_every_parameter_reaches_the_server_and_a_call_overrides_the_agent(model_server: ModelServer) -> None:
    given = {
        "temperature": 0.2,
        "top_p": 0.9,
        "max_tokens": 50,
        "reasoning_effort": "low",
        "seed": 7,
        "stop": ["END"],
        "extra": {"top_k": 40},
        "idle_timeout": 5,
    }
    llm = OpenAiCompatible(Endpoint("m", model_server.base_url), **given)
    body = await sent(llm, model_server, user("Hi"), temperature=0)
    flat = {k: v for k, v in given.items() if k not in ("extra", "idle_timeout")} | {"temperature": 0, "top_k": 40}
    assert {name: body.get(name) for name in flat} == flat
    assert not {"extra", "idle_timeout"} & body.keys()


async def test_pictures_go_along_and_other_files_are_named(llm: OpenAiCompatible, model_server: ModelServer) -> None:
    picture = File("image/png", "data:image/png;base64,AAAA", "a.png")
    remote = File("image/jpeg", "https://example.org/b.jpg")
    stored = File("image/png", "/resources/17", "c.png")
    table = File("text/csv", "data:text/csv,1", "d.csv")
    body = await sent(llm, model_server, user("Look.", picture, remote, stored, table))
    assert body["messages"][0]["content"] == [
        {"type": "text", "text": "Look.\n\n[attached file: c.png (image/png)]\n\n[attached file: d.csv (text/csv)]"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        {"type": "image_url", "image_url": {"url": "https://example.org/b.jpg"}},
    ]


async def test_results_follow_their_calls_in_order_and_a_missing_one_is_made_up_for(
    llm: OpenAiCompatible, model_server: ModelServer
) -> None:
    calls = [ToolCall(id_, "look_up", {"word": id_}) for id_ in ("one", "two", "three")]
    body = await sent(
        llm,
        model_server,
        user("?"),
        assistant("", *calls),
        tool(ToolResult("three", "look_up", "3")),
        tool(ToolResult("one", "look_up", "")),
        tool(ToolResult("four", "look_up", "belongs to nobody")),
        user("Go on."),
    )
    assert body["messages"][1]["content"] is None
    assert [(m["tool_call_id"], m["content"]) for m in body["messages"] if m["role"] == "tool"] == [
        ("one", "(no output)"),
        ("two", INTERRUPTED),
        ("three", "3"),
    ]


async def test_a_call_that_was_no_json_goes_back_as_json(llm: OpenAiCompatible, model_server: ModelServer) -> None:
    call = ToolCall("x", "no such function!", None, '{"word": ')
    body = await sent(llm, model_server, user("?"), assistant("", call), tool(ToolResult("x", "f", "Not JSON.", True)))
    assert body["messages"][1]["tool_calls"][0]["function"] == {"name": "no_such_function_", "arguments": "{}"}


async def test_questions_after_a_stop_are_joined_and_empty_messages_left_out(
    llm: OpenAiCompatible, model_server: ModelServer
) -> None:
    silent = Message("assistant", (Reasoning("Hm."),))
    body = await sent(llm, model_server, user("First."), silent, assistant(""), user("Second."), user(""))
    assert body["messages"] == [{"role": "user", "content": "First.\n\nSecond."}]


async def test_the_same_transcript_gives_the_same_bytes_also_after_it_was_stored(
    llm: OpenAiCompatible, model_server: ModelServer
) -> None:
    model_server.script(
        [Turn(text="I look.", reasoning="Hm.", calls=(Call("look_up", {"word": "ü", "a": 1}),)), Turn(text="a")]
    )
    first = finished(await ask(llm, "?", [LOOK_UP])).message
    result = tool(ToolResult(first.tool_calls[0].id, "look_up", "ü"))
    stored = message_from_json(json.loads(json.dumps(message_to_json(first))), first.native)
    finished(await ask(llm, [user("?"), first, result], [LOOK_UP]))
    await sent(llm, model_server, user("?"), stored, result, tools=[LOOK_UP])
    assert model_server.asked[-1].raw == model_server.asked[-2].raw


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
async def test_reasoning_goes_back_to_where_it_came_from(
    llm: OpenAiCompatible, model_server: ModelServer, field: str
) -> None:
    turn = Turn(reasoning="Let me see.", calls=(Call("look_up", {"word": "a"}),))
    model_server.script([replace(turn, quirks=frozenset({"reasoning_field"})) if field == "reasoning" else turn])
    first = finished(await ask(llm, "?", [LOOK_UP])).message
    body = await sent(llm, model_server, user("?"), first, tool(ToolResult(first.tool_calls[0].id, "look_up", "1")))
    assert body["messages"][1][field] == "Let me see."


@pytest.mark.parametrize("other", ["model", "key", "message", "nothing native"])
async def test_reasoning_goes_nowhere_else(llm: OpenAiCompatible, model_server: ModelServer, other: str) -> None:
    model_server.script([Turn(reasoning="Secret thoughts.", text="Answer.")])
    message = finished(await ask(llm, "?")).message
    asked = llm
    match other:
        case "model":
            asked = OpenAiCompatible(Endpoint("other-model", model_server.base_url, KEY))
        case "key":
            asked = OpenAiCompatible(Endpoint("any-model", model_server.base_url, "another key"))
        case "message":
            message = Message("assistant", (Text("Edited."),), message.native)
        case _:
            message = Message("assistant", message.parts)
    body = await sent(asked, model_server, user("?"), message, user("And?"))
    assert body["messages"][1].keys() == {"role", "content"}
    assert "Secret" not in json.dumps(body)


async def test_a_foreign_native_part_is_left_alone(llm: OpenAiCompatible, model_server: ModelServer) -> None:
    native = Native("anthropic", "elsewhere", "any-model", [{"type": "thinking"}], assistant("Answer.").digest())
    body = await sent(llm, model_server, user("?"), Message("assistant", (Text("Answer."),), native), user("And?"))
    assert body["messages"][1] == {"role": "assistant", "content": "Answer."}


async def test_ids_of_calls_go_back_as_the_server_gave_them_but_nowhere_else(
    llm: OpenAiCompatible, model_server: ModelServer
) -> None:
    model_server.script([Turn(calls=(Call("look_up", {"word": "a"}, id="functions.look_up:0"),))])
    message = finished(await ask(llm, "?", [LOOK_UP])).message
    ours = message.tool_calls[0].id
    assert ours.isalnum()
    assert len(ours) == 9
    transcript = (user("?"), message, tool(ToolResult(ours, "look_up", "1")))
    assert (await sent(llm, model_server, *transcript))["messages"][2]["tool_call_id"] == "functions.look_up:0"
    other = OpenAiCompatible(Endpoint("other-model", model_server.base_url, KEY))
    assert (await sent(other, model_server, *transcript))["messages"][2]["tool_call_id"] == ours


# --- who is asked, and with what ------------------------------------------------------------------------------------


async def test_a_server_without_keys_is_asked_without_one(
    model_server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "leak")
    await sent(OpenAiCompatible(Endpoint("m", model_server.base_url)), model_server, user("Hi"))
    headers = model_server.asked[0].headers
    assert (headers["authorization"], headers["user-agent"]) == ("Bearer none", "AgentSite")
    assert not [name for name in headers if name.startswith(("openai", "cookie"))]


@pytest.mark.parametrize("url", ["", "localhost:11434", "ftp://host/v1", "http://", "file:///etc/passwd"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="not the address of a model server"):
        OpenAiCompatible(Endpoint("m", url))


async def test_hundreds_are_answered_at_once(model_server: ModelServer) -> None:
    llm = OpenAiCompatible(Endpoint("stream-5-20", model_server.base_url, KEY))
    begun = time.perf_counter()
    answers = await asyncio.gather(*(ask(llm, "Go.") for _ in range(300)))
    assert {text_of(answer) for answer in answers} == {"token " * 5}
    # One after the other they would take a minute.
    assert time.perf_counter() - begun < 20


async def test_the_factory_makes_it(model_server: ModelServer) -> None:
    assert isinstance(create_llm("openai_compatible", Endpoint("m", model_server.base_url)), OpenAiCompatible)


# --- parameters -----------------------------------------------------------------------------------------------------


def test_parameters_that_are_fine_have_no_problems() -> None:
    assert OpenAiCompatible.check_parameters({"temperature": 0, "stop": "END", "seed": None, "extra": {}}) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", "hot"),
        ("temperature", 2.1),
        ("temperature", True),
        ("temperature", float("nan")),
        ("top_p", -0.1),
        ("max_tokens", 0),
        ("max_tokens", 1.5),
        ("reasoning_effort", ""),
        ("seed", "7"),
        ("stop", [1]),
        ("extra", {"messages": []}),
        ("extra", {"x": object()}),
        ("extra", "x"),
        ("idle_timeout", 0),
    ],
)
def test_a_wrong_parameter_is_named_with_what_it_must_be(name: str, value: Any) -> None:
    (problem,) = OpenAiCompatible.check_parameters({name: value})
    assert problem.startswith(f"{name} must be ")
    with pytest.raises(ValueError, match=name):
        OpenAiCompatible(Endpoint("m", "http://localhost/v1"), **{name: value})


async def test_an_unknown_parameter_is_refused_with_the_ones_there_are(llm: OpenAiCompatible) -> None:
    with pytest.raises(ValueError, match=r"no parameter 'temprature'.*idle_timeout.*temperature"):
        llm.stream([user("Hi")], temprature=1)


@pytest.mark.parametrize("strict", [True, False])
async def test_an_answer_is_demanded_strictly_where_the_schema_allows_it(
    llm: OpenAiCompatible, model_server: ModelServer, strict: bool
) -> None:
    schema: dict[str, Any] = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    schema |= {"additionalProperties": False} if strict else {}
    body = await sent(llm, model_server, user("Hi"), response_schema=schema)
    assert body["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": schema, "strict": strict},
    }


# --- how servers write their answers ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "quirk",
    [
        "crlf",
        "cr",
        "bom",
        "comments",
        "extra_fields",
        "multi_line",
        "no_last_newline",
        "no_done",
        "no_finish_reason",
        "no_choices",
        "content_parts",
        "surrogate_halves",
        "json_body",
        "no_usage",
    ],
)
@pytest.mark.parametrize("write", [0, 1])
async def test_every_dialect_is_read(llm: OpenAiCompatible, model_server: ModelServer, quirk: Any, write: int) -> None:
    text = "Größe 😀 ok"
    model_server.script([Turn(text=text, quirks=frozenset({quirk}), write=write)])
    events = await ask(llm, "Hi")
    assert (text_of(events), finished(events).message.text, finished(events).reason) == (text, text, "stop")
    usage = finished(events).usage
    assert usage == Usage() if quirk == "no_usage" else usage.output_tokens == 3


async def test_a_server_that_rejects_stream_options_is_asked_once_without_and_then_never_again(
    llm: OpenAiCompatible, model_server: ModelServer
) -> None:
    model_server.script([Turn(text="one", quirks=frozenset({"rejects_stream_options"})), Turn(text="two")])
    assert [text_of(await ask(llm, "Hi")) for _ in range(2)] == ["one", "two"]
    assert ["stream_options" in request.body for request in model_server.asked] == [True, False, False]


async def test_a_cut_off_after_the_end_of_the_answer_does_no_harm(
    llm: OpenAiCompatible, model_server: ModelServer
) -> None:
    # Head, one word, the finish reason; then, in place of the usage, the connection breaks.
    model_server.script([Turn(text="Done.", fault="drop", after=3)])
    assert finished(await ask(llm, "Hi")).message.text == "Done."


@pytest.mark.parametrize("write", [0, 3])
@pytest.mark.parametrize("chunk", [1, 3, 1000])
async def test_think_tags_at_the_beginning_are_reasoning(
    llm: OpenAiCompatible, model_server: ModelServer, chunk: int, write: int
) -> None:
    thought, text = "a < b </thin, so\n\nyes", "\\boxed{<think>} </think> stays"
    model_server.script(
        [Turn(reasoning=thought, text=text, chunk=chunk, write=write, quirks=frozenset({"think_tags"}))]
    )
    events = await ask(llm, "Hi")
    assert "".join(e.text for e in events if isinstance(e, ReasoningDelta)) == thought
    assert text_of(events) == text


@pytest.mark.parametrize("text", ["<", "<thin", "  <table>", "I <think> so", "<think", " "])
async def test_what_only_looks_like_a_think_tag_is_text(
    llm: OpenAiCompatible, model_server: ModelServer, text: str
) -> None:
    model_server.script([Turn(text=text, chunk=1)])
    events = await ask(llm, "Hi")
    assert text_of(events) == finished(events).message.text == text


async def test_a_refusal_is_shown_and_counts_as_filtered(llm: OpenAiCompatible, model_server: ModelServer) -> None:
    model_server.script([Turn(refusal="I cannot help with that.")])
    end = finished(await ask(llm, "Hi"))
    assert (end.message.text, end.reason) == ("I cannot help with that.", "content_filter")


@pytest.mark.parametrize(
    ("native", "reason"),
    [("stop", "stop"), ("length", "length"), ("content_filter", "content_filter"), ("eos", "other"),
     ("tool_calls", "stop")],
)  # fmt: skip
async def test_the_reason_of_the_end_is_translated(
    llm: OpenAiCompatible, model_server: ModelServer, native: str, reason: str
) -> None:
    model_server.script([Turn(text="So", finish=native)])
    end = finished(await ask(llm, "Hi"))
    assert (end.reason, end.native_reason) == (reason, native)


async def test_usage_counts_what_came_from_the_cache(llm: OpenAiCompatible, model_server: ModelServer) -> None:
    model_server.script(
        [
            Turn(text="a", usage={"prompt_tokens": 9, "completion_tokens": 5, "prompt_cache_hit_tokens": 4}),
            Turn(text="a", usage={"prompt_tokens": None, "completion_tokens": -1, "prompt_tokens_details": None}),
        ]
    )
    assert finished(await ask(llm, "Hi")).usage == Usage(9, 5, 4)
    assert finished(await ask(llm, "Hi")).usage == Usage()


# --- calls as servers write them --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "quirks",
    [
        {"index_zero"},
        {"index_zero", "no_ids"},
        {"index_zero", "same_ids"},
        {"index_zero", "dict_arguments"},
        {"no_index"},
        {"no_index", "no_ids"},
        {"no_ids"},
        {"same_ids"},
        {"dict_arguments"},
        {"finish_stop"},
        {"name_repeated"},
        {"name_repeated", "no_ids"},
        {"json_body"},
        {"no_finish_reason"},
    ],
    ids=lambda quirks: "+".join(sorted(quirks)),
)
async def test_parallel_calls_are_told_apart_and_can_be_answered(
    llm: OpenAiCompatible, model_server: ModelServer, quirks: Any
) -> None:
    model_server.script([Turn(text="I look.", calls=TWO, quirks=frozenset(quirks))])
    events = await ask(llm, "?", [LOOK_UP])
    end = finished(events)
    assert end.reason == "tool_calls"
    assert [(call.name, call.arguments) for call in end.message.tool_calls] == [
        ("look_up", {"word": "a"}),
        ("look_up", {"word": "b"}),
    ]
    ids = [call.id for call in end.message.tool_calls]
    assert len(set(ids)) == 2
    assert [(e.index, e.id) for e in events if isinstance(e, ToolCallStarted)] == list(enumerate(ids))
    results = tool(*(ToolResult(id_, "look_up", id_) for id_ in ids))
    body = await sent(llm, model_server, user("?"), end.message, results, tools=[LOOK_UP])
    assert [m["content"] for m in body["messages"] if m["role"] == "tool"] == ids


async def test_the_ids_that_the_server_gave_are_kept(llm: OpenAiCompatible, model_server: ModelServer) -> None:
    model_server.script([Turn(calls=(Call("look_up", {"word": "a"}, id="call_7"),))])
    (call,) = finished(await ask(llm, "?", [LOOK_UP])).message.tool_calls
    assert call.provider_id == "call_7"
    assert call.id != "call_7"


@pytest.mark.parametrize("quirk", ["null_arguments", "index_zero"])
async def test_a_call_without_arguments_has_none(llm: OpenAiCompatible, model_server: ModelServer, quirk: Any) -> None:
    model_server.script([Turn(calls=(Call("now", ""),), quirks=frozenset({quirk}))])
    assert finished(await ask(llm, "?")).message.tool_calls[0].arguments == {}


@pytest.mark.parametrize("raw", ['{"word": ', "word=a", "[1]", '"word"', '{"n": NaN}', "[" * 100_000])
async def test_arguments_that_are_no_json_object_are_passed_on_as_written(
    llm: OpenAiCompatible, model_server: ModelServer, raw: str
) -> None:
    model_server.script([Turn(calls=(Call("look_up", raw),), chunk=5000)])
    end = finished(await ask(llm, "?", [LOOK_UP]))
    (call,) = end.message.tool_calls
    assert (call.arguments, call.raw_arguments, end.reason) == (None, raw, "tool_calls")


@pytest.mark.parametrize("finish", ["length", "content_filter"])
async def test_a_call_that_was_cut_off_is_dropped_and_a_whole_one_kept(
    llm: OpenAiCompatible, model_server: ModelServer, finish: str
) -> None:
    cut = Call("look_up", '{"word": "b')
    model_server.script(
        [
            Turn(text="I look.", calls=(cut,), finish=finish),
            Turn(calls=(TWO[0], cut), finish=finish),
            Turn(calls=(Call("look_up", ""),), finish=finish),
        ]
    )
    nothing, one, bare = [finished(await ask(llm, "?", [LOOK_UP])) for _ in range(3)]
    assert (nothing.reason, nothing.message.tool_calls) == (finish, ())
    assert (one.reason, [call.arguments for call in one.message.tool_calls]) == ("tool_calls", [{"word": "a"}])
    assert (bare.reason, bare.message.tool_calls) == (finish, ())


async def test_a_call_without_a_name_is_a_failure(llm: OpenAiCompatible, model_server: ModelServer) -> None:
    model_server.script([Turn(calls=(Call("", {"word": "a"}),))])
    assert failed(await ask(llm, "?")).error.kind == "protocol"


async def test_the_scenario_of_the_card_runs_through(llm: OpenAiCompatible, model_server: ModelServer) -> None:
    model_server.script(analyse_and_draw("a b a"))
    transcript = [user("Analyse 'a b a' and draw it.")]
    counts = {"most_common_words": [{"word": "a", "count": 2}, {"word": "b", "count": 1}]}
    results = [json.dumps(counts), "Drawn."]
    while (end := finished(await ask(llm, transcript))).reason == "tool_calls":
        (call,) = end.message.tool_calls
        transcript += [end.message, tool(ToolResult(call.id, call.name, results.pop(0)))]
    drawn = next(c for m in transcript for c in m.tool_calls if c.name == "draw_chart")
    assert drawn.arguments is not None
    assert (drawn.arguments["labels"], drawn.arguments["values"]) == (["a", "b"], [2, 1])
    assert model_server.left_over == []


# --- what goes wrong ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "kind"),
    [("408", "timeout"), ("409", "server"), ("422", "bad_request"), ("context_llama_cpp", "context_too_long")],
)
async def test_more_refusals_say_what_they_are(
    llm: OpenAiCompatible, model_server: ModelServer, fault: Any, kind: str
) -> None:
    model_server.script([Turn(fault=fault)])
    assert failed(await ask(llm, "Hi")).error.kind == kind


@pytest.mark.parametrize(("fault", "words"), [("html_200", "web page"), ("empty_200", "before it was complete")])
async def test_a_200_without_an_answer_in_it_is_a_failure(
    llm: OpenAiCompatible, model_server: ModelServer, fault: Any, words: str
) -> None:
    model_server.script([Turn(fault=fault)])
    error = failed(await ask(llm, "Hi")).error
    assert error.kind == "protocol"
    assert words in error.message


async def test_the_servers_own_words_are_passed_on(llm: OpenAiCompatible, model_server: ModelServer) -> None:
    model_server.script([Turn(text="a b c", fault="error_event", message="upstream\n gave\0 up")])
    end = failed(await ask(llm, "Hi"))
    assert end.error.message == "The provider broke off the answer with an error: upstream gave\ufffd up"
    assert end.error.kind == "server"


@pytest.mark.parametrize("value", ["7", "7.5", "HTTP date", "past date", "soon", "", "inf", "nan", "-3"])
async def test_retry_after_is_read_in_seconds_and_as_a_date(value: str) -> None:
    now = 1_790_000_000.0
    expected = {"7": 7, "7.5": 7.5, "HTTP date": 30, "past date": 0, "-3": 0}.get(value)
    header = {"HTTP date": formatdate(now + 30, usegmt=True), "past date": formatdate(now - 30, usegmt=True)}
    assert retry_after({"retry-after": header.get(value, value)}, now=now) == expected


async def test_retry_after_reaches_the_error(llm: OpenAiCompatible, model_server: ModelServer) -> None:
    model_server.script([Turn(fault="429", retry_after="12")])
    error = failed(await ask(llm, "Hi")).error
    assert (error.kind, error.retry_after, error.status) == ("rate_limit", 12, 429)


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, {"error": {"message": "This model's maximum context length is 4096 tokens"}}, "context_too_long"),
        (400, {"object": "error", "message": "prompt is too long", "code": 400}, "context_too_long"),
        (400, {"error": {"code": "content_filter", "message": "filtered"}}, "content_filter"),
        (402, {"error": {"message": "Insufficient credits", "code": 402}}, "quota"),
        (500, {"error": {"type": "invalid_request_error", "message": "bad tool"}}, "bad_request"),
        (200, {"error": {"code": 502, "message": "Provider error"}}, "server"),
        (200, {"error": {"code": 429, "message": "slow down"}}, "rate_limit"),
        (200, {"error": {"type": "overloaded_error"}}, "overloaded"),
        (200, {"error": "out of memory"}, "server"),
        (404, {"detail": "Not Found"}, "not_found"),
        (400, [{"error": {"message": "from a list", "code": 400}}], "bad_request"),
        (503, "busy", "overloaded"),
        (418, None, "bad_request"),
        (500, 17, "server"),
    ],
)
def test_error_bodies_of_many_servers_are_understood(status: int, body: Any, kind: str) -> None:
    assert status_error(status, body, {}).kind == kind


@pytest.mark.parametrize(
    ("secret", "said", "shown"),
    [
        (KEY, f"No such key: x{KEY}x.", "No such key: x•••x."),
        ("abc", "No such key: abc.", "No such key: •••."),
        ("s3", "Bad s3, 's3' or s3", "Bad •••, '•••' or •••"),
        ("ab", "about a cab", "about a cab"),  # A part of a word tells nothing.
        ("a.c", "abc or a.c", "abc or •••"),
        ("", "Nothing to hide.", "Nothing to hide."),
        (KEY, f"No such key: {KEY.upper()}.", "No such key: •••."),
        (KEY, f"{KEY[:8]} and {KEY[-9:]}, {KEY[:7]}…{KEY[-7:]}", f"••• and •••, {KEY[:7]}…{KEY[-7:]}"),
        (KEY, f"İ{KEY[3:20]}{KEY[5:15]}, K{KEY[1:9]}", "İ•••, K•••"),
        ("12345678", "12345678 or 2345678", "••• or 2345678"),
        ("AbC", "abc or ABC, not abcd", "••• or •••, not abcd"),
    ],
)
def test_a_key_is_blotted_out_however_short_it_is_and_in_part(secret: str, said: str, shown: str) -> None:
    error = status_error(401, {"error": {"message": said}}, {"x-request-id": said}, secret=secret)
    assert error.message == f"The provider answered 401: {shown}"
    assert error.request_id == shown


@pytest.mark.parametrize("payload", ["[]", "17", "null", '"text"', '{"choices": 5}', '{"choices": [null]}', "[[[["])
async def test_no_json_that_a_server_may_send_raises(payload: str) -> None:
    """Served raw, because the fake server only sends what some server really sends."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\ndata: " + payload.encode() + b"\n\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        events = await ask(OpenAiCompatible(Endpoint("m", f"http://127.0.0.1:{port}/v1")), "Hi")
    assert failed(events).error.kind == "protocol"


# --- text that is not quite text --------------------------------------------------------------------------------------


def test_lone_surrogates_and_nul_are_replaced_and_pairs_joined() -> None:
    assert clean("a\ud83d\ude00b") == "a😀b"
    assert clean("a\ud83db\0") == "a\ufffdb\ufffd"
    assert clean("plain") == "plain"
    assert dumps("nul \0") == '"nul \ufffd"'.encode()
    assert dumps("half \ud800") == '"half \ufffd"'.encode()
    assert json.loads(dumps({"a\0": ["\ud800", {"b": "\\u0000"}]})) == {"a\ufffd": ["\ufffd", {"b": "\\u0000"}]}


@pytest.mark.parametrize(
    ("raw", "arguments"),
    [
        ("", {}),
        (" null ", {}),
        ('{"a": 1}', {"a": 1}),
        ('"{\\"a\\": 1}"', {"a": 1}),
        ('{"a": "x\\u0000\\ud800"}', {"a": "x\ufffd\ufffd"}),
        ("{", None),
        ("true", None),
        ('{"a": Infinity}', None),
        ("9" * 5000, None),
    ],
)
def test_arguments_are_read_leniently_but_are_an_object(raw: str, arguments: Any) -> None:
    assert parse_arguments(raw) == arguments


async def test_the_fake_server_is_as_strict_as_a_real_one(llm: OpenAiCompatible, model_server: ModelServer) -> None:
    """Its refusals are what lets the tests above say that a request was acceptable."""
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    bad: list[dict[str, Any]] = [
        {"messages": []},
        {"messages": [{"role": "robot", "content": "x"}]},
        {"messages": [{"role": "user", "content": ""}]},
        {"messages": [{"role": "user", "content": "a\0"}]},
        {"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": None}]},
        {"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "tool_calls": [call]}]},
        {"messages": [{"role": "tool", "content": "x", "tool_call_id": "1"}]},
        {"messages": [{"role": "user", "content": "x"}], "tools": []},
        {"messages": [{"role": "user", "content": "x"}], "tools": [{"type": "function", "function": {"name": "f"}}]},
        {"messages": [{"role": "user", "content": "x"}], "surprise": 1},
        {"messages": [{"role": "user", "content": "x"}], "stream_options": {}},
    ]
    for body in bad:
        response = await http_client().post(
            f"{model_server.base_url}/chat/completions", json={"model": "echo"} | body, headers={"Authorization": "x"}
        )
        assert response.status_code == 400, body
        assert response.json()["error"]["message"]
    response = await http_client().post(f"{model_server.base_url}/chat/completions", json={})
    assert response.status_code == 401


async def test_a_directive_in_the_question_scripts_the_answer(llm: OpenAiCompatible, model_server: ModelServer) -> None:
    question = user('Please.\n@turns [{"calls": [{"name": "look_up", "arguments": {"word": "a"}}]}, {"text": "Done."}]')
    first = finished(await ask(llm, [question], [LOOK_UP]))
    result = tool(ToolResult(first.message.tool_calls[0].id, "look_up", "1"))
    assert text_of(await ask(llm, [question, first.message, result], [LOOK_UP])) == "Done."
