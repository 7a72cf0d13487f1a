"""Declared tasks as rows: kept in step with what the folders declare (tasks_file.py), offered to people, and turned
into the class that runs them."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from django.db import transaction
from django.db.models import Q, QuerySet

from executor.core.declaration import DeclarationError, executor_class
from executor.core.errors import StepValidationError, TaskExecutionError
from executor.core.executor import TaskExecutor
from executor.core.steps import read_input
from executor.models import Agent, DeclaredTask, DeclaredTaskVersion
from executor.tasks_file import Declared, get_declared
from tools.registry import get_registry
from users.models import User

#: Of all texts that are filled in for one task.
MOST_CHARACTERS = 1_000_000
#: Of one such text in the message that says what was filled in. The task gets the whole.
SHOWN_CHARACTERS = 2_000


def synchronise() -> list[tuple[str, str]]:
    """Bring the rows up to what the folders declare: (name, what happened) for each that changed.

    What nothing declares any more is marked as missing. A task whose YAML file is broken at the moment stays as it was.
    """
    declared = get_declared()
    with transaction.atomic():
        done = [(name, outcome) for name, one in declared.tasks.items() if (outcome := _keep(name, one))]
        broken = {problem.source for problem in declared.problems}
        gone = DeclaredTask.objects.filter(is_missing=False).exclude(name__in=declared.tasks)
        for row in gone:
            if row.source in broken and "class" not in row.declaration:
                continue
            row.is_missing = True
            row.save(update_fields=["is_missing", "updated_at"])
            done.append((row.name, "missing"))
    return done


def _keep(name: str, one: Declared) -> str:
    declaration = one.declaration
    columns = {
        "title": one.cls.title,
        "description": one.cls.description,
        "source": one.source,
        "declaration": declaration,
        "is_missing": False,
    }
    agent = Agent.objects.filter(name=one.cls.agent, owner=None).first()
    row, added = DeclaredTask.objects.get_or_create(name=name, defaults={**columns, "agent": agent})
    if added:
        return "added"
    if row.declaration.get("agent") != one.cls.agent:  # Else it is as an administrator chose.
        row.agent = agent
    changed = [column for column, value in columns.items() if getattr(row, column) != value]
    if not changed:
        return ""
    for column in changed:
        setattr(row, column, columns[column])
    row.save(update_fields=[*changed, "agent", "updated_at"])
    return "there again" if changed == ["is_missing"] else f"changed (version {row.current_version().number})"


def offered_to(user: User, agent: Agent) -> list[DeclaredTask]:
    """What `user` may start while they talk to `agent`, who works on those that have no agent of their own."""
    found = _usable_by(user).select_related("agent")
    return [declared for declared in found if not lacking(declared, declared.agent or agent)]


def offer(user: User, declared: DeclaredTask, agent: Agent) -> None:
    """Raises TaskExecutionError with a sentence if `declared` is not among those that are offered."""
    if not _usable_by(user).filter(pk=declared.pk).exists():
        raise TaskExecutionError(f"“{declared.title}” is not offered any more.", hint="Choose another task.")
    worker = declared.agent or agent
    if names := lacking(declared, worker):
        raise TaskExecutionError(
            f"“{declared.title}” needs functions that {worker.title} may not call: {', '.join(names)}.",
            hint="Choose another agent, or ask an administrator to allow them.",
        )


def _usable_by(user: User) -> QuerySet[DeclaredTask]:
    usable = Q(agent=None) | Q(agent__in=Agent.objects.usable_by(user))
    return DeclaredTask.objects.filter(usable, enabled=True, is_missing=False)


def lacking(declared: DeclaredTask, agent: Agent) -> list[str]:
    """The functions that steps need which have no agent of their own, and that `agent` may not call."""
    steps = [step for step in declared.declaration["steps"] if not step.get("agent")]
    needed = dict.fromkeys(name for step in steps for name in step.get("functions") or ())
    allowed = get_registry().select(agent.functions, harmless=agent.owner_id is not None)
    return [name for name in needed if name not in {function.name for function in allowed}]


def absent_agents(declared: DeclaredTask) -> list[str]:
    """The agents that its declaration names and that there are not."""
    steps = declared.declaration["steps"]
    named = dict.fromkeys(filter(None, [declared.declaration.get("agent"), *(step.get("agent") for step in steps)]))
    there = set(Agent.objects.filter(name__in=named, owner=None, enabled=True).values_list("name", flat=True))
    return [name for name in named if name not in there]


def class_for(version: DeclaredTaskVersion) -> type[TaskExecutor]:
    """What runs this version: without code as it was declared then, and the code of today.

    Raises TaskExecutionError if there is no such code any more.
    """
    if path := version.declaration.get("class"):
        return _code(path, version.declaration.get("title", ""))
    try:
        return executor_class(version.declaration)
    except DeclarationError as error:
        raise TaskExecutionError(
            f"Version {version.number} of “{version.declaration.get('title', '')}” cannot be run: {error.mistakes[0]}",
            hint="It was declared for another version of AgentSite. Start the task anew.",
        ) from error


def _code(path: str, title: str) -> type[TaskExecutor]:
    get_declared()  # So that people's own folder can be imported from.
    module, _, name = path.rpartition(".")
    try:
        cls = getattr(importlib.import_module(module), name)
        if not issubclass(cls, TaskExecutor):
            raise TypeError(f"{path} is no TaskExecutor")
    except (Exception, SystemExit) as error:
        raise TaskExecutionError(
            f"The code of “{title}” cannot be used ({path}): {type(error).__name__}: {error}",
            hint="Ask an administrator to put its file right. Then try again: what was done is kept.",
        ) from error
    return cls  # type: ignore[no-any-return]


# --- what is filled in -----------------------------------------------------------------------------------------------


def read_given(cls: type[TaskExecutor], data: Mapping[str, Any]) -> dict[str, Any]:
    """What the task asks for, of `data`. Raises StepValidationError with a sentence about what does not fit."""
    asked = {one.name: one for one in cls.asks_for()}
    if unknown := [name for name in data if name not in asked]:
        there = ", ".join(asked) or "nothing"
        raise StepValidationError(f"“{cls.title}” does not ask for {', '.join(unknown)}. It asks for: {there}.")
    given = read_input(tuple(asked.values()), data)
    given = {name: value for name, value in given.items() if value is not None and value != ""}
    size = sum(len(value) for value in given.values() if isinstance(value, str))
    if size > MOST_CHARACTERS:
        raise StepValidationError(f"That is {size:,} characters, more than {MOST_CHARACTERS:,}. Give less at once.")
    return given


def in_words(cls: type[TaskExecutor], given: Mapping[str, Any]) -> str:
    """What was filled in, as the message that the task answers."""
    lines = [f"/{cls.name}"]
    for asked in cls.asks_for():
        if asked.name in given:
            said = _shown(given[asked.name])
            title = asked.title if asked.title.endswith("?") else f"{asked.title}:"
            lines.append(f"{title}\n{said}" if "\n" in said else f"{title} {said}")
    return "\n".join(lines)


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = str(value).strip()
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…\n({len(text):,} characters)"
