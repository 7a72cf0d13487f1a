"""The functions of this installation: those of every app, and those in the folder that the administrator named."""

import asyncio
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from threading import RLock

from django.apps import apps
from django.conf import settings

from tools.core import results
from tools.core.cache import Cache
from tools.core.registry import Registry, build, mount_folder
from tools.core.toolbox import RunSync, Toolbox

_lock = RLock()  # A module that asks for the registry while it is imported must not wait for itself.
_registry: Registry | None = None


def get_registry() -> Registry:
    """The registry, built when this process asks for the first time."""
    global _registry
    if _registry is None:
        with _lock:
            if _registry is None:
                _registry = build(_modules())
    return _registry


def reload_registry() -> Registry:
    """Look again at what the folder holds. Modules of apps stay as they were imported."""
    global _registry
    with _lock:
        _registry = build(_modules())
    return _registry


def get_toolbox(
    names: Iterable[str],
    run_sync: RunSync = asyncio.to_thread,
    *,
    harmless: bool = False,
    cache: Cache | None = None,
) -> Toolbox:
    """The functions with these names ("*": all), with the limits of the settings. Unknown names are left out, and with
    `harmless` those that may ask somebody before they run."""
    limit: int = getattr(settings, "TOOL_RESULT_LIMIT", results.DEFAULT_LIMIT)
    return Toolbox(get_registry().select(names, harmless=harmless), run_sync, limit, cache)


def _modules() -> list[str]:
    """Apps first, in the order of INSTALLED_APPS: what is dropped into the folder cannot replace what they bring."""
    names = [f"{config.name}.functions" for config in apps.get_app_configs() if not config.name.startswith("django.")]
    found = [name for name in names if find_spec(name)]
    return [*found, mount_folder(Path(settings.FUNCTIONS_DIR))]
