"""The functions of this installation: those of every app, those in the folder that the administrator named,
and those of MCP servers."""

import asyncio
import logging
import time
from collections.abc import Iterable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from threading import RLock
from types import MappingProxyType
from typing import Any

from django.apps import apps
from django.conf import settings
from django.db import DatabaseError
from django.db.models import Count, Max

from tools.core import results
from tools.core.cache import Cache
from tools.core.function import Function
from tools.core.registry import Problem, Registry, build, mount_folder
from tools.core.toolbox import RunSync, Toolbox
from tools.mcp import connection
from tools.mcp.functions import functions_of
from tools.models import McpServer

logger = logging.getLogger(__name__)

_lock = RLock()  # A module that asks for the registry while it is imported must not wait for itself.
_own: Registry | None = None  # Without those of servers.
_registry: Registry | None = None
_served: tuple[list[Function], list[Problem]] = ([], [])
_served_as_of: Any = None
_looked_at = 0.0


def get_registry() -> Registry:
    """The registry, built when this process asks for the first time; of servers, what `refresh` last saw."""
    if _registry is None:
        with _lock:
            if _registry is None:
                _build()
    assert _registry is not None
    return _registry


def reload_registry() -> Registry:
    """Look again at what the folder holds. Modules of apps stay as they were imported."""
    with _lock:
        _build()
    return get_registry()


def refresh(within: float = 0.0) -> None:
    """Look at the rows of MCP servers, unless that was done `within` so many seconds. Uses the ORM."""
    global _served, _served_as_of, _looked_at, _registry
    if within and time.monotonic() - _looked_at < within:
        return
    _looked_at = time.monotonic()
    try:
        rows = McpServer.objects.filter(enabled=True).order_by("name")
        as_of = rows.order_by().aggregate(number=Count("pk"), last=Max("changed_at"), ids=Max("pk"))
        if as_of == _served_as_of:
            return
        found = [functions_of(row, connection.call) for row in rows]
    except DatabaseError as error:  # The table is not there yet.
        logger.warning("The functions of MCP servers are not known: %s", error)
        return
    with _lock:
        _served = [one for functions, _ in found for one in functions], [one for _, more in found for one in more]
        _served_as_of = as_of
        if _own is not None:
            _registry = _with_served(_own)


def fresh_registry() -> Registry:
    """The registry after a look at the rows of servers."""
    refresh()
    return get_registry()


def find_function(name: str) -> Function | None:
    """For pages: one that is not known may be of a server that was registered a moment ago."""
    if name not in get_registry().functions:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            refresh()
    return get_registry().functions.get(name)


def get_toolbox(
    names: Iterable[str],
    run_sync: RunSync = asyncio.to_thread,
    *,
    harmless: bool = False,
    cache: Cache | None = None,
) -> Toolbox:
    """The functions with these names ("*": all), with the limits of the settings. Left out are unknown names, those
    that cannot be called here and, with `harmless`, those that may ask somebody before they run."""
    limit: int = getattr(settings, "TOOL_RESULT_LIMIT", results.DEFAULT_LIMIT)
    chosen = get_registry().select(names, harmless=harmless)
    missing = {one.name: why for one in chosen if (why := one.why_not_here)}
    return Toolbox([one for one in chosen if one.name not in missing], run_sync, limit, cache, missing)


def _build() -> None:
    global _own, _registry
    _own = build(_modules())
    _registry = _with_served(_own)


def _with_served(own: Registry) -> Registry:
    """What a server brings cannot replace what is there."""
    functions, problems = dict(own.functions), [*own.problems, *_served[1]]
    for function in _served[0]:
        if function.name in own.functions:
            sentence = f"The name is taken by {own.functions[function.name].module}. Rename the server."
            problems.append(Problem("duplicate", function.module, function.name, sentence))
        else:
            functions[function.name] = function
    return replace(own, functions=MappingProxyType(dict(sorted(functions.items()))), problems=tuple(problems))


def _modules() -> list[str]:
    """Apps first, in the order of INSTALLED_APPS: what is dropped into the folder cannot replace what they bring."""
    names = [f"{config.name}.functions" for config in apps.get_app_configs() if not config.name.startswith("django.")]
    found = [name for name in names if find_spec(name)]
    return [*found, mount_folder(Path(settings.FUNCTIONS_DIR))]
