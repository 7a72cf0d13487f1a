"""agents.yaml: agents as text, so that an installation can be set up, reviewed and repeated.

The file is read as a whole before anything is changed, and each mistake names file, line and field. YAML gives the
lines (agents_yaml.py), pydantic the rules (agent_rules.py), and the provider's own class has the last word about its
parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from django.db import transaction
from django.db.models import Max
from pydantic import ValidationError

from executor.agent_rules import AgentEntry, AgentsFile, provider_problems
from executor.agents_yaml import AgentsFileError, Source, read_yaml
from executor.models import Agent
from tools.registry import get_registry

__all__ = ["AgentsFileError", "load", "read", "warnings"]


def read(path: Path, environment: Mapping[str, str], *, ask_providers: bool = True) -> list[AgentEntry]:
    """The agents in `path`. Raises AgentsFileError with everything that is wrong.

    With `ask_providers` each provider's class has to agree with its parameters, for which its SDK is imported.
    """
    source = Source(path.name)
    data = read_yaml(path, source, environment)
    source.validate(AgentsFile, data, ())
    items = data.get("agents") if isinstance(data, dict) else None
    entries: list[AgentEntry] = []
    names: dict[str, int] = {}  # In which line each stands first.
    for index, item in enumerate(items if isinstance(items, list) else ()):
        place = ("agents", index)
        entry = source.validate(AgentEntry, item, place)
        if entry:
            entries.append(entry)
        name = item.get("name") if isinstance(item, dict) else None
        if isinstance(name, str) and (*place, "name") not in source.unread:
            if name in names:
                shown = source.shown((*place, "name"), name)
                source.add((*place, "name"), f"{shown} stands in line {names[name]} already. Give it another name.")
            else:
                names[name] = source.lines[(*place, "name")]
        asked = entry or _what_the_provider_gets(item)
        if asked and ask_providers and not any(unread[:2] == place for unread in source.unread):
            for field, sentence in provider_problems(asked.provider, asked.model, asked.base_url, asked.parameters):
                source.add((*place, field) if field else place, source.mask(sentence))
    source.check()
    return entries


def _what_the_provider_gets(item: Any) -> AgentEntry | None:
    """An entry with only those fields of a wrong one, if they are right: their mistakes too are told at once."""
    if not isinstance(item, dict):
        return None
    given = {name: item[name] for name in ("provider", "model", "base_url", "parameters") if name in item}
    try:
        return AgentEntry.model_validate({"name": "any", "title": "any", **given})
    except ValidationError:
        return None


def warnings(agents: list[AgentEntry], environment: Mapping[str, str]) -> list[str]:
    """What may be right in a moment and is not right now, a sentence each."""
    found = []
    for agent in agents:
        if unknown := get_registry().unknown(agent.functions):
            found.append(f"{agent.name}: there is no function {', '.join(unknown)} now; it does without.")
        if agent.api_key_variable and not environment.get(agent.api_key_variable):
            found.append(f"{agent.name}: the environment variable {agent.api_key_variable} is not set now.")
    return found


def load(agents: list[AgentEntry]) -> list[tuple[str, str]]:
    """Create or update `agents` by name, in one transaction. Returns (name, what happened). Nothing is ever deleted."""
    with transaction.atomic():
        # New ones come last: the first one in the picker is preselected, and stays so.
        first = (Agent.objects.aggregate(last=Max("position"))["last"] or 0) + 1 if Agent.objects.exists() else 0
        return [(entry.name, _load(entry, position)) for position, entry in enumerate(agents, start=first)]


def _load(entry: AgentEntry, position: int) -> str:
    columns = entry.columns()
    agent = Agent.objects.filter(name=entry.name).first()
    if agent is None:
        Agent.objects.create(**columns, position=position)
        return "added"
    changed = [name for name, value in columns.items() if getattr(agent, name) != value]
    if not changed:
        return "unchanged"
    for name in changed:
        setattr(agent, name, columns[name])
    agent.save(update_fields=[*changed, "updated_at"])
    return f"changed (version {agent.current_version().number})"
