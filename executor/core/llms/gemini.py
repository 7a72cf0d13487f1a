"""Google's Gemini, by generateContent: https://ai.google.dev/api/generate-content.

The SDK sees the question, never the answer: it makes the address and the authentication and names the errors. Below it,
a transport of ours (which its options provide for) puts the ready body in and keeps the answer for our own reader.
The SDK's reader breaks on comments and other lines that are legal in an event stream, leaves the connection open when
the answer is not read to its end, and would call functions and ask again by itself. Measured with google-genai 3.3.0:
it takes 43 ms of CPU for an answer of 400 chunks, this way 5, of which 0.7 are the SDK's share in the request.
"""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

from executor.core.errors import LLMError
from executor.core.llms._answer import Answer
from executor.core.llms._gemini_answer import SIGNATURE, GeminiAnswer, says_something
from executor.core.llms._http import http_client
from executor.core.llms._json import dumps
from executor.core.llms._transcript import Answered, AssistantTurn, UserTurn, function_name, split_data_url, turns
from executor.core.llms._wire import Refusal, WireLlm
from executor.core.llms.base import Endpoint
from executor.core.llms.parameters import (
    CONTEXT_WINDOW,
    EXTRA,
    IDLE_TIMEOUT,
    MAX_TOKENS,
    RESPONSE_SCHEMA,
    Parameter,
    extra,
    sent,
)
from executor.core.messages import File, JsonDict, Message, ToolSpec

if TYPE_CHECKING:
    import httpx2
    from google.genai import Client

#: Stands in for the signature of a call that this model did not make, or no longer knows.
SENTINEL = "skip_thought_signature_validator"

_MODEL = re.compile(r"(?!.*\.\.)[\w.:@-]+(/[\w.:@-]+)*", re.ASCII)
_BEFORE_3 = re.compile(r"gemini-[12]\b")
_VERSION = re.compile(r"/v\d+\w*$")
_PICTURES = {"image/png", "image/jpeg", "image/webp", "image/heic", "image/heif"}
_HARMS = ("HARASSMENT", "HATE_SPEECH", "SEXUALLY_EXPLICIT", "DANGEROUS_CONTENT")
_CONFIG = "generationConfig"


