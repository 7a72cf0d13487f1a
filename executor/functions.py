"""How agents give work to other agents, start declared tasks, and find out which there are."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from executor.declared import offered_to
from executor.models import Agent, Task
from tools.core.context import Context
from tools.core.function import function
from users.models import User


class PlannedTask(BaseModel):
    """One task of a plan."""

    id: str = Field(description="A short name for it, unique in the plan.", max_length=60)
    agent: str = Field(description="The name of the agent that does it, as list_agents tells it.")
    task: str = Field(description="What the agent is to do, with everything that it has to know.")
    after: list[str] = Field([], description="The ids of the tasks whose results it needs; it is told what they are.")


@function(effect="read")
def list_agents(context: Context) -> list[dict[str, str]]:
    """List the agents to whom work can be given, with what each of them is good at."""
    user = User.objects.filter(pk=context.user_id or 0).first()
    return [
        {"name": agent.name, "title": agent.title, "what_for": agent.description}
        for agent in Agent.objects.usable_by(user)
    ]


@function(effect="read")
def list_tasks(context: Context) -> list[dict[str, Any]]:
    """List the declared tasks that can be started with start_task: well-tried work in named steps. Prefer one of them
    to doing the same by yourself."""
    own = Task.objects.select_related("user", "agent_version__agent").filter(pk=context.task_id).first()
    if own is None or own.agent_version.agent is None:
        return []
    return [
        {"name": one.name, "title": one.title, "what_for": one.description, "inputs": one.declaration.get("inputs", [])}
        for one in offered_to(own.user, own.agent_version.agent)
    ]


@function(effect="read", answered_by="tasks")
def start_task(task: str, inputs: dict[str, Any]) -> list[dict[str, Any]]:
    """Start a declared task and wait for what it comes up with.

    Ask the person for inputs that you do not know; never make them up.

    Args:
        task: The name of the task, as list_tasks tells it.
        inputs: What the task asks for, by the names that list_tasks tells.

    Returns:
        What the task came up with, or why it did not.
    """
    return [{"id": "task", "declared": task, "data": inputs, "after": []}]


@function(effect="read", answered_by="tasks")
def delegate(agent: str, task: str) -> list[dict[str, Any]]:
    """Give a piece of work to another agent and wait for what it comes up with.

    The other agent knows nothing of this conversation: tell it everything that it needs.

    Args:
        agent: The name of the agent, as list_agents tells it.
        task: What it is to do, and what the answer should contain.

    Returns:
        What the other agent answers, or why there is no answer.
    """
    return [PlannedTask(id="task", agent=agent, task=task).model_dump()]


@function(effect="read", answered_by="tasks")
def run_plan(tasks: list[PlannedTask]) -> list[dict[str, Any]]:
    """Give several pieces of work to other agents and wait until all are done. Those that need no results of others
    are done side by side; one that fails takes only those with it that need its result.

    The other agents know nothing of this conversation: tell each everything that it needs.

    Args:
        tasks: The tasks of the plan, 24 at most.

    Returns:
        What each agent answers, or why there is no answer, by the ids of the tasks.
    """
    return [task.model_dump() for task in tasks]
