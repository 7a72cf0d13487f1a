"""What adapters that ask a server have in common: opening the answer, reading it, and saying what went wrong.

A vendor's SDK authenticates, builds the address and names the errors. It is given a ready body and asked for the raw
response: walking every message on the way out, and building an object for every chunk on the way in, is most of what
SDKs cost, and most of them take an answer that was cut off for a short one.
"""

from __future__ import annotations

import abc
import asyncio
import hashlib
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple
from urllib.parse import urlsplit

from executor.core.errors import LLMError
from executor.core.events import Failed, Finished, ModelEvent
from executor.core.llms._answer import Answer, BrokenOff
from executor.core.llms._http import CONNECT_TIMEOUT, close_http_client, http_client, status_error, transport_error
from executor.core.llms._json import clean
from executor.core.llms._sse import MAX_EVENT_BYTES, SseDecoder
from executor.core.llms.base import BaseLlm, Endpoint
from executor.core.llms.parameters import RESPONSE_SCHEMA, schema_problem
from executor.core.messages import JsonDict, Message, Native, ToolSpec
from tools.core.http import RefusedAddress

if TYPE_CHECKING:
    import httpx2

logger = logging.getLogger(__name__)

IDLE_TIMEOUT = 90.0
#: How long to wait, once the answer is complete, for the usage and the end of the stream (which frees the connection).
GRACE = 3.0
#: … and for the end of the stream alone, once the server has said that nothing follows.
DRAIN = 0.25

_imported: set[str] = set()


#: … for the list of models, in seconds.
LIST_TIMEOUT = 20.0
_MOST_MODELS = 2000
MAX_LIST_BYTES = 4 * 1024 * 1024
MAX_BLANK_BYTES = 64 * 1024
_PLAIN = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "AgentSite"}


class Refusal(NamedTuple):
    """An answer with a status that is not 200. `body` is JSON or text."""

    status: int
    body: Any
    headers: Mapping[str, str]


#: Sends a request and returns the response, its status checked and its body unread. Raises what the SDK raises.
Request = Callable[["httpx2.Timeout"], Awaitable["httpx2.Response"]]


