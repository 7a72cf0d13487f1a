"""The wire format of Gemini's streamGenerateContent, as a server sees it: what it refuses, and what it sends.

https://ai.google.dev/api/generate-content, in camel case, in which Google writes it. A thought signature holds for the
parts before it and the one that carries it, and for the model; whoever merges, moves or edits them is refused.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tests.fakes.script import Quirk, Turn
from tests.fakes.streaming import Dialect, Frame, paced, pieces
from tests.fakes.strict import check_strings, must, objection_to

SENTINEL = "skip_thought_signature_validator"

_PATH = re.compile(r"/v1(?:beta)?/(?:models|tunedModels)/([^/]+):streamGenerateContent")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.:-]{0,127}")
_CONTENT = {"text", "inlineData", "fileData", "functionCall", "functionResponse", "executableCode", "ofTomorrow"}
_CONFIG = {
    "temperature", "topP", "topK", "maxOutputTokens", "stopSequences", "seed", "candidateCount", "thinkingConfig",
    "responseMimeType", "responseJsonSchema",
}  # fmt: skip
_HARMS = {f"HARM_CATEGORY_{h}" for h in ("HARASSMENT", "HATE_SPEECH", "SEXUALLY_EXPLICIT", "DANGEROUS_CONTENT")}
_THRESHOLDS = {"BLOCK_LOW_AND_ABOVE", "BLOCK_MEDIUM_AND_ABOVE", "BLOCK_ONLY_HIGH", "BLOCK_NONE", "OFF"}
_IMAGES = {"image/png", "image/jpeg", "image/webp", "image/heic", "image/heif"}


# --- in -------------------------------------------------------------------------------------------------------------


def matches(path: str) -> bool:
    return path.endswith(":streamGenerateContent")


def key(headers: Mapping[str, str]) -> str:
    return headers.get("x-goog-api-key", "")


def model(path: str, request: Any) -> str:
    found = _PATH.search(path)
    return found[1] if found else ""


def headers_objection(headers: Mapping[str, str]) -> str:
    if "application/json" not in headers.get("content-type", ""):
        return "Invalid JSON payload received. The content type is not JSON."
    return ""


def messages(request: Any) -> list[dict[str, Any]]:
    said: list[dict[str, Any]] = []
    for content in request["contents"]:
        results = [part["functionResponse"] for part in content["parts"] if "functionResponse" in part]
        if results:
            said += [{"role": "tool", "content": next(iter(result["response"].values()))} for result in results]
            continue
        words = "".join(part.get("text", "") for part in content["parts"])
        said.append({"role": "assistant" if content["role"] == "model" else "user", "content": words})
    return said


def objection(path: str, request: Any) -> str:
    return objection_to(lambda: _check(path, request))


def _check(path: str, request: Any) -> None:
    name = model(path, request)
    must(name, "* GenerateContentRequest.model: unexpected model name format")
    is_3 = _is_3(name)
    must(isinstance(request, dict), "Invalid JSON payload received.")
    _must_know(
        request, {"contents", "systemInstruction", "tools", "toolConfig", "safetySettings", "generationConfig"}, ""
    )
    check_strings(request)
    contents = request.get("contents")
    must(isinstance(contents, list) and contents, "* GenerateContentRequest.contents: contents is not specified")
    for position, content in enumerate(contents):
        _check_content(content, f"contents[{position}]", name)
    _check_order(contents)
    if is_3:
        _check_signed(contents)
    if "systemInstruction" in request:
        parts = request["systemInstruction"].get("parts")
        must(parts and all(part.get("text") for part in parts), "system_instruction: parts must not be empty")
    if "tools" in request:
        _check_tools(request["tools"])
    for setting in request.get("safetySettings", ()):
        must(setting["category"] in _HARMS, f"Invalid value at 'safety_settings' {setting['category']!r}")
        must(setting["threshold"] in _THRESHOLDS, f"Invalid value at 'safety_settings' {setting['threshold']!r}")
    _check_config(request.get("generationConfig", {}), is_3, "tools" in request)


def _is_3(name: str) -> bool:
    version = re.search(r"gemini-(\d+)", name)
    return "gemini-" in name and (version is None or int(version[1]) >= 3)


def _must_know(value: Mapping[str, Any], names: set[str], where: str) -> None:
    for name in value.keys() - names:
        must(False, f'Invalid JSON payload received. Unknown name "{name}"{where}: Cannot find field.')


def _check_content(content: Any, where: str, name: str) -> None:
    must(isinstance(content, dict), f"Invalid value at '{where}'")
    _must_know(content, {"role", "parts"}, f" at '{where}'")
    must(content.get("role") in ("user", "model"), "Please use a valid role: user, model.")
    parts = content.get("parts")
    must(
        isinstance(parts, list) and parts, f"* GenerateContentRequest.{where}.parts: contents.parts must not be empty."
    )
    for position, part in enumerate(parts):
        _must_know(part, {*_CONTENT, "thought", "thoughtSignature"}, f" at '{where}.parts[{position}]'")
        must(len(part.keys() & _CONTENT) == 1, f"{where}.parts[{position}].data: required oneof field must be set")
        signature = part.get("thoughtSignature")
        must(part.get("text", "x") or signature, f"{where}: Unable to submit request because it has an empty text")
        is_call, is_result = "functionCall" in part, "functionResponse" in part
        must(not is_call or content["role"] == "model", "a function call must be of role model")
        must(not is_result or content["role"] == "user", "a function response must be of role user")
        if is_call:
            call = part["functionCall"]
            _must_know(call, {"id", "name", "args"}, "")
            must(_NAME.fullmatch(call.get("name") or ""), f"{where}: invalid function name {call.get('name')!r}")
            must(isinstance(call.get("args", {}), dict), f"{where}: function call args must be a struct")
        for blob in (part.get("inlineData"), part.get("fileData")):
            must(blob is None or blob.get("mimeType") in _IMAGES, f"Unsupported MIME type: {blob and blob['mimeType']}")
        if signature and signature != SENTINEL:
            must(signature == _sign(name, parts[: position + 1]), "Corrupted thought signature.")


def _check_order(contents: list[dict[str, Any]]) -> None:
    must(contents[0]["role"] == "user", "Please ensure that single turn requests begin with a user role.")
    for before, content in zip([None, *contents], [*contents, None], strict=True):
        calls = [part["functionCall"] for part in (before or {}).get("parts", ()) if "functionCall" in part]
        results = [p["functionResponse"] for p in (content or {}).get("parts", ()) if "functionResponse" in p]
        must(
            len(calls) == len(results),
            "Please ensure that the number of function response parts is equal to the number of function call parts "
            "of the function call turn.",
        )
        for call, result in zip(calls, results, strict=True):
            _must_know(result, {"id", "name", "response"}, "")
            must(result.get("name") == call["name"], "function_response.name does not match the function call")
            must(result.get("id") == call.get("id"), "function_response.id does not match the function call")
            response = result.get("response")
            must(isinstance(response, dict) and response.keys() <= {"output", "error"}, "function_response.response")
        if content and any("functionCall" in part for part in content["parts"]):
            must(
                before and before["role"] == "user",
                "Please ensure that function call turn comes immediately after a user turn or after a function "
                "response turn.",
            )


def _check_signed(contents: list[dict[str, Any]]) -> None:
    """From Gemini 3 on: in the turn that goes on, the first call of each step."""
    asked = [n for n, c in enumerate(contents) if c["role"] == "user" and "functionResponse" not in c["parts"][0]]
    for content in contents[asked[-1] :]:
        first = next((part for part in content["parts"] if "functionCall" in part), None)
        must(
            first is None or first.get("thoughtSignature"),
            "Function call is missing a thought_signature in functionCall parts. This is required for tools to work "
            "correctly, and missing thought_signature may lead to degraded model performance.",
        )


def _check_tools(tools: Any) -> None:
    names = []
    for declaration in (d for tool in tools for d in tool["functionDeclarations"]):
        _must_know(declaration, {"name", "description", "parametersJsonSchema"}, " at 'tools'")
        must(_NAME.fullmatch(declaration.get("name") or ""), f"Invalid function name {declaration.get('name')!r}.")
        must(isinstance(declaration.get("description", ""), str), "Invalid value at 'description'")
        schema = declaration.get("parametersJsonSchema", {"type": "object", "properties": {"x": {}}})
        must(schema.get("type") == "object", "functionDeclaration parameters schema should be of type OBJECT.")
        must(schema.get("properties"), "parameters.properties: should be non-empty for OBJECT type")
        names.append(declaration["name"])
    must(names, "tools: no function declarations")
    must(len(set(names)) == len(names), f"Duplicate function declaration found: {names}")


def _check_config(config: Mapping[str, Any], is_3: bool, with_tools: bool) -> None:
    _must_know(config, _CONFIG, " at 'generation_config'")
    for name, low, high in (("temperature", 0, 2), ("topP", 0, 1), ("maxOutputTokens", 1, 10**7)):
        value = config.get(name, low)
        must(isinstance(value, int | float) and low <= value <= high, f"* {name} must be in the range [{low}, {high}].")
    thinking = config.get("thinkingConfig", {})
    _must_know(thinking, {"thinkingLevel", "thinkingBudget", "includeThoughts"}, " at 'thinking_config'")
    must(
        not {"thinkingLevel", "thinkingBudget"} <= thinking.keys(),
        "You can only set only one of thinking budget and thinking level.",
    )
    level = thinking.get("thinkingLevel")
    must(level is None or is_3, "Thinking level is not supported for this model.")
    must(level in (None, "MINIMAL", "LOW", "MEDIUM", "HIGH", "XHIGH"), f"Invalid value at 'thinking_level' {level!r}")
    if "responseJsonSchema" in config:
        must(config.get("responseMimeType") == "application/json", "response_json_schema needs application/json")
    if config.get("responseMimeType"):
        must(
            is_3 or not with_tools,
            "Function calling with a response mime type: 'application/json' is unsupported",
        )


# --- out ------------------------------------------------------------------------------------------------------------

_STATUS = {
    400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND", 409: "ABORTED",
    429: "RESOURCE_EXHAUSTED", 500: "INTERNAL", 503: "UNAVAILABLE", 504: "DEADLINE_EXCEEDED",
}  # fmt: skip
_MESSAGES = {"context": "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576)."}


def error_body(status: int, fault: str, message: str) -> bytes:
    code = 503 if fault == "error_event" else status
    error = {"code": code, "message": _MESSAGES.get(fault, message), "status": _STATUS.get(code, "UNKNOWN")}
    if details := _details(fault, message):
        error["details"] = details
    return json.dumps({"error": error}, indent=2).encode()


def _details(fault: str, message: str) -> list[dict[str, Any]]:
    def detail(kind: str, **fields: Any) -> dict[str, Any]:
        return {"@type": f"type.googleapis.com/google.rpc.{kind}", **fields}

    def quota(per: str) -> list[dict[str, Any]]:
        violation = {"quotaId": f"GenerateRequestsPer{per}PerProjectPerModel-FreeTier", "quotaValue": "20"}
        return [detail("QuotaFailure", violations=[violation]), detail("RetryInfo", retryDelay="13.4s")]

    match fault:
        case "api_key_invalid":
            info = detail("ErrorInfo", reason="API_KEY_INVALID", domain="googleapis.com")
            return [info, detail("DebugInfo", detail=message)]
        case "429":
            return quota("Minute")
        case "quota":
            return quota("Day")
    return []


def lists_models(path: str, headers: Mapping[str, str]) -> bool:
    return path.endswith("/models") and "x-goog-api-key" in headers


def models(names: Sequence[str]) -> bytes:
    found = [
        {
            "name": f"models/{name}",
            "displayName": name,
            "inputTokenLimit": 1_048_576,
            "outputTokenLimit": 65_536,
            "supportedGenerationMethods": ["generateContent", "countTokens"],
        }
        for name in names
    ]
    return json.dumps({"models": found}).encode()


def frames(turn: Turn, request: Any, response_id: str) -> Iterator[Frame]:
    error = error_body(200, "error_event", turn.message or "boom")
    if "raw_error" not in turn.quirks:
        error = b"data: " + json.dumps(json.loads(error)).encode() + b"\r\n\r\n"
    # Google ends lines with CR LF.
    google: frozenset[Quirk] = frozenset({"crlf"})
    quirks = turn.quirks if turn.quirks & {"lf", "cr"} else turn.quirks | google
    wrap = Dialect(replace(turn, quirks=quirks))
    chunks = [json.dumps(chunk, ensure_ascii=False).encode() for chunk in _chunks(turn, request, response_id)]
    events = (wrap(chunk, last=n == len(chunks) - 1) for n, chunk in enumerate(chunks))
    return paced(turn, events, error)


def whole(turn: Turn, request: Any, response_id: str) -> bytes:
    """What comes without `alt=sse`: the chunks as a list."""
    return json.dumps(list(_chunks(turn, request, response_id))).encode()


def _chunks(turn: Turn, request: Mapping[str, Any], response_id: str) -> Iterator[dict[str, Any]]:
    name = str(request.get("model") or "")
    given = usage_of(turn, request)
    thoughts, candidates = 0, 0
    said: list[dict[str, Any]] = []

    def chunk(*parts: dict[str, Any], finish: str = "", counted: int = 0) -> dict[str, Any]:
        nonlocal thoughts, candidates
        thoughts += counted if parts and parts[0].get("thought") else 0
        candidates += 0 if parts and parts[0].get("thought") else counted
        said.extend(part for part in parts if part.get("text", "x"))
        candidate: dict[str, Any] = {"content": {"parts": list(parts), "role": "model"}, "index": 0}
        if "no_parts" in turn.quirks and not any(part.get("text", "x") for part in parts):
            candidate["content"] = {"role": "model"}
        return envelope(candidates=[candidate | ({"finishReason": finish} if finish else {})])

    def envelope(**content: Any) -> dict[str, Any]:
        counts = {"candidatesTokenCount": candidates, "thoughtsTokenCount": thoughts}
        # As Google does, nothing is said of what is none.
        usage = {name: value for name, value in {**given, **(counts if turn.usage is None else {})}.items() if value}
        usage = {} if "no_usage" in turn.quirks else {"usageMetadata": usage}
        return {**content, **usage, "modelVersion": name, "responseId": response_id}

    def signed(part: dict[str, Any]) -> dict[str, Any]:
        if "no_signatures" in turn.quirks:
            return part
        return {**part, "thoughtSignature": _sign(name, [*said, part])}

    if "prompt_block" in turn.quirks:
        yield envelope(promptFeedback={"blockReason": turn.finish or "PROHIBITED_CONTENT"})
        return
    yield chunk({"text": ""})
    wanted = request.get("generationConfig", {}).get("thinkingConfig", {}).get("includeThoughts")
    for piece in pieces(turn.reasoning, turn.chunk):
        if wanted:
            yield chunk({"text": piece, "thought": True}, counted=1)
        else:
            thoughts += 1
    if "unknown_parts" in turn.quirks:
        yield chunk({"executableCode": {"language": "PYTHON", "code": "1"}}, {"ofTomorrow": {"x": [1]}})
    texts = pieces(turn.text, turn.chunk)
    for position, piece in enumerate(texts):
        # A text can be signed as well, and the next one goes on behind it.
        is_signed = "signed_text" in turn.quirks and position == 0
        yield chunk(signed({"text": piece}) if is_signed else {"text": piece}, counted=1)
    calls = [_call(turn, position) for position in range(len(turn.calls))]
    if calls and "calls_apart" in turn.quirks:
        for position, call in enumerate(calls):
            yield chunk(call if position else signed(call), counted=8)
    elif calls:
        yield chunk(signed(calls[0]), *calls[1:], counted=8 * len(calls))
    if calls or "no_choices" in turn.quirks:
        yield envelope()
        yield envelope(candidates=None if "no_choices" in turn.quirks else [])
    if "no_finish_reason" not in turn.quirks:
        end = {"text": ""}
        yield chunk(end if calls else signed(end), finish=turn.finish or "STOP")


def _call(turn: Turn, position: int) -> dict[str, Any]:
    call = turn.calls[position]
    function: dict[str, Any] = {"name": call.name, "args": call.arguments if isinstance(call.arguments, dict) else {}}
    if "no_ids" not in turn.quirks:
        function["id"] = "call_0" if "same_ids" in turn.quirks else call.id or f"fc-{position}-{id(turn):x}"
    if "null_arguments" in turn.quirks:
        del function["args"]
    return {"functionCall": function}


def _sign(name: str, parts: Sequence[Mapping[str, Any]]) -> str:
    """The signature of the last of `parts`, as `name` gives it after those before it."""
    bare = [{k: v for k, v in part.items() if k != "thoughtSignature"} for part in parts]
    digest = hashlib.sha256(json.dumps([name, bare], sort_keys=True).encode()).digest()
    return base64.b64encode(digest).decode()


def usage_of(turn: Turn, request: Mapping[str, Any]) -> dict[str, Any]:
    return turn.usage if turn.usage is not None else {"promptTokenCount": len(json.dumps(request["contents"])) // 4}
