"""Agent type → language model class. Adding a model is adding a file and a line here."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from executor.core.llms.base import BaseLlm, Endpoint

# Dotted paths, so that an SDK is imported only where and when one of its models is asked.
LLMS: dict[str, str] = {
    "claude": "executor.core.llms.claude.Claude",
    "demo": "executor.core.llms.demo.Demo",
    "gpt": "executor.core.llms.gpt.Gpt",
    "gemini": "executor.core.llms.gemini.Gemini",
    "openai_compatible": "executor.core.llms.openai_compatible.OpenAiCompatible",
}


def llm_class(agent_type: str) -> type[BaseLlm]:
    """The class for `agent_type`. Raises ValueError that lists the types there are."""
    if agent_type not in LLMS:
        raise ValueError(f"There is no agent type {agent_type!r}. Use one of: {', '.join(sorted(LLMS))}.")
    module, _, name = LLMS[agent_type].rpartition(".")
    cls: type[BaseLlm] = getattr(import_module(module), name)
    return cls


def create_llm(agent_type: str, endpoint: Endpoint, **parameters: Any) -> BaseLlm:
    return llm_class(agent_type)(endpoint, **parameters)
