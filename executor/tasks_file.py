"""Tasks of this installation, read from folders: those that come with AgentSite, and people's own (TASKS_DIR).

A YAML file declares one task; a Python file has subclasses of TaskExecutor. Each file is read by itself: what is wrong
with one is told (`problems`) and takes nothing else along.
"""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import RLock
from types import MappingProxyType, ModuleType
from typing import Any

from django.conf import settings
from pydantic import ValidationError

from executor.core.declaration import TaskEntry, class_of, declaration_of, problems, sentence
from executor.core.executor import TaskExecutor
from executor.core.fields import Place, path_text, value_text
from executor.yaml_file import FileError, Source, read_yaml
from tools.core.registry import import_failure, mount_folder

logger = logging.getLogger(__name__)

#: The package of those that come with AgentSite, and that of people's own.
SHIPPED, DROPPED = "tasks", "dropped_tasks"
_YAML = (".yaml", ".yml")


@dataclass(frozen=True)
class Declared:
    cls: type[TaskExecutor]
    #: The file that declares it, as mistakes and administration name it.
    source: str

    @property
    def declaration(self) -> dict[str, Any]:
        return declaration_of(self.cls)


@dataclass(frozen=True)
class Problem:
    """A sentence about what is wrong with a file, of which nothing is used then."""

    source: str
    sentence: str

    def __str__(self) -> str:
        return self.sentence


@dataclass(frozen=True)
class DeclaredTasks:
    """The tasks by name, and what kept others from being among them. Never changes once read."""

    tasks: Mapping[str, Declared] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()


_lock = RLock()
_declared: DeclaredTasks | None = None


def get_declared() -> DeclaredTasks:
    """What the folders declare, read when this process asks for the first time."""
    global _declared
    if _declared is None:
        with _lock:
            if _declared is None:
                _declared = _read_all()
    return _declared


def reload_declared() -> DeclaredTasks:
    """Read the folders again. Modules that came with AgentSite stay as they were imported."""
    global _declared
    with _lock:
        _declared = _read_all()
    return _declared


def read_task(path: Path, environment: Mapping[str, str], source: str = "") -> type[TaskExecutor]:
    """The task that a YAML file declares. Raises FileError with everything that is wrong."""
    file = Source(source or path.name, sentence, is_told=True)
    data = read_yaml(path, file, environment)
    if isinstance(data, dict):
        data.setdefault("name", path.stem.replace("_", "-").lower())
    entry = file.validate(TaskEntry, data, ())
    for place, said in problems(entry) if entry else ():
        file.add(place, file.mask(said))
    file.check()
    assert entry is not None
    return class_of(entry)


def _read_all() -> DeclaredTasks:
    found: dict[str, Declared] = {}
    wrong: list[Problem] = []
    own = Path(settings.TASKS_DIR)
    for folder, package, shown in (
        (Path(settings.BASE_DIR) / SHIPPED, SHIPPED, SHIPPED),
        (own, mount_folder(own, DROPPED), str(own)),
    ):
        for path in _files(folder):
            source = f"{shown}/{path.name}"
            for cls in _read_file(path, package, source, wrong):
                if cls.name in found:
                    said = f"the name {value_text(cls.name)} is taken by {found[cls.name].source}. Choose another one."
                    wrong.append(Problem(source, f"{source}: {said}"))
                else:
                    found[cls.name] = Declared(cls, source)
    for problem in wrong:
        logger.warning("A task is left out. %s", problem)
    return DeclaredTasks(MappingProxyType(found), tuple(wrong))


def _files(folder: Path) -> list[Path]:
    """What begins with an underscore or a dot is nobody's task: helper modules, drafts, what editors leave behind."""
    try:
        inside = sorted(folder.iterdir())
    except OSError:  # Nobody has to have tasks of their own.
        return []
    return [path for path in inside if path.suffix in (*_YAML, ".py") and path.name[0] not in "_."]


def _read_file(path: Path, package: str, source: str, wrong: list[Problem]) -> Iterator[type[TaskExecutor]]:
    try:
        if path.suffix in _YAML:
            yield read_task(path, os.environ, source)
        else:
            module = importlib.import_module(f"{package}.{path.stem}")
            yield from (cls for cls in _classes(module) if _is_right(cls, source, wrong))
    except FileError as error:
        wrong.extend(Problem(source, mistake) for mistake in error.mistakes)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # Whatever a module does on import, SystemExit too, is its own problem.
        said = import_failure(error, "tasks")
        wrong.append(Problem(source, f"{source}: {said[0].lower()}{said[1:]}"))


def _classes(module: ModuleType) -> list[type[TaskExecutor]]:
    """Those that the module itself defines, and that have steps."""
    return [
        value
        for name, value in vars(module).items()
        if isinstance(value, type)
        and issubclass(value, TaskExecutor)
        and value.__module__ == module.__name__
        and value.task_steps
        and not name.startswith("_")
    ]


def _is_right(cls: type[TaskExecutor], source: str, wrong: list[Problem]) -> bool:
    """A class is held to what a YAML file is held to, but for what its steps give one another: only its code knows."""
    told: list[tuple[Place, str]] = []
    try:
        data = {key: value for key, value in declaration_of(cls).items() if key != "class"}
        told += (
            (place, said)
            for place, said in problems(TaskEntry.model_validate(data))
            if place[2:3] != ("required_info",)
        )
    except ValidationError as error:
        told += ((one["loc"], sentence(one, one["loc"], lambda _, value: value_text(value))) for one in error.errors())
    except Exception as error:
        told.append(((), f"what it declares cannot be read ({type(error).__name__}: {error})."))
    for place, said in told:
        at = f", {path_text(place)}" if place else ""
        wrong.append(Problem(source, f"{source}, {cls.__name__}{at}: {said}"))
    return not told
