"""The one door to the `openai` SDK, for the two adapters that speak OpenAI's formats."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from executor.core.llms._http import http_client
from executor.core.llms._json import dumps
from executor.core.llms._wire import Refusal
from executor.core.messages import JsonDict

if TYPE_CHECKING:
    import httpx2
    from openai import AsyncOpenAI


class OpenAiSdk:
    """Asks one address with one key, over the connections of the running event loop."""

    def __init__(self, base_url: str, api_key: str, allowed_hosts: frozenset[str] | None) -> None:
        self._base_url = base_url
        self._api_key = api_key
        self._allowed_hosts = allowed_hosts
        # The SDK's client and the HTTP client under it, which is another one on another event loop.
        self._made: tuple[AsyncOpenAI, httpx2.AsyncClient] | None = None

    async def post(self, path: str, body: JsonDict, timeouts: httpx2.Timeout) -> httpx2.Response:
        """The response, unread. Raises the SDK's errors; `refusal` tells which of them are the server's."""
        import httpx2

        # Serialised here, because the SDK would walk and copy every message first.
        response: Any = await self._client().post(
            path,
            cast_to=httpx2.Response,
            content=dumps(body),
            options={"timeout": timeouts},
            stream=True,
            stream_cls=_stream_class(),
        )
        assert isinstance(response, httpx2.Response)
        return response

    async def get(self, path: str, query: JsonDict, timeouts: httpx2.Timeout) -> httpx2.Response:
        """As `post`."""
        import httpx2

        response: Any = await self._client().get(
            path,
            cast_to=httpx2.Response,
            options={"timeout": timeouts, "params": query},
            stream=True,
            stream_cls=_stream_class(),
        )
        assert isinstance(response, httpx2.Response)
        return response

    def _client(self) -> AsyncOpenAI:
        http = http_client(self._allowed_hosts)
        if self._made is None or self._made[1] is not http:
            # What is given here wins over the environment: in a server for many people, OPENAI_BASE_URL or
            # OPENAI_ORG_ID set for something else must redirect nobody.
            client = _client_class()(
                base_url=self._base_url,
                # A local server needs no key, the SDK does.
                api_key=self._api_key or "none",
                admin_api_key="",
                organization="",
                project="",
                webhook_secret="",
                max_retries=0,
                http_client=http,
            )
            self._made = client, http
        return self._made[0]


def refusal(problem: Exception) -> Refusal | None:
    """See `WireLlm._refusal`."""
    from openai import APIStatusError

    if not isinstance(problem, APIStatusError):
        return None
    body = problem.body if problem.body is not None else problem.response.text
    return Refusal(problem.status_code, body, problem.response.headers)


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


@cache
def _stream_class() -> Any:
    """Naming a generic's parameter costs more than it should, each time."""
    from openai import AsyncStream

    return AsyncStream[Any]
