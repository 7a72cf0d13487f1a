"""What Daphne serves: pages over HTTP, live updates over WebSocket."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import autobahn.util
import django
from asgiref.sync import ThreadSensitiveContext, sync_to_async
from channels.routing import ProtocolTypeRouter, URLRouter
from channels.security.websocket import AllowedHostsOriginValidator
from django.conf import settings
from django.core.handlers.asgi import ASGIHandler
from django.http import HttpRequest
from django.http.response import HttpResponseBase

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "agentsite.settings")
django.setup(set_prefix=False)

from agentsite import views  # noqa: E402  (these need the apps loaded)
from conversations.auth import SocketAuth  # noqa: E402
from conversations.routing import websocket_urlpatterns  # noqa: E402

# Daphne's library describes each frame in colours, for a log that nobody reads: a tenth of this process's time.
autobahn.util._HAS_CLICK = False


class Pages(ASGIHandler):
    """Django, on one thread from the first middleware to the last.

    Django itself would run the middleware on the loop, as most of it can do that, and send each half of each piece to
    the thread and back: twenty changes of thread for a message, which cost as much as everything else.
    """

    def load_middleware(self, is_async: bool = False) -> None:
        super().load_middleware(is_async=False)

    async def get_response_async(self, request: HttpRequest) -> HttpResponseBase:
        return await sync_to_async(self.get_response)(request)


class Turnstile:
    """Lets so many requests in at a time, each on a thread that is there for it.

    Django runs each request on a thread of its own. With a hundred of them the loop that serves every open page gets
    the interpreter once in a hundred turns, and all answers stand still. Requests are short, and Daphne has read them
    whole before they come here, so those who wait are served sooner this way as well. The threads stay, and with them
    their connections to the database. Whether the site is alive is answered at once: being busy is no reason for a
    restart.
    """

    def __init__(self, application: Callable[..., Awaitable[None]], at_once: int) -> None:
        self._application = application
        self._threads: asyncio.LifoQueue[ThreadPoolExecutor] = asyncio.LifoQueue()
        for _ in range(at_once):
            self._threads.put_nowait(ThreadPoolExecutor(1, thread_name_prefix="request"))

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == views.PATH:
            await self._application(scope, receive, send)
            return
        thread = await self._threads.get()
        try:
            async with ThreadSensitiveContext(executor=thread):
                await self._application(scope, receive, send)
        finally:
            self._threads.put_nowait(thread)


application = ProtocolTypeRouter(
    {
        "http": Turnstile(Pages(), settings.REQUESTS_AT_ONCE),
        "websocket": AllowedHostsOriginValidator(SocketAuth(URLRouter(websocket_urlpatterns))),  # type: ignore[arg-type]
    }
)
