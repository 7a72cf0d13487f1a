"""Acme's models: their format is Chat Completions, their server is asked without an SDK."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from executor.core.llms._answer import Answer
from executor.core.llms._chat_answer import ChatAnswer
from executor.core.llms._http import http_client, status_error
from executor.core.llms._json import dumps
from executor.core.llms._transcript import AssistantTurn, UserTurn, function_name, turns
from executor.core.llms._wire import Refusal, WireLlm
from executor.core.llms.parameters import (
    CONTEXT_WINDOW,
    IDLE_TIMEOUT,
    MAX_TOKENS,
    RESPONSE_SCHEMA,
    Parameter,
    extra,
    sent,
)
from executor.core.messages import JsonDict, Message, ToolSpec

if TYPE_CHECKING:
    import httpx2  # What takes long to import is imported when a model is asked.


class Acme(WireLlm):
    type: ClassVar[str] = "acme"
    label: ClassVar[str] = "Acme"
    needs_key: ClassVar[bool] = True
    test_model: ClassVar[str] = "acme-small"
    api: ClassVar[str] = "acme"
    default_base_url: ClassVar[str] = "https://api.acme.example/v1"
    PARAMETERS: ClassVar[tuple[Parameter, ...]] = (
        Parameter("temperature", "number", "Lower is more predictable.", low=0, high=2),
        Parameter("reasoning_effort", "choice", "How long it thinks.", choices=("low", "high")),
        MAX_TOKENS,
        extra("model", "messages", "tools", "stream"),
        CONTEXT_WINDOW,
        IDLE_TIMEOUT,
    )

    def _new_answer(self) -> Answer:
        return ChatAnswer()

    def _refusal(self, problem: Exception) -> Refusal | None:
        return None  # `_post` says it itself; with an SDK, its error for a status that is not 200 is read here.

    def request_body(
        self, messages: Sequence[Message], tools: Sequence[ToolSpec], parameters: dict[str, Any]
    ) -> JsonDict:
        system, said = turns(messages)
        body: JsonDict = {"model": self.endpoint.model, "messages": []}
        if system:
            body["messages"].append({"role": "system", "content": system})
        for turn in said:
            body["messages"] += _turn(turn)
        if tools:
            body["tools"] = [_tool(spec) for spec in tools]
        if schema := parameters.get(RESPONSE_SCHEMA):
            form = {"name": "answer", "schema": schema, "strict": False}
            body["response_format"] = {"type": "json_schema", "json_schema": form}
        body |= sent(self.PARAMETERS, parameters)
        body |= {"stream": True, "stream_options": {"include_usage": True}}
        return body | (parameters.get("extra") or {})

    async def _post(self, body: JsonDict, timeouts: httpx2.Timeout) -> httpx2.Response:
        http = http_client(self.endpoint.allowed_hosts)
        headers = {
            "Authorization": f"Bearer {self._api_key}",
            "Content-Type": "application/json",
            "Accept": "text/event-stream",
            "Accept-Encoding": "identity",
            "User-Agent": "AgentSite",
        }
        url = f"{self._base_url}/chat/completions"
        request = http.build_request("POST", url, content=dumps(body), headers=headers, timeout=timeouts)
        response = await http.send(request, stream=True)
        if response.status_code != 200:
            try:
                await response.aread()
            finally:
                await response.aclose()
            raise status_error(response.status_code, _body(response), response.headers, secret=self._api_key)
        return response


def _body(response: httpx2.Response) -> Any:
    try:
        return response.json()
    except ValueError:
        return response.text


def _turn(turn: UserTurn | AssistantTurn) -> list[JsonDict]:
    if isinstance(turn, UserTurn):
        return [{"role": "user", "content": turn.text}]
    said: JsonDict = {"role": "assistant", "content": turn.message.text or None}
    if turn.calls:
        said["tool_calls"] = [
            {
                "id": answered.call.id,
                "type": "function",
                "function": {
                    "name": function_name(answered.call.name),
                    "arguments": dumps(answered.call.arguments or {}).decode(),
                },
            }
            for answered in turn.calls
        ]
    results = ({"role": "tool", "tool_call_id": each.call.id, "content": each.content} for each in turn.calls)
    return [said, *results]


def _tool(spec: ToolSpec) -> JsonDict:
    parameters = spec.parameters or {"type": "object", "properties": {}}
    return {
        "type": "function",
        "function": {"name": spec.name, "description": spec.description, "parameters": parameters},
    }
