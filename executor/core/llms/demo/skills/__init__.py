"""What the demonstration can do: one file per skill, each with a `read` that turns a request into a goal or None."""

from __future__ import annotations

from executor.core.llms.demo.planning import Goal
from executor.core.llms.demo.reading import Request
from executor.core.llms.demo.skills import (
    analysis,
    arithmetic,
    clock,
    coding,
    conversations,
    counting,
    days,
    drawing,
    pages,
    redraw,
    savings,
    sharing,
    tables,
    units,
)
from executor.core.llms.demo.skills.help import Help

# In the order in which they are asked: the more a skill insists on, the earlier.
SKILLS = (
    tables,
    counting,
    sharing,
    conversations,
    coding,
    analysis,
    pages,
    drawing,
    savings,
    units,
    days,
    clock,
    redraw,
    arithmetic,
)


def understand(request: Request) -> Goal:
    """The goal of `request`; `Help` where no skill understands it."""
    for skill in SKILLS:
        goal: Goal | None = skill.read(request)
        if goal is not None:
            return goal
    return Help.of(request)
