"""What to do about a refusal when it was the person's own key, or their own agent, that was refused.

The hints of `executor.core.errors` know nobody, and send people to an administrator.
"""

from __future__ import annotations

from executor.core.config import AgentConfig
from executor.core.errors import LLMError
from executor.credentials import Credentials

YOUR_KEY = "Check your key under Settings → Keys"


def advise(error: LLMError, config: AgentConfig, used: Credentials) -> None:
    """Put into `error.hint` what the person can do; leave it where only an administrator can do anything."""
    has_own_key = used.api_key is not None and used.api_key.owner_id is not None
    if has_own_key and error.kind == "auth":
        error.hint = f"Your key was not accepted. {YOUR_KEY}."
    elif has_own_key and error.kind == "permission":
        error.hint = f"Your key may not use this model. {YOUR_KEY}, or choose another agent."
    elif error.kind == "not_found" and config.is_personal:
        error.hint = "The model or the address does not exist. Check your agent under Settings → Servers and agents."
    elif error.kind == "not_found" and has_own_key:
        error.hint = f"The model does not exist, or your key may not use it. {YOUR_KEY}, or choose another agent."
