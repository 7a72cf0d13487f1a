"""agents.yaml: agents as text, so that an installation can be set up, reviewed and repeated.

The file is read as a whole before anything is changed, and each mistake names file, line and field. YAML gives the
lines (yaml_file.py), pydantic the rules (agent_rules.py), and the provider's own class has the last word about its
parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from django.db import transaction
from django.db.models import Max
from pydantic import ValidationError

from executor.agent_rules import AgentEntry, AgentsFile, provider_problems, schema_problems
from executor.core.fields import Place
from executor.fallbacks import chain
from executor.models import Agent
from executor.yaml_file import FileError, Source, read_yaml
from tools.registry import get_registry

__all__ = ["FileError", "load", "read", "there_are", "warnings"]

_QUOTES = " If it is a word, put it in quotes: YAML takes on, off, yes and no for true and false."


def read(
    path: Path, environment: Mapping[str, str], *, others: Mapping[str, str | None] | None = None
) -> list[AgentEntry]:
    """The agents in `path`. Raises FileError with everything that is wrong.

    `others` are the agents there are already (see `there_are`), None if nobody knows.
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
        if asked and not any(unread[:2] == place for unread in source.unread):
            for inside, sentence in (
                *provider_problems(asked.provider, asked.model, asked.base_url, asked.parameters),
                *schema_problems(asked.response_schema),
            ):
                value = asked.parameters.get(str(inside[-1])) if inside[:1] == ("parameters",) else None
                hint = _QUOTES if isinstance(value, bool) and "true or false" not in sentence else ""
                source.add((*place, *inside), source.mask(sentence) + hint)
    _check_fallbacks(source, data, others)
    source.check()
    return entries


def there_are() -> dict[str, str | None]:
    """Everybody's agents, by name, and who takes over from each."""
    return dict(Agent.objects.filter(owner=None).values_list("name", "fallback__name"))


def _check_fallbacks(source: Source, data: Any, others: Mapping[str, str | None] | None) -> None:
    """Who takes over must be there, here or in the database, and nobody may in the end take over from themselves."""
    items = data.get("agents") if isinstance(data, dict) else None
    falls_back_on = dict(others or {})
    given: dict[str, tuple[Place, str]] = {}
    for index, item in enumerate(items if isinstance(items, list) else ()):
        if isinstance(item, dict) and isinstance(name := item.get("name"), str):
            falls_back_on.setdefault(name, None)
            if isinstance(fallback := item.get("fallback"), str):
                falls_back_on[name] = fallback
                if fallback:
                    given[name] = (("agents", index, "fallback"), fallback)
    told: set[str] = set()
    for name, (place, fallback) in given.items():
        if place in source.unread:
            continue
        if fallback not in falls_back_on:
            if others is not None:
                there = ", ".join(sorted(other for other in falls_back_on if other != name)) or "none yet"
                source.add(place, f"there is no agent {source.shown(place, fallback)}. There are: {there}.")
        elif (circle := chain(name, falls_back_on))[-1] == name and name not in told:
            told.update(circle)
            source.add(place, f"{source.mask(' → '.join(circle))} goes round in a circle. Leave one of them out.")


def _what_the_provider_gets(item: Any) -> AgentEntry | None:
    """An entry with only those fields of a wrong one, if they are right: their mistakes too are told at once."""
    if not isinstance(item, dict):
        return None
    asked = ("provider", "model", "base_url", "parameters", "response_schema")
    given = {name: item[name] for name in asked if name in item}
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
    """Create or update `agents` by name, in one transaction. Returns (name, what happened). Nothing is ever deleted.

    Raises FileError if a name belongs to somebody's own agent.
    """
    with transaction.atomic():
        # New ones come last: the first one in the picker is preselected, and stays so.
        first = (Agent.objects.aggregate(last=Max("position"))["last"] or 0) + 1 if Agent.objects.exists() else 0
        positions = {entry.name: position for position, entry in enumerate(agents, start=first)}
        # Who takes over comes before those it takes over from, so that each is saved once.
        falls_back_on: dict[str, str | None] = {entry.name: entry.fallback for entry in agents}
        ordered = sorted(agents, key=lambda entry: len(chain(entry.name, falls_back_on)))
        outcomes = {entry.name: _load(entry, positions[entry.name]) for entry in ordered}
        return [(entry.name, outcomes[entry.name]) for entry in agents]


def _load(entry: AgentEntry, position: int) -> str:
    columns = entry.columns()
    if "fallback" in columns:
        columns["fallback"] = Agent.objects.filter(name=entry.fallback, owner=None).first()
    agent = Agent.objects.filter(name=entry.name, owner=None).first()
    if agent is None:
        if Agent.objects.filter(name=entry.name).exists():  # Names are unique, whoever has them.
            raise FileError([f"{entry.name}: somebody's own agent has this name. Choose another one."])
        Agent.objects.create(**columns, position=position)
        return "added"
    changed = [name for name, value in columns.items() if getattr(agent, name) != value]
    if not changed:
        return "unchanged"
    for name in changed:
        setattr(agent, name, columns[name])
    agent.save(update_fields=[*changed, "updated_at"])
    return f"changed (version {agent.current_version().number})"
