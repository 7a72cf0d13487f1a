"""The Responses API: the contract of every model, the request as it is sent, what is replayed and where."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from executor.core.errors import LLMError
from executor.core.events import ReasoningDelta, ToolCallComplete, ToolCallDelta, ToolCallStarted
from executor.core.llms._answer import BrokenOff
from executor.core.llms._gpt_answer import GptAnswer
from executor.core.llms._http import http_client, status_error
from executor.core.llms._transcript import INTERRUPTED
from executor.core.llms.base import Endpoint
from executor.core.llms.factory import create_llm
from executor.core.llms.gpt import Gpt
from executor.core.llms.openai_compatible import OpenAiCompatible
from executor.core.messages import (
    File,
    Message,
    Native,
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
from tests.fakes.script import Call, Quirk, Turn, analyse_and_draw

pytestmark = pytest.mark.usefixtures("closed_connections")

KEY = "sk-a-key-that-nobody-may-see"


@pytest.fixture
def llm(model_server: ModelServer) -> Gpt:
    return Gpt(Endpoint("gpt-test", model_server.base_url, KEY))


class TestContract(WireContract):
    pass


# --- the request ----------------------------------------------------------------------------------------------------


async def answered(llm: Gpt, server: ModelServer, turn: Turn) -> Message:
    server.script([turn])
    return finished(await ask(llm, "?", [LOOK_UP])).message


def results_of(message: Message) -> Message:
    return tool(*(ToolResult(call.id, call.name, f"result {n}") for n, call in enumerate(message.tool_calls)))


async def test_a_conversation_goes_out_as_items(llm: Gpt, model_server: ModelServer) -> None:
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
    assert model_server.asked[0].path == "/v1/responses"
    assert body == {
        "model": "gpt-test",
        "instructions": "Be brief.",
        "input": [
            {"role": "user", "content": "What is née?"},
            {"role": "assistant", "content": "I look."},
            {
                "type": "function_call",
                "call_id": "abcdefghi",
                "name": "look_up",
                "arguments": '{"word":"née","n":1}',
            },
            {"type": "function_call_output", "call_id": "abcdefghi", "output": "born"},
            {"role": "assistant", "content": "Born."},
            {"role": "user", "content": "Thanks."},
        ],
        "tools": [
            {
                "type": "function",
                "name": "look_up",
                "description": "Look a word up.",
                "parameters": LOOK_UP.parameters,
                "strict": False,
            }
        ],
        "include": ["reasoning.encrypted_content"],
        "store": False,
        "stream": True,
    }


async def test_a_function_without_parameters_still_has_a_schema(llm: Gpt, model_server: ModelServer) -> None:
    body = await sent(llm, model_server, user("Hi"), tools=[ToolSpec("now", "The time.", {})])
    assert body["tools"][0]["parameters"] == {"type": "object", "properties": {}}
    assert "instructions" not in body
    assert "tools" not in await sent(llm, model_server, user("Hi"))


async def test_every_parameter_reaches_the_server_and_a_call_overrides_the_agent(model_server: ModelServer) -> None:
    llm = Gpt(
        Endpoint("m", model_server.base_url),
        effort="xhigh",
        summary="auto",
        verbosity="low",
        max_tokens=50,
        service_tier="flex",
        extra={"prompt_cache_key": "k"},
        idle_timeout=5,
    )
    body = await sent(llm, model_server, user("Hi"), effort="low")
    assert body["reasoning"] == {"effort": "low", "summary": "auto"}
    assert body["text"] == {"verbosity": "low"}
    assert (body["max_output_tokens"], body["service_tier"], body["prompt_cache_key"]) == (50, "flex", "k")
    assert not {"effort", "summary", "verbosity", "max_tokens", "extra", "idle_timeout", "temperature"} & body.keys()
    cool = Gpt(Endpoint("m", model_server.base_url), temperature=0)
    assert (await sent(cool, model_server, user("Hi")))["temperature"] == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("effort", "huge"),
        ("summary", True),
        ("verbosity", ""),
        ("max_tokens", 15),
        ("temperature", 3),
        ("service_tier", "slow"),
        ("extra", {"store": True}),
        ("extra", {"previous_response_id": "resp_1"}),
        ("extra", {"include": []}),
    ],
)
def test_a_wrong_parameter_is_named_with_what_it_must_be(name: str, value: Any) -> None:
    (problem,) = Gpt.check_parameters({name: value})
    assert problem.startswith(f"{name} must be ")
    with pytest.raises(ValueError, match=name):
        Gpt(Endpoint("m"), **{name: value})


def test_temperature_and_thinking_exclude_each_other() -> None:
    assert Gpt.check_parameters({"temperature": 1, "effort": "none"}) == []
    assert Gpt.check_parameters({"temperature": None, "effort": "high"}) == []
    (problem,) = Gpt.check_parameters({"temperature": 1, "effort": "high"})
    assert "Leave temperature or effort empty" in problem


@pytest.mark.parametrize("strict", [True, False])
async def test_an_answer_is_demanded_strictly_where_the_schema_allows_it(
    llm: Gpt, model_server: ModelServer, strict: bool
) -> None:
    schema: dict[str, Any] = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    schema |= {"additionalProperties": False} if strict else {}
    body = await sent(llm, model_server, user("Hi"), response_schema=schema, verbosity="high")
    form = {"type": "json_schema", "name": "answer", "schema": schema, "strict": strict}
    assert body["text"] == {"verbosity": "high", "format": form}


async def test_pictures_go_along_and_other_files_are_named(llm: Gpt, model_server: ModelServer) -> None:
    picture = File("image/png", "data:image/png;base64,AAAA", "a.png")
    remote = File("image/jpeg", "https://example.org/b.jpg")
    table = File("text/csv", "data:text/csv,1", "d.csv")
    body = await sent(llm, model_server, user("Look.", picture, remote, table))
    assert body["input"][0]["content"] == [
        {"type": "input_text", "text": "Look.\n\n[attached file: d.csv (text/csv)]"},
        {"type": "input_image", "detail": "auto", "image_url": "data:image/png;base64,AAAA"},
        {"type": "input_image", "detail": "auto", "image_url": "https://example.org/b.jpg"},
    ]


async def test_calls_that_were_no_json_or_never_answered_go_back_as_what_is_acceptable(
    llm: Gpt, model_server: ModelServer
) -> None:
    calls = [ToolCall("one", "no such function!", None, '{"word": '), ToolCall("two", "look_up", {})]
    body = await sent(llm, model_server, user("?"), assistant("", *calls), tool(ToolResult("one", "f", "")))
    assert body["input"][1:] == [
        {"type": "function_call", "call_id": "one", "name": "no_such_function_", "arguments": "{}"},
        {"type": "function_call", "call_id": "two", "name": "look_up", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "one", "output": "(no output)"},
        {"type": "function_call_output", "call_id": "two", "output": INTERRUPTED},
    ]


def test_the_sdk_is_imported_only_when_a_model_is_asked() -> None:
    code = (
        "import sys; from executor.core.llms.base import Endpoint; from executor.core.llms.factory import create_llm;"
        "create_llm('gpt', Endpoint('m'), effort='low');"
        "print({'openai', 'anthropic', 'google.genai'} & sys.modules.keys())"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


async def test_the_factory_makes_it_and_openai_is_asked_unless_told_otherwise(
    llm: Gpt, model_server: ModelServer
) -> None:
    assert isinstance(create_llm("gpt", Endpoint("m")), Gpt)
    assert Gpt(Endpoint("m"))._base_url == "https://api.openai.com/v1"
    await sent(llm, model_server, user("Hi"))
    headers = model_server.asked[0].headers
    assert (headers["authorization"], headers["user-agent"]) == (f"Bearer {KEY}", "AgentSite")
    assert not [name for name in headers if name.startswith(("openai", "cookie"))]


# --- what is replayed -----------------------------------------------------------------------------------------------

THOUGHTFUL = Turn(reasoning="Let me see.\n\nTwo words.", text="I look.", calls=TWO)


async def test_reasoning_and_parallel_calls_go_back_as_they_came(llm: Gpt, model_server: ModelServer) -> None:
    message = await answered(llm, model_server, THOUGHTFUL)
    body = await sent(llm, model_server, user("?"), message, results_of(message), tools=[LOOK_UP])
    reasoning, said, first, second, *outputs = body["input"][1:]
    assert reasoning["encrypted_content"]
    assert reasoning["id"].startswith("rs_")
    assert [part["text"] for part in reasoning["summary"]] == ["Let me see.", "Two words."]
    assert (said["id"][:4], said["status"], said["content"][0]["text"]) == ("msg_", "completed", "I look.")
    assert [(call["id"][:3], call["arguments"]) for call in (first, second)] == [
        ("fc_", '{"word": "a"}'),
        ("fc_", '{"word": "b"}'),
    ]
    assert outputs == [
        {"type": "function_call_output", "call_id": first["call_id"], "output": "result 0"},
        {"type": "function_call_output", "call_id": second["call_id"], "output": "result 1"},
    ]
    assert message.native is not None
    assert body["input"][1:5] == message.native.items


async def test_the_same_transcript_gives_the_same_bytes_also_after_it_was_stored(
    llm: Gpt, model_server: ModelServer
) -> None:
    first = await answered(llm, model_server, THOUGHTFUL)
    assert first.native is not None
    native = replace(first.native, items=json.loads(json.dumps(first.native.items)))
    stored = message_from_json(json.loads(json.dumps(message_to_json(first))), native)
    for message in (first, stored):
        await sent(llm, model_server, user("?"), message, results_of(message), tools=[LOOK_UP])
    assert model_server.asked[-1].raw == model_server.asked[-2].raw


@pytest.mark.parametrize("other", ["model", "key", "address", "message", "api", "nothing native"])
async def test_reasoning_goes_nowhere_else(llm: Gpt, model_server: ModelServer, other: str) -> None:
    message = await answered(llm, model_server, THOUGHTFUL)
    assert message.native is not None
    asked, text, native = llm, "I look.", message.native
    match other:
        case "model":
            asked = Gpt(Endpoint("other-model", model_server.base_url, KEY))
        case "key":
            asked = Gpt(Endpoint("gpt-test", model_server.base_url, "another key"))
        case "address":
            asked = Gpt(Endpoint("gpt-test", f"{model_server.address}/other/v1", KEY))
        case "message":
            text = "Edited."
            message = Message("assistant", (Text(text), *message.tool_calls), native)
        case "api":
            native = Native("chat", native.scope, native.model, native.items, native.digest)
            message = Message("assistant", message.parts, native)
        case _:
            message = Message("assistant", message.parts)
    body = await sent(asked, model_server, user("?"), message, results_of(message))
    ids = [call.id for call in message.tool_calls]
    assert body["input"][1:4] == [
        {"role": "assistant", "content": text},
        {"type": "function_call", "call_id": ids[0], "name": "look_up", "arguments": '{"word":"a"}'},
        {"type": "function_call", "call_id": ids[1], "name": "look_up", "arguments": '{"word":"b"}'},
    ]
    assert [item["call_id"] for item in body["input"][4:]] == ids


async def test_one_conversation_changes_its_provider_twice(llm: Gpt, model_server: ModelServer) -> None:
    chat = OpenAiCompatible(Endpoint("chat-test", model_server.base_url, KEY))
    transcript = [user("?")]
    for model in (llm, chat, llm):
        model_server.script([Turn(reasoning=f"Thought {len(transcript)}.", text="I look.", calls=TWO)])
        message = finished(await ask(model, transcript, [LOOK_UP])).message
        transcript += [message, results_of(message)]
    body = await sent(llm, model_server, *transcript)
    kinds = [item.get("type", item.get("role")) for item in body["input"]]
    turn = ["function_call", "function_call", "function_call_output", "function_call_output"]
    assert kinds == ["user", "reasoning", "message", *turn, "assistant", *turn, "reasoning", "message", *turn]
    assert "Thought 3" not in json.dumps(body)


async def test_reasoning_that_is_not_in_the_item_is_left_out_with_the_ids_that_point_to_it(
    llm: Gpt, model_server: ModelServer
) -> None:
    model_server.script([Turn(reasoning="Hm.", text="I look.", calls=TWO, quirks=frozenset({"no_encrypted"}))])
    message = finished(await ask(llm, "?", [LOOK_UP])).message
    body = await sent(llm, model_server, user("?"), message, results_of(message))
    assert [item["type"] for item in body["input"][1:4]] == ["message", "function_call", "function_call"]
    assert not any({"id", "status"} & item.keys() for item in body["input"])


@pytest.mark.parametrize("way", ["nothing follows it", "something else follows it"])
def test_reasoning_that_led_to_nothing_that_is_left_does_not_go_back(way: str) -> None:
    """OpenAI refuses it."""
    thought = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "x"}
    said = {"type": "message", "id": "msg_0", "status": "completed", "role": "assistant",
            "content": [{"type": "output_text", "text": "I look."}]}  # fmt: skip
    cut = {"type": "function_call", "id": "fc_2", "call_id": "c", "name": "look_up", "arguments": '{"wo'}
    answer = GptAnswer()
    items = [said, thought, cut] if way == "nothing follows it" else [thought, said, cut]
    for item in items:
        list(answer.feed({"type": "response.output_item.done", "item": item}))
    list(
        answer.feed(
            {"type": "response.incomplete", "response": {"incomplete_details": {"reason": "max_output_tokens"}}}
        )
    )
    list(answer.close())
    assert [item["type"] for item in answer.native] == (["message"] if items[0] is said else ["reasoning", "message"])
    assert not any({"id", "status"} & item.keys() for item in answer.native)


async def test_fields_that_are_sent_to_us_but_refused_from_us_are_left_out(llm: Gpt, model_server: ModelServer) -> None:
    model_server.script([Turn(reasoning="Hm.", text="I look.", calls=TWO, quirks=frozenset({"null_fields"}))])
    message = finished(await ask(llm, "?", [LOOK_UP])).message
    body = await sent(llm, model_server, user("?"), message, results_of(message))
    assert body["input"][1].keys() == {"id", "type", "summary", "encrypted_content"}
    assert not any(None in item.values() for item in body["input"])


async def test_commentary_and_answer_are_paragraphs_and_go_back_with_their_phases(
    llm: Gpt, model_server: ModelServer
) -> None:
    model_server.script([Turn(reasoning="a\n\nb", text="I think.\n\nDone.", quirks=frozenset({"commentary"}))])
    events = await ask(llm, "?")
    end = finished(events)
    assert text_of(events) == end.message.text == "I think.\n\nDone."
    assert "".join(e.text for e in events if isinstance(e, ReasoningDelta)) == "a\n\nb"
    body = await sent(llm, model_server, user("?"), end.message, user("And?"))
    assert [item.get("phase") for item in body["input"]] == [None, None, "commentary", "final_answer", None]


async def test_a_model_that_does_not_reason_is_asked_once_for_its_reasoning_and_then_never_again(
    llm: Gpt, model_server: ModelServer
) -> None:
    model_server.script([Turn(text="one", quirks=frozenset({"rejects_include"})), Turn(text="two")])
    assert [text_of(await ask(llm, "Hi")) for _ in range(2)] == ["one", "two"]
    assert ["include" in request.body for request in model_server.asked] == [True, False, False]
    assert all(request.body["store"] is False for request in model_server.asked)


async def test_a_conversation_is_not_lost_when_its_reasoning_cannot_be_read_any_more(
    llm: Gpt, model_server: ModelServer
) -> None:
    message = await answered(llm, model_server, THOUGHTFUL)
    model_server.script([Turn(text="Anew.", quirks=frozenset({"stale_reasoning"}))])
    transcript = [user("?"), message, results_of(message)]
    assert text_of(await ask(llm, transcript, [LOOK_UP])) == "Anew."
    last = model_server.asked[-1].body["input"]
    assert [item.get("type") for item in last[1:4]] == ["message", "function_call", "function_call"]
    assert not any("id" in item for item in last)
    assert len(model_server.asked) == 3


async def test_other_refusals_are_not_asked_again(llm: Gpt, model_server: ModelServer) -> None:
    message = await answered(llm, model_server, THOUGHTFUL)
    model_server.script([Turn(fault="400")])
    assert failed(await ask(llm, [user("?"), message, results_of(message)])).error.kind == "bad_request"
    assert len(model_server.asked) == 2


# --- how the answer is written ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "quirks",
    [
        {"no_deltas"}, {"no_added"}, {"no_added", "no_deltas"}, {"no_item_done"}, {"json_body"},
        {"index_zero"}, {"index_zero", "no_added"}, {"no_index"}, {"no_ids"}, {"same_ids"}, {"index_zero", "same_ids"},
        {"dict_arguments"}, {"null_fields"}, {"no_usage"},
    ],
    ids=lambda quirks: "+".join(sorted(quirks)),
)  # fmt: skip
async def test_everything_is_shown_once_and_parallel_calls_are_told_apart(
    llm: Gpt, model_server: ModelServer, quirks: Any
) -> None:
    model_server.script([Turn(reasoning="One.\n\nTwo.", text="I look.", calls=TWO, quirks=frozenset(quirks))])
    events = await ask(llm, "?", [LOOK_UP])
    end = finished(events)
    assert "".join(e.text for e in events if isinstance(e, ReasoningDelta)) == "One.\n\nTwo."
    assert text_of(events) == end.message.text == "I look."
    assert (end.reason, end.native_reason) == ("tool_calls", "completed")
    assert [(call.name, call.arguments) for call in end.message.tool_calls] == [
        ("look_up", {"word": "a"}),
        ("look_up", {"word": "b"}),
    ]
    ids = [call.id for call in end.message.tool_calls]
    assert [(e.index, e.id) for e in events if isinstance(e, ToolCallStarted)] == list(enumerate(ids))
    for complete in (e for e in events if isinstance(e, ToolCallComplete)):
        deltas = [e.arguments for e in events if isinstance(e, ToolCallDelta) and e.index == complete.index]
        assert "".join(deltas) == complete.call.raw_arguments
    assert end.usage == (Usage() if quirks == {"no_usage"} else end.usage)
    body = await sent(llm, model_server, user("?"), end.message, results_of(end.message), tools=[LOOK_UP])
    assert [item["output"] for item in body["input"] if "output" in item] == ["result 0", "result 1"]


async def test_a_refusal_is_shown_and_counts_as_filtered(llm: Gpt, model_server: ModelServer) -> None:
    for quirks in (frozenset[Quirk](), frozenset[Quirk]({"no_deltas"})):
        model_server.script([Turn(refusal="I cannot help with that.", quirks=quirks)])
        end = finished(await ask(llm, "Hi"))
        assert (end.message.text, end.reason) == ("I cannot help with that.", "content_filter")
        body = await sent(llm, model_server, user("?"), end.message, user("Why?"))
        assert body["input"][1]["content"] == [{"type": "refusal", "refusal": "I cannot help with that."}]


@pytest.mark.parametrize(
    ("native", "reason"),
    [("max_output_tokens", "length"), ("content_filter", "content_filter"), ("steered", "other")],
)
async def test_an_answer_that_was_cut_short_says_why(
    llm: Gpt, model_server: ModelServer, native: str, reason: str
) -> None:
    model_server.script([Turn(reasoning="Hm.", text="So", finish=native)])
    end = finished(await ask(llm, "Hi"))
    assert (end.reason, end.native_reason, end.usage.output_tokens) == (reason, native, 2)
    body = await sent(llm, model_server, user("?"), end.message, user("Go on."))
    assert [item.get("type") for item in body["input"]] == [None, "reasoning", "message", None]


async def test_an_answer_that_ended_while_thinking_is_not_sent_back(llm: Gpt, model_server: ModelServer) -> None:
    model_server.script([Turn(reasoning="Hm. And so on.", finish="length")])
    end = finished(await ask(llm, "Hi"))
    assert (end.reason, end.message.text) == ("length", "")
    body = await sent(llm, model_server, user("?"), end.message, user("Go on."))
    assert body["input"] == [{"role": "user", "content": "?\n\nGo on."}]


async def test_a_call_that_was_cut_off_is_dropped_and_a_whole_one_kept(llm: Gpt, model_server: ModelServer) -> None:
    cut = Call("look_up", '{"word": "b')
    model_server.script(
        [
            Turn(reasoning="Hm.", text="I look.", calls=(cut,), finish="length"),
            Turn(reasoning="Hm.", calls=(TWO[0], cut), finish="length"),
            Turn(calls=(Call("look_up", ""),), finish="length"),
        ]
    )
    nothing, one, bare = [finished(await ask(llm, "?", [LOOK_UP])) for _ in range(3)]
    assert (nothing.reason, nothing.message.tool_calls) == ("length", ())
    assert (one.reason, [call.arguments for call in one.message.tool_calls]) == ("tool_calls", [{"word": "a"}])
    assert (bare.reason, bare.message.tool_calls) == ("length", ())
    for end in (nothing, one):
        await sent(llm, model_server, user("?"), end.message, results_of(end.message), user("Go on."))


@pytest.mark.parametrize("raw", ['{"word": ', "word=a", "[1]", "[" * 100_000])
async def test_arguments_that_are_no_json_object_are_passed_on_but_not_sent_back(
    llm: Gpt, model_server: ModelServer, raw: str
) -> None:
    model_server.script([Turn(reasoning="Hm.", calls=(Call("look_up", raw),), chunk=5000)])
    end = finished(await ask(llm, "?", [LOOK_UP]))
    (call,) = end.message.tool_calls
    assert (call.arguments, call.raw_arguments, end.reason) == (None, raw, "tool_calls")
    body = await sent(llm, model_server, user("?"), end.message, results_of(end.message))
    assert (body["input"][1]["type"], body["input"][2]["arguments"]) == ("reasoning", "{}")


@pytest.mark.parametrize("arguments", ["", None])
async def test_a_call_without_arguments_has_none(llm: Gpt, model_server: ModelServer, arguments: Any) -> None:
    quirks: frozenset[Quirk] = frozenset() if arguments == "" else frozenset({"null_arguments"})
    model_server.script([Turn(calls=(Call("now", ""),), quirks=quirks)])
    assert finished(await ask(llm, "?")).message.tool_calls[0].arguments == {}


async def test_a_call_without_a_name_is_a_failure(llm: Gpt, model_server: ModelServer) -> None:
    model_server.script([Turn(calls=(Call("", {"word": "a"}),))])
    assert failed(await ask(llm, "?")).error.kind == "protocol"


async def test_usage_counts_what_came_from_the_cache(llm: Gpt, model_server: ModelServer) -> None:
    full = {
        "input_tokens": 9, "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 3},
        "output_tokens": 5, "output_tokens_details": {"reasoning_tokens": 2}, "total_tokens": 14,
    }  # fmt: skip
    odd = {"input_tokens": None, "output_tokens": -1, "input_tokens_details": None}
    model_server.script([Turn(text="a", usage=full), Turn(text="a", usage=odd)])
    assert finished(await ask(llm, "Hi")).usage == Usage(9, 5, 4, 3, 2)
    assert finished(await ask(llm, "Hi")).usage == Usage()


async def test_a_task_of_six_steps_runs_through(llm: Gpt, model_server: ModelServer) -> None:
    steps = [Turn(reasoning=f"Step {n}.", calls=TWO) for n in range(5)]
    model_server.script([*steps, Turn(reasoning="Done.", text="All done.")])
    transcript = [user("Go.")]
    while (end := finished(await ask(llm, transcript, [LOOK_UP]))).reason == "tool_calls":
        transcript += [end.message, results_of(end.message)]
    assert end.message.text == "All done."
    assert sum(item.get("type") == "reasoning" for item in model_server.asked[-1].body["input"]) == 5


async def test_the_scenario_of_the_card_runs_through(llm: Gpt, model_server: ModelServer) -> None:
    model_server.script(analyse_and_draw("a b a"))
    transcript = [user("Analyse 'a b a' and draw it.")]
    results = [json.dumps({"most_common_words": [{"word": "a", "count": 2}]}), "Drawn."]
    while (end := finished(await ask(llm, transcript))).reason == "tool_calls":
        (call,) = end.message.tool_calls
        transcript += [end.message, tool(ToolResult(call.id, call.name, results.pop(0)))]
    drawn = next(c for m in transcript for c in m.tool_calls if c.name == "draw_chart")
    assert drawn.arguments is not None
    assert (drawn.arguments["labels"], drawn.arguments["values"]) == (["a"], [2])
    assert model_server.left_over == []


# --- what goes wrong ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("quirk", ["", "flat_error", "failed_event"])
async def test_a_failure_in_mid_answer_is_told_in_three_ways(llm: Gpt, model_server: ModelServer, quirk: Any) -> None:
    quirks: frozenset[Quirk] = frozenset({quirk}) if quirk else frozenset()
    model_server.script([Turn(text="a b c", fault="error_event", message=f"upstream {KEY}\n gave\0 up", quirks=quirks)])
    end = failed(await ask(llm, "Hi"))
    assert end.error.message == "The provider broke off the answer with an error: upstream ••• gave\ufffd up"
    assert (end.error.kind, end.error.partial) == ("server", True)
    assert end.usage.output_tokens == (3 if quirk == "failed_event" else 0)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("rate_limit_exceeded", "rate_limit"), ("insufficient_quota", "quota"), ("server_error", "server"),
        ("invalid_prompt", "content_filter"), ("bio_policy", "content_filter"), ("slow_down", "overloaded"),
        ("context_length_exceeded", "context_too_long"), ("vector_store_timeout", "timeout"),
        ("image_too_large", "too_large"), ("failed_to_download_image", "bad_request"), ("something_new", "server"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("way", ["flat", "failed"])
def test_codes_of_failures_in_mid_answer_are_known(code: str, kind: str, way: str) -> None:
    error = {"code": code, "message": "No."}
    event = {"type": "error", **error} if way == "flat" else {"type": "response.failed", "response": {"error": error}}
    with pytest.raises(BrokenOff) as broken:
        list(GptAnswer().feed(event))
    assert status_error(200, broken.value.body, {}).kind == kind


@pytest.mark.parametrize(
    ("words", "seconds"),
    [("6.57s", 6.57), ("120ms", 0.12), ("1m30s", 90), ("2h5m", 7500), ("7m", 420), ("a moment", None), ("", None)],
)
def test_how_long_to_wait_is_read_from_the_sentence_where_nothing_else_says_it(
    words: str, seconds: float | None
) -> None:
    error = {
        "type": "tokens",
        "code": "rate_limit_exceeded",
        "message": f"Limit 30000. Please try again in {words}. Go.",
    }
    event = {"type": "error", "error": error}
    assert status_error(200, event, {}).retry_after == seconds
    assert status_error(429, event, {"retry-after": "3"}).retry_after == 3
    assert status_error(400, {"error": error | {"code": "x"}}, {}).retry_after is None


@pytest.mark.parametrize(("fault", "words"), [("html_200", "web page"), ("empty_200", "before it was complete")])
async def test_a_200_without_an_answer_in_it_is_a_failure(
    llm: Gpt, model_server: ModelServer, fault: Any, words: str
) -> None:
    model_server.script([Turn(fault=fault)])
    error = failed(await ask(llm, "Hi")).error
    assert error.kind == "protocol"
    assert words in error.message


async def test_an_answer_that_was_cancelled_or_failed_as_a_whole_is_a_failure() -> None:
    for status in ("cancelled", "failed"):
        with pytest.raises(BrokenOff):
            list(GptAnswer().whole({"status": status, "error": None}))
    unfinished = GptAnswer()
    list(unfinished.whole({"status": "in_progress"}))
    assert not unfinished.complete


@pytest.mark.parametrize(
    "events",
    [
        [17], [None], ["text"], [[]],
        [{"type": "response.completed"}],
        [{"type": "response.completed", "response": {"output": [None, {"type": "message", "content": 5}], "usage": 7}}],
        [{"type": "response.output_text.delta", "delta": {}}],
        [{"type": "response.function_call_arguments.delta", "delta": "{", "output_index": []}],
        [{"type": "response.output_item.added", "item": [], "output_index": {}}],
        [{"type": "response.output_item.done", "item": {"type": "function_call", "id": [], "arguments": 5, "name": 1}}],
        [{"type": "response.output_item.done", "item": {"type": "reasoning", "summary": "text"}}, {"type": []}],
        [{"type": "response.incomplete", "response": {"incomplete_details": []}}],
        [{"type": "response.created", "response": 1}, {"type": "response.unheard.of"}, {}],
    ],
    ids=str,
)  # fmt: skip
def test_no_json_that_a_server_may_send_breaks_the_reading(events: Sequence[Any]) -> None:
    answer = GptAnswer()
    with contextlib.suppress(LLMError):
        for event in events:
            list(answer.feed(event))
        list(answer.close())
    answer.message()


# --- the fake ---------------------------------------------------------------------------------------------------------


async def test_the_fake_server_refuses_what_openai_refuses(model_server: ModelServer) -> None:
    """Its refusals are what lets the tests above say that a request was acceptable."""
    question = {"role": "user", "content": "x"}
    call = {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"}
    output = {"type": "function_call_output", "call_id": "1", "output": "x"}
    thought = {"type": "reasoning", "id": "rs_1", "summary": []}
    said = {"type": "message", "id": "msg_1.rs_1", "status": "completed", "role": "assistant", "content": "x"}
    bad: list[dict[str, Any]] = [
        {"input": []},
        {"input": [{"role": "robot", "content": "x"}]},
        {"input": [{"role": "user", "content": "a\0"}]},
        {"input": [question, call]},
        {"input": [question, output]},
        {"input": [question, call, question, output]},
        {"input": [question, call | {"arguments": "{"}, output]},
        {"input": [question, thought, call, output]},
        {"input": [question, said]},
        {"input": [question | {"phase": None}]},
        {"tools": []},
        {"tools": [{"type": "function", "name": "f", "parameters": {"type": "object", "properties": {"a": {}}}}]},
        {"store": True},
        {"previous_response_id": "resp_1"},
        {"surprise": 1},
        {"max_output_tokens": 1},
        {"reasoning": {"effort": "low"}, "temperature": 1},
        {"stream_options": {"include_usage": True}},
    ]
    headers = {"Authorization": "Bearer x"}
    fine = {"model": "echo", "input": [question], "store": False}
    url = f"{model_server.base_url}/responses"
    assert (await http_client().post(url, json=fine | {"stream": True}, headers=headers)).status_code == 200
    for body in bad:
        response = await http_client().post(url, json=fine | body, headers=headers)
        assert response.status_code == 400, body
        assert response.json()["error"]["message"]
    assert (await http_client().post(url, json=fine)).status_code == 401


@pytest.mark.parametrize("turn", [THOUGHTFUL, Turn(refusal="No."), Turn(text="a", finish="length")], ids=repr)
async def test_what_the_fake_server_sends_is_what_the_sdk_expects(model_server: ModelServer, turn: Turn) -> None:
    from openai.types.responses import Response, ResponseStreamEvent
    from pydantic import TypeAdapter

    body = {"model": "m", "input": [{"role": "user", "content": "x"}], "store": False, "stream": True}
    model_server.script([turn])
    response = await http_client().post(
        f"{model_server.base_url}/responses", json=body, headers={"Authorization": "Bearer x"}
    )
    adapter: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
    blocks = response.text.strip().split("\n\n")
    for number, block in enumerate(blocks):
        name, data = block.split("\n")
        event = adapter.validate_json(data.removeprefix("data: "))
        assert name == f"event: {event.type}"
        assert event.sequence_number == number
    Response.model_validate(json.loads(blocks[-1].split("data: ")[1])["response"])
