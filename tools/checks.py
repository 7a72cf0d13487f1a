"""What is wrong with functions, FETCH_ALLOWED_HOSTS, MCP_COMMANDS, the sandbox and the storage of files, told by
`manage.py check`. None of it ever keeps the site from starting."""

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.core.files.storage import storages
from django.core.files.storage.handler import InvalidStorageError

from tools.core.hosts import AllowedHosts
from tools.mcp.commands import problems
from tools.registry import get_registry
from tools.sandbox import get_backend
from tools.sandbox.base import SandboxUnavailable

IDS = {"module": "tools.W001", "duplicate": "tools.W002", "function": "tools.W003"}


def check_functions(app_configs: Sequence[AppConfig] | None = None, **kwargs: Any) -> list[checks.CheckMessage]:
    """One warning for each module or function that could not be registered."""
    return [
        checks.Warning(str(problem), hint="See docs/adding-a-function.md.", id=IDS[problem.kind])
        for problem in get_registry().problems
    ]


def check_hosts(app_configs: Sequence[AppConfig] | None = None, **kwargs: Any) -> list[checks.CheckMessage]:
    """One warning for each entry that is no host."""
    return host_warnings("FETCH_ALLOWED_HOSTS", "tools.W004")


def check_mcp_commands(app_configs: Sequence[AppConfig] | None = None, **kwargs: Any) -> list[checks.CheckMessage]:
    """One warning for each entry of MCP_COMMANDS that is no command."""
    return [
        checks.Warning(f"MCP_COMMANDS: {problem}", hint="It is left out. See docs/operating.md.", id="tools.W005")
        for problem in problems()
    ]


def check_sandbox(app_configs: Sequence[AppConfig] | None = None, **kwargs: Any) -> list[checks.CheckMessage]:
    """A warning where something is missing for running code. Whether the sandbox holds, workers and `doctor` try."""
    if not settings.SANDBOX_BACKEND:
        return []
    try:
        missing = getattr(get_backend(), "missing", lambda: None)()
    except SandboxUnavailable as error:
        missing = error
    return [checks.Warning(missing.reason, hint=missing.hint, id="tools.W006")] if missing else []


def check_storage(app_configs: Sequence[AppConfig] | None = None, **kwargs: Any) -> list[checks.CheckMessage]:
    """A warning where files cannot be kept, because there is no such storage."""
    try:
        storages["default"]
    except (InvalidStorageError, ImproperlyConfigured, ImportError, TypeError) as error:
        hint = "Files can neither be sent nor kept. See docs/files.md."
        return [checks.Warning(f"FILES_STORAGE: {error}", hint=hint, id="tools.W007")]
    return []


def host_warnings(setting: str, check_id: str) -> list[checks.CheckMessage]:
    """Of a setting that allows hosts."""
    return [
        checks.Warning(f"{setting}: {problem}", hint="It allows nothing. See docs/operating.md.", id=check_id)
        for problem in AllowedHosts(getattr(settings, setting)).problems
    ]
