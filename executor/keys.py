"""Which environment variables an agent may take its key from.

An agent's editor also chooses the server that the key is sent to. So it is never one of AgentSite's own secrets.
"""

from __future__ import annotations

from django.conf import settings

_ENDINGS = ("_KEY", "_TOKEN")
KEY_VARIABLE = (
    "the name of an environment variable that ends in _KEY or _TOKEN, such as OPENAI_API_KEY, and is none of "
    "AgentSite's own, never the key itself"
)


def key_variable(name: str) -> str:
    """`name`, which may be "". Raises ValueError with a sentence if no agent may have the variable of that name."""
    if name and (not name.upper().endswith(_ENDINGS) or hasattr(settings, name.upper())):
        raise ValueError(f"It must be {KEY_VARIABLE}.")
    return name
