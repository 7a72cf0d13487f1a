"""What agents remember about a person: writing it down, finding it, forgetting it, and switching all that off."""

from __future__ import annotations

import functools
import operator
from uuid import UUID

from django.db.models import Q, QuerySet
from django.utils import timezone

from conversations.models import Memory, MemoryOff, Turn
from users.models import User

MAX_CHARACTERS: int = Memory._meta.get_field("text").max_length or 0
MAX_FACTS = 200
WORDS = 8


class NotRemembered(ValueError):
    """Why something is not remembered: a sentence for the agent."""


def is_on(user: User) -> bool:
    return not MemoryOff.objects.filter(user=user).exists()


def switch(user: User, *, on: bool) -> None:
    """Whether agents remember and recall. What is remembered by now stays until the person forgets it."""
    if on:
        MemoryOff.objects.filter(user=user).delete()
    else:
        MemoryOff.objects.get_or_create(user=user)


def memories_of(user: User) -> QuerySet[Memory]:
    """Those last told first."""
    return Memory.objects.filter(user=user)


def remember(user: User, text: str, task_id: UUID | None = None) -> Memory:
    """Write a fact down, as told in the conversation of this task. One that is known already counts as told again.

    Raises NotRemembered.
    """
    _make_sure_it_is_on(user)
    fact = " ".join(text.replace("\x00", "").split())
    if not fact:
        raise NotRemembered("There is nothing to remember. Give one short sentence.")
    if len(fact) > MAX_CHARACTERS:
        raise NotRemembered(
            f"This has {len(fact):,} characters, and a fact may have {MAX_CHARACTERS}. Say it in one short sentence."
        )
    turn = Turn.objects.filter(task=task_id, conversation__user=user).only("conversation").first() if task_id else None
    told = {"remembered_at": timezone.now(), "conversation_id": turn and turn.conversation_id}
    if known := memories_of(user).filter(text__iexact=fact).first():
        memories_of(user).filter(pk=known.pk).update(**told)
        return known
    if memories_of(user).count() >= MAX_FACTS:
        raise NotRemembered(
            f"{MAX_FACTS} facts are remembered already, and that is the most. Ask the person which to forget."
        )
    return Memory.objects.create(user=user, text=fact, **told)


def recall(user: User, query: str, limit: int) -> list[Memory]:
    """The facts with every word of `query`; where there is none, those with any of them. Without words, the latest.

    Raises NotRemembered if the person has switched it off.
    """
    _make_sure_it_is_on(user)
    facts = memories_of(user)
    words = query.replace("\x00", "").split()[:WORDS]
    if not words:
        return list(facts[:limit])
    holds = [Q(text__icontains=word) for word in words]
    every = list(facts.filter(functools.reduce(operator.and_, holds))[:limit])
    return every or list(facts.filter(functools.reduce(operator.or_, holds))[:limit])


def forget(user: User, memory_id: int) -> str:
    """Returns what it was, "" if there is no such fact about the person."""
    found = memories_of(user).filter(pk=memory_id).first()
    if found is None:
        return ""
    found.delete()
    return found.text


def forget_all(user: User) -> int:
    """Returns how many facts that were."""
    return memories_of(user).delete()[0]


def _make_sure_it_is_on(user: User) -> None:
    if not is_on(user):
        raise NotRemembered("The person has switched remembering off. Go on without, and do not try again.")
