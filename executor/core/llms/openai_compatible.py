"""Any server that speaks Chat Completions: Ollama, llama.cpp, vLLM, LM Studio, gateways, OpenAI itself.

The wire format is https://platform.openai.com/docs/api-reference/chat and what servers make of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from executor.core.llms._answer import Answer
from executor.core.llms._chat_answer import ChatAnswer
from executor.core.llms._json import dumps
from executor.core.llms._openai_sdk import OpenAiSdk, refusal
from executor.core.llms._strict_schema import is_strict
from executor.core.llms._transcript import AssistantTurn, UserTurn, function_name, turns
from executor.core.llms._wire import Refusal, WireLlm
from executor.core.llms.base import Endpoint
from executor.core.llms.parameters import (
    CONTEXT_WINDOW,
    IDLE_TIMEOUT,
    IMAGES,
    MAX_TOKENS,
    RESPONSE_SCHEMA,
    Parameter,
    extra,
    sent,
)
from executor.core.messages import JsonDict, Message, ToolCall, ToolSpec

if TYPE_CHECKING:
    import httpx2


class OpenAiCompatible(WireLlm):
    type: ClassVar[str] = "openai_compatible"
    label: ClassVar[str] = "OpenAI-compatible server"
    api: ClassVar[str] = "chat"
    sdk: ClassVar[str] = "openai"
    # Their order is that of the request.
    PARAMETERS: ClassVar[tuple[Parameter, ...]] = (
        Parameter("temperature", "number", "Lower is more predictable.", low=0, high=2),
        Parameter("top_p", "number", "Share of the likeliest words that are considered.", low=0, high=1),
        MAX_TOKENS,
        Parameter("reasoning_effort", "word", "How long it thinks, where the server knows it: low, medium, high."),
        Parameter("seed", "whole", "The same seed gives the same answer, where the server knows it."),
        Parameter("stop", "words", "Words at which the answer ends."),
        extra("model", "messages", "tools", "stream", "stream_options"),
        CONTEXT_WINDOW,
        IMAGES,
        IDLE_TIMEOUT,
    )

    def __init__(self, endpoint: Endpoint, **parameters: Any) -> None:
        super().__init__(endpoint, **parameters)
        self._sdk = OpenAiSdk(self._base_url, self._api_key, endpoint.allowed_hosts)
        self._asks_for_usage = True

    def _new_answer(self) -> Answer:
        return ChatAnswer()

    def _refusal(self, problem: Exception) -> Refusal | None:
        return refusal(problem)

    # --- out ----------------------------------------------------------------------------------------------------------

    def request_body(
        self, messages: Sequence[Message], tools: Sequence[ToolSpec], parameters: dict[str, Any]
    ) -> JsonDict:
        """The request as JSON. The same input gives the same bytes, so that providers' prompt caches hit."""
        body: JsonDict = {"model": self.endpoint.model, "messages": self._messages(messages)}
        if tools:
            body["tools"] = [_tool(spec) for spec in tools]
        body |= sent(self.PARAMETERS, parameters)
        if schema := parameters.get(RESPONSE_SCHEMA):
            form = {"name": "answer", "schema": schema, "strict": is_strict(schema)}
            body["response_format"] = {"type": "json_schema", "json_schema": form}
        body["stream"] = True
        if self._asks_for_usage:
            body["stream_options"] = {"include_usage": True}
        return body | (parameters.get("extra") or {})

    def _messages(self, transcript: Sequence[Message]) -> list[JsonDict]:
        system, said = turns(transcript)
        messages: list[JsonDict] = [{"role": "system", "content": system}] if system else []
        for turn in said:
            match turn:
                case UserTurn():
                    messages.append({"role": "user", "content": _user_content(turn)})
                case AssistantTurn():
                    messages += self._assistant(turn)
        return messages

    def _assistant(self, turn: AssistantTurn) -> list[JsonDict]:
        message, calls = turn.message, turn.calls
        said = {"role": "assistant", "content": message.text or None, **(self._native_items(message) or {})}
        if not calls:
            return [said]
        # A provider's own ids go back only where they came from, and only if they tell its calls apart.
        own = [answered.call.provider_id for answered in calls]
        use_own = self._is_ours(message.native) and all(own) and len(set(own)) == len(own)
        ids = own if use_own else [answered.call.id for answered in calls]
        said["tool_calls"] = [_call(answered.call, id_) for answered, id_ in zip(calls, ids, strict=True)]
        results = [
            {"role": "tool", "tool_call_id": id_, "content": answered.content}
            for answered, id_ in zip(calls, ids, strict=True)
        ]
        return [said, *results]

    # --- over ---------------------------------------------------------------------------------------------------------

    async def _post(self, body: JsonDict, timeouts: httpx2.Timeout) -> httpx2.Response:
        try:
            return await self._sdk.post("/chat/completions", body, timeouts)
        except Exception as problem:
            refused = refusal(problem)
            if refused is None or refused.status not in (400, 422) or "stream_options" not in str(refused.body):
                raise
            # Some servers do not know the option; they either always send the usage or never.
            self._asks_for_usage = False
            return await self._sdk.post(
                "/chat/completions", {k: v for k, v in body.items() if k != "stream_options"}, timeouts
            )


# --- neutral values to the wire --------------------------------------------------------------------------------------


def _tool(spec: ToolSpec) -> JsonDict:
    parameters = spec.parameters or {"type": "object", "properties": {}}
    return {
        "type": "function",
        "function": {"name": spec.name, "description": spec.description, "parameters": parameters},
    }


def _call(call: ToolCall, id_: str) -> JsonDict:
    # Servers parse the arguments of past calls and fail on what is no JSON, so that is not repeated to them.
    arguments = dumps(call.arguments or {}).decode()
    return {"id": id_, "type": "function", "function": {"name": function_name(call.name), "arguments": arguments}}


def _user_content(turn: UserTurn) -> str | list[JsonDict]:
    if not turn.pictures:
        return turn.text
    parts: list[JsonDict] = [{"type": "text", "text": turn.text}] if turn.text else []
    return parts + [{"type": "image_url", "image_url": {"url": picture.url}} for picture in turn.pictures]
