"""Any server that speaks Chat Completions: Ollama, llama.cpp, vLLM, LM Studio, gateways, OpenAI itself.

The `openai` SDK authenticates, builds the address and names the errors. It is given a ready body and asked for the raw
response: walking every message on the way out, and building an object for every chunk on the way in, is most of what it
costs. The wire format is https://platform.openai.com/docs/api-reference/chat and what servers make of it.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import json
import logging
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, assert_never
from urllib.parse import urlsplit

from executor.core.errors import LLMError
from executor.core.events import Failed, Finished, ModelEvent
from executor.core.llms._chat_answer import ChatAnswer
from executor.core.llms._http import (
    CONNECT_TIMEOUT,
    close_http_client,
    http_client,
    status_error,
    transport_error,
)
from executor.core.llms._json import dumps
from executor.core.llms._sse import MAX_EVENT_BYTES, SseDecoder
from executor.core.llms.base import BaseLlm, Endpoint
from executor.core.messages import File, JsonDict, Message, Native, Reasoning, Text, ToolCall, ToolResult, ToolSpec

if TYPE_CHECKING:
    import httpx2
    from openai import AsyncOpenAI

logger = logging.getLogger(__name__)

API = "chat"
IDLE_TIMEOUT = 90.0
#: How long to wait, once the answer is complete, for the usage and the end of the stream (which frees the connection).
GRACE = 3.0
#: … and for the end of the stream alone, once the server has said that nothing follows.
DRAIN = 0.25
INTERRUPTED = "Error: the call was interrupted. Whether it took effect is not known."


class OpenAiCompatible(BaseLlm):
    type: ClassVar[str] = "openai_compatible"

    def __init__(self, endpoint: Endpoint, **parameters: Any) -> None:
        """Raises ValueError for an address that is none, and for parameters that `check_parameters` objects to."""
        super().__init__(endpoint, **parameters)
        self._refuse_problems(parameters)
        url = urlsplit(endpoint.base_url.strip())
        if url.scheme not in ("http", "https") or not url.hostname:
            raise ValueError(
                f"{endpoint.base_url!r} is not the address of a model server. Give one such as http://localhost:11434/v1."
            )
        self._base_url = endpoint.base_url.strip()
        self._address = f"{url.scheme}://{url.netloc.rpartition('@')[2]}"
        self._api_key = endpoint.api_key.strip()
        self._scope = hashlib.sha256(f"{self._base_url}\n{self._api_key}".encode()).hexdigest()[:32]
        self._asks_for_usage = True
        # The SDK's client and the HTTP client under it, which is another one on another event loop.
        self._sdk: tuple[AsyncOpenAI, httpx2.AsyncClient] | None = None

    @classmethod
    def check_parameters(cls, parameters: dict[str, Any]) -> list[str]:
        """What is wrong with an agent's parameters, a sentence each; nothing when they are fine."""
        problems = []
        for name, value in parameters.items():
            if name not in _PARAMETERS:
                problems.append(f"There is no parameter {name!r}. Use: {', '.join(sorted(_PARAMETERS))}.")
            elif value is not None and not _PARAMETERS[name][0](value):
                problems.append(f"{name} must be {_PARAMETERS[name][1]}, not {value!r}.")
        return problems

    def _refuse_problems(self, parameters: dict[str, Any]) -> None:
        if problems := self.check_parameters(parameters):
            raise ValueError(" ".join(problems))

    def stream(
        self, messages: Sequence[Message], tools: Sequence[ToolSpec] = (), **parameters: Any
    ) -> AsyncGenerator[ModelEvent, None]:
        """See `BaseLlm.stream`. Raises ValueError at once, before anything is asked, for unknown parameters."""
        self._refuse_problems(parameters)
        return self._stream(messages, tools, {**self.parameters, **parameters})

    async def _stream(
        self, messages: Sequence[Message], tools: Sequence[ToolSpec], parameters: dict[str, Any]
    ) -> AsyncGenerator[ModelEvent, None]:
        idle_timeout = float(parameters.get("idle_timeout") or IDLE_TIMEOUT)
        answer = ChatAnswer()
        error: LLMError | None = None
        try:
            if not self._api_key.isascii() or not self._api_key.isprintable():
                raise LLMError("auth", "The key has characters in it that no key has. Enter it again.")
            body = self.request_body(messages, tools, parameters)
            response = await self._open(body, idle_timeout)
            try:
                async for event in _read(response, answer, self._api_key):
                    yield event
            finally:
                await response.aclose()
        except Exception as problem:
            error = self._explain(problem, idle_timeout)
        # The last event comes when the connection is already given back, so nothing depends on who closes the iterator.
        if error is None:
            yield self._finished(answer)
        else:
            for event in answer.close(failed=True):
                yield event
            error.partial = answer.shown
            yield Failed(error, answer.message() if answer.message_parts() else None, answer.usage)

    async def aclose(self) -> None:
        await close_http_client()

    # --- out ----------------------------------------------------------------------------------------------------------

    def request_body(
        self, messages: Sequence[Message], tools: Sequence[ToolSpec], parameters: dict[str, Any]
    ) -> JsonDict:
        """The request as JSON. The same input gives the same bytes, so that providers' prompt caches hit."""
        body: JsonDict = {"model": self.endpoint.model, "messages": self._messages(messages)}
        if tools:
            body["tools"] = [_tool(spec) for spec in tools]
        body |= {
            name: parameters[name]
            for name in _PARAMETERS
            if name not in ("extra", "idle_timeout") and parameters.get(name) is not None
        }
        body["stream"] = True
        if self._asks_for_usage:
            body["stream_options"] = {"include_usage": True}
        return body | (parameters.get("extra") or {})

    def _messages(self, transcript: Sequence[Message]) -> list[JsonDict]:
        sent: list[JsonDict] = []
        for position, message in enumerate(transcript):
            match message.role:
                case "system":
                    if message.text:
                        sent.append({"role": "system", "content": message.text})
                case "user":
                    content = _user_content(message)
                    previous = sent[-1] if sent else {}
                    if not content:
                        continue
                    if (
                        previous.get("role") == "user"
                        and isinstance(previous["content"], str)
                        and isinstance(content, str)
                    ):
                        # After a stop two questions can follow each other; many chat templates refuse that.
                        previous["content"] += "\n\n" + content
                    else:
                        sent.append({"role": "user", "content": content})
                case "assistant":
                    sent += self._assistant(message, _results_after(transcript, position))
                case "tool":
                    pass  # Sent right behind the call it answers, see _assistant.
                case _:
                    assert_never(message.role)
        return sent

    def _assistant(self, message: Message, results: dict[str, ToolResult]) -> list[JsonDict]:
        """The assistant's message, and a result for each of its calls in their order."""
        native = self._native(message)
        if not message.text and not message.tool_calls:
            return []
        sent: JsonDict = {"role": "assistant", "content": message.text or None, **native}
        if not message.tool_calls:
            return [sent]
        # A provider's own ids go back only where they came from, and only if they tell its calls apart.
        own = [call.provider_id for call in message.tool_calls]
        use_own = bool(message.native) and self._is_ours(message.native) and all(own) and len(set(own)) == len(own)
        ids = own if use_own else [call.id for call in message.tool_calls]
        sent["tool_calls"] = [_call(call, id_) for call, id_ in zip(message.tool_calls, ids, strict=True)]
        answers: list[JsonDict] = []
        for call, id_ in zip(message.tool_calls, ids, strict=True):
            result = results.get(call.id)
            content = (result.content or "(no output)") if result else INTERRUPTED
            answers.append({"role": "tool", "tool_call_id": id_, "content": content})
        return [sent, *answers]

    def _native(self, message: Message) -> JsonDict:
        native = message.native
        if native is None or not self._is_ours(native) or native.digest != message.digest():
            return {}
        return dict(native.items)

    def _is_ours(self, native: Native | None) -> bool:
        return native is not None and (native.api, native.scope, native.model) == (
            API,
            self._scope,
            self.endpoint.model,
        )

    # --- over ---------------------------------------------------------------------------------------------------------

    async def _open(self, body: JsonDict, idle_timeout: float) -> httpx2.Response:
        """The response, its status checked and its body unread. Raises the SDK's errors."""
        from openai import APIStatusError

        try:
            return await self._post(body, idle_timeout)
        except APIStatusError as refused:
            if refused.status_code not in (400, 422) or "stream_options" not in refused.response.text:
                raise
            # Some servers do not know the option; they either always send the usage or never.
            self._asks_for_usage = False
            return await self._post({k: v for k, v in body.items() if k != "stream_options"}, idle_timeout)

    async def _post(self, body: JsonDict, idle_timeout: float) -> httpx2.Response:
        import httpx2

        http = http_client()
        sdk = self._sdk
        if sdk is None or sdk[1] is not http:
            sdk = self._sdk = _client(self._base_url, self._api_key, http), http
        timeout = httpx2.Timeout(connect=CONNECT_TIMEOUT, read=idle_timeout, write=30, pool=CONNECT_TIMEOUT)
        # Serialised here, because the SDK would walk and copy every message first.
        response: Any = await sdk[0].post(
            "/chat/completions",
            cast_to=httpx2.Response,
            content=dumps(body),
            options={"timeout": timeout},
            stream=True,
            stream_cls=_stream_class(),
        )
        assert isinstance(response, httpx2.Response)
        return response

    def _explain(self, problem: Exception, idle_timeout: float) -> LLMError:
        import httpx2
        from openai import APIConnectionError, APIStatusError

        if isinstance(problem, LLMError):
            return problem
        if isinstance(problem, APIStatusError):
            body = problem.body if problem.body is not None else problem.response.text
            return status_error(problem.status_code, body, problem.response.headers, secret=self._api_key)
        if isinstance(problem, APIConnectionError | httpx2.RequestError | TimeoutError | OSError):
            return transport_error(problem, address=self._address, idle_timeout=idle_timeout)
        # Whatever else a server can provoke is its failure to answer, and must not take the worker along.
        logger.exception("unexpected error while reading an answer of %s", self._address)
        return LLMError("protocol", "The model's server answered in a form that could not be read.")

    # --- back ---------------------------------------------------------------------------------------------------------

    def _finished(self, answer: ChatAnswer) -> Finished:
        message = answer.message()
        if answer.native or any(call.provider_id for call in message.tool_calls):
            native = Native(API, self._scope, self.endpoint.model, dict(answer.native), message.digest())
            message = Message(message.role, message.parts, native)
        return Finished(message, answer.reason, answer.usage, answer.native_reason, answer.response_id, answer.model)


