"""The agents there are, by name."""

from __future__ import annotations

from executor.core.config import AgentConfig
from executor.models import Agent


class AgentRegistry:
    """Gives an `AgentConfig` by name. What it gives is as of now; a task keeps the version that it began with."""

    def names(self) -> list[str]:
        return list(Agent.objects.filter(enabled=True).values_list("name", flat=True))

    def get(self, name: str) -> AgentConfig:
        """Raises LookupError that lists the agents there are."""
        return self.agent(name).config()

    def agent(self, name: str) -> Agent:
        agent = Agent.objects.filter(name=name, enabled=True).first()
        if agent is None:
            raise LookupError(f"There is no agent {name!r}. There are: {', '.join(self.names()) or 'none yet'}.")
        return agent

    def default(self) -> Agent:
        agent = Agent.objects.filter(enabled=True).first()
        if agent is None:
            raise LookupError("There is no agent yet. Run `manage.py load_agents`, or add one in the admin.")
        return agent
