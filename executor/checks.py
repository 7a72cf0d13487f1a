"""What is wrong with agents.yaml, told by `manage.py check`. The agents that are loaded already go on working."""

import os
from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core import checks

from executor.agents_file import AgentsFileError, read


def check_agents_file(app_configs: Sequence[AppConfig] | None = None, **kwargs: Any) -> list[checks.CheckMessage]:
    """One warning for each mistake. The providers' parameters are left to `load_agents`: their SDKs load slowly."""
    try:
        read(settings.AGENTS_FILE, os.environ, ask_providers=False)
    except AgentsFileError as error:
        return [
            checks.Warning(mistake, hint="See docs/agents.md. Nothing of the file is loaded.", id="executor.W001")
            for mistake in error.mistakes
        ]
    return []
