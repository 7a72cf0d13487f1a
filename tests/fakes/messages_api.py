"""The Messages API's wire format, as a server sees it: what it refuses, and what it sends, byte for byte.

Like the real one it keeps nothing between requests: that a thought came from here, from this model, and belongs to a
call can be told from its signature and the call's id.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from tests.fakes.script import Call, Turn
from tests.fakes.streaming import Dialect, Frame, paced, pieces
from tests.fakes.strict import Refused, check_strings, must, objection_to

VERSION = "2026-10-21"

_FIELDS = {
    "model", "messages", "max_tokens", "system", "tools", "tool_choice", "stream", "thinking", "output_config",
    "cache_control", "stop_sequences", "metadata", "service_tier", "container", "diagnostics", "inference_geo", "speed",
}  # fmt: skip
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}")
_ID = re.compile(r"[a-zA-Z0-9_-]+")
#: type → the keys it must have, those it may have, and whose words it may be.
_BLOCKS: dict[str, tuple[set[str], set[str], str]] = {
    "text": ({"text"}, {"citations", "cache_control"}, "user assistant"),
    "image": ({"source"}, {"cache_control"}, "user"),
    "tool_result": ({"tool_use_id", "content"}, {"is_error", "cache_control"}, "user"),
    "tool_use": ({"id", "name", "input"}, {"caller", "cache_control"}, "assistant"),
    "thinking": ({"thinking", "signature"}, set(), "assistant"),
    "redacted_thinking": ({"data"}, set(), "assistant"),
    "server_tool_use": ({"id", "name", "input"}, {"caller"}, "assistant"),
    "web_search_tool_result": ({"tool_use_id", "content"}, {"caller"}, "assistant"),
}
_THOUGHTS = ("thinking", "redacted_thinking")
_THOUGHTFUL = "toolu_thought_"  # Ids of calls that a thought came before.
_PICTURES = ("image/jpeg", "image/png", "image/gif", "image/webp")
_SCHEMA_WORDS = {
    "type", "title", "description", "properties", "required", "additionalProperties", "items", "enum", "const",
    "anyOf", "allOf", "$ref", "$defs", "format", "minItems",
}  # fmt: skip

_PAGE = {"title": "Zebras", "url": "https://example.org"}
_FOUND = {"type": "web_search_result", **_PAGE, "encrypted_content": "RW5j", "page_age": None}
_CITED = {"type": "web_search_result_location", **_PAGE, "cited_text": "Striped.", "encrypted_index": "RW8="}


# --- in -------------------------------------------------------------------------------------------------------------


def matches(path: str) -> bool:
    return path == "/v1/messages"


def key(headers: Mapping[str, str]) -> str:
    return headers.get("authorization", "").removeprefix("Bearer ").strip()


def model(path: str, request: Any) -> str:
    return str(request["model"])


def headers_objection(headers: Mapping[str, str]) -> str:
    version = headers.get("anthropic-version")
    if version is None:
        return "anthropic-version: header is required"
    if version != VERSION:
        return f"anthropic-version: {version!r} is not a valid version"
    if headers.get("content-type") != "application/json":
        return "content-type: must be application/json"
    return ""


def messages(request: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for message in request["messages"]:
        blocks = _blocks(message)
        others = [block for block in blocks if block["type"] != "tool_result"]
        found += [{"role": "tool", "content": b["content"]} for b in blocks if b["type"] == "tool_result"]
        if others:
            text = "".join(block["text"] for block in others if block["type"] == "text")
            found.append({"role": message["role"], "content": text})
    return found


def _blocks(message: dict[str, Any]) -> list[dict[str, Any]]:
    content = message["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def objection(path: str, request: Any) -> str:
    """Why the request is refused (400), "" when it is fine."""
    return objection_to(lambda: _check(request))


def _check(request: Any) -> None:
    must(isinstance(request, dict), "The request body is not valid JSON.")
    if gone := request.keys() & {"temperature", "top_p", "top_k"}:
        raise Refused(f"{min(gone)}: is not supported in this version of the API")
    must(not (more := request.keys() - _FIELDS), f"{', '.join(sorted(more))}: Extra inputs are not permitted")
    must(isinstance(request.get("model"), str) and request["model"], "model: Field required")
    check_strings(request)
    _check_number(request.get("max_tokens"), "max_tokens", 1)
    must(isinstance(request.get("stream", False), bool), "stream: Input should be a valid boolean")
    if "system" in request:
        must(isinstance(request["system"], list) and request["system"], "system: Input should be a valid list")
        for position, block in enumerate(request["system"]):
            must(block.get("type") == "text", f"system.{position}: Input should be text")
            _check_text(block, f"system.{position}")
    if "cache_control" in request:
        _check_cache(request["cache_control"])
    if "thinking" in request:
        _check_thinking(request["thinking"], request["max_tokens"])
    if "output_config" in request:
        _check_output(request["output_config"])
    if "tools" in request:
        _check_tools(request["tools"])
    _check_messages(request.get("messages"), request["model"])


def _check_number(value: Any, name: str, low: int) -> None:
    must(isinstance(value, int) and not isinstance(value, bool), f"{name}: Input should be a valid integer")
    must(value >= low, f"{name}: Input should be greater than or equal to {low}")


def _check_cache(value: Any) -> None:
    must(
        isinstance(value, dict) and value.get("type") == "ephemeral", "cache_control.type: Input should be 'ephemeral'"
    )
    must(value.keys() <= {"type", "ttl"}, "cache_control: Extra inputs are not permitted")
    must(value.get("ttl", "5m") in ("5m", "1h"), "cache_control.ttl: Input should be '5m' or '1h'")


def _check_thinking(value: Any, max_tokens: int) -> None:
    must(isinstance(value, dict), "thinking: Input should be a valid dictionary")
    more = {"adaptive": {"display"}, "enabled": {"display", "budget_tokens"}, "disabled": set(), "between_tools": set()}
    type_ = value.get("type")
    must(type_ in more, "thinking: Input tag does not match any of the expected tags")
    must(value.keys() <= {"type", *more[type_]}, f"thinking.{type_}: Extra inputs are not permitted")
    must(value.get("display", "omitted") in ("summarized", "omitted"), "thinking.display: Input should be 'summarized'")
    if type_ == "enabled":
        _check_number(value.get("budget_tokens"), "thinking.enabled.budget_tokens", 1024)
        must(value["budget_tokens"] < max_tokens, "`max_tokens` must be greater than `thinking.budget_tokens`")


def _check_output(value: Any) -> None:
    must(isinstance(value, dict) and value.keys() <= {"effort", "format"}, "output_config: Extra inputs")
    must(
        value.get("effort", "low") in ("low", "medium", "high", "xhigh", "max"), "output_config.effort: Input should be"
    )
    if "format" in value:
        must(value["format"].keys() == {"type", "schema"}, "output_config.format: Field required")
        must(value["format"]["type"] == "json_schema", "output_config.format.type: Input should be 'json_schema'")
        _check_schema(value["format"]["schema"], "output_config.format.schema")


def _check_schema(schema: Any, where: str) -> None:
    must(isinstance(schema, dict), f"{where}: Input should be a valid dictionary")
    must(not (more := schema.keys() - _SCHEMA_WORDS), f"{where}: properties {sorted(more)} are not supported")
    if schema.get("type") == "object":
        must(
            schema.get("additionalProperties") is False,
            f"{where}: For 'object' type, 'additionalProperties' must be explicitly set to false",
        )
    must(schema.get("minItems", 0) in (0, 1), f"{where}: 'minItems' values other than 0 or 1 are not supported")
    for name in ("properties", "$defs"):
        for inner, item in schema.get(name, {}).items():
            _check_schema(item, f"{where}.{inner}")
    for item in (*schema.get("anyOf", ()), *schema.get("allOf", ()), *([schema["items"]] if "items" in schema else ())):
        _check_schema(item, where)


def _check_tools(tools: Any) -> None:
    must(isinstance(tools, list) and tools, "tools: List should have at least 1 item")
    for position, tool in enumerate(tools):
        where = f"tools.{position}"
        must(isinstance(tool, dict) and {"name", "input_schema"} <= tool.keys(), f"{where}: Field required")
        must(tool.keys() <= {"name", "description", "input_schema", "type", "strict"}, f"{where}: Extra inputs")
        must(_NAME.fullmatch(tool["name"]), f"{where}.custom.name: String should match pattern")
        must(tool["input_schema"].get("type") == "object", f"{where}.custom.input_schema.type: Field required")
        must(
            not tool["input_schema"].keys() & {"anyOf", "oneOf", "allOf"},
            f"{where}.custom.input_schema: does not support oneOf, allOf, or anyOf at the top level",
        )
    names = [tool["name"] for tool in tools]
    must(len(set(names)) == len(names), "tools: Tool names must be unique.")


def _check_messages(messages: Any, model: str) -> None:
    must(isinstance(messages, list) and messages, "messages: at least one message is required")
    seen: set[str] = set()
    for position, message in enumerate(messages):
        where = f"messages.{position}"
        must(isinstance(message, dict) and message.keys() == {"role", "content"}, f"{where}: Extra inputs")
        must(message["role"] in ("user", "assistant"), f"{where}.role: Input should be 'user' or 'assistant'")
        must(message["content"] and isinstance(message["content"], str | list), f"{where}: content must be non-empty")
        for number, block in enumerate(_blocks(message)):
            _check_block(block, message["role"], model, f"{where}.content.{number}")
        if message["role"] == "assistant":
            _check_assistant(_blocks(message), where, seen)
    must(messages[0]["role"] == "user", "messages: first message must use the `user` role")
    for position, (before, message) in enumerate(pairwise(messages), 1):
        must(before["role"] != message["role"], "messages: roles must alternate between `user` and `assistant`")
        if message["role"] == "user":
            _check_results(_blocks(before), _blocks(message), f"messages.{position}")
    must(not any(b["type"] == "tool_result" for b in _blocks(messages[0])), "messages.0: unexpected `tool_result`")
    last = messages[-1]
    if last["role"] == "assistant":
        must(
            any(block["type"] == "server_tool_use" for block in _blocks(last)),
            "This model does not support assistant message prefill. The conversation must end with a user message.",
        )


def _check_block(block: Any, role: str, model: str, where: str) -> None:
    must(isinstance(block, dict) and block.get("type") in _BLOCKS, f"{where}: Input tag does not match")
    needed, allowed, roles = _BLOCKS[block["type"]]
    must(role in roles.split(), f"{where}: `{block['type']}` blocks are not allowed in `{role}` messages")
    must(needed <= block.keys(), f"{where}.{block['type']}: Field required")
    must(not (more := block.keys() - needed - allowed - {"type"}), f"{where}: Extra inputs {sorted(more)}")
    must(all(value is not None for value in block.values()), f"{where}: Input should not be null")
    match block:
        case {"type": "text"}:
            _check_text(block, where)
            must(role == "assistant" or "citations" not in block, f"{where}.citations: not permitted")
        case {"type": "image", "source": source}:
            _check_source(source, where)
        case {"type": "tool_result", "content": content}:
            must(isinstance(content, str) and content.strip(), f"{where}.content: must be non-empty")
            must(isinstance(block.get("is_error", False), bool), f"{where}.is_error: should be a boolean")
        case {"type": "tool_use", "id": id_, "name": name, "input": given}:
            must(isinstance(id_, str) and _ID.fullmatch(id_), f"{where}.tool_use.id: String should match pattern")
            must(isinstance(name, str) and _NAME.fullmatch(name), f"{where}.tool_use.name: String should match pattern")
            must(isinstance(given, dict), f"{where}.tool_use.input: Input should be a valid dictionary")
        case {"type": "thinking", "thinking": thought, "signature": signature}:
            must(signature in _signatures(model, thought), f"{where}: Invalid `signature` in `thinking` block")
        case {"type": "redacted_thinking", "data": data}:
            must(data == _redacted(model), f"{where}: Invalid `data` in `redacted_thinking` block")


def _check_text(block: dict[str, Any], where: str) -> None:
    must(isinstance(block["text"], str), f"{where}.text: Input should be a valid string")
    must(block["text"], f"{where}: text content blocks must be non-empty")
    must(block["text"].strip(), f"{where}: text content blocks must contain non-whitespace text")


def _check_source(source: Any, where: str) -> None:
    match source:
        case {"type": "base64", "media_type": media_type, "data": str(data)}:
            must(media_type in _PICTURES, f"{where}.source.base64.media_type: Input should be {_PICTURES}")
            must(re.fullmatch(r"[A-Za-z0-9+/]+=*", data), f"{where}.source.base64: invalid base64 data")
        case {"type": "url", "url": str(url)}:
            must(url.startswith(("http://", "https://")), f"{where}.source.url: must be a URL")
        case _:
            raise Refused(f"{where}.source: Input tag does not match")


def _check_assistant(blocks: list[dict[str, Any]], where: str, seen: set[str]) -> None:
    must(blocks[-1]["type"] not in _THOUGHTS, f"{where}: The final block in an assistant message cannot be `thinking`.")
    thought = False
    for number, block in enumerate(blocks):
        thought = thought or block["type"] in _THOUGHTS
        if block["type"] == "tool_use":
            must(block["id"] not in seen, f"{where}.content.{number}: `tool_use` ids must be unique")
            seen.add(block["id"])
            must(
                thought or not block["id"].startswith(_THOUGHTFUL),
                f"{where}.content.{number}: Expected `thinking` or `redacted_thinking`, but found `tool_use`.",
            )


def _check_results(before: list[dict[str, Any]], blocks: list[dict[str, Any]], where: str) -> None:
    asked = [block["id"] for block in before if block["type"] == "tool_use"]
    given = [block["tool_use_id"] for block in blocks if block["type"] == "tool_result"]
    for id_ in given:
        must(id_ in asked, f"{where}: unexpected `tool_use_id` found in `tool_result` blocks: {id_}")
    must(len(set(given)) == len(given), f"{where}: each tool_use must have a single result")
    must(
        set(given) == set(asked),
        f"{where}: `tool_use` ids were found without `tool_result` blocks immediately after: {set(asked) - set(given)}",
    )
    must(
        all(block["type"] == "tool_result" for block in blocks[: len(given)]),
        f"{where}: `tool_result` blocks must come before all others",
    )


def _sign(*what: str) -> str:
    return hashlib.sha256("\n".join(what).encode()).hexdigest()[:40] + "=="


def _signatures(model: str, thought: str) -> tuple[str, ...]:
    """A thought that is not shown is signed as well."""
    return (_sign(model, thought), _sign(model, "not shown")) if not thought else (_sign(model, thought),)


def _redacted(model: str) -> str:
    return "redacted-" + _sign(model, "redacted")


# --- out ------------------------------------------------------------------------------------------------------------


_ERRORS: dict[str, tuple[str, str]] = {
    # fault → type, details.error_code
    "401": ("authentication_error", ""),
    "403": ("permission_error", ""),
    "404": ("not_found_error", ""),
    "408": ("timeout_error", ""),
    "409": ("conflict_error", ""),
    "413": ("request_too_large", ""),
    "429": ("rate_limit_error", ""),
    "500": ("api_error", ""),
    "503": ("api_error", ""),
    "529": ("overloaded_error", ""),
    "error_event": ("overloaded_error", ""),
    "quota": ("rate_limit_error", "enforced_spend_limit_reached"),
}


def error_body(status: int, fault: str, message: str) -> bytes:
    type_, code = _ERRORS.get(fault, ("invalid_request_error", ""))
    error = {"type": type_, "message": message} | ({"details": {"error_code": code}} if code else {})
    return json.dumps({"type": "error", "error": error, "request_id": "req_011"}).encode()


def lists_models(path: str, headers: Mapping[str, str]) -> bool:
    return path == "/v1/models" and "anthropic-version" in headers


def models(names: Sequence[str]) -> bytes:
    data = [
        {"type": "model", "id": name, "display_name": name.title(), "created_at": "2026-10-21T00:00:00Z"}
        for name in names
    ]
    return json.dumps({"data": data, "has_more": False, "first_id": names[0], "last_id": names[-1]}).encode()


def usage_of(turn: Turn, request: Mapping[str, Any]) -> dict[str, Any]:
    if turn.usage is not None:
        return turn.usage
    thought = len(pieces(turn.reasoning, turn.chunk))
    said = len(pieces(turn.text, turn.chunk)) + len(pieces(turn.refusal, turn.chunk))
    return {
        "input_tokens": len(json.dumps(request["messages"])) // 4,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": said + thought + 8 * len(turn.calls),
        "output_tokens_details": {"thinking_tokens": thought},
    }


def frames(turn: Turn, request: Any, response_id: str) -> Iterator[Frame]:
    error = error_body(200, "error_event", turn.message or "Overloaded")
    return paced(turn, _events(turn, request, response_id), b"event: error\ndata: " + error + b"\n\n")


def _events(turn: Turn, request: Mapping[str, Any], response_id: str) -> Iterator[bytes]:
    """What opens and closes a block is written along with what comes next, as it arrives in practice."""
    wrap = Dialect(turn)
    usage = {} if "no_usage" in turn.quirks else usage_of(turn, request)
    stop = _stop(turn)

    def event(type_: str, **fields: Any) -> bytes:
        payload = json.dumps({"type": type_, **fields}, ensure_ascii=False).encode()
        return wrap(payload, event=type_, last=type_ == "message_stop")

    start = {**_message(request, response_id), "content": [], "stop_reason": None, "stop_sequence": None}
    held = event("message_start", message={**start, "usage": {**usage, "output_tokens": min(1, len(usage))}})
    for index, (block, deltas) in enumerate(_stream_blocks(turn, request)):
        held += event("content_block_start", index=index, content_block=block)
        if index == 0:
            held += event("ping")
        if "unknown_events" in turn.quirks:
            held += event("content_block_mood", index=index, mood={"type": "cheerful"})
        yield held
        held = b""
        for delta in deltas:
            yield event("content_block_delta", index=index, delta=delta)
        held = event("content_block_stop", index=index)
    # Totals so far: what has not changed need not be said again.
    total = {name: value for name, value in usage.items() if not name.startswith(("input", "cache"))}
    if "no_finish_reason" not in turn.quirks:
        held += event("message_delta", delta=stop, usage=total if turn.usage is None else usage)
    yield held
    if "no_done" not in turn.quirks:
        yield event("message_stop")


def _message(request: Mapping[str, Any], response_id: str) -> dict[str, Any]:
    return {"id": response_id, "type": "message", "role": "assistant", "model": request["model"]}


def _stop(turn: Turn) -> dict[str, Any]:
    reason = turn.finish or ("refusal" if turn.refusal else "tool_use" if turn.calls else "end_turn")
    details = {"type": "refusal", "category": "cyber", "explanation": turn.refusal or None}
    return {
        "stop_reason": reason,
        "stop_sequence": None,
        "stop_details": details if reason == "refusal" else None,
    }


def _stream_blocks(turn: Turn, request: Mapping[str, Any]) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Each block as it begins, and its deltas."""
    for block in _answer(turn, request):
        match block:
            case {"type": "text", "text": text}:
                deltas = [{"type": "text_delta", "text": piece} for piece in pieces(text, turn.chunk)]
                deltas += [{"type": "citations_delta", "citation": c} for c in block.get("citations") or ()]
                nothing = {"citations": None} if "null_fields" in turn.quirks else {}
                yield {"type": "text", "text": ""} | nothing, deltas
            case {"type": "thinking", "thinking": thought, **rest}:
                deltas = [{"type": "thinking_delta", "thinking": piece} for piece in pieces(thought, turn.chunk)]
                if "unknown_delta" in turn.quirks:
                    deltas.append({"type": "mood_delta", "mood": "cheerful"})
                if "signature" in rest:
                    deltas.append({"type": "signature_delta", "signature": rest["signature"]})
                yield {"type": "thinking", "thinking": "", "signature": ""}, deltas
            case {"type": "tool_use" | "server_tool_use", "input": given} if "dict_arguments" not in turn.quirks:
                raw = given if isinstance(given, str) else json.dumps(given)
                deltas = [{"type": "input_json_delta", "partial_json": ""}]
                # Functions without parameters are called without a word.
                if raw != "{}":
                    deltas += [
                        {"type": "input_json_delta", "partial_json": piece} for piece in pieces(raw, turn.chunk or 7)
                    ]
                yield {**block, "input": {}}, deltas
            case _:
                yield block, []


