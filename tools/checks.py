"""What is wrong with functions, told by `manage.py check`. A broken function never keeps the site from starting."""

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.core import checks

from tools.registry import get_registry

IDS = {"module": "tools.W001", "duplicate": "tools.W002", "function": "tools.W003"}


def check_functions(app_configs: Sequence[AppConfig] | None = None, **kwargs: Any) -> list[checks.CheckMessage]:
    """One warning for each module or function that could not be registered."""
    return [
        checks.Warning(str(problem), hint="See docs/adding-a-function.md.", id=IDS[problem.kind])
        for problem in get_registry().problems
    ]
