"""Agent type → language model class. Adding a model is adding a file and a line here, or a line in MODEL_CLASSES."""

from __future__ import annotations

import inspect
import re
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

_TYPE = re.compile(r"[a-z][a-z0-9_]{0,39}")


def llm_class(agent_type: str) -> type[BaseLlm]:
    """The class for `agent_type`. Raises ValueError that lists the types there are."""
    if agent_type not in LLMS:
        raise ValueError(f"There is no agent type {agent_type!r}. Use one of: {', '.join(sorted(LLMS))}.")
    module, _, name = LLMS[agent_type].rpartition(".")
    cls: type[BaseLlm] = getattr(import_module(module), name)
    return cls


def create_llm(agent_type: str, endpoint: Endpoint, **parameters: Any) -> BaseLlm:
    return llm_class(agent_type)(endpoint, **parameters)


def register(agent_type: str, path: str) -> None:
    """Let agents have the type `agent_type`: the class at the dotted `path`, which is imported.

    Raises ValueError, with a sentence, for what cannot be one. To say the same twice changes nothing.
    """
    if not _TYPE.fullmatch(agent_type):
        raise ValueError(f"{agent_type!r} is no agent type. Use up to 40 small letters, digits and underscores.")
    if LLMS.get(agent_type, path) != path:
        raise ValueError(f"There is an agent type {agent_type!r} already. Choose another name.")
    module, _, name = path.rpartition(".")
    try:
        found = getattr(import_module(module), name) if module else None
    except Exception as error:  # Whatever somebody's module does when it is imported.
        raise ValueError(f"{path} cannot be imported ({type(error).__name__}: {error}).") from error
    if not (inspect.isclass(found) and issubclass(found, BaseLlm)):
        raise ValueError(f"{path} is no language model. Name a class that derives from {BaseLlm.__module__}.BaseLlm.")
    if inspect.isabstract(found):
        raise ValueError(f"{path} lacks {', '.join(sorted(found.__abstractmethods__))}.")
    LLMS[agent_type] = path
