"""The one door to each kind of object. What is absent and what is somebody else's are alike: 404."""

from __future__ import annotations

from uuid import UUID

from django.db.models import QuerySet
from django.http import Http404

from conversations.models import Conversation, Turn
from executor.models import Agent, Decision, Probe, Task
from executor.prepared import Param, Select
from users import api_keys
from users.models import ApiKey, User


def conversations_of(user: User) -> QuerySet[Conversation]:
    return Conversation.objects.filter(user=user, deleted_at=None)


_CONVERSATION = Select(
    lambda: Conversation.objects.filter(user=Param("user"), pk=Param("conversation")).select_related("agent")
)


def get_conversation(user: User, conversation_id: UUID, *, deleted: bool = False) -> Conversation:
    """Raises Http404. With `deleted`, one in the bin is found too."""
    conversation = _CONVERSATION.first(user=user.pk, conversation=conversation_id)
    if conversation is None or (conversation.deleted_at and not deleted):
        raise Http404("There is no such conversation.")
    return conversation


def get_turn(user: User, task_id: UUID) -> Turn:
    """The turn that a task answers, by the task. Raises Http404."""
    turn = (
        Turn.objects.filter(task_id=task_id, task__user=user, conversation__user=user, conversation__deleted_at=None)
        .select_related("conversation", "task__agent_version", "task__declared__task")
        .first()
    )
    if turn is None:
        raise Http404("There is no such task.")
    return turn


def get_task(user: User, task_id: UUID) -> Task:
    """Also tasks that no conversation shows. Raises Http404."""
    task = Task.objects.filter(pk=task_id, user=user).select_related("agent_version", "declared__task").first()
    if task is None:
        raise Http404("There is no such task.")
    return task


def get_decision(user: User, decision_id: int) -> Decision:
    """About a task of the person's own. Raises Http404."""
    found = Decision.objects.filter(pk=decision_id, task__user=user).select_related("step", "task").first()
    if found is None:
        raise Http404("There is nothing to decide.")
    return found


def get_key(user: User, key_id: int) -> ApiKey:
    """One that is not revoked. Raises Http404."""
    key = api_keys.live().filter(pk=key_id, owner=user).first()
    if key is None:
        raise Http404("There is no such key.")
    return key


def get_probe(user: User, probe_id: UUID) -> Probe:
    """Raises Http404."""
    probe = Probe.objects.filter(pk=probe_id, user=user).first()
    if probe is None:
        raise Http404("There is no such question.")
    return probe


_AGENT = Select(lambda: Agent.objects.usable_by(Param("user")).filter(name=Param("name")))


def find_agent(user: User | None, name: str) -> Agent | None:
    """One that `user` may choose; without a user, that everybody may. None if there is none with this name."""
    return _AGENT.first(user=user.pk if user else None, name=name)


def get_own_agent(user: User, agent_id: int) -> Agent:
    """One that the person made for themselves. Raises Http404."""
    agent = Agent.objects.filter(pk=agent_id, owner=user, enabled=True).first()
    if agent is None:
        raise Http404("There is no such agent.")
    return agent
