"""What the adapters share about HTTP: one client per event loop, and what a failure over HTTP means."""

from __future__ import annotations

import asyncio
import itertools
import operator
import re
import socket
import ssl
import string
import time
from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from executor.core.errors import LLMError, LLMErrorKind
from executor.core.llms import _google_error
from executor.core.llms._json import clean
from tools.core.http import GuardedTransport, RefusedAddress

if TYPE_CHECKING:
    import httpx2

CONNECT_TIMEOUT = 10.0
MAX_CONNECTIONS = 1000
# Each request looks at every idle connection twice (10 µs each), so few are kept.
MAX_IDLE_CONNECTIONS = 32
_DETAIL_CHARS = 300
#: So much of a refusal is read, for so many seconds.
MAX_REFUSAL_BYTES = 64 * 1024
REFUSAL_TIMEOUT = 10.0
#: So many characters of a key in a row are told to nobody.
_RUN = 8
_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
_OF_THE_BODY = ("content-length", "content-encoding", "transfer-encoding")

# A client is bound to the loop that first used it, so each loop has its own.
_clients: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[frozenset[str] | None, httpx2.AsyncClient]]
_clients = WeakKeyDictionary()


def http_client(allowed_hosts: frozenset[str] | None = None) -> httpx2.AsyncClient:
    """The client of the running loop; see `Endpoint.allowed_hosts`.

    No proxies or credentials from the environment, and no redirects: both would take keys to other hosts.
    """
    clients = _clients.setdefault(asyncio.get_running_loop(), {})
    client = clients.get(allowed_hosts)
    if client is None or client.is_closed:
        client = clients[allowed_hosts] = _new_client(allowed_hosts)
    return client


def _new_client(allowed_hosts: frozenset[str] | None) -> httpx2.AsyncClient:
    import httpx2

    transport: httpx2.AsyncBaseTransport
    if allowed_hosts is not None:
        transport = GuardedTransport(allowed_hosts, setting="MODEL_HOSTS")
    else:
        limits = httpx2.Limits(
            max_connections=MAX_CONNECTIONS, max_keepalive_connections=MAX_IDLE_CONNECTIONS, keepalive_expiry=30
        )
        transport = httpx2.AsyncHTTPTransport(verify=ssl.create_default_context(), trust_env=False, limits=limits)
    return httpx2.AsyncClient(transport=short_refusals(transport), trust_env=False, follow_redirects=False)


