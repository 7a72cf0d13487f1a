"""The Chat Completions wire format, as a server sees it: what it refuses, and what it sends, byte for byte.

Strict on the way in like the strictest real server, and on the way out as odd as the turn's quirks ask for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tests.fakes import schemas
from tests.fakes.script import Call, Turn
from tests.fakes.streaming import Dialect, Frame, paced, pieces
from tests.fakes.strict import Refused, check_strings, must, objection_to

_FIELDS = {
    "model", "messages", "tools", "tool_choice", "parallel_tool_calls", "stream", "stream_options", "temperature",
    "top_p", "max_tokens", "max_completion_tokens", "reasoning_effort", "seed", "stop", "response_format", "user",
    "top_k", "presence_penalty", "frequency_penalty", "logit_bias", "n",
}  # fmt: skip
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


# --- in -------------------------------------------------------------------------------------------------------------


def matches(path: str) -> bool:
    return path.endswith("/chat/completions")


def key(headers: Mapping[str, str]) -> str:
    return headers.get("authorization", "").removeprefix("Bearer ").strip()


def model(path: str, request: Any) -> str:
    return str(request["model"])


def headers_objection(headers: Mapping[str, str]) -> str:
    return ""


def messages(request: Any) -> list[dict[str, Any]]:
    return [{"role": m["role"], "content": _words(m.get("content"))} for m in request["messages"]]


def _words(content: Any) -> str:
    if isinstance(content, list):
        return "".join(part.get("text", "") for part in content)
    return content or ""


def objection(path: str, request: Any) -> str:
    """Why the request is refused (400), "" when it is fine."""
    return objection_to(lambda: _check(request))


def _check(request: Any) -> None:
    must(isinstance(request, dict), "The body must be a JSON object.")
    must(not (more := request.keys() - _FIELDS), f"Unrecognized request argument supplied: {', '.join(sorted(more))}")
    must(isinstance(request.get("model"), str) and request["model"], "you must provide a model parameter")
    check_strings(request)
    messages = request.get("messages")
    must(isinstance(messages, list) and messages, "'messages' must be a non-empty array")
    assert isinstance(messages, list)
    for position, message in enumerate(messages):
        _check_message(message, f"messages[{position}]")
    _check_answers(messages)
    if "tools" in request:
        _check_tools(request["tools"])
    if "response_format" in request:
        form = request["response_format"]
        must(isinstance(form, dict) and form.keys() == {"type", "json_schema"}, "Invalid 'response_format'")
        must(form["type"] == "json_schema", "Invalid 'response_format.type'")
        must(not (why := schemas.objection(form["json_schema"])), why)
    must(isinstance(request.get("stream", False), bool), "'stream' must be a boolean")
    if "stream_options" in request:
        must(request.get("stream"), "'stream_options' is only allowed when 'stream' is enabled")
    for name, low, high in (("temperature", 0, 2), ("top_p", 0, 1), ("max_tokens", 1, 10**7)):
        value = request.get(name, low)
        must(isinstance(value, int | float) and low <= value <= high, f"Invalid '{name}': {value!r}")


def _check_message(message: Any, where: str) -> None:
    must(isinstance(message, dict), f"{where} must be an object")
    role, content = message.get("role"), message.get("content")
    must(role in ("system", "user", "assistant", "tool"), f"{where}: invalid role {role!r}")
    allowed = {"role", "content", "name"} | {
        "assistant": {"tool_calls", "reasoning_content", "reasoning"},
        "tool": {"tool_call_id"},
    }.get(role, set())
    must(not (more := message.keys() - allowed), f"{where}: unexpected {sorted(more)}")
    if isinstance(content, list):
        must(role == "user" and content, f"{where}: content parts are for users, and not empty")
        for part in content:
            _check_part(part, where)
    elif role == "assistant" and content is None:
        must(message.get("tool_calls"), f"{where}: content is required without tool_calls")
    else:
        must(isinstance(content, str) and content, f"{where}: content must be a non-empty string")
    if "tool_calls" in message:
        _check_calls(message["tool_calls"], where)


def _check_part(part: Any, where: str) -> None:
    match part:
        case {"type": "text", "text": str(text)} if text:
            pass
        case {"type": "image_url", "image_url": {"url": str(url)}} if url.startswith(("data:", "http")):
            pass
        case _:
            raise Refused(f"{where}: invalid content part {part!r}")


def _check_calls(calls: Any, where: str) -> None:
    must(isinstance(calls, list) and calls, f"{where}: tool_calls must not be empty")
    must(len({call.get("id") for call in calls}) == len(calls), f"{where}: tool_calls with the same id")
    for call in calls:
        must(isinstance(call.get("id"), str) and 0 < len(call["id"]) <= 64, f"{where}: invalid tool call id")
        must(call.get("type") == "function", f"{where}: a tool call must be of type function")
        function = call.get("function") or {}
        must(_NAME.fullmatch(function.get("name") or ""), f"{where}: invalid function name {function.get('name')!r}")
        try:
            arguments = json.loads(function.get("arguments") or "")
        except (TypeError, ValueError):
            raise Refused(f"{where}: function arguments must be a JSON string") from None
        must(isinstance(arguments, dict), f"{where}: function arguments must encode an object")


def _check_answers(messages: list[dict[str, Any]]) -> None:
    open_ids: list[str] = []
    for position, message in enumerate(messages):
        if message["role"] == "tool":
            id_ = message.get("tool_call_id")
            must(
                id_ in open_ids,
                f"messages[{position}]: 'tool' must be a response to a preceding message with 'tool_calls'",
            )
            open_ids.remove(str(id_))
            continue
        must(
            not open_ids,
            "An assistant message with 'tool_calls' must be followed by tool messages responding to each "
            f"'tool_call_id'. No response to: {', '.join(open_ids)}",
        )
        open_ids = [call["id"] for call in message.get("tool_calls", ())]
    must(not open_ids, f"No tool message responds to: {', '.join(open_ids)}")


def _check_tools(tools: Any) -> None:
    must(isinstance(tools, list) and tools, "[] is too short - 'tools'")
    names = []
    for tool in tools:
        must(isinstance(tool, dict) and tool.get("type") == "function", "a tool must be of type function")
        function = tool.get("function") or {}
        must(_NAME.fullmatch(function.get("name") or ""), f"invalid function name {function.get('name')!r}")
        must(isinstance(function.get("description", ""), str), "a function's description must be a string")
        parameters = function.get("parameters")
        must(
            isinstance(parameters, dict) and parameters.get("type") == "object" and "properties" in parameters,
            f"Invalid schema for function {function.get('name')!r}: schema must be a JSON Schema of 'type: \"object\"'",
        )
        names.append(function["name"])
    must(len(set(names)) == len(names), "two tools have the same name")


# --- out ------------------------------------------------------------------------------------------------------------


_ERRORS: dict[str, tuple[str, str | None]] = {
    # fault → type, code
    "401": ("invalid_request_error", "invalid_api_key"),
    "403": ("permission_error", None),
    "404": ("invalid_request_error", "model_not_found"),
    "408": ("timeout", None),
    "409": ("conflict", None),
    "429": ("rate_limit_error", "rate_limit_exceeded"),
    "500": ("server_error", None),
    "503": ("server_error", None),
    "529": ("overloaded_error", None),
    "error_event": ("server_error", "server_error"),
    "quota": ("insufficient_quota", "insufficient_quota"),
    "context": ("invalid_request_error", "context_length_exceeded"),
    "context_llama_cpp": ("exceed_context_size_error", None),
}


def error_body(status: int, fault: str, message: str) -> bytes:
    type_, code = _ERRORS.get(fault, ("invalid_request_error", None))
    return json.dumps({"error": {"message": message, "type": type_, "param": None, "code": code}}).encode()


def lists_models(path: str, headers: Mapping[str, str]) -> bool:
    return path.endswith("/models")


def models(names: Sequence[str]) -> bytes:
    data = [{"id": name, "object": "model", "created": 1, "owned_by": "fake"} for name in names]
    return json.dumps({"object": "list", "data": data}).encode()


def usage_of(turn: Turn, request: Mapping[str, Any]) -> dict[str, Any]:
    if turn.usage is not None:
        return turn.usage
    out = len(pieces(turn.text, turn.chunk)) + len(pieces(turn.reasoning, turn.chunk)) + 8 * len(turn.calls)
    prompt = len(json.dumps(request["messages"])) // 4
    return {
        "prompt_tokens": prompt,
        "completion_tokens": out,
        "total_tokens": prompt + out,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": len(pieces(turn.reasoning, turn.chunk))},
    }


def frames(turn: Turn, request: Any, response_id: str) -> Iterator[Frame]:
    error = error_body(200, "error_event", turn.message or "boom")
    return paced(turn, _events(turn, request, response_id), b"data: " + error + b"\n\n")


def _events(turn: Turn, request: Mapping[str, Any], response_id: str) -> Iterator[bytes]:
    base = {"id": response_id, "object": "chat.completion.chunk", "created": 1_790_000_000, "model": request["model"]}
    wrap = Dialect(turn)
    # Serialised once around the place of the text: a benchmark writes this 25,000 times a second.
    around = json.dumps({**base, "choices": [{"index": 0, "delta": {"content": "\x01"}, "finish_reason": None}]})
    before, after = (part.encode() for part in around.split('"\\u0001"'))

    def chunk(delta: Mapping[str, Any], finish: str | None = None, **more: Any) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return wrap(json.dumps({**base, "choices": [choice], **more}).encode())

    yield chunk({"role": "assistant", "content": ""})
    if "no_choices" in turn.quirks:
        yield wrap(json.dumps(base).encode())
        yield wrap(json.dumps({**base, "choices": None}).encode())
    field = "reasoning" if "reasoning_field" in turn.quirks else "reasoning_content"
    if "think_tags" in turn.quirks:
        text = f"<think>\n{turn.reasoning}\n</think>\n\n{turn.text}"
    else:
        text = turn.text
        for piece in pieces(turn.reasoning, turn.chunk):
            yield chunk({field: piece})
    for piece in pieces(text, turn.chunk):
        if "content_parts" in turn.quirks:
            yield chunk({"content": [{"type": "text", "text": piece}]})
        elif "surrogate_halves" in turn.quirks and any(character > "\uffff" for character in piece):
            for half in range(0, len(units := piece.encode("utf-16-le")), 2):
                yield chunk({"content": units[half : half + 2].decode("utf-16-le", "surrogatepass")})
        else:
            yield wrap(before + json.dumps(piece, ensure_ascii=False).encode() + after)
    for piece in pieces(turn.refusal, turn.chunk):
        yield chunk({"refusal": piece})
    for position, call in enumerate(turn.calls):
        for part in _call_parts(call, position, turn):
            yield chunk({"tool_calls": [part]})
    usage = None if "no_usage" in turn.quirks else usage_of(turn, request)
    asked = bool((request.get("stream_options") or {}).get("include_usage"))
    if "no_finish_reason" not in turn.quirks:
        finish = "tool_calls" if turn.calls and "finish_stop" not in turn.quirks else "stop"
        yield chunk({}, turn.finish or finish)
    if usage and asked:
        yield wrap(json.dumps({**base, "choices": [], "usage": usage}).encode())
    if "no_done" not in turn.quirks:
        yield wrap(b"[DONE]", last=True)


def _call_parts(call: Call, position: int, turn: Turn) -> Iterator[dict[str, Any]]:
    """A call as OpenAI streams it (a head, then pieces of the arguments) or as others do, in one."""
    quirks = turn.quirks
    id_ = "call_0" if "same_ids" in quirks else call.id or f"call_{position}_{abs(hash(call.name)) % 10**6:06d}"
    head: dict[str, Any] = {"index": 0 if "index_zero" in quirks else position, "id": id_, "type": "function"}
    if "no_index" in quirks:
        del head["index"]
    if "no_ids" in quirks:
        del head["id"]
    if "dict_arguments" in quirks:
        yield head | {"function": {"name": call.name, "arguments": call.arguments}}
        return
    if "null_arguments" in quirks:
        yield head | {"function": {"name": call.name, "arguments": None}}
        return
    arguments = call.arguments if isinstance(call.arguments, str) else json.dumps(call.arguments)
    if "no_index" in quirks or "index_zero" in quirks:
        # Servers that get the index wrong send each call in one piece.
        yield head | {"function": {"name": call.name, "arguments": arguments}}
        return
    yield head | {"function": {"name": call.name, "arguments": ""}}
    for piece in pieces(arguments, turn.chunk or 7):
        part: dict[str, Any] = {"index": head["index"], "function": {"arguments": piece}}
        if "name_repeated" in quirks:
            part = head | {"function": {"name": call.name, "arguments": piece}}
        yield part


def whole(turn: Turn, request: Any, response_id: str) -> bytes:
    message: dict[str, Any] = {"role": "assistant", "content": turn.text or None}
    if turn.calls:
        message["tool_calls"] = [
            {"id": call.id or f"call_{n}", "type": "function", "function": {
                "name": call.name, "arguments": json.dumps(call.arguments)}}
            for n, call in enumerate(turn.calls)
        ]  # fmt: skip
    finish = turn.finish or ("tool_calls" if turn.calls else "stop")
    body = {
        "id": response_id,
        "object": "chat.completion",
        "model": request["model"],
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
        "usage": usage_of(turn, request),
    }
    return json.dumps(body).encode()
