"""The Responses wire format, as OpenAI sees it: what it refuses, and what it sends, byte for byte.

Strict about what comes back: reasoning must be its own, complete, and followed by what it led to.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tests.fakes import chat_completions, schemas
from tests.fakes.script import Call, Turn
from tests.fakes.streaming import Dialect, Frame, paced, pieces
from tests.fakes.strict import check_strings, must, objection_to

_FIELDS = {
    "model", "instructions", "input", "tools", "tool_choice", "parallel_tool_calls", "reasoning", "text", "include",
    "max_output_tokens", "temperature", "top_p", "service_tier", "store", "stream", "stream_options", "metadata",
    "prompt_cache_key", "safety_identifier", "truncation", "previous_response_id", "background",
}  # fmt: skip
_ITEM_FIELDS = {
    "message": {"type", "id", "status", "role", "content", "phase"},
    "reasoning": {"type", "id", "summary", "content", "encrypted_content"},
    "function_call": {"type", "id", "status", "call_id", "name", "arguments"},
    "function_call_output": {"type", "call_id", "output"},
}
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
_TIERS = ("auto", "default", "flex", "scale", "priority", "fast", "ultrafast")


# --- in -------------------------------------------------------------------------------------------------------------


def matches(path: str) -> bool:
    return path.endswith("/responses")


def key(headers: Mapping[str, str]) -> str:
    return headers.get("authorization", "").removeprefix("Bearer ").strip()


def model(path: str, request: Any) -> str:
    return str(request["model"])


def headers_objection(headers: Mapping[str, str]) -> str:
    return "" if headers.get("content-type") == "application/json" else "Unsupported content type."


def messages(request: Any) -> list[dict[str, Any]]:
    """The items of one answer are one message."""
    said: list[dict[str, Any]] = []
    for item in request["input"]:
        kind = item.get("type", "message")
        if kind == "function_call_output":
            said.append({"role": "tool", "content": item["output"]})
        elif kind == "message" and item["role"] != "assistant":
            said.append({"role": item["role"], "content": _words(item["content"])})
        else:
            if not said or said[-1]["role"] != "assistant":
                said.append({"role": "assistant", "content": ""})
            said[-1]["content"] += _words(item.get("content")) if kind == "message" else ""
    return said


def _words(content: Any) -> str:
    if isinstance(content, list):
        return "".join(part.get("text", "") for part in content)
    return content or ""


def objection(path: str, request: Any) -> str:
    return objection_to(lambda: _check(request))


def _check(request: Any) -> None:
    must(isinstance(request, dict), "The body must be a JSON object.")
    must(not (more := request.keys() - _FIELDS), f"Unknown parameter: {', '.join(map(repr, sorted(more)))}.")
    must(isinstance(request.get("model"), str) and request["model"], "Missing required parameter: 'model'.")
    check_strings(request)
    must(isinstance(request.get("instructions", "-"), str), "Invalid type for 'instructions'.")
    must(request.get("instructions", "-"), "'instructions' is empty.")
    # Nothing is kept here for longer than an answer takes (kept_responses.py), so nothing can be looked up.
    must(request.get("store") is False, "This server stores nothing: 'store' must be false.")
    must(isinstance(request.get("background", False), bool), "Invalid type for 'background'.")
    must("previous_response_id" not in request, "Previous response not found.")
    must(isinstance(request.get("stream", False), bool), "Invalid type for 'stream'.")
    include = request.get("include", [])
    must(
        isinstance(include, list)
        and not set(include) - {"reasoning.encrypted_content", "message.output_text.logprobs"},
        "Invalid value: 'include'.",
    )
    for option in request.get("stream_options", {}):
        must(option == "include_obfuscation", f"Unknown parameter: 'stream_options.{option}'.")
    _check_input(request.get("input"), request["model"])
    if "tools" in request:
        _check_tools(request["tools"])
    _check_settings(request)


def _check_settings(request: dict[str, Any]) -> None:
    reasoning = request.get("reasoning", {"effort": "none"})
    must(isinstance(reasoning, dict) and reasoning, "Invalid 'reasoning'.")
    must(not reasoning.keys() - {"effort", "summary"}, "Unknown parameter in 'reasoning'.")
    must(reasoning.get("effort", "low") in _EFFORTS, "Invalid value: 'reasoning.effort'.")
    must(reasoning.get("summary", "auto") in ("auto", "concise", "detailed"), "Invalid value: 'reasoning.summary'.")
    if "temperature" in request:
        reasons = reasoning.get("effort") != "none"
        must(not reasons, "Unsupported parameter: 'temperature' is not supported with this model.")
    text = request.get("text", {"verbosity": "medium"})
    must(isinstance(text, dict) and text, "Invalid 'text'.")
    must(not text.keys() - {"format", "verbosity"}, "Unknown parameter in 'text'.")
    must(text.get("verbosity", "medium") in ("low", "medium", "high"), "Invalid value: 'text.verbosity'.")
    if "format" in text:
        must(text["format"].get("type") == "json_schema", "Invalid value: 'text.format.type'.")
        must(not (why := schemas.objection(text["format"])), why)
    must(request.get("service_tier", "auto") in _TIERS, "Invalid value: 'service_tier'.")
    for name, low, high in (("temperature", 0, 2), ("top_p", 0, 1)):
        value = request.get(name, low)
        must(isinstance(value, int | float) and low <= value <= high, f"Invalid '{name}': {value!r}")
    limit = request.get("max_output_tokens", 16)
    must(
        isinstance(limit, int) and limit >= 16,
        "Invalid 'max_output_tokens': integer below minimum value. Expected a value >= 16.",
    )


def _check_input(items: Any, model: str) -> None:
    must(isinstance(items, list) and items, "Missing required parameter: 'input'.")
    reasoned: set[str] = set()
    calls: list[str] = []
    answered: list[str] = []
    for position, item in enumerate(items):
        where = f"input[{position}]"
        must(isinstance(item, dict), f"Invalid type for '{where}'.")
        kind = item.get("type", "message")
        must(kind in _ITEM_FIELDS, f"Invalid value: '{kind}'. '{where}.type'")
        must(not (more := item.keys() - _ITEM_FIELDS[kind]), f"Unknown parameter: '{where}.{min(more, default='')}'.")
        must(None not in item.values(), f"Invalid type for '{where}': null.")
        match kind:
            case "message":
                must(calls == answered, _unanswered(calls, answered))
                _check_message(item, where)
            case "reasoning":
                _check_reasoning(item, items[position + 1 :], model, where)
                reasoned.add(item.get("id", ""))
            case "function_call":
                _check_call(item, where)
                must(item["call_id"] not in calls, f"Duplicate call_id {item['call_id']!r}.")
                calls.append(item["call_id"])
            case "function_call_output":
                id_ = item.get("call_id")
                must(id_ in calls, f"No tool call found for function call output with call_id {id_}.")
                must(id_ not in answered, f"Two outputs for {id_}.")
                must(isinstance(item.get("output"), str) and item["output"], f"Missing '{where}.output'.")
                answered.append(str(id_))
                if sorted(answered) == sorted(calls):
                    answered = list(calls)
        own, _, needs = item.get("id", "").partition(".")
        must(
            not needs or needs in reasoned,
            f"Item '{own}' of type '{kind}' was provided without its required 'reasoning' item: '{needs}'.",
        )
    must(calls == answered, _unanswered(calls, answered))


def _unanswered(calls: list[str], answered: list[str]) -> str:
    return f"No tool output found for function call {', '.join(sorted(set(calls) - set(answered)))}."


def _check_message(item: dict[str, Any], where: str) -> None:
    role, content = item.get("role"), item.get("content")
    must(role in ("user", "assistant", "system", "developer"), f"Invalid value: '{where}.role'.")
    if "id" in item or "status" in item:
        must(item.keys() >= {"type", "id", "status"}, f"Missing required parameter in '{where}'.")
        must(role == "assistant", f"'{where}.id' is for what the model said.")
    must(item.get("phase", "commentary") in ("commentary", "final_answer"), f"Invalid value: '{where}.phase'.")
    if isinstance(content, str):
        must(content, f"'{where}.content' is empty.")
        return
    must(isinstance(content, list) and content, f"Missing required parameter: '{where}.content'.")
    assert isinstance(content, list)
    for part in content:
        match role, part:
            case "assistant", {"type": "output_text", "text": str()}:
                must(not part.keys() - {"type", "text", "annotations", "logprobs"}, f"Unknown parameter in '{where}'.")
            case "assistant", {"type": "refusal", "refusal": str()}:
                pass
            case "user", {"type": "input_text", "text": str(text)} if text:
                pass
            case "user", {"type": "input_image", "image_url": str(url), "detail": "auto" | "low" | "high"} if (
                url.startswith(("data:image/", "http"))
            ):
                pass
            case _:
                must(False, f"Invalid value: '{where}.content': {part!r}")


def _check_reasoning(item: dict[str, Any], behind: list[Any], model: str, where: str) -> None:
    must(isinstance(item.get("summary"), list), f"Missing required parameter: '{where}.summary'.")
    id_ = item.get("id", "")
    must(
        item.get("encrypted_content"),
        f"Item with id '{id_}' not found. Items are not persisted when `store` is set to false.",
    )
    try:
        of = json.loads(base64.b64decode(item["encrypted_content"], validate=True))
    except ValueError:
        of = {}
    must(
        of.get("model") == model and of.get("id") == (id_ or of.get("id")),
        f"The encrypted content for item {id_} could not be verified.",
    )
    follower = behind[0] if behind and isinstance(behind[0], dict) else {}
    follows = follower.get("type") in ("reasoning", "function_call") or follower.get("role") == "assistant"
    must(follows, f"Item '{id_}' of type 'reasoning' was provided without its required following item.")


def _check_call(item: dict[str, Any], where: str) -> None:
    must(isinstance(item.get("call_id"), str) and 0 < len(item["call_id"]) <= 64, f"Invalid '{where}.call_id'.")
    must(_NAME.fullmatch(item.get("name") or ""), f"Invalid '{where}.name': {item.get('name')!r}")
    try:
        arguments = json.loads(item.get("arguments") or "")
    except (TypeError, ValueError):
        arguments = None
    must(isinstance(arguments, dict), f"'{where}.arguments' must be a JSON object as a string.")


def _check_tools(tools: Any) -> None:
    must(isinstance(tools, list) and tools, "[] is too short - 'tools'")
    for tool in tools:
        must(isinstance(tool, dict) and tool.get("type") == "function", "Invalid value: 'tools[].type'.")
        must(not tool.keys() - {"type", "name", "description", "parameters", "strict"}, "Unknown parameter in 'tools'.")
        must(_NAME.fullmatch(tool.get("name") or ""), f"Invalid 'tools[].name': {tool.get('name')!r}")
        must(isinstance(tool.get("description", ""), str), "Invalid type for 'tools[].description'.")
        schema = tool.get("parameters")
        must(
            isinstance(schema, dict) and schema.get("type") == "object" and "properties" in schema,
            f"Invalid schema for function {tool['name']!r}: schema must be a JSON Schema of 'type: \"object\"'",
        )
        # Left out, it means true.
        form = {"name": tool["name"], "schema": schema, "strict": tool.get("strict", True)}
        must(not (why := schemas.objection(form)), why)
    must(len({tool["name"] for tool in tools}) == len(tools), "two tools have the same name")


# --- out ------------------------------------------------------------------------------------------------------------


def error_body(status: int, fault: str, message: str) -> bytes:
    if "could not be verified" in message:
        error = {
            "message": message,
            "type": "invalid_request_error",
            "param": None,
            "code": "invalid_encrypted_content",
        }
        return json.dumps({"error": error}).encode()
    return chat_completions.error_body(status, fault, message)


def lists_models(path: str, headers: Mapping[str, str]) -> bool:
    return False  # As for Chat Completions, which is asked first.


def models(names: Sequence[str]) -> bytes:
    return chat_completions.models(names)


def usage_of(turn: Turn, request: Mapping[str, Any]) -> dict[str, Any] | None:
    if "no_usage" in turn.quirks:
        return None
    if turn.usage is not None:
        return turn.usage
    thought = len(pieces(turn.reasoning, turn.chunk))
    out = len(pieces(turn.text, turn.chunk)) + thought + 8 * len(turn.calls)
    prompt = len(json.dumps(request["input"])) // 4
    return {
        "input_tokens": prompt,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": out,
        "output_tokens_details": {"reasoning_tokens": thought},
        "total_tokens": prompt + out,
    }


def frames(turn: Turn, request: Any, response_id: str) -> Iterator[Frame]:
    events = _events(turn, request, response_id)
    if request.get("background"):
        yield 0, next(events)  # It is accepted at once, and written when there is time.
    yield from paced(turn, events, _failure(turn, request, response_id))


def whole(turn: Turn, request: Any, response_id: str, status: str = "") -> bytes:
    """With a `status`, as it is before its end."""
    items = [] if status else _items(turn, request, response_id)
    return json.dumps(_response(turn, request, response_id, status=status, items=items)).encode()


def _failure(turn: Turn, request: Any, response_id: str) -> bytes:
    """How a failure in mid-answer is told: as documented (flat), as really sent (nested), or as the end."""
    error: dict[str, Any] = {"code": "server_error", "message": turn.message or "boom"}
    if "failed_event" in turn.quirks:
        failed = _response(turn, request, response_id, status="failed", items=[]) | {"error": error}
        event: dict[str, Any] = {"type": "response.failed", "response": failed}
    elif "flat_error" in turn.quirks:
        event = {"type": "error", **error, "param": None}
    else:
        event = {"type": "error", "error": {"type": "server_error", **error, "param": None}}
    event["sequence_number"] = 99
    return b"event: %b\ndata: %b\n\n" % (event["type"].encode(), json.dumps(event).encode())


def _response(
    turn: Turn, request: Mapping[str, Any], id_: str, *, status: str = "", items: list[dict[str, Any]]
) -> dict[str, Any]:
    cut = {"length": "max_output_tokens"}.get(turn.finish, turn.finish)
    status = status or ("incomplete" if cut else "completed")
    return {
        "id": id_,
        "object": "response",
        "created_at": 1_790_000_000,
        "status": status,
        "background": request.get("background", False),
        "completed_at": 1_790_000_001 if status == "completed" else None,
        "error": None,
        "incomplete_details": {"reason": cut} if status == "incomplete" else None,
        "instructions": request.get("instructions"),
        "max_output_tokens": request.get("max_output_tokens"),
        "max_tool_calls": None,
        "metadata": {},
        "model": request["model"],
        "output": items,
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "reasoning": {"effort": None, "summary": None} | request.get("reasoning", {}),
        "service_tier": "default",
        "store": False,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}, "verbosity": "medium"} | request.get("text", {}),
        "tool_choice": "auto",
        "tools": request.get("tools", []),
        "top_logprobs": 0,
        "top_p": 0.98,
        "truncation": "disabled",
        "usage": usage_of(turn, request) if status in ("completed", "incomplete", "failed") else None,
        "user": None,
    }


def _items(turn: Turn, request: Mapping[str, Any], response_id: str) -> list[dict[str, Any]]:
    """What the answer consists of, as `response.output_item.done` tells it."""
    found: list[dict[str, Any]] = []
    status = "incomplete" if turn.finish else "completed"
    nulls = "null_fields" in turn.quirks

    def id_(kind: str) -> str:
        needs = next((item["id"] for item in reversed(found) if item["type"] == "reasoning"), "")
        return f"{kind}_{response_id}_{len(found)}" + (f".{needs}" if needs and kind != "rs" else "")

    if turn.reasoning:
        reasoning: dict[str, Any] = {"id": id_("rs"), "type": "reasoning", "summary": [
            {"type": "summary_text", "text": text} for text in turn.reasoning.split("\n\n")
        ]}  # fmt: skip
        if "reasoning.encrypted_content" in request.get("include", ()) and "no_encrypted" not in turn.quirks:
            sealed = json.dumps({"model": request["model"], "id": reasoning["id"]})
            reasoning["encrypted_content"] = base64.b64encode(sealed.encode()).decode()
        found.append(reasoning | ({"content": None, "status": "completed"} if nulls else {}))
    texts = turn.text.split("\n\n", 1) if "commentary" in turn.quirks else [turn.text]
    for number, text in enumerate(texts):
        parts: list[dict[str, Any]] = []
        if text:
            parts.append({"type": "output_text", "annotations": [], "logprobs": [], "text": text})
        if turn.refusal:
            parts.append({"type": "refusal", "refusal": turn.refusal})
        if not parts:
            continue
        message = {"id": id_("msg"), "type": "message", "status": status, "content": parts, "role": "assistant"}
        if "commentary" in turn.quirks:
            message["phase"] = "final_answer" if number else "commentary"
        found.append(message | ({"phase": None} if nulls else {}))
    for number, call in enumerate(turn.calls):
        item = {"id": id_("fc"), "type": "function_call", "status": status, "arguments": _arguments(call, turn)}
        item |= {"call_id": _call_id(call, number, turn, response_id), "name": call.name}
        if "no_ids" in turn.quirks:
            del item["call_id"]
        found.append(item | ({"namespace": None, "caller": None} if nulls else {}))
    return found


def _arguments(call: Call, turn: Turn) -> Any:
    if "dict_arguments" in turn.quirks:
        return call.arguments
    if "null_arguments" in turn.quirks:
        return None
    return call.arguments if isinstance(call.arguments, str) else json.dumps(call.arguments)


def _call_id(call: Call, number: int, turn: Turn, response_id: str) -> str:
    return "call_0" if "same_ids" in turn.quirks else call.id or f"call_{response_id}_{number}"


def _events(turn: Turn, request: Mapping[str, Any], response_id: str) -> Iterator[bytes]:
    """One piece up to the first delta, then one for each delta with what is before it, then the end. In the background
    there is one before all that."""
    wrap = Dialect(turn)
    sequence = 0
    waiting: list[bytes] = []

    def event(type_: str, *, last: bool = False, **fields: Any) -> bytes:
        nonlocal sequence
        payload = {"type": type_, "sequence_number": sequence, **fields}
        sequence += 1
        return wrap(
            json.dumps(payload, ensure_ascii="surrogate_halves" in turn.quirks).encode(), event=type_, last=last
        )

    begun = _response(turn, request, response_id, status="in_progress", items=[])
    if request.get("background"):
        queued = begun | {"status": "queued"}
        yield event("response.created", response=queued) + event("response.queued", response=queued)
    else:
        waiting.append(event("response.created", response=begun))
    waiting.append(event("response.in_progress", response=begun))
    items = _items(turn, request, response_id)
    opened = False
    for number, item in enumerate(items):
        place: dict[str, Any] = {"output_index": 0 if "index_zero" in turn.quirks else number}
        if "no_index" in turn.quirks:
            place = {}
        if "no_added" not in turn.quirks:
            waiting.append(event("response.output_item.added", **place, item=_opening(item)))
        of_item = place | {"item_id": item["id"]}
        for type_, fields in () if "no_deltas" in turn.quirks else _inside(item, turn):
            waiting.append(event(type_, **of_item, **fields))
            if not type_.endswith(".delta"):
                continue
            # Everything that precedes the first delta is a piece of its own.
            if not opened:
                yield b"".join(waiting[:-1])
                del waiting[:-1]
                opened = True
            yield b"".join(waiting)
            waiting.clear()
        if "no_item_done" not in turn.quirks:
            waiting.append(event("response.output_item.done", **place, item=item))
    end = _response(turn, request, response_id, items=items)
    waiting.append(event(f"response.{end['status']}", last=True, response=end))
    yield b"".join(waiting)


def _opening(item: Mapping[str, Any]) -> dict[str, Any]:
    """An item before anything of it is written."""
    empty: dict[str, Any] = {"reasoning": {"summary": []}, "message": {"content": []}}.get(
        item["type"], {"arguments": ""}
    )
    return dict(item) | empty | ({"status": "in_progress"} if "status" in item else {})


def _inside(item: Mapping[str, Any], turn: Turn) -> Iterator[tuple[str, dict[str, Any]]]:
    """The events between the first of an item and the last."""
    match item["type"]:
        case "reasoning":
            for index, part in enumerate(item["summary"]):
                at = {"summary_index": index}
                yield "response.reasoning_summary_part.added", at | {"part": part | {"text": ""}}
                for piece in pieces(part["text"], turn.chunk):
                    yield "response.reasoning_summary_text.delta", at | {"delta": piece}
                yield "response.reasoning_summary_text.done", at | {"text": part["text"]}
                yield "response.reasoning_summary_part.done", at | {"part": part}
        case "message":
            for index, part in enumerate(item["content"]):
                name = "text" if "text" in part else "refusal"
                event = f"response.{part['type']}"
                more: dict[str, Any] = {"logprobs": []} if name == "text" else {}
                at = {"content_index": index}
                yield "response.content_part.added", at | {"part": part | {name: ""}}
                for piece in _halves(part[name], turn):
                    yield f"{event}.delta", at | {"delta": piece} | more | {"obfuscation": "x7Kp"}
                yield f"{event}.done", at | {name: part[name]} | more
                yield "response.content_part.done", at | {"part": part}
        case "function_call" if isinstance(item["arguments"], str):
            for piece in pieces(item["arguments"], turn.chunk or 7):
                yield "response.function_call_arguments.delta", {"delta": piece, "obfuscation": "x7Kp"}
            yield "response.function_call_arguments.done", {"arguments": item["arguments"]}


def _halves(text: str, turn: Turn) -> Iterator[str]:
    for piece in pieces(text, turn.chunk):
        if "surrogate_halves" in turn.quirks and any(character > "\uffff" for character in piece):
            units = piece.encode("utf-16-le")
            yield from (units[at : at + 2].decode("utf-16-le", "surrogatepass") for at in range(0, len(units), 2))
        else:
            yield piece
