"""The declared tasks that somebody may start while they talk to an agent, as links to their forms."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlencode

from django.urls import reverse

from conversations.models import Conversation
from executor.declared import offered_to
from executor.models import Agent
from users.models import User


@dataclass(frozen=True, slots=True)
class OfferView:
    name: str
    title: str
    description: str
    url: str


def offers(user: User, agent: Agent, conversation: Conversation | None = None) -> list[OfferView]:
    query = place_query(agent, conversation)
    return [
        OfferView(one.name, one.title, one.description, f"{reverse('start_task', args=[one.name])}?{query}")
        for one in offered_to(user, agent)
    ]


def place_query(agent: Agent, conversation: Conversation | None) -> str:
    """Where a task is started, for an address: whom the person talks to, and in which conversation."""
    told = {"agent": agent.name}
    return urlencode({**told, "conversation": conversation.pk} if conversation else told)
