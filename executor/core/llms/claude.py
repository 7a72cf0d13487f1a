"""Claude, by Anthropic's Messages API, and servers that speak it.

The wire format is https://platform.claude.com/docs/en/api/messages.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from executor.core.llms._answer import Answer
from executor.core.llms._claude_answer import ClaudeAnswer
from executor.core.llms._http import http_client
from executor.core.llms._json import dumps
from executor.core.llms._transcript import (
    NO_OUTPUT,
    Answered,
    AssistantTurn,
    UserTurn,
    file_note,
    function_name,
    split_data_url,
    turns,
)
from executor.core.llms._wire import Refusal, WireLlm
from executor.core.llms.base import Endpoint
from executor.core.llms.parameters import CONTEXT_WINDOW, IDLE_TIMEOUT, MAX_TOKENS, RESPONSE_SCHEMA, Parameter, extra
from executor.core.messages import File, JsonDict, Message, ToolCall, ToolSpec

if TYPE_CHECKING:
    import httpx2
    from anthropic import AsyncAnthropic

#: The format that is written and read here. An SDK that asks for another one changes nothing until this has changed.
API_VERSION = "2026-10-21"
#: A request must say how long the answer may be, thoughts included. Every model since 2025 takes this much.
DEFAULT_MAX_TOKENS = 32_000

_PICTURES = ("image/jpeg", "image/png", "image/gif", "image/webp")
_ID = re.compile(r"[A-Za-z0-9_-]+")


class Claude(WireLlm):
    type: ClassVar[str] = "claude"
    label: ClassVar[str] = "Anthropic"
    sees: ClassVar[bool] = True
    needs_key: ClassVar[bool] = True
    key_page: ClassVar[str] = "https://platform.claude.com/settings/keys"
    test_model: ClassVar[str] = "claude-haiku-5-5"
    api: ClassVar[str] = "messages"
    sdk: ClassVar[str] = "anthropic"
    default_base_url: ClassVar[str] = "https://api.anthropic.com"
    PARAMETERS: ClassVar[tuple[Parameter, ...]] = (
        MAX_TOKENS,
        Parameter(
            "effort",
            "choice",
            "How much work goes into an answer. More is more thorough, slower and costs more.",
            choices=("low", "medium", "high", "xhigh", "max"),
        ),
        Parameter(
            "thinking",
            "choice",
            "Whether it thinks before it answers: adaptive (when it finds that useful), between_tools (only between "
            "calls of functions) or disabled. Not every model takes each; left empty, the model's own way.",
            choices=("adaptive", "between_tools", "disabled"),
        ),
        Parameter(
            "thinking_display",
            "choice",
            "What is shown of adaptive thinking: summarized, or omitted, which answers a little sooner.",
            choices=("summarized", "omitted"),
        ),
        Parameter(
            "cache",
            "choice",
            "How long Anthropic keeps a conversation at hand, which makes its next step cheaper and faster: 5m, 1h "
            "(dearer to begin with, for slow conversations) or off. Left empty, 5m.",
            choices=("5m", "1h", "off"),
        ),
        extra("model", "messages", "system", "tools", "stream", "output_config"),
        CONTEXT_WINDOW,
        IDLE_TIMEOUT,
    )

    def __init__(self, endpoint: Endpoint, **parameters: Any) -> None:
        super().__init__(endpoint, **parameters)
        # The SDK's client, the HTTP client under it (another one on another event loop), and the headers it sends.
        self._made: tuple[AsyncAnthropic, httpx2.AsyncClient, dict[str, Any]] | None = None

    def _new_answer(self) -> Answer:
        return ClaudeAnswer()

    def _refusal(self, problem: Exception) -> Refusal | None:
        from anthropic import APIStatusError

        if not isinstance(problem, APIStatusError):
            return None
        body = problem.body if problem.body is not None else problem.response.text
        return Refusal(problem.status_code, body, problem.response.headers)

    # --- out ----------------------------------------------------------------------------------------------------------

    def request_body(
        self, messages: Sequence[Message], tools: Sequence[ToolSpec], parameters: dict[str, Any]
    ) -> JsonDict:
        """The request as JSON. The same input gives the same bytes, so that the prompt cache hits."""
        system, said = turns(messages)
        body: JsonDict = {
            "model": self.endpoint.model,
            "max_tokens": parameters.get("max_tokens") or DEFAULT_MAX_TOKENS,
        }
        if system.strip():
            body["system"] = [{"type": "text", "text": system}]
        if tools:
            body["tools"] = [_tool(spec) for spec in tools]
        body["messages"] = self._messages(said)
        if (ttl := parameters.get("cache") or "5m") != "off":
            # At the top it marks the last block that can be cached, so that each step reads what the one before wrote.
            body["cache_control"] = {"type": "ephemeral", "ttl": ttl}
        if thinking := _thinking(parameters):
            body["thinking"] = thinking
        if config := _output_config(parameters):
            body["output_config"] = config
        body["stream"] = True
        return body | (parameters.get("extra") or {})

    def _messages(self, said: Sequence[UserTurn | AssistantTurn]) -> list[JsonDict]:
        messages: list[JsonDict] = []
        taken: set[str] = set()
        for turn in said:
            match turn:
                case UserTurn():
                    _append(messages, "user", _user_content(turn))
                case AssistantTurn():
                    content, ids = self._assistant(turn, taken)
                    _append(messages, "assistant", content)
                    # All results in one message, and before anything else that is in it.
                    _append(
                        messages,
                        "user",
                        [_result(answered, id_) for answered, id_ in zip(turn.calls, ids, strict=True)],
                    )
        return messages

    def _assistant(self, turn: AssistantTurn, taken: set[str]) -> tuple[list[JsonDict], list[str]]:
        """The blocks of what the model said, and the ids of its calls, none of which are `taken`."""
        native = self._native_items(turn.message)
        ids: list[str] = []
        for answered in turn.calls:
            # Its own ids go back as they came, if they are any use: servers leave them out or repeat them.
            own = answered.call.provider_id if native else ""
            ids.append(own if _ID.fullmatch(own) and own not in taken else answered.call.id)
            taken.add(ids[-1])
        if native:
            unused = iter(ids)
            return [block | {"id": next(unused)} if block["type"] == "tool_use" else block for block in native], ids
        text = turn.message.text
        content: list[JsonDict] = [{"type": "text", "text": text}] if text.strip() else []
        content += [_call(answered.call, id_) for answered, id_ in zip(turn.calls, ids, strict=True)]
        return content, ids

    # --- over ---------------------------------------------------------------------------------------------------------

    async def _post(self, body: JsonDict, timeouts: httpx2.Timeout) -> httpx2.Response:
        import httpx2
        from anthropic import AsyncStream

        client, headers = self._client()
        # Serialised here, because the SDK would walk and copy every message first.
        response: Any = await client.post(
            "/v1/messages",
            cast_to=httpx2.Response,
            content=dumps(body),
            options={"timeout": timeouts, "headers": headers},
            stream=True,
            stream_cls=AsyncStream[Any],
        )
        assert isinstance(response, httpx2.Response)
        return response

    def _client(self) -> tuple[AsyncAnthropic, dict[str, Any]]:
        from anthropic import AsyncAnthropic

        http = http_client(self.endpoint.allowed_hosts)
        if self._made is None or self._made[1] is not http:
            # What is given here wins over the environment: in a server for many people, an ANTHROPIC_BASE_URL set for
            # something else must redirect nobody. An address with a version at its end is taken for the one before it.
            client = AsyncAnthropic(
                base_url=self._base_url.removesuffix("/v1"),
                # Some servers need no key, the SDK does.
                api_key=self._api_key or "none",
                webhook_key="",
                max_retries=0,
                open_telemetry=False,
                http_client=http,
            )
            self._made = client, http, self._headers(client)
        return self._made[0], self._made[2]

    def _models_request(self) -> tuple[str, dict[str, str]]:
        path = "/models" if self._base_url.endswith("/v1") else "/v1/models"
        key = self._api_key or "none"
        headers = {"Authorization": f"Bearer {key}", "anthropic-version": API_VERSION}
        return f"{path}?limit=1000", headers if self._base_url == self.default_base_url else headers | {
            "x-api-key": key
        }

    def _headers(self, client: AsyncAnthropic) -> dict[str, Any]:
        """Exactly these are sent: neither the SDK's telemetry nor what ANTHROPIC_CUSTOM_HEADERS says."""
        from anthropic import omit

        telemetry = ("x-stainless-timeout", "x-stainless-read-timeout", "x-stainless-retry-count")
        others = {name.lower(): omit for name in (*client.default_headers, *telemetry)}
        headers = {name.lower(): value for name, value in client.auth_headers.items()}
        if self._base_url != self.default_base_url:
            # What others built after Anthropic's format often knows only the header that this one had before.
            headers["x-api-key"] = client.api_key or ""
        return {
            **others,
            **headers,
            "accept": "text/event-stream",
            "accept-encoding": "identity",
            "anthropic-version": API_VERSION,
            "content-type": "application/json",
            "user-agent": "AgentSite",
        }


