"""The registry: every function that was found, and everything that kept one from being found."""

import importlib
import inspect
import pkgutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any, Literal

from tools.core.function import Function, describe
from tools.core.schema import SignatureError

# Modules of a plain folder live in this package, so that they cannot collide with installed ones.
FOLDER_PACKAGE = "dropped_functions"


@dataclass(frozen=True)
class Problem:
    """Why a module or a function is not available, and what its author should do about it."""

    kind: Literal["module", "duplicate", "function"]
    module: str
    function: str | None
    sentence: str

    def __str__(self) -> str:
        return f"{self.module}{f'.{self.function}' if self.function else ''}: {self.sentence}"


@dataclass(frozen=True)
class Registry:
    """The functions by name, in alphabetical order, and the problems met on the way. Never changes once built."""

    functions: Mapping[str, Function] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()

    def select(self, names: Iterable[str], *, harmless: bool = False) -> list[Function]:
        """The functions with these names, in this order; "*" stands for all. See `unknown` for the rest.

        harmless: only those that never ask anybody before they run.
        """
        chosen: dict[str, Function] = {}
        for name in names:
            wanted = self.functions if name == "*" else [name]
            chosen.update((found, self.functions[found]) for found in wanted if found in self.functions)
        return [function for function in chosen.values() if not (harmless and function.approval)]

    def unknown(self, names: Iterable[str]) -> list[str]:
        """Those of `names` that no function has."""
        return [name for name in names if name != "*" and name not in self.functions]


def build(modules: Iterable[str]) -> Registry:
    """Import `modules` (packages with all their modules) and register their public functions.

    Nothing that a module does wrong stops the others: it becomes a Problem. Where two functions have the same name
    the first one found keeps it.
    """
    found: dict[str, Function] = {}
    problems: list[Problem] = []
    for module in _imported(modules, problems):
        for name, call in _public_functions(module):
            try:
                function = describe(call)
            except SignatureError as error:
                problems.append(Problem("function", module.__name__, name, str(error)))
                continue
            if name in found:
                sentence = f"The name is taken by {found[name].module}. Rename this one; it is not registered."
                problems.append(Problem("duplicate", module.__name__, name, sentence))
            else:
                found[name] = function
    return Registry(MappingProxyType(dict(sorted(found.items()))), tuple(problems))


def mount_folder(folder: Path, package_name: str = FOLDER_PACKAGE) -> str:
    """Make the modules in `folder` importable and return the name of the package that holds them.

    The folder needs no `__init__.py`; its modules may import each other relatively. Modules that were imported from it
    before are forgotten, so that building again sees what is there now.
    """
    # A copy: other threads may import something meanwhile.
    for name in [name for name in list(sys.modules) if name.partition(".")[0] == package_name]:
        del sys.modules[name]
    importlib.invalidate_caches()
    package = ModuleType(package_name, "What is in a folder that the administrator named.")
    package.__path__ = [str(folder)]
    sys.modules[package_name] = package
    return package_name


def _imported(names: Iterable[str], problems: list[Problem]) -> Iterator[ModuleType]:
    for name in names:
        try:
            module = importlib.import_module(name)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # Whatever a module does on import, SystemExit too, is its own problem.
            problems.append(Problem("module", name, None, import_failure(error, "functions")))
            continue
        yield module
        if path := getattr(module, "__path__", None):
            inside = sorted(info.name for info in pkgutil.iter_modules(path) if not info.name.startswith("_"))
            yield from _imported([f"{name}.{child}" for child in inside], problems)


def import_failure(error: BaseException, what: str) -> str:
    """Why a module could not be imported, of whose `what` there is nothing now."""
    if isinstance(error, SyntaxError):
        return f"It is not valid Python: {error.msg} (line {error.lineno}). Correct it; its {what} are not available."
    said = f"{type(error).__name__}: {error}".strip(": ")
    return f"It cannot be imported ({said}). Correct it; its {what} are not available."


def _public_functions(module: ModuleType) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Functions that the module itself defines and that do not begin with an underscore."""
    for name, value in list(vars(module).items()):
        its_own = inspect.isfunction(value) and value.__module__ == module.__name__ and value.__name__ == name
        if its_own and not name.startswith("_"):
            yield name, value
