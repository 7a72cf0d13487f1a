"""Who opens a socket: the session and the person, as every page knows them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.contrib.sessions.backends.base import SessionBase
from django.http import HttpRequest, parse_cookie

from executor.database import in_database


class SocketAuth:
    """Puts `session` and `user` into the scope of a socket.

    Channels' own middleware does the same, and then asks the session before each message that is sent whether it must
    be saved; our sockets only speak, and nothing that they say changes a session.
    """

    def __init__(self, inner: Callable[..., Awaitable[None]]) -> None:
        self._inner = inner

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        session, user = await in_database(_who, dict(scope["headers"]).get(b"cookie", b"").decode("latin-1"))
        await self._inner({**scope, "session": session, "user": user}, receive, send)


def _who(cookies: str) -> tuple[SessionBase, AbstractBaseUser | AnonymousUser]:
    request = HttpRequest()
    store = import_module(settings.SESSION_ENGINE).SessionStore
    request.session = store(parse_cookie(cookies).get(settings.SESSION_COOKIE_NAME))
    return request.session, get_user(request)
