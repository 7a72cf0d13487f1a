"""What Daphne serves: pages over HTTP, live updates over WebSocket."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any

from channels.auth import AuthMiddlewareStack
from channels.routing import ProtocolTypeRouter, URLRouter
from channels.security.websocket import AllowedHostsOriginValidator
from django.conf import settings
from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "agentsite.settings")
django_application = get_asgi_application()

from agentsite import views  # noqa: E402  (these need the apps loaded)
from conversations.routing import websocket_urlpatterns  # noqa: E402


class Turnstile:
    """Lets so many requests in at a time.

    Django runs each request on a thread of its own. With a hundred of them the loop that serves every open page gets
    the interpreter once in a hundred turns, and all answers stand still. Requests are short, and Daphne has read them
    whole before they come here, so those who wait are served sooner this way as well. Whether the site is alive is
    answered at once: being busy is no reason for a restart.
    """

    def __init__(self, application: Callable[..., Awaitable[None]], at_once: int) -> None:
        self._application = application
        self._room = asyncio.Semaphore(at_once)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == views.PATH:
            await self._application(scope, receive, send)
            return
        async with self._room:
            await self._application(scope, receive, send)


application = ProtocolTypeRouter(
    {
        "http": Turnstile(django_application, settings.REQUESTS_AT_ONCE),
        "websocket": AllowedHostsOriginValidator(AuthMiddlewareStack(URLRouter(websocket_urlpatterns))),  # type: ignore[arg-type]
    }
)
