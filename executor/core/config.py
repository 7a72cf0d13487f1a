"""What an agent is, as the worker sees it: a value, resolved when the agent was saved and kept with every task."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from executor.core.limits import Limits


@dataclass(frozen=True, slots=True)
class AgentConfig:
    """`api_key_variable` names the environment variable with the key; the key itself is never part of a config.

    `fallback` is the name of the agent whose model takes over when this one's provider does not answer, `fallback_id`
    what it is found by, also when it was renamed; a config from before that has none. `price` is in dollars per million
    tokens: {"input": "0.5", "output": "2"}. The addresses of a personal agent were not chosen by an administrator, so
    they are checked when they are asked. `approvals` says of functions, or of all others ("*"), whether a person is
    asked before they run, "always" or "never"; `on_unknown` what becomes of a call that may have run.
    """

    name: str
    title: str
    provider: str
    model: str = ""
    base_url: str = ""
    api_key_variable: str = ""
    instructions: str = ""
    functions: tuple[str, ...] = ("*",)
    limits: Limits = field(default_factory=Limits)
    parameters: dict[str, Any] = field(default_factory=dict)
    response_schema: dict[str, Any] | None = None
    fallback: str = ""
    fallback_id: int | None = None
    price: dict[str, str] | None = None
    is_personal: bool = False
    approvals: dict[str, str] = field(default_factory=dict)
    on_unknown: str = "ask"

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"functions": list(self.functions), "limits": self.limits.to_json()}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> AgentConfig:
        known = {name: data[name] for name in cls.__slots__ if name in data}
        return cls(
            **known
            | {"functions": tuple(data.get("functions", ("*",))), "limits": Limits.from_json(data.get("limits", {}))}
        )