@cache
def _client_class() -> type[AsyncOpenAI]:
    from openai import AsyncOpenAI

    class Client(AsyncOpenAI):
        # Neither the SDK's telemetry headers nor what OPENAI_CUSTOM_HEADERS says.
        @property
        def default_headers(self) -> dict[str, Any]:
            return {
                "Accept": "text/event-stream",
                "Accept-Encoding": "identity",
                "Content-Type": "application/json",
                "User-Agent": "AgentSite",
            }

    return Client


@functools.cache
def _stream_class() -> Any:
    """Naming a generic's parameter costs more than it should, each time."""
    from openai import AsyncStream

    return AsyncStream[Any]


def _client(base_url: str, api_key: str, http: httpx2.AsyncClient) -> AsyncOpenAI:
    """The SDK's client, over the connections of `http`.

    What is given here wins over the environment: in a server for many people, OPENAI_BASE_URL or OPENAI_ORG_ID set for
    something else must redirect nobody.
    """
    return _client_class()(
        base_url=base_url,
        # A local server needs no key, the SDK does.
        api_key=api_key or "none",
        admin_api_key="",
        organization="",
        project="",
        webhook_secret="",
        max_retries=0,
        http_client=http,
    )


async def _read(response: httpx2.Response, answer: ChatAnswer, secret: str) -> AsyncGenerator[ModelEvent, None]:
    """Feed the response to `answer`. Raises LLMError, and what httpx2 raises."""
    import httpx2

    body = response.aiter_bytes() if "content-encoding" in response.headers else response.aiter_raw()
    now = asyncio.get_running_loop().time
    decoder = SseDecoder()
    head: bytes | None = b""
    done = False
    deadline: float | None = None
    while True:
        try:
            if deadline is None:
                chunk = await anext(body, None)
            else:
                async with asyncio.timeout_at(deadline):
                    chunk = await anext(body, None)
        except (TimeoutError, httpx2.RequestError):
            if deadline is None:
                raise
            # The answer was complete; the server only does not say goodbye.
            chunk = None
        if head is not None:
            head += chunk or b""
            begin = head.lstrip(b"\xef\xbb\xbf \t\r\n")
            if begin[:1] in (b"{", b"[", b"<"):
                for event in answer.feed(_whole(head + await _rest(body), secret)):
                    yield event
                break
            if not begin and chunk is not None:
                continue
            chunk, head = (head or None) if chunk is None else head, None
        for data in decoder.close() if chunk is None else _decode(decoder, chunk):
            if data.startswith(b"[DONE]"):
                done, deadline = True, now() + DRAIN
            elif not done:
                for event in answer.feed(_parse(data, secret)):
                    yield event
                if answer.native_reason:
                    deadline = now() + GRACE
        if chunk is None:
            if not done and not answer.native_reason:
                raise LLMError("protocol", "The model's server ended the answer before it was complete.")
            break
    for event in answer.close():
        yield event


