"""Talking to MCP servers, on a worker's event loop. The library takes seconds to import, so that waits for the first
call, and no web process has it.

A server with an address is connected to for each call: nothing has to be kept alive. A command is started at the first
call and kept as long as the worker's loop turns; one that died is started anew by the next call.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import httpx2
from django.conf import settings

from tools.core.context import Context
from tools.core.effects import MayHaveRun
from tools.mcp.answers import ServerSaysNo, told
from tools.mcp.commands import commands
from tools.mcp.functions import Server

logger = logging.getLogger(__name__)

T = TypeVar("T")

CONNECT_WITHIN = 20.0
LEAVE_WITHIN = 5.0
#: Bytes of one answer over HTTP.
LARGEST_ANSWER = 32 * 1024 * 1024
_PAGES = 20
#: Errors of JSON-RPC with which a server refuses a call before it does anything.
_REFUSED = (-32600, -32601, -32602)

#: Gives the key for the address of a server, "" if it needs none. The layer above, which has the keys, puts it here.
KEYS: list[Callable[[str], Awaitable[str]]] = []


class ServerAway(Exception):
    """It was not reached, so nothing happened; the message is a sentence."""


async def list_tools(server: Server) -> list[Any]:
    """The library's `Tool`s. Raises ServerAway."""

    async def ask(client: Any) -> list[Any]:
        found, cursor = [], None
        for _ in range(_PAGES):
            page = await client.list_tools(cursor=cursor, cache_mode="refresh")
            found += page.tools
            if (cursor := page.next_cursor) is None:
                break
        return found

    try:
        return await _asked(server, ask)
    except ServerAway:
        raise
    except Exception as error:
        raise ServerAway(f"The server “{server.name}” does not list its tools: {_said(error)}") from error


async def call(server: Server, tool: str, arguments: dict[str, Any], context: Context) -> str:
    """What the tool gave. Raises ServerAway, ServerSaysNo, and MayHaveRun if it was lost in the middle."""
    try:
        result = await _asked(server, lambda client: client.call_tool(tool, arguments))
    except ServerAway:
        raise
    except Exception as error:
        if getattr(_innermost(error), "code", None) in _REFUSED:
            raise ServerSaysNo(_said(error)) from error
        raise MayHaveRun(f"The server “{server.name}” was lost during the call: {_said(error)}") from error
    return told(server.name, tool, result, context)


async def _asked(server: Server, ask: Callable[[Any], Awaitable[T]]) -> T:
    """What `ask` makes of the library's client. Raises ServerAway if it was not called, else what comes out of it."""
    if server.command:
        return await ask(await _process(server))
    answers: list[T] = []
    is_asked = False
    try:
        async with _over_http(server) as client:
            is_asked = True
            answers.append(await ask(client))
    except Exception as error:
        if not is_asked:
            raise ServerAway(f"The server “{server.name}” is not reached now: {_said(error)}") from error
        if not answers:  # How it says good-bye is its own matter.
            raise
    return answers[0]


# --- over HTTP -------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def _over_http(server: Server) -> AsyncIterator[Any]:
    mcp = await _library()
    http = httpx2.AsyncClient(
        transport=Bounded(),
        headers=await _headers(server),
        timeout=httpx2.Timeout(server.timeout + 5, connect=CONNECT_WITHIN),
        trust_env=False,
    )
    now = asyncio.get_running_loop().time
    async with asyncio.timeout(CONNECT_WITHIN) as clock, http:
        transport = import_module("mcp.client.streamable_http").streamable_http_client(server.url, http_client=http)
        async with mcp.Client(transport, read_timeout_seconds=server.timeout + 5) as client:
            clock.reschedule(None)
            try:
                yield client
            finally:
                clock.reschedule(now() + LEAVE_WITHIN)


async def _headers(server: Server) -> dict[str, str]:
    key = server.key
    for key_for in KEYS:
        key = key or await key_for(server.url)
    if not key:
        return {}
    return {server.key_header: key} if server.key_header else {"Authorization": f"Bearer {key}"}


class Bounded(httpx2.AsyncBaseTransport):
    """Answers of at most LARGEST_ANSWER bytes. Administrators choose the address, so any may be asked."""

    def __init__(self) -> None:
        self._inner = httpx2.AsyncHTTPTransport(trust_env=False)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        response = await self._inner.handle_async_request(request)
        response.stream = _BoundedStream(response.stream)
        return response

    async def aclose(self) -> None:
        await self._inner.aclose()