class Gemini(WireLlm):
    type: ClassVar[str] = "gemini"
    label: ClassVar[str] = "Google Gemini"
    sees: ClassVar[bool] = True
    needs_key: ClassVar[bool] = True
    key_page: ClassVar[str] = "https://aistudio.google.com/apikey"
    test_model: ClassVar[str] = "gemini-3.5-flash-lite"
    api: ClassVar[str] = "generate_content"
    sdk: ClassVar[str] = "google.genai"
    default_base_url: ClassVar[str] = "https://generativelanguage.googleapis.com"
    PARAMETERS: ClassVar[tuple[Parameter, ...]] = (
        Parameter("temperature", "number", "Lower is more predictable. From Gemini 3 on, best left alone.", 0, 2),
        Parameter("top_p", "number", "Share of the likeliest words that are considered.", low=0, high=1),
        MAX_TOKENS,
        Parameter(
            "thinking_level",
            "choice",
            "How much it thinks before it answers, from Gemini 3 on.",
            choices=("minimal", "low", "medium", "high", "xhigh"),
        ),
        Parameter(
            "thinking_budget",
            "whole",
            "How many tokens it may think, for Gemini 2.5: 0 is none, -1 as many as it sees fit.",
            low=-1,
            high=2**20,
        ),
        Parameter("include_thoughts", "flag", "Show a summary of what it thinks, where the model can."),
        Parameter(
            "safety",
            "choice",
            "Which harmful content the provider holds back: from low probability on, from medium, only high, or none "
            "(off: without looking).",
            choices=("block_low_and_above", "block_medium_and_above", "block_only_high", "block_none", "off"),
        ),
        extra("contents", "systemInstruction", "tools"),
        CONTEXT_WINDOW,
        IDLE_TIMEOUT,
    )

    def __init__(self, endpoint: Endpoint, **parameters: Any) -> None:
        """Raises ValueError also for a model's name that would change the address."""
        super().__init__(endpoint, **parameters)
        if not _MODEL.fullmatch(endpoint.model):
            raise ValueError(f"{endpoint.model!r} is not the name of a model. Give one such as gemini-3.8-flash.")
        self._demands_signatures = "gemini-" in endpoint.model and not _BEFORE_3.search(endpoint.model)
        self._client: Client | None = None

    @classmethod
    def check_parameters(cls, parameters: dict[str, Any]) -> list[str]:
        found = super().check_parameters(parameters)
        if None not in (parameters.get("thinking_level"), parameters.get("thinking_budget")):
            found.append("thinking_level and thinking_budget exclude each other. Set one of them.")
        more = parameters.get(EXTRA)
        if isinstance(more, dict) and not isinstance(more.get(_CONFIG, {}), dict):
            found.append(f"{_CONFIG} in extra must be a mapping.")
        return found

    def _new_answer(self) -> Answer:
        return GeminiAnswer()

    # --- out ----------------------------------------------------------------------------------------------------------

    def request_body(
        self, messages: Sequence[Message], tools: Sequence[ToolSpec], parameters: dict[str, Any]
    ) -> JsonDict:
        """The request as JSON. The same input gives the same bytes, so that providers' prompt caches hit."""
        system, said = turns(messages)
        body: JsonDict = {"contents": self._contents(said)}
        if system:
            body["systemInstruction"] = {"parts": [{"text": system}]}
        if tools:
            body["tools"] = [{"functionDeclarations": [_declaration(spec) for spec in tools]}]
        if level := parameters.get("safety"):
            harms = [f"HARM_CATEGORY_{harm}" for harm in _HARMS]
            body["safetySettings"] = [{"category": harm, "threshold": level.upper()} for harm in harms]
        more = parameters.get(EXTRA) or {}
        if config := self._config(parameters, bool(tools)) | more.get(_CONFIG, {}):
            body[_CONFIG] = config
        return body | {name: value for name, value in more.items() if name != _CONFIG}

    def _config(self, parameters: dict[str, Any], with_tools: bool) -> JsonDict:
        names = {"temperature": "temperature", "top_p": "topP", "max_tokens": "maxOutputTokens"}
        given = sent(self.PARAMETERS, parameters, "safety")
        config: JsonDict = {names[name]: value for name, value in given.items() if name in names}
        thinking: JsonDict = {}
        if level := given.get("thinking_level"):
            thinking["thinkingLevel"] = level.upper()
        elif "thinking_budget" in given:
            thinking["thinkingBudget"] = given["thinking_budget"]
        if "include_thoughts" in given:
            thinking["includeThoughts"] = given["include_thoughts"]
        if thinking:
            config["thinkingConfig"] = thinking
        # Gemini 2 refuses a form beside functions. Who demands it checks the answer anyway.
        if (schema := parameters.get(RESPONSE_SCHEMA)) and not (with_tools and _BEFORE_3.search(self.endpoint.model)):
            config |= {"responseMimeType": "application/json", "responseJsonSchema": schema}
        return config

    def _contents(self, said: Sequence[UserTurn | AssistantTurn]) -> list[JsonDict]:
        contents: list[JsonDict] = []
        go_on = {"role": "user", "parts": [{"text": "Go on."}]}
        for turn in said:
            match turn:
                case UserTurn():
                    contents.append({"role": "user", "parts": _user_parts(turn)})
                case AssistantTurn():
                    native = self._native_items(turn.message)
                    parts = native or _model_parts(turn)
                    parts = _signed(parts) if self._demands_signatures else parts
                    # A call has to come right after the user's words or the results of other calls.
                    if not contents or contents[-1]["role"] == "model":
                        contents.append(go_on)
                    contents.append({"role": "model", "parts": parts})
                    if turn.calls:
                        results = [_result(answered, bool(native)) for answered in turn.calls]
                        contents.append({"role": "user", "parts": results})
        return contents or [go_on]

    # --- over ---------------------------------------------------------------------------------------------------------

    async def _post(self, body: JsonDict, timeouts: httpx2.Timeout) -> httpx2.Response:
        if self._api_key.startswith("auth_tokens/"):
            raise LLMError("auth", "This is a short-lived token for live connections. Enter an API key.")
        try:
            return await self._ask(body, timeouts)
        except Exception as problem:
            refused = self._refusal(problem)
            if refused is None or refused.status != 400 or not re.search("thought.signature", str(refused.body), re.I):
                raise
            # A name such as gemini-flash-latest has come to mean another model, which cannot read the signatures.
            unsigned = {**body, "contents": [_unsigned(content) for content in body["contents"]]}
            if unsigned == body:
                raise
            return await self._ask(unsigned, timeouts)

    async def _ask(self, body: JsonDict, timeouts: httpx2.Timeout) -> httpx2.Response:
        if self._client is None:
            self._client = _new_client(self._base_url, self._api_key)
        exchange = _Exchange(http_client(self.endpoint.allowed_hosts), dumps(body), timeouts)
        token = _exchange.set(exchange)
        try:
            # The dot is what the SDK is told to send; the transport puts the body in its place.
            nothing = await self._client.aio.models.generate_content_stream(
                model=self.endpoint.model, contents=".", config=_sdk_config()
            )
            async for _ in nothing:
                pass
        except BaseException:
            if exchange.response is not None:
                await exchange.response.aclose()
            raise
        finally:
            _exchange.reset(token)
        assert exchange.response is not None
        return exchange.response

    def _models_request(self) -> tuple[str, dict[str, str]]:
        path = "/models" if _VERSION.search(self._base_url) else "/v1/models"
        return f"{path}?pageSize=1000", {"x-goog-api-key": self._api_key or "none"}

    def _refusal(self, problem: Exception) -> Refusal | None:
        from google.genai.errors import APIError

        if not isinstance(problem, APIError):
            return None
        return Refusal(problem.code, problem.details, problem.response.headers if problem.response else {})