def short_refusals(inner: httpx2.AsyncBaseTransport) -> httpx2.AsyncBaseTransport:
    """`inner`, of whose refusals only the beginning is read: an SDK would read any length, and unpack it too."""
    import httpx2

    class ShortRefusals(httpx2.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
            response = await inner.handle_async_request(request)
            if response.status_code == 200:
                return response
            read = b""
            try:
                async with asyncio.timeout(REFUSAL_TIMEOUT):
                    async for part in response.aiter_raw():
                        read += part[: MAX_REFUSAL_BYTES - len(read)]
                        if len(read) == MAX_REFUSAL_BYTES:
                            break
            except (TimeoutError, httpx2.RequestError):
                pass  # The status alone says what happened.
            finally:
                await response.aclose()
            if "content-encoding" in response.headers:  # Nobody asked for that.
                read = b""
            told = [item for item in response.headers.multi_items() if item[0] not in _OF_THE_BODY]
            return httpx2.Response(response.status_code, headers=told, content=read, request=request)

        async def aclose(self) -> None:
            await inner.aclose()

    return ShortRefusals()


async def close_http_client() -> None:
    """Close the clients of the running loop; the next call opens a new one."""
    for client in _clients.pop(asyncio.get_running_loop(), {}).values():
        await client.aclose()


# --- what went wrong ------------------------------------------------------------------------------------------------

_KIND_BY_STATUS: dict[int, LLMErrorKind] = {
    401: "auth",
    402: "quota",
    403: "permission",
    404: "not_found",
    405: "not_found",
    408: "timeout",
    409: "server",
    413: "too_large",
    429: "rate_limit",
    503: "overloaded",
    504: "timeout",
    524: "timeout",
    529: "overloaded",
}

# Codes and types that say more than the status, in the words of the servers that use them.
_KIND_BY_CODE: dict[str, LLMErrorKind] = {
    "insufficient_quota": "quota",
    "billing_hard_limit_reached": "quota",
    "billing_not_active": "quota",
    "billing_error": "quota",
    "enforced_spend_limit_reached": "quota",
    "contract_spend_limit_reached": "quota",
    "linked_organization_spend_limit_reached": "quota",
    "linked_organization_billing_unavailable": "quota",
    "context_length_exceeded": "context_too_long",
    "exceed_context_size_error": "context_too_long",
    "invalid_api_key": "auth",
    "api_key_invalid": "auth",
    "authentication_error": "auth",
    "permission_error": "permission",
    "permission_denied": "permission",
    "model_not_found": "not_found",
    "not_found_error": "not_found",
    "rate_limit_exceeded": "rate_limit",
    "rate_limit_error": "rate_limit",
    "too_many_requests": "rate_limit",
    "overloaded_error": "overloaded",
    "server_is_overloaded": "overloaded",
    "slow_down": "overloaded",
    "content_filter": "content_filter",
    "content_policy_violation": "content_filter",
    "image_content_policy_violation": "content_filter",
    "misalignment_policy_violation": "content_filter",
    "bio_policy": "content_filter",
    "invalid_prompt": "content_filter",
    "request_too_large": "too_large",
    "string_above_max_length": "too_large",
    "image_too_large": "too_large",
    "image_file_too_large": "too_large",
    "timeout_error": "timeout",
    "vector_store_timeout": "timeout",
    "data_residency_mismatch": "permission",
    "organization_on_hold": "permission",
    "invalid_request_error": "bad_request",
    # Said in mid-answer, where there is no status to tell that asking again is of no use.
    "invalid_image": "bad_request",
    "invalid_image_format": "bad_request",
    "invalid_image_mode": "bad_request",
    "invalid_image_url": "bad_request",
    "invalid_base64_image": "bad_request",
    "image_too_small": "bad_request",
    "image_parse_error": "bad_request",
    "image_file_not_found": "bad_request",
    "empty_image_file": "bad_request",
    "failed_to_download_image": "bad_request",
    "unsupported_image_media_type": "bad_request",
}

# What is told in words alone.
_CONTEXT_WORDS = (
    "context length", "context window", "context size", "context limit", "maximum context", "prompt is too long",
    "input token count",
)  # fmt: skip
_KIND_BY_WORDS: dict[str, LLMErrorKind] = {
    "credit balance is too low": "quota",
    "payload size exceeds": "too_large",
    "location is not supported": "permission",
}


def status_error(
    status: int, body: Any, headers: Mapping[str, str], *, secret: str = "", now: float | None = None
) -> LLMError:
    """The error that an HTTP status (or an error object inside a stream: status 200) stands for.

    `body` is the parsed JSON or the text; `secret` is blotted out wherever the server repeats it.
    """
    error = _error_object(body)
    details = error.get("details")
    detail = details.get("error_code") if isinstance(details, dict) else None
    codes = [str(code or "").lower() for code in (error.get("code"), detail, error.get("type"))]
    codes += _google_error.codes(error)
    # Before it is cut short: half a key would not be recognised any more, and tell half of it.
    text = _sentence(_blot(error.get("message"), secret))
    kind: LLMErrorKind | None = next((_KIND_BY_CODE[code] for code in codes if code in _KIND_BY_CODE), None)
    if status == 200 and codes[0].isdecimal():
        status = int(codes[0][:3])
    if kind in (None, "bad_request"):
        if status in (200, 400, 413, 422, 500) and any(words in text.lower() for words in _CONTEXT_WORDS):
            kind = "context_too_long"
        else:
            told = next((words for words in _KIND_BY_WORDS if words in text.lower()), None)
            kind = _KIND_BY_WORDS[told] if told else _KIND_BY_STATUS.get(status, kind)
    if kind is None:
        kind = "server" if status >= 500 or status == 200 else "not_found" if status < 400 else "bad_request"
    delay = retry_after(headers, now=now)
    if delay is None and kind == "rate_limit":
        delay = _spoken_delay(text)
    return LLMError(
        kind,
        f"{_lead(status)}{': ' + text if text else '.'}",
        status=status if status != 200 else None,
        retry_after=_google_error.retry_delay(error) if delay is None else delay,
        request_id=clean(_blot(_request_id(body, headers), secret))[:200],
    )


def _request_id(body: Any, headers: Mapping[str, str]) -> str:
    id_ = headers.get("x-request-id") or headers.get("request-id")
    return str(id_ or (isinstance(body, dict) and body.get("request_id")) or "")


def transport_error(error: Exception, *, address: str, idle_timeout: float) -> LLMError:
    """The error that a broken connection stands for. `error` comes from httpx2, or from an SDK caused by httpx2."""
    import httpx2

    cause = error if isinstance(error, httpx2.RequestError | RefusedAddress) else error.__cause__ or error
    if _is_unknown_name(error):
        return LLMError("connection", f"The name in {address} could not be looked up. Is the network down?")
    if isinstance(cause, RefusedAddress):
        return LLMError("bad_request", str(cause))
    if isinstance(cause, httpx2.ConnectTimeout):
        return LLMError("connection", f"{address} did not accept a connection within {CONNECT_TIMEOUT:g} seconds.")
    if isinstance(cause, httpx2.PoolTimeout):
        return LLMError("overloaded", f"All {MAX_CONNECTIONS} connections to models are in use.")
    if isinstance(cause, httpx2.TimeoutException | TimeoutError):
        return LLMError("timeout", f"{address} sent nothing for {idle_timeout:g} seconds.")
    if isinstance(cause, httpx2.ConnectError):
        why = re.sub(r"^\[Errno -?\d+\] ", "", _sentence(str(cause)))
        return LLMError("connection", f"{address} could not be reached{': ' + why if why else '.'}")
    return LLMError("connection", f"{address} broke off the connection.")


def _is_unknown_name(error: BaseException | None) -> bool:
    while error and not isinstance(error, socket.gaierror):
        error = error.__cause__ or error.__context__
    return error is not None


def retry_after(headers: Mapping[str, str], *, now: float | None = None) -> float | None:
    """Seconds to wait according to `Retry-After` (seconds or an HTTP date, RFC 9110 10.2.3), else None."""
    value = headers.get("retry-after", "").strip()
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - (time.time() if now is None else now)
        except (ValueError, OverflowError):
            return None
    # The comparison also turns NaN away.
    return max(seconds, 0.0) if seconds < float("inf") else None


def _spoken_delay(text: str) -> float | None:
    """Seconds to wait as OpenAI's sentence has them ("1m30s", "6.57s", "120ms"); in mid-answer nothing else tells."""
    found = re.search(r"try again in (?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)(ms|s))?", text)
    if not found or not any(found.groups()):
        return None
    hours, minutes, rest, unit = found.groups()
    seconds = float(rest or 0) / (1000 if unit == "ms" else 1)
    return int(hours or 0) * 3600 + int(minutes or 0) * 60 + seconds


def _lead(status: int) -> str:
    if status == 200:
        return "The provider broke off the answer with an error"
    if 300 <= status < 400:
        return f"The provider answered {status} and points to another address, which is not followed"
    return f"The provider answered {status}"


def _error_object(body: Any) -> dict[str, Any]:
    """The part of an error body that says what happened; servers disagree on where it is."""
    if isinstance(body, list) and body:
        body = body[0]
    if not isinstance(body, dict):
        return {"message": body}
    error = body.get("error", body)
    if not isinstance(error, dict):
        return {"message": error, "code": body.get("code"), "type": body.get("type")}
    return error if error.get("message") else error | {"message": body.get("message") or body.get("detail")}


def _sentence(text: Any) -> str:
    """One short line of what the server wrote; nothing when it is a web page."""
    if not isinstance(text, str) or text.lstrip().startswith("<"):
        return ""
    line = " ".join(clean(text).split())
    return line if len(line) <= _DETAIL_CHARS else line[: _DETAIL_CHARS - 1] + "…"


def _blot(text: Any, secret: str) -> Any:
    """`text` without the secret, and without any run of eight characters of it, in whatever case: servers repeat keys
    in part, too."""
    if not isinstance(text, str) or not secret:
        return text
    if len(secret) < _RUN:
        # A short one is a part of many words, where it tells nothing.
        return re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", "•••", text, flags=re.IGNORECASE)
    runs = set(_runs(secret))
    told = [False] * len(text)
    for at, run in enumerate(_runs(text)):
        if run in runs:
            told[at : at + _RUN] = [True] * _RUN
    pieces = itertools.groupby(zip(text, told, strict=True), key=operator.itemgetter(1))
    return "".join("•••" if is_told else "".join(char for char, _ in piece) for is_told, piece in pieces)


def _runs(text: str) -> Iterator[str]:
    lower = text.translate(_LOWER)  # Other letters than these may get longer.
    return (lower[at : at + _RUN] for at in range(len(lower) - _RUN + 1))
