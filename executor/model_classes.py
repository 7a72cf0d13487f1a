"""MODEL_CLASSES: language model classes of one's own, beside AgentSite's. See docs/adding-a-model.md."""

from __future__ import annotations

from collections.abc import Iterable

from executor.core.llms.factory import LLMS, llm_class, register


def register_all(entries: Iterable[str]) -> list[str]:
    """Register each "name=dotted.path.Class". Returns what is wrong with those that are left out, a sentence each."""
    problems = []
    for entry in filter(None, map(str.strip, entries)):
        agent_type, equals, path = (part.strip() for part in entry.partition("="))
        try:
            if not equals:
                raise ValueError("Write it as name=package.module.Class.")
            register(agent_type, path)
        except ValueError as error:
            problems.append(f"MODEL_CLASSES, {entry}: {error}")
    return problems


def key_providers() -> dict[str, str]:
    """The agent types for which a key can be stored, and what people call them."""
    return {name: llm_class(name).label or name for name in LLMS if name != "demo"}