# --- the SDK ---------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Exchange:
    """What goes through the transport instead of what the SDK sends and gets."""

    http: httpx2.AsyncClient
    body: bytes
    timeouts: httpx2.Timeout
    response: httpx2.Response | None = None


_exchange: ContextVar[_Exchange] = ContextVar("_exchange")


def _new_client(base_url: str, api_key: str) -> Client:
    """What is given here wins over the environment: in a server for many people, it must redirect nobody."""
    from google.genai.client import Client, DebugConfig
    from google.genai.types import HttpOptions, HttpRetryOptions

    # The one variable that no argument overrides. It names a library that need not be there.
    os.environ.pop("GOOGLE_GENAI_HTTP_CLIENT", None)
    asynchronous, synchronous, context = _sdk_parts()
    return Client(
        # Without a key the SDK would take one from the environment.
        api_key=api_key or "none",
        vertexai=False,
        debug_config=DebugConfig(client_mode=None, replays_directory=None, replay_id=None),
        http_options=HttpOptions(
            base_url=base_url,
            api_version="" if _VERSION.search(base_url) else "v1",
            retry_options=HttpRetryOptions(attempts=1),
            # Clients of its own, or aiohttp where that is installed, would follow proxies; each would also load the
            # certificates again, which takes 15 ms.
            httpx_async_client=asynchronous,
            httpx_client=synchronous,
            async_client_args={"ssl": context},
        ),
    )


