"""Names of models that forms suggest. They change more often than code does, so they stand in models.yaml."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import yaml


@cache
def known_models() -> dict[str, tuple[str, ...]]:
    """Names by agent type, the one to begin with first."""
    listed = yaml.safe_load(Path(__file__).with_name("models.yaml").read_text(encoding="utf-8"))
    return {agent_type: tuple(names) for agent_type, names in listed.items()}
