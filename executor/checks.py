"""What is wrong with agents.yaml, tasks, MODEL_CLASSES, MODEL_HOSTS and EVENT_HANDLERS, told at the start and by
`manage.py check`. All else works."""

import os
from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core import checks

from executor import model_classes
from executor.agents_file import FileError, read
from executor.task_events import own_handlers
from executor.tasks_file import get_declared
from tools.checks import host_warnings


def check_agents_file(app_configs: Sequence[AppConfig] | None = None, **kwargs: Any) -> list[checks.CheckMessage]:
    """One warning for each mistake. The database is not asked: it may not be there yet."""
    try:
        read(settings.AGENTS_FILE, os.environ)
    except FileError as error:
        return [
            checks.Warning(mistake, hint="See docs/agents.md. Nothing of the file is loaded.", id="executor.W001")
            for mistake in error.mistakes
        ]
    return []


def check_model_classes(app_configs: Sequence[AppConfig] | None = None, **kwargs: Any) -> list[checks.CheckMessage]:
    """One warning for each class that was left out."""
    return [
        checks.Warning(problem, hint="See docs/adding-a-model.md. There is no such agent type now.", id="executor.W002")
        for problem in model_classes.register_all(settings.MODEL_CLASSES)
    ]


def check_model_hosts(app_configs: Sequence[AppConfig] | None = None, **kwargs: Any) -> list[checks.CheckMessage]:
    """One warning for each entry that is no host."""
    return host_warnings("MODEL_HOSTS", "executor.W003")


def check_event_handlers(app_configs: Sequence[AppConfig] | None = None, **kwargs: Any) -> list[checks.CheckMessage]:
    """One warning for each that is left out."""
    return [
        checks.Warning(problem, hint="See docs/watching.md. All other handlers are told.", id="executor.W005")
        for problem in own_handlers()[1]
    ]


def check_tasks(app_configs: Sequence[AppConfig] | None = None, **kwargs: Any) -> list[checks.CheckMessage]:
    """One warning for each mistake in a file that declares a task."""
    return [
        checks.Warning(str(problem), hint="See docs/adding-a-task.md. All other tasks work.", id="executor.W004")
        for problem in get_declared().problems
    ]