# --- neutral values to the wire --------------------------------------------------------------------------------------


def _thinking(parameters: dict[str, Any]) -> JsonDict:
    kind, display = parameters.get("thinking"), parameters.get("thinking_display")
    if kind == "adaptive" or (display and not kind):
        # Said, because the newest models leave their thoughts out unless they are asked for.
        return {"type": "adaptive", "display": display or "summarized"}
    return {"type": kind} if kind else {}


def _output_config(parameters: dict[str, Any]) -> JsonDict:
    config: JsonDict = {"effort": effort} if (effort := parameters.get("effort")) else {}
    if schema := parameters.get(RESPONSE_SCHEMA):
        config["format"] = {"type": "json_schema", "schema": _known_schema(schema)}
    return config


def _known_schema(schema: JsonDict) -> JsonDict:
    """`schema` without what Anthropic refuses, which is told in descriptions instead."""
    from anthropic import transform_schema

    try:
        known = transform_schema(schema)
    except (ValueError, TypeError, AttributeError, AssertionError):
        # More than the SDK can translate: the provider has the word.
        return schema
    return schema if known == schema else known


def _tool(spec: ToolSpec) -> JsonDict:
    schema = spec.parameters or {"type": "object", "properties": {}}
    return {"name": spec.name, "description": spec.description, "input_schema": schema}


