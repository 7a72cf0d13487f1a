"""OpenAI's models by the Responses API, without any state there: the whole conversation goes out each time.

With `keep_response` a single answer is kept there while it is written, and a few minutes longer: see `_gpt_kept.py`.

The wire format is https://platform.openai.com/docs/api-reference/responses. Chat Completions refuses functions together
with reasoning from GPT-5.4 on, so this is the way to ask OpenAI; `openai_compatible` is for everybody else.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from executor.core.events import ModelEvent
from executor.core.llms import _gpt_kept
from executor.core.llms._answer import Answer
from executor.core.llms._gpt_answer import GptAnswer, without_ids
from executor.core.llms._json import dumps
from executor.core.llms._openai_sdk import OpenAiSdk, refusal
from executor.core.llms._strict_schema import is_strict
from executor.core.llms._transcript import AssistantTurn, UserTurn, function_name, turns
from executor.core.llms._wire import Refusal, WireLlm, import_package
from executor.core.llms.base import Endpoint
from executor.core.llms.parameters import CONTEXT_WINDOW, IDLE_TIMEOUT, RESPONSE_SCHEMA, Parameter, extra
from executor.core.messages import JsonDict, Message, ToolCall, ToolSpec

if TYPE_CHECKING:
    import httpx2

logger = logging.getLogger(__name__)

_ENCRYPTED_REASONING = "reasoning.encrypted_content"


class Gpt(WireLlm):
    type: ClassVar[str] = "gpt"
    label: ClassVar[str] = "OpenAI"
    sees: ClassVar[bool] = True
    needs_key: ClassVar[bool] = True
    key_page: ClassVar[str] = "https://platform.openai.com/api-keys"
    test_model: ClassVar[str] = "gpt-6-luna"
    api: ClassVar[str] = "responses"
    sdk: ClassVar[str] = "openai"
    default_base_url: ClassVar[str] = "https://api.openai.com/v1"
    PARAMETERS: ClassVar[tuple[Parameter, ...]] = (
        Parameter(
            "effort",
            "choice",
            "How long it thinks. Not every model knows every word; models that do not reason know none.",
            choices=("none", "minimal", "low", "medium", "high", "xhigh", "max"),
        ),
        Parameter(
            "summary",
            "choice",
            "Show a summary of what it thinks. OpenAI may want your organisation to be verified first.",
            choices=("auto", "concise", "detailed"),
        ),
        Parameter("verbosity", "choice", "How much it writes.", choices=("low", "medium", "high")),
        Parameter("max_tokens", "whole", "The longest answer, thinking included, in tokens.", low=16, high=2**31),
        Parameter(
            "temperature",
            "number",
            "Lower is more predictable. Models that reason refuse it: leave it empty for them.",
            low=0,
            high=2,
        ),
        Parameter(
            "service_tier",
            "choice",
            "What OpenAI offers in speed and price: flex is slow and cheap, priority and fast cost more.",
            choices=("auto", "default", "flex", "scale", "priority", "fast", "ultrafast"),
        ),
        Parameter(
            "keep_response",
            "flag",
            "OpenAI keeps each answer for about ten minutes. When a connection or a worker breaks off in the middle of "
            "one, it is fetched, not paid for twice. First words may come a little later.",
        ),
        # What would make OpenAI keep or look up anything else is not to be had.
        extra(
            "model", "instructions", "input", "tools", "stream", "store", "include", "reasoning", "text", "background",
            "previous_response_id", "conversation",
        ),
        CONTEXT_WINDOW,
        IDLE_TIMEOUT,
    )  # fmt: skip

    def __init__(self, endpoint: Endpoint, **parameters: Any) -> None:
        super().__init__(endpoint, **parameters)
        self._sdk = OpenAiSdk(self._base_url, self._api_key, endpoint.allowed_hosts)
        self._asks_for_reasoning = True
        self._may_be_kept = True

    @classmethod
    def check_parameters(cls, parameters: dict[str, Any]) -> list[str]:
        found = super().check_parameters(parameters)
        if parameters.get("temperature") is not None and parameters.get("effort") not in (None, "none"):
            found.append("temperature is refused by models that reason. Leave temperature or effort empty.")
        return found

    def _new_answer(self) -> Answer:
        return GptAnswer()

    def _refusal(self, problem: Exception) -> Refusal | None:
        return refusal(problem)

    # --- out ----------------------------------------------------------------------------------------------------------

    def request_body(
        self, messages: Sequence[Message], tools: Sequence[ToolSpec], parameters: dict[str, Any]
    ) -> JsonDict:
        """The request as JSON. The same input gives the same bytes, so that providers' prompt caches hit."""
        system, said = turns(messages)
        body: JsonDict = {"model": self.endpoint.model}
        if system:
            body["instructions"] = system
        body["input"] = [item for turn in said for item in self._items(turn)]
        if tools:
            body["tools"] = [_tool(spec) for spec in tools]
        if reasoning := _set(parameters, "effort", "summary"):
            body["reasoning"] = reasoning
        text = _set(parameters, "verbosity")
        if schema := parameters.get(RESPONSE_SCHEMA):
            text["format"] = {"type": "json_schema", "name": "answer", "schema": schema, "strict": is_strict(schema)}
        if text:
            body["text"] = text
        if limit := parameters.get("max_tokens"):
            body["max_output_tokens"] = limit
        body |= _set(parameters, "temperature", "service_tier")
        if self._asks_for_reasoning:
            body["include"] = [_ENCRYPTED_REASONING]
        body |= {"store": False, "stream": True}
        if parameters.get("keep_response") and self._may_be_kept:
            body["background"] = True
        return body | (parameters.get("extra") or {})

    def _items(self, turn: UserTurn | AssistantTurn) -> list[JsonDict]:
        if isinstance(turn, UserTurn):
            return [{"role": "user", "content": _user_content(turn)}]
        calls = turn.calls
        own = [answered.call.provider_id for answered in calls]
        said: list[JsonDict] | None = self._native_items(turn.message)
        if said and all(own) and len(set(own)) == len(own):
            ids = own
        else:
            ids = [answered.call.id for answered in calls]
            text = turn.message.text
            said = [{"role": "assistant", "content": text}] if text else []
            said += [_call(answered.call, id_) for answered, id_ in zip(calls, ids, strict=True)]
        results = [
            {"type": "function_call_output", "call_id": id_, "output": answered.content}
            for answered, id_ in zip(calls, ids, strict=True)
        ]
        return [*said, *results]

    # --- over ---------------------------------------------------------------------------------------------------------

    async def _post(self, body: JsonDict, timeouts: httpx2.Timeout) -> httpx2.Response:
        while True:
            try:
                return await self._sdk.post("/responses", body, timeouts)
            except Exception as problem:
                refused = refusal(problem)
                mended = self._mended(body, refused) if refused else None
                if mended is None:
                    raise
                body = mended

    def resume(self, response_id: str, **parameters: Any) -> AsyncGenerator[ModelEvent, None]:
        include = [_ENCRYPTED_REASONING] if self._asks_for_reasoning else []
        return self._answered(
            lambda timeouts: _gpt_kept.fetch(self._sdk, response_id, include, timeouts),
            {**self.parameters, **parameters},
            response_id,
        )

    async def cancel(self, response_id: str) -> None:
        try:
            await import_package(self.sdk)
            await _gpt_kept.cancel(self._sdk, response_id)
        except Exception as problem:
            logger.info("An answer that nobody waits for goes on at %s: %s", self._address, type(problem).__name__)

    def _mended(self, body: JsonDict, refused: Refusal) -> JsonDict | None:
        """The request without what the server refused, where the conversation can do without; else None."""
        if refused.status not in (400, 404):
            return None
        words = str(refused.body).lower()
        if "include" in body and "encrypted content is not supported" in words:
            # Said by models that do not reason.
            self._asks_for_reasoning = False
            return {name: value for name, value in body.items() if name != "include"}
        if "background" in body and "background" in words:
            # Not every server can do that, and some would have to store the answer for weeks.
            self._may_be_kept = False
            return {name: value for name, value in body.items() if name != "background"}
        # The key to past reasoning was changed there, or a gateway asks another account now. The conversation is not
        # to be lost for that; the model thinks anew.
        lost = "encrypted content for item" in words or "invalid_encrypted_content" in words
        if lost or "items are not persisted" in words or "was provided without its required" in words:
            kept = without_ids([item for item in body["input"] if item.get("type") != "reasoning"])
            return body | {"input": kept} if kept != body["input"] else None
        return None


# --- neutral values to the wire --------------------------------------------------------------------------------------


def _set(parameters: dict[str, Any], *names: str) -> JsonDict:
    return {name: parameters[name] for name in names if parameters.get(name) is not None}


def _tool(spec: ToolSpec) -> JsonDict:
    return {
        "type": "function",
        "name": spec.name,
        "description": spec.description,
        "parameters": spec.parameters or {"type": "object", "properties": {}},
        # Left out it means true, and most schemas are refused then.
        "strict": False,
    }


def _call(call: ToolCall, id_: str) -> JsonDict:
    arguments = dumps(call.arguments or {}).decode()
    return {"type": "function_call", "call_id": id_, "name": function_name(call.name), "arguments": arguments}


def _user_content(turn: UserTurn) -> str | list[JsonDict]:
    if not turn.pictures:
        return turn.text
    parts: list[JsonDict] = [{"type": "input_text", "text": turn.text}] if turn.text else []
    return parts + [{"type": "input_image", "detail": "auto", "image_url": file.url} for file in turn.pictures]
