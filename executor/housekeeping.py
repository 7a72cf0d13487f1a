"""What is done once an hour, by whichever worker comes to it. Everything connected here may run twice without harm."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from uuid import UUID

from django.dispatch import Signal

from executor.models import Task

logger = logging.getLogger(__name__)

EVERY = 3600.0

#: Sent without arguments.
housekeeping = Signal()


def keep_house() -> None:
    for receiver, result in housekeeping.send_robust(sender=None):
        if isinstance(result, Exception):
            logger.error("Housekeeping failed in %s: %s", receiver, result)


def tasks_that_exist(task_ids: Iterable[UUID]) -> set[UUID]:
    return set(Task.objects.filter(pk__in=list(task_ids)).values_list("pk", flat=True))
