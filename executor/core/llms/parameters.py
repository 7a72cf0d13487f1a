"""What an agent may set about its model: one `Parameter` each, from which requests, checks and forms are made."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from executor.core.llms._json import dumps

Kind = Literal["number", "whole", "choice", "word", "words", "flag", "object"]


@dataclass(frozen=True, slots=True)
class Parameter:
    """`low` and `high` bound numbers, `choices` a choice, `reserved` names the keys an object may not have."""

    name: str
    kind: Kind
    help: str = ""
    low: float = -math.inf
    high: float = math.inf
    choices: tuple[str, ...] = ()
    reserved: frozenset[str] = frozenset()

    def problem(self, value: Any) -> str:
        """What is wrong with `value`, as a sentence; "" when it is fine. None is the provider's own default."""
        if value is None or self._fits(value):
            return ""
        return f"{self.name} must be {self.must_be()}, not {value!r}."

    def _fits(self, value: Any) -> bool:
        match self.kind:
            case "number":
                return isinstance(value, int | float) and not isinstance(value, bool) and self.low <= value <= self.high
            case "whole":
                return isinstance(value, int) and not isinstance(value, bool) and self.low <= value <= self.high
            case "choice":
                return isinstance(value, str) and value in self.choices
            case "word":
                return isinstance(value, str) and bool(value)
            case "words":
                words = [value] if isinstance(value, str) else value
                return isinstance(words, list) and bool(words) and all(isinstance(w, str) and w for w in words)
            case "flag":
                return isinstance(value, bool)
            case "object":
                return isinstance(value, dict) and not self.reserved & value.keys() and _is_json(value)

    def must_be(self) -> str:
        """What a value must be, in words: "a number from 0 to 2"."""
        match self.kind:
            case "number" if self.high < math.inf:
                return f"a number from {self.low:g} to {self.high:g}"
            case "whole" if self.low > -math.inf and self.high < 2**31:
                return f"a whole number from {self.low:.0f} to {self.high:.0f}"
            case "whole" if self.low == 1:
                return "a whole number above 0"
            case "whole" if self.low > -math.inf:
                return f"a whole number of at least {self.low:.0f}"
            case "number" | "whole":
                return "a number" if self.kind == "number" else "a whole number"
            case "choice":
                return "one of " + ", ".join(self.choices)
            case "word":
                return "a word"
            case "words":
                return "a text or a list of texts"
            case "flag":
                return "true or false"
            case "object":
                without = f" (JSON; without {', '.join(sorted(self.reserved))})" if self.reserved else " (JSON)"
                return f"a mapping of further request fields{without}"


def problems(parameters: tuple[Parameter, ...], values: dict[str, Any]) -> list[str]:
    """What is wrong with `values`, a sentence each; nothing when they are fine."""
    known = {parameter.name: parameter for parameter in parameters}
    return [
        sentence
        for name, value in values.items()
        if (
            sentence := known[name].problem(value)
            if name in known
            else f"There is no parameter {name!r}. Use: {', '.join(sorted(known))}."
        )
    ]


def _is_json(value: Any) -> bool:
    try:
        dumps(value)
    except (TypeError, ValueError, RecursionError):
        return False
    return all(isinstance(key, str) for key in value)


MAX_TOKENS = Parameter("max_tokens", "whole", "The longest answer, in tokens.", low=1, high=2**31)
IDLE_TIMEOUT = Parameter(
    "idle_timeout", "number", "Seconds of silence after which the provider is given up.", low=0.001, high=3600
)
CONTEXT_WINDOW = Parameter(
    "context_window",
    "whole",
    "Tokens that the model can read at once, its answer among them. Left empty, what is known of the model.",
    low=1000,
    high=2**31,
)
IMAGES = Parameter("images", "flag", "Whether the model sees pictures. Otherwise it is told their names.")
EXTRA = "extra"
#: A JSON Schema that the answer must fit. Every adapter knows it, but only of a call: an agent has no such setting.
RESPONSE_SCHEMA = "response_schema"


def schema_problem(value: Any) -> str:
    """What is wrong with a response schema, as a sentence; "" when it is fine. None demands nothing."""
    if value is None or (isinstance(value, dict) and _is_json(value)):
        return ""
    return f"{RESPONSE_SCHEMA} must be a JSON Schema: a mapping, not {value!r}."


def extra(*reserved: str) -> Parameter:
    """Request fields that have no parameter of their own, passed on as they are."""
    return Parameter(EXTRA, "object", "Further fields of the request, as JSON.", reserved=frozenset(reserved))


#: What is set about a model and is no field of a request.
_UNSENT = (EXTRA, IDLE_TIMEOUT.name, CONTEXT_WINDOW.name, IMAGES.name)


def sent(parameters: tuple[Parameter, ...], values: dict[str, Any], *but: str) -> dict[str, Any]:
    """The values that are set, in the order of `parameters`, without those that are no fields of the request."""
    return {
        parameter.name: values[parameter.name]
        for parameter in parameters
        if values.get(parameter.name) is not None and parameter.name not in (*_UNSENT, *but)
    }
