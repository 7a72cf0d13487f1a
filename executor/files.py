"""Files in messages, as models are told of them: in words, which a process of its own read once, and pictures as they
are, for models that see. A message only refers to them."""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

from django.db.models import QuerySet

from executor.core.llms.base import BaseLlm
from executor.core.messages import File, JsonDict, Message
from executor.database import in_database
from executor.history import Piece
from executor.stored import clean
from tools.core import apart, peek, pictures, reading
from tools.models import Resource

logger = logging.getLogger(__name__)

_SCHEME = "resource:"
_GONE = "It was deleted since then."
#: So many pictures are shown to a model, the newest; of the others it is told the names.
PICTURES = 10


def reference(resource: Resource) -> File:
    """What stands for a file in a message."""
    return File(resource.media_type, f"{_SCHEME}{resource.pk}", resource.name)


def references(message: JsonDict) -> list[UUID]:
    """The files that a stored message refers to."""
    return [UUID(part["url"][len(_SCHEME) :]) for part in message["parts"] if part["type"] == "file"]


def has_files(message: JsonDict) -> bool:
    return any(part["type"] == "file" for part in message["parts"])


def in_words(pieces: Sequence[Piece]) -> tuple[list[Piece], tuple[UUID, ...]]:
    """`pieces` with what is known of the files in them, and the files that nobody has read yet."""
    wanted = [found for piece in pieces for message in piece.messages for found in _ids(message)]
    if not wanted:
        return list(pieces), ()
    known = dict(Resource.objects.filter(pk__in=wanted).values_list("pk", "told"))
    told = [replace(piece, messages=tuple(_told(message, known) for message in piece.messages)) for piece in pieces]
    return told, tuple(dict.fromkeys(pk for pk in wanted if pk in known and known[pk] is None))


def _ids(message: Message) -> list[UUID]:
    return [_id(part) for part in message.parts if _refers(part)]


def _refers(part: Any) -> bool:
    return isinstance(part, File) and part.url.startswith(_SCHEME)


def _id(part: Any) -> UUID:
    return UUID(part.url.removeprefix(_SCHEME))


def _told(message: Message, known: dict[UUID, str | None]) -> Message:
    if not any(map(_refers, message.parts)):
        return message
    parts = (
        replace(part, text=known.get(_id(part), _GONE) or "") if isinstance(part, File) and _refers(part) else part
        for part in message.parts
    )
    return replace(message, parts=tuple(parts))


# --- reading ---------------------------------------------------------------------------------------------------------


async def read(unread: Iterable[UUID]) -> None:
    """Write down what models are told of these files. One that cannot be read is told by that."""
    for resource in await in_database(list, Resource.objects.filter(pk__in=list(unread), told=None)):
        told = await _words(resource)
        await in_database(_write, Resource.objects.filter(pk=resource.pk), clean(told))


def _write(row: QuerySet[Resource], told: str) -> None:
    row.update(told=told)


async def _words(resource: Resource) -> str:
    size = f"{resource.size:,} bytes"
    if not reading.is_readable(resource.media_type):
        return f"{size}."
    try:
        return f"{size}. {await reading.read(resource.media_type, await asyncio.to_thread(_bytes, resource))}"
    except apart.Unreadable as why:
        return f"{size}. {why} Nobody could read it."
    except OSError as error:
        logger.error("File %s cannot be read: %s", resource.pk, error)
        return f"{size}. It is not there any more."


def _bytes(resource: Resource) -> bytes:
    with resource.file.open("rb") as file:
        return bytes(file.read())


# --- pictures --------------------------------------------------------------------------------------------------------


async def with_pictures(messages: Sequence[Message], llm: BaseLlm) -> list[Message]:
    """`messages` with the newest pictures in them, if the model of `llm` sees."""
    shown = [_id(part) for message in messages for part in message.parts if _is_picture(part)][-PICTURES:]
    if not shown or not llm.can_see:
        return list(messages)
    rows = await in_database(list, Resource.objects.filter(pk__in=shown))
    urls = {resource.pk: url for resource in rows if (url := await _data_url(resource))}

    def seen(part: Any) -> Any:
        url = urls.get(_id(part)) if _is_picture(part) else None
        return replace(part, url=url, text="") if url else part

    return [
        replace(message, parts=tuple(map(seen, message.parts))) if any(map(_is_picture, message.parts)) else message
        for message in messages
    ]


def _is_picture(part: Any) -> bool:
    return _refers(part) and part.media_type in peek.IMAGES


async def _data_url(resource: Resource) -> str:
    """ "" for one that cannot be shown: then it is told by its name."""
    try:
        body, media_type = await asyncio.to_thread(_bytes, resource), resource.media_type
        if len(body) > pictures.LARGEST:
            body, media_type = await pictures.shrink(body), pictures.MEDIA_TYPE
    except (apart.Unreadable, OSError) as error:
        logger.warning("Picture %s cannot be shown: %s", resource.pk, error)
        return ""
    return f"data:{media_type};base64,{base64.b64encode(body).decode()}"
