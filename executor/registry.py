"""The agents there are, by name, and the classes of language models that they can be of."""

from __future__ import annotations

from django.db.models import QuerySet

from executor.core.config import AgentConfig
from executor.core.llms.base import BaseLlm
from executor.core.llms.factory import LLMS, llm_class
from executor.models import Agent
from users.models import User


class AgentRegistry:
    """Gives an `AgentConfig` by name. What it gives is as of now; a task keeps the version that it began with.

    Those that `user` may choose; without a user, those that everybody may. Others are absent.
    """

    def __init__(self, user: User | None = None) -> None:
        self._user = user

    @staticmethod
    def types() -> dict[str, type[BaseLlm]]:
        """Agent type (`AgentConfig.provider`) → class; those of MODEL_CLASSES come after AgentSite's own."""
        return {agent_type: llm_class(agent_type) for agent_type in LLMS}

    def names(self) -> list[str]:
        return list(self._agents().values_list("name", flat=True))

    def get(self, name: str) -> AgentConfig:
        """Raises LookupError that lists the agents there are."""
        return self.agent(name).config()

    def agent(self, name: str) -> Agent:
        agent = self._agents().filter(name=name).first()
        if agent is None:
            raise LookupError(f"There is no agent {name!r}. There are: {', '.join(self.names()) or 'none yet'}.")
        return agent

    def default(self) -> Agent:
        agent = self._agents().first()
        if agent is None:
            raise LookupError("There is no agent yet. Run `manage.py load_agents`, or add one in the admin.")
        return agent

    def _agents(self) -> QuerySet[Agent]:
        return Agent.objects.usable_by(self._user)