def _answer(turn: Turn, request: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The blocks of the message."""
    name = request["model"]
    cut_off = turn.finish in ("max_tokens", "model_context_window_exceeded")
    if "redacted_thinking" in turn.quirks:
        yield {"type": "redacted_thinking", "data": _redacted(name)}
    if turn.reasoning:
        shown = (request.get("thinking") or {}).get("display") != "omitted"
        thought = {"type": "thinking", "thinking": turn.reasoning if shown else ""}
        if turn.text or turn.calls or not cut_off:
            thought["signature"] = _sign(name, turn.reasoning if shown else "not shown")
        yield thought
    if "blank_text" in turn.quirks:
        yield {"type": "text", "text": "\n\n"}
    if "server_tool" in turn.quirks:
        yield {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "zebras"}}
        if turn.finish != "pause_turn":
            yield {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": [_FOUND]}
    if turn.text:
        yield {"type": "text", "text": turn.text} | ({"citations": [_CITED]} if "server_tool" in turn.quirks else {})
    for position, call in enumerate(turn.calls):
        if "interleaved" in turn.quirks and position:
            yield {"type": "thinking", "thinking": f"And {position}.", "signature": _sign(name, f"And {position}.")}
        yield _call(call, position, turn)
    if "trailing_thought" in turn.quirks:
        yield {"type": "thinking", "thinking": "So", **({} if cut_off else {"signature": _sign(name, "So")})}


def _call(call: Call, position: int, turn: Turn) -> dict[str, Any]:
    thoughtful = turn.reasoning or "redacted_thinking" in turn.quirks
    made_up = f"{_THOUGHTFUL if thoughtful else 'toolu_'}{position}_{_sign(json.dumps(call.arguments), turn.text)[:16]}"
    id_ = "call_0" if "same_ids" in turn.quirks else call.id or made_up
    block: dict[str, Any] = {"type": "tool_use", "id": id_, "name": call.name, "input": call.arguments or {}}
    if "no_ids" in turn.quirks:
        del block["id"]
    if "caller" in turn.quirks:
        block["caller"] = {"type": "direct"}
    if "null_fields" in turn.quirks:
        block |= {"caller": None, "toolset_name": None}
    return block


def whole(turn: Turn, request: Any, response_id: str) -> bytes:
    usage = {} if "no_usage" in turn.quirks else {"usage": usage_of(turn, request)}
    body = {**_message(request, response_id), "content": list(_answer(turn, request)), **_stop(turn), **usage}
    return json.dumps(body).encode()
