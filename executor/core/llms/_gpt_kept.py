"""A response that OpenAI keeps: how it is fetched, and how it is ended.

What is asked for with `background` goes on without a connection. Without `store` it is kept for about ten minutes
(https://developers.openai.com/api/docs/guides/background). In the first five its events are told again; after that only
what has become of it.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from executor.core.errors import expired
from executor.core.llms._http import CONNECT_TIMEOUT
from executor.core.llms._openai_sdk import OpenAiSdk, refusal
from executor.core.llms._wire import rest_of
from executor.core.messages import JsonDict

if TYPE_CHECKING:
    import httpx2

#: Seconds between two looks at a response whose events are not told any more.
LOOK_EVERY = 1.0
CANCEL_WITHIN = 10.0

#: Statuses with which a server says that it has no such response, or cannot look one up at all.
_GONE = (400, 404, 405, 410, 422)
_AT_WORK = ("queued", "in_progress")


async def fetch(sdk: OpenAiSdk, response_id: str, include: list[str], timeouts: httpx2.Timeout) -> httpx2.Response:
    """Its events from the first one, or all of it once it is complete. Raises what the SDK raises, and "expired"."""
    path, query = f"/responses/{response_id}", {"include": include} if include else {}
    try:
        return await sdk.get(path, query | {"stream": True}, timeouts)
    except Exception as problem:
        refused = refusal(problem)
        if refused is None or refused.status not in _GONE:
            raise
        words = str(refused.body).lower()
    if include and "encrypted content" in words:  # Of a model that does not reason.
        return await fetch(sdk, response_id, [], timeouts)
    if "streamed" in words:
        return await _whole(sdk, path, query, timeouts)
    raise expired()


async def _whole(sdk: OpenAiSdk, path: str, query: JsonDict, timeouts: httpx2.Timeout) -> httpx2.Response:
    """As long as the provider may be silent, its end is waited for."""
    import httpx2

    try:
        async with asyncio.timeout(timeouts.read):
            while True:
                response = await sdk.get(path, query, timeouts)
                try:
                    body = await rest_of(response.aiter_bytes())
                finally:
                    await response.aclose()
                if _status(body) not in _AT_WORK:
                    return httpx2.Response(200, stream=httpx2.ByteStream(body))
                await asyncio.sleep(LOOK_EVERY)
    except TimeoutError:
        raise httpx2.ReadTimeout("It does not come to an end.") from None


def _status(body: bytes) -> Any:
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    return said.get("status") if isinstance(said, dict) else ""


async def cancel(sdk: OpenAiSdk, response_id: str) -> None:
    """Raises what the SDK raises."""
    import httpx2

    async with asyncio.timeout(CANCEL_WITHIN):
        response = await sdk.post(f"/responses/{response_id}/cancel", {}, httpx2.Timeout(CONNECT_TIMEOUT))
        await response.aclose()
