"""Which agents may take over from which: nobody from themselves, and never round in a circle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from django.db.models import Q, QuerySet

from executor.models import Agent

T = TypeVar("T")


def candidates(agent: Agent) -> QuerySet[Agent]:
    """Agents that may take over from `agent`, which may be unsaved: everybody's, and those of its own owner."""
    falls_back_on = dict(Agent.objects.values_list("pk", "fallback"))
    never = [pk for pk in falls_back_on if agent.pk in chain(pk, falls_back_on)] if agent.pk else []
    return Agent.objects.filter(Q(owner=None) | Q(owner=agent.owner_id)).exclude(pk__in=never)


def chain(start: T, falls_back_on: Mapping[T, T | None]) -> list[T]:
    """`start`, who takes over from it, from that one, and so on; the one that closes a circle stands there twice."""
    found = [start]
    while (following := falls_back_on.get(found[-1])) and len(set(found)) == len(found):
        found.append(following)
    return found