class _BoundedStream(httpx2.AsyncByteStream):
    def __init__(self, inner: Any) -> None:
        self._inner = inner

    async def __aiter__(self) -> AsyncIterator[bytes]:
        left = LARGEST_ANSWER
        async for chunk in self._inner:
            left -= len(chunk)
            if left < 0:
                raise httpx2.ReadError(f"The answer is larger than {LARGEST_ANSWER // 1024**2} MB.")
            yield chunk

    async def aclose(self) -> None:
        await self._inner.aclose()


# --- as a process ----------------------------------------------------------------------------------------------------


class _Process:
    """A command that runs. The library wants to be entered and left in one and the same task: this keeps that task."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self._over = asyncio.Event()
        self._client: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._keeping = asyncio.create_task(self._keep(), name=f"mcp {server.name}")

    @property
    def is_over(self) -> bool:
        return self._over.is_set() or self._keeping.done()

    async def client(self) -> Any:
        """Raises ServerAway."""
        try:
            return await asyncio.shield(self._client)
        except ServerAway as error:  # One exception for many callers would collect all their tracebacks.
            raise ServerAway(str(error)) from error

    async def end(self) -> None:
        self._over.set()
        with suppress(Exception):
            await self._keeping

    async def _keep(self) -> None:
        try:
            async with asyncio.timeout(CONNECT_WITHIN) as starting:
                mcp = await _library()
                start = import_module("mcp.client.stdio").stdio_client
                # Celery puts something that is no file in the place of sys.stderr.
                transport = _watched(start(_parameters(self.server), errlog=sys.__stderr__), self._over)
                async with mcp.Client(transport, read_timeout_seconds=self.server.timeout + 5) as client:
                    starting.reschedule(None)
                    self._client.set_result(client)
                    await self._over.wait()
        except Exception as error:
            sentence = f"The server “{self.server.name}” cannot be started: {_said(error)}"
            logger.warning("%s", sentence)
            if not self._client.done():
                self._client.set_exception(ServerAway(sentence))
                self._client.exception()  # Whoever asked may be gone.


_processes: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[int, _Process]] = WeakKeyDictionary()


async def _process(server: Server) -> Any:
    running = _processes.setdefault(asyncio.get_running_loop(), {})
    process = running.get(server.pk)
    if process is None or process.is_over or process.server != server:
        running[server.pk] = _Process(server)
        if process is not None:
            await process.end()
    return await running[server.pk].client()


async def close() -> None:
    """End the commands that were started on this loop."""
    running = _processes.pop(asyncio.get_running_loop(), {})
    await asyncio.gather(*(process.end() for process in running.values()))


def _parameters(server: Server) -> Any:
    command = commands().get(server.command)
    if command is None:
        raise ServerAway(f"MCP_COMMANDS has no command “{server.command}” any more.")
    folder = Path(settings.DATA_DIR) / "mcp" / server.name
    folder.mkdir(parents=True, exist_ok=True)
    leash = str(Path(__file__).with_name("leash.py"))
    # The library passes on HOME, PATH and the like, and nothing else of our environment: no secrets.
    return import_module("mcp.client.stdio").StdioServerParameters(
        command=sys.executable, args=["-I", leash, str(os.getpid()), *command], cwd=folder
    )


@asynccontextmanager
async def _watched(transport: Any, over: asyncio.Event) -> AsyncIterator[Any]:
    """`transport`, with `over` set as soon as the other side is gone."""
    anyio = import_module("anyio")
    async with transport as (read, write):
        inside, outside = anyio.create_memory_object_stream(0)

        async def pass_on() -> None:
            async with inside:
                with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
                    async for message in read:
                        await inside.send(message)
            over.set()

        async with anyio.create_task_group() as group:
            group.start_soon(pass_on)
            yield outside, write
            group.cancel_scope.cancel()


async def _library() -> Any:
    for name in ("mcp", "mcp.client.stdio", "mcp.client.streamable_http"):
        await asyncio.to_thread(import_module, name)
    return import_module("mcp")


def _innermost(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _said(error: BaseException) -> str:
    """What went wrong, in a line."""
    error = _innermost(error)
    if isinstance(error, TimeoutError):
        return "it does not answer."
    text = " ".join(str(error).split())[:300] or type(error).__name__
    return text if text.endswith((".", "!", "?")) else f"{text}."
