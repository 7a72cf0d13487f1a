"""What is wrong with functions and FETCH_ALLOWED_HOSTS, told by `manage.py check`. Neither ever keeps the site from
starting."""

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core import checks

from tools.core.hosts import AllowedHosts
from tools.registry import get_registry

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


def host_warnings(setting: str, check_id: str) -> list[checks.CheckMessage]:
    """Of a setting that allows hosts."""
    return [
        checks.Warning(f"{setting}: {problem}", hint="It allows nothing. See docs/operating.md.", id=check_id)
        for problem in AllowedHosts(getattr(settings, setting)).problems
    ]