@cache
def _sdk_parts() -> tuple[httpx2.AsyncClient, httpx2.Client, ssl.SSLContext]:
    """What the SDK's clients have in common. Nothing of it opens a connection or belongs to an event loop."""
    import httpx2

    class Transport(httpx2.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
            exchange = _exchange.get()
            http = exchange.http
            headers = {
                **{name: value for name, value in request.headers.items() if name not in _NOT_SENT},
                "Accept": "text/event-stream",
                "Accept-Encoding": "identity",
                "User-Agent": "AgentSite",
            }
            asked = http.build_request(
                request.method, request.url, headers=headers, content=exchange.body, timeout=exchange.timeouts
            )
            response = await http.send(asked, stream=True)
            if response.status_code == 200:
                exchange.response = response
                return httpx2.Response(200)
            try:
                await response.aread()
            finally:
                await response.aclose()
            # As text in UTF-8, because the SDK cannot read others.
            told = [(name, value) for name, value in response.headers.items() if not name.startswith("content-")]
            return httpx2.Response(response.status_code, headers=told, content=response.text.encode())

    class Nowhere(httpx2.BaseTransport):
        pass

    return (
        httpx2.AsyncClient(transport=Transport(), trust_env=False, follow_redirects=False),
        httpx2.Client(transport=Nowhere(), trust_env=False),
        ssl.create_default_context(),
    )


#: Of the SDK's headers: telemetry, and what belongs to the body that is replaced.
_NOT_SENT = {"x-goog-api-client", "user-agent", "accept", "accept-encoding", "content-length"}


@cache
def _sdk_config() -> Any:
    from google.genai.types import AutomaticFunctionCallingConfig, GenerateContentConfig

    return GenerateContentConfig(
        automatic_function_calling=AutomaticFunctionCallingConfig(disable=True), automatic_continuation=False
    )


# --- neutral values to the wire --------------------------------------------------------------------------------------


def _declaration(spec: ToolSpec) -> JsonDict:
    declaration: JsonDict = {"name": spec.name, "description": spec.description}
    if spec.parameters.get("properties"):
        declaration["parametersJsonSchema"] = spec.parameters
    return declaration


def _model_parts(turn: AssistantTurn) -> list[JsonDict]:
    parts: list[JsonDict] = [{"text": turn.message.text}] if turn.message.text else []
    for answered in turn.calls:
        call = answered.call
        parts.append({"functionCall": {"name": function_name(call.name), "args": call.arguments or {}}})
    return parts


def _signed(parts: list[JsonDict]) -> list[JsonDict]:
    """`parts` with the stand-in on the first call, if that has no signature. The calls beside it need none."""
    first = next((n for n, part in enumerate(parts) if "functionCall" in part), None)
    if first is None or parts[first].get(SIGNATURE):
        return parts
    return [*parts[:first], {**parts[first], SIGNATURE: SENTINEL}, *parts[first + 1 :]]


def _unsigned(content: JsonDict) -> JsonDict:
    """`content` with nothing but stand-ins for signatures."""
    if content["role"] != "model":
        return content
    bare = [{name: value for name, value in part.items() if name != SIGNATURE} for part in content["parts"]]
    return {"role": "model", "parts": _signed([part for part in bare if says_something(part)])}


def _result(answered: Answered, is_native: bool) -> JsonDict:
    """The result of a call: with the call's own name and id where that is replayed as it came, else as we wrote it."""
    call = answered.call
    response: JsonDict = {"name": call.name if is_native else function_name(call.name)}
    if is_native and call.provider_id:
        response["id"] = call.provider_id
    response["response"] = {"error" if answered.is_error else "output": answered.content}
    return {"functionResponse": response}


def _user_parts(turn: UserTurn) -> list[JsonDict]:
    parts: list[JsonDict] = [{"text": turn.text}] if turn.text else []
    return parts + [_picture(picture) for picture in turn.pictures]


def _picture(picture: File) -> JsonDict:
    if picture.media_type in _PICTURES:
        if picture.url.startswith("http"):
            return {"fileData": {"mimeType": picture.media_type, "fileUri": picture.url}}
        if inline := split_data_url(picture.url):
            return {"inlineData": {"mimeType": picture.media_type, "data": inline[1]}}
    return {"text": f"[attached file: {picture.name or 'unnamed'} ({picture.media_type})]"}