def _decode(decoder: SseDecoder, chunk: bytes) -> list[bytes]:
    try:
        return decoder.feed(chunk)
    except ValueError as error:
        raise LLMError("protocol", f"The model's server sent too much at once: {error}.") from None


async def _rest(body: AsyncIterator[bytes]) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in body:
        parts.append(part)
        size += len(part)
        if size > MAX_EVENT_BYTES:
            raise LLMError("protocol", "The model's server sent too much at once.")
    return b"".join(parts)


def _parse(data: bytes, secret: str) -> Any:
    try:
        value = json.loads(data.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        raise LLMError("protocol", "The model's server sent something that is not JSON.") from None
    if isinstance(value, dict) and (value.get("error") or value.get("object") == "error"):
        raise status_error(200, value, {}, secret=secret)
    return value


def _whole(data: bytes, secret: str) -> JsonDict:
    """The answer of a server that does not stream."""
    text = data.removeprefix(b"\xef\xbb\xbf").strip()
    if text.startswith(b"<"):
        raise LLMError(
            "protocol", "The address answered with a web page, not with a model's answer. Check the base URL."
        )
    value = _parse(text, secret)
    choices = value.get("choices") if isinstance(value, dict) else None
    if not isinstance(choices, list) or not choices:
        raise LLMError("protocol", "The model's server answered without an answer in it.")
    assert isinstance(value, dict)
    return value


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
    # A model may ask for a function by a name that no server takes back.
    name = re.sub(r"[^A-Za-z0-9_-]", "_", call.name)[:64] or "_"
    return {"id": id_, "type": "function", "function": {"name": name, "arguments": arguments}}


def _results_after(transcript: Sequence[Message], position: int) -> dict[str, ToolResult]:
    """The results that belong to the assistant's message at `position`, by call."""
    results: dict[str, ToolResult] = {}
    for message in transcript[position + 1 :]:
        if message.role == "assistant":
            break
        for result in message.tool_results:
            results.setdefault(result.call_id, result)
    return results


def _user_content(message: Message) -> str | list[JsonDict]:
    """The words, with pictures that the server can fetch or read; other files by name."""
    texts: list[str] = []
    pictures: list[JsonDict] = []
    for part in message.parts:
        match part:
            case Text(text):
                texts.append(text)
            case File(media_type, url, name):
                if media_type.startswith("image/") and url.startswith(("data:", "http://", "https://")):
                    pictures.append({"type": "image_url", "image_url": {"url": url}})
                else:
                    texts.append(f"[attached file: {name or 'unnamed'} ({media_type})]")
            case Reasoning() | ToolCall() | ToolResult():
                pass
            case _:
                assert_never(part)
    text = "\n\n".join(text for text in texts if text)
    if not pictures:
        return text
    return [*([{"type": "text", "text": text}] if text else []), *pictures]


# --- parameters -------------------------------------------------------------------------------------------------------


def _is_number(low: float, high: float) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


def _is_whole(low: int, high: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _is_stop(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(item, str) for item in value))


_RESERVED = frozenset({"model", "messages", "tools", "stream", "stream_options"})


def _is_extra(value: Any) -> bool:
    if not isinstance(value, dict) or _RESERVED & value.keys() or not all(isinstance(key, str) for key in value):
        return False
    try:
        dumps(value)
    except (TypeError, ValueError, RecursionError):
        return False
    return True


#: name → (is it right?, what it must be). The order is that of the request.
_PARAMETERS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "temperature": (_is_number(0, 2), "a number from 0 to 2"),
    "top_p": (_is_number(0, 1), "a number from 0 to 1"),
    "max_tokens": (_is_whole(1, 2**31), "a whole number above 0"),
    "reasoning_effort": (lambda value: isinstance(value, str) and bool(value), 'a word such as "low" or "high"'),
    "seed": (_is_whole(-(2**63), 2**63 - 1), "a whole number"),
    "stop": (_is_stop, "a text or a list of texts"),
    "extra": (_is_extra, f"a mapping of further request fields (JSON; without {', '.join(sorted(_RESERVED))})"),
    "idle_timeout": (_is_number(0.001, 3600), "a number of seconds from 0.001 to 3600"),
}
