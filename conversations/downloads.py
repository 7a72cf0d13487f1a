"""A conversation to keep: everything that was said and done in it, as one file that is sent while it is made."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from uuid import UUID

from asgiref.sync import sync_to_async
from django.contrib.auth.decorators import login_required
from django.core.handlers.asgi import ASGIRequest
from django.http import StreamingHttpResponse
from django.utils.text import slugify
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from conversations.access import get_conversation
from conversations.export import as_json, as_markdown
from conversations.models import Conversation
from conversations.views import Request


@require_GET
@login_required
@never_cache
def conversation_json(request: Request, conversation_id: UUID) -> StreamingHttpResponse:
    found = get_conversation(request.user, conversation_id)
    return sent(request, as_json(found), file_name(found, "json"), "application/json")


@require_GET
@login_required
@never_cache
def conversation_markdown(request: Request, conversation_id: UUID) -> StreamingHttpResponse:
    found = get_conversation(request.user, conversation_id)
    return sent(request, as_markdown(found), file_name(found, "md"), "text/markdown; charset=utf-8")


def file_name(conversation: Conversation, ending: str) -> str:
    return f"{slugify(conversation.title)[:60].strip('-') or 'conversation'}.{ending}"


def sent(
    request: Request, pieces: Iterator[str] | Iterator[bytes], name: str, media_type: str
) -> StreamingHttpResponse:
    content = _one_by_one(pieces) if isinstance(request, ASGIRequest) else pieces
    response = StreamingHttpResponse(content, content_type=media_type)
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    return response


async def _one_by_one(pieces: Iterator[str] | Iterator[bytes]) -> AsyncIterator[str | bytes]:
    """On the request's own thread. (Django would make a list of them first.)"""

    def following() -> str | bytes | None:
        return next(pieces, None)

    while (piece := await sync_to_async(following)()) is not None:
        yield piece