class WireLlm(BaseLlm):
    """A model behind HTTP that streams server-sent events. Subclasses say how it is asked and what the answer means."""

    #: Names the wire format; what was said in one is replayed to no other.
    api: ClassVar[str]
    #: The SDK's package, which is imported when a model is first asked.
    sdk: ClassVar[str] = ""
    #: Where it is asked if the agent gives no address; "" if it must give one.
    default_base_url: ClassVar[str] = ""

    def __init__(self, endpoint: Endpoint, **parameters: Any) -> None:
        """Raises ValueError for an address that is none, and for parameters that `check_parameters` objects to."""
        super().__init__(endpoint, **parameters)
        self._refuse_problems(parameters)
        self._base_url = (endpoint.base_url.strip() or self.default_base_url).rstrip("/")
        url = urlsplit(self._base_url)
        if url.scheme not in ("http", "https") or not url.hostname:
            raise ValueError(
                f"{endpoint.base_url!r} is not the address of a model server. Give one such as http://localhost:11434/v1."
            )
        self._address = f"{url.scheme}://{url.netloc.rpartition('@')[2]}"
        self._api_key = endpoint.api_key.strip()
        self._scope = hashlib.sha256(f"{self._base_url}\n{self._api_key}".encode()).hexdigest()[:32]

    def _refuse_problems(self, parameters: dict[str, Any]) -> None:
        if problems := self.check_parameters(parameters):
            raise ValueError(" ".join(problems))

    # --- what an adapter says ---------------------------------------------------------------------------------------

    @abc.abstractmethod
    def request_body(
        self, messages: Sequence[Message], tools: Sequence[ToolSpec], parameters: dict[str, Any]
    ) -> JsonDict:
        """The request as JSON. The same input gives the same bytes, so that providers' prompt caches hit."""

    @abc.abstractmethod
    async def _post(self, body: JsonDict, timeouts: httpx2.Timeout) -> httpx2.Response:
        """The response, its status checked and its body unread. Raises what the SDK raises."""

    def _models_request(self) -> tuple[str, dict[str, str]]:
        """Path (behind the address) and headers of the request that lists the models."""
        return "/models", {"Authorization": f"Bearer {self._api_key or 'none'}"}

    @abc.abstractmethod
    def _new_answer(self) -> Answer: ...

    @abc.abstractmethod
    def _refusal(self, problem: Exception) -> Refusal | None:
        """What the server refused with, if `problem` is the SDK's error for that."""

    # --- asking -----------------------------------------------------------------------------------------------------

    def stream(
        self, messages: Sequence[Message], tools: Sequence[ToolSpec] = (), **parameters: Any
    ) -> AsyncGenerator[ModelEvent, None]:
        """See `BaseLlm.stream`. Raises ValueError at once, before anything is asked, for unknown parameters.

        `response_schema` (a JSON Schema) demands an answer in that form; `request_body` finds it in `parameters`.
        """
        self._refuse_problems({name: value for name, value in parameters.items() if name != RESPONSE_SCHEMA})
        if problem := schema_problem(parameters.get(RESPONSE_SCHEMA)):
            raise ValueError(problem)
        asked = {**self.parameters, **parameters}
        return self._answered(lambda timeouts: self._post(self.request_body(messages, tools, asked), timeouts), asked)

    async def _answered(
        self, request: Request, parameters: dict[str, Any], kept: str = ""
    ) -> AsyncGenerator[ModelEvent, None]:
        """The events of what the server answers to `request`; with `kept`, that fetches the response with this id."""
        idle_timeout = float(parameters.get("idle_timeout") or IDLE_TIMEOUT)
        answer = self._new_answer()
        error: LLMError | None = None
        try:
            if not self._api_key.isascii() or not self._api_key.isprintable():
                raise LLMError("auth", "The key has characters in it that no key has. Enter it again.")
            await import_package(self.sdk)
            response = await request(_timeouts(idle_timeout))
            try:
                async for event in _read(response, answer, self._api_key):
                    yield event
            finally:
                await response.aclose()
        except Exception as problem:
            error = self._explain(problem, idle_timeout)
            kept = answer.response_id if answer.is_kept else kept
            if answer.complete or isinstance(problem, BrokenOff) or error.kind == "expired":
                kept = ""  # To fetch it once more would give the same.
        # The last event comes when the connection is already given back, so nothing depends on who closes the iterator.
        if error is None:
            yield self._finished(answer)
        else:
            for event in answer.close(failed=True):
                yield event
            if answer.shown:
                error.mark_partial()
            yield Failed(error, answer.message() if answer.message_parts() else None, answer.usage, kept)

    async def aclose(self) -> None:
        await close_http_client()

    async def list_models(self) -> list[str]:
        import httpx2

        path, headers = self._models_request()
        timeouts = httpx2.Timeout(LIST_TIMEOUT, connect=CONNECT_TIMEOUT)
        http = http_client(self.endpoint.allowed_hosts)
        asked = http.build_request("GET", f"{self._base_url}{path}", headers={**headers, **_PLAIN}, timeout=timeouts)
        try:
            async with asyncio.timeout(LIST_TIMEOUT + CONNECT_TIMEOUT):
                response = await http.send(asked, stream=True)
                try:
                    text = (await rest_of(response.aiter_bytes(), MAX_LIST_BYTES)).decode("utf-8", "replace")
                finally:
                    await response.aclose()
                # A long list takes its time, and other answers are being read on this loop.
                body = await asyncio.to_thread(_json_or_text, text)
            if response.status_code != 200:
                raise status_error(response.status_code, body, response.headers, secret=self._api_key)
            return _model_names(body)
        except Exception as problem:
            raise self._explain(problem, LIST_TIMEOUT) from None

    def _explain(self, problem: Exception, idle_timeout: float) -> LLMError:
        import httpx2

        if isinstance(problem, LLMError):
            return problem
        if refusal := self._refusal(problem):
            return status_error(refusal.status, refusal.body, refusal.headers, secret=self._api_key)
        if isinstance(problem, BrokenOff):
            return status_error(200, problem.body, {}, secret=self._api_key)
        expected = (httpx2.RequestError, RefusedAddress, TimeoutError, OSError)
        cause = problem.__cause__ if isinstance(problem.__cause__, expected) else problem
        if isinstance(cause, expected):
            return transport_error(cause, address=self._address, idle_timeout=idle_timeout)
        # Whatever else a server can provoke is its failure to answer, and must not take the worker along.
        logger.exception("unexpected error while reading an answer of %s", self._address)
        return LLMError("protocol", "The model's server answered in a form that could not be read.")

    # --- what is replayed -------------------------------------------------------------------------------------------

    def _finished(self, answer: Answer) -> Finished:
        message = answer.message()
        if answer.native or any(call.provider_id for call in message.tool_calls):
            native = Native(self.api, self._scope, self.endpoint.model, answer.native, message.digest())
            message = Message(message.role, message.parts, native)
        return Finished(message, answer.reason, answer.usage, answer.native_reason, answer.response_id, answer.model)

    def _is_ours(self, native: Native | None) -> bool:
        """Whether this very model, here and with this key, said it."""
        mine = (self.api, self._scope, self.endpoint.model)
        return native is not None and (native.api, native.scope, native.model) == mine

    def _native_items(self, message: Message) -> Any:
        """The provider's own form of `message` if it may be replayed verbatim, else None."""
        native = message.native
        if native is None or not self._is_ours(native) or native.digest != message.digest():
            return None
        return native.items