def _call(call: ToolCall, id_: str) -> JsonDict:
    return {"type": "tool_use", "id": id_, "name": function_name(call.name), "input": call.arguments or {}}


def _result(answered: Answered, id_: str) -> JsonDict:
    content = answered.content if answered.content.strip() else NO_OUTPUT
    result: JsonDict = {"type": "tool_result", "tool_use_id": id_, "content": content}
    return result | ({"is_error": True} if answered.is_error else {})


def _user_content(turn: UserTurn) -> list[JsonDict]:
    pictures = [(file, _picture(file)) for file in turn.pictures]
    texts = [turn.text, *(file_note(file) for file, picture in pictures if picture is None)]
    text = "\n\n".join(text for text in texts if text.strip())
    content: list[JsonDict] = [{"type": "text", "text": text}] if text else []
    return content + [picture for _, picture in pictures if picture]


def _picture(file: File) -> JsonDict | None:
    """None for a picture of a kind that Claude does not see."""
    if file.url.startswith("data:"):
        media_type, data = split_data_url(file.url) or ("", "")
        source = {"type": "base64", "media_type": media_type, "data": data}
    else:
        media_type, source = file.media_type, {"type": "url", "url": file.url}
    return {"type": "image", "source": source} if media_type in _PICTURES else None


def _append(messages: list[JsonDict], role: str, content: list[JsonDict]) -> None:
    """Say more: nothing is no message, and who has the word goes on in the same message."""
    if messages and messages[-1]["role"] == role:
        messages[-1]["content"] += content
    elif content:
        messages.append({"role": role, "content": content})
