"""Results of functions, kept in rows, so that every worker has them."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from django.db import DatabaseError
from django.db.models import Count, Min
from django.utils import timezone

from tools.core.cache import Kept, Question
from tools.core.toolbox import RunSync
from tools.models import CachedResult

logger = logging.getLogger(__name__)


class StoredCache:
    """A tools.core.cache.Cache. `in_database` runs what uses the ORM off the event loop."""

    def __init__(self, in_database: RunSync) -> None:
        self._in_database = in_database

    async def find(self, question: Question) -> Kept | None:
        try:
            return await self._in_database(partial(_find, question))
        except DatabaseError as error:
            logger.warning("The cache of results does not answer: %s", error)
            return None

    async def keep(self, question: Question, content: str) -> None:
        try:
            await self._in_database(partial(_keep, question, content))
        except DatabaseError as error:  # The person may be gone by now, too.
            logger.warning("A result could not be kept: %s", error)


@dataclass(frozen=True, slots=True)
class OfFunction:
    """How many results are kept of a function, and when the oldest of them was made."""

    number: int
    oldest: datetime


def kept() -> dict[str, OfFunction]:
    """By function."""
    rows = CachedResult.objects.filter(expires_at__gt=timezone.now()).values("function").order_by("function")
    counted = rows.annotate(number=Count("pk"), oldest=Min("made_at"))
    return {row["function"]: OfFunction(row["number"], row["oldest"]) for row in counted}


def clear(function: str = "") -> int:
    """Forget what is kept of `function`, or of all. Returns how many results that were."""
    rows = CachedResult.objects.filter(function=function) if function else CachedResult.objects.all()
    return rows.delete()[0]


def forget_expired() -> None:
    CachedResult.objects.filter(expires_at__lte=timezone.now()).delete()


def _find(question: Question) -> Kept | None:
    row = CachedResult.objects.filter(key=question.key, expires_at__gt=timezone.now()).first()
    return Kept(row.content, row.made_at) if row else None


def _keep(question: Question, content: str) -> None:
    now = timezone.now()
    row = CachedResult(
        key=question.key,
        function=question.function,
        user_id=question.user_id,
        content=content,
        made_at=now,
        expires_at=now + timedelta(seconds=question.seconds),
    )
    CachedResult.objects.bulk_create(
        [row], update_conflicts=True, unique_fields=["key"], update_fields=["content", "made_at", "expires_at"]
    )