def _timeouts(idle_timeout: float) -> httpx2.Timeout:
    import httpx2

    return httpx2.Timeout(connect=CONNECT_TIMEOUT, read=idle_timeout, write=30, pool=CONNECT_TIMEOUT)


async def import_package(package: str) -> None:
    """Import what takes half a second beside the event loop, on which other answers are being read."""
    if package and package not in _imported:
        await asyncio.to_thread(import_module, package)
        _imported.add(package)


# --- the list of models ---------------------------------------------------------------------------------------------


def _json_or_text(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _model_names(body: Any) -> list[str]:
    """Of the lists of OpenAI and Anthropic (`data`, `id`) and of Google (`models`, `name`)."""
    listed = (body.get("data") or body.get("models")) if isinstance(body, dict) else None
    if not isinstance(listed, list):
        if isinstance(body, dict) and ("data" in body or "models" in body):
            return []  # A server without any, Ollama says null.
        raise LLMError("protocol", "The address answered, but not with a list of models. Check the base URL.")
    found = [item.get("id") or item.get("name") for item in listed if isinstance(item, dict) and _generates(item)]
    return [clean(name).removeprefix("models/")[:200] for name in found if isinstance(name, str)][:_MOST_MODELS]


def _generates(item: JsonDict) -> bool:
    methods = item.get("supportedGenerationMethods") or item.get("supportedActions")
    return not isinstance(methods, list) or "generateContent" in methods


# --- reading --------------------------------------------------------------------------------------------------------


async def _read(response: httpx2.Response, answer: Answer, secret: str) -> AsyncGenerator[ModelEvent, None]:
    """Feed the response to `answer`. Raises LLMError, and what httpx2 raises."""
    import httpx2

    body = response.aiter_bytes() if "content-encoding" in response.headers else response.aiter_raw()
    now = asyncio.get_running_loop().time
    decoder = SseDecoder()
    head: bytes | None = b""
    blank = 0
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
                for event in answer.whole(_whole(head + await rest_of(body), secret)):
                    yield event
                if not answer.complete:
                    raise LLMError("protocol", "The model's server answered without an answer in it.")
                break
            if not begin and chunk is not None:
                blank += len(chunk)
                if blank > MAX_BLANK_BYTES:
                    raise LLMError("protocol", "The model's server sent nothing but white space.")
                head = head[-3:]  # A byte order mark may still be on its way.
                continue
            chunk, head = (head or None) if chunk is None else head, None
        for data in decoder.close() if chunk is None else _decode(decoder, chunk):
            if data.startswith(b"[DONE]"):
                done, deadline = True, now() + DRAIN
            elif not done:
                for event in answer.feed(_parse(data, secret)):
                    yield event
                if answer.complete:
                    deadline = now() + (DRAIN if answer.ended else GRACE)
        if chunk is None:
            if not done and not answer.complete:
                _raise_error_in(b"\n".join(decoder.stray), secret)
                raise LLMError("protocol", "The model's server ended the answer before it was complete.")
            break
    for event in answer.close():
        yield event


def _decode(decoder: SseDecoder, chunk: bytes) -> list[bytes]:
    try:
        return decoder.feed(chunk)
    except ValueError as error:
        raise LLMError("protocol", f"The model's server sent too much at once: {error}.") from None


async def rest_of(body: AsyncIterator[bytes], most: int = MAX_EVENT_BYTES) -> bytes:
    """All that is still to come. Raises LLMError for more than `most` bytes."""
    parts: list[bytes] = []
    size = 0
    async for part in body:
        parts.append(part)
        size += len(part)
        if size > most:
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


def _raise_error_in(stray: bytes, secret: str) -> None:
    """Raise the error that is told in lines that are no event stream, if they are one."""
    try:
        found = json.loads(stray)
    except (ValueError, RecursionError):
        return
    error = found[0] if isinstance(found, list) and found else found
    if isinstance(error, dict) and error.get("error"):
        raise status_error(200, error, {}, secret=secret)


def _whole(data: bytes, secret: str) -> Any:
    """The answer of a server that does not stream."""
    text = data.removeprefix(b"\xef\xbb\xbf").strip()
    if text.startswith(b"<"):
        raise LLMError(
            "protocol", "The address answered with a web page, not with a model's answer. Check the base URL."
        )
    return _parse(text, secret)
