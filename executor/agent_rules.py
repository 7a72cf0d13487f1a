"""What an agent may be, for the file and for the form in admin, and the sentences that say what is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    field_validator,
)
from pydantic_core import ErrorDetails

from executor.core.llms.base import Endpoint
from executor.core.llms.factory import LLMS, llm_class
from executor.keys import KEY_VARIABLE, key_variable

#: Where in the file something stands: ("agents", 1, "limits", "iterations").
Place = tuple[str | int, ...]

_LARGEST = 2**31 - 1  # What the database's integers hold.
_SHOWN = 60


def _no_flag(value: Any) -> Any:
    """YAML's `yes` is True, and True would pass as the number 1."""
    if isinstance(value, bool):
        raise ValueError
    return value


def _plain_json(value: dict[str, Any]) -> dict[str, Any]:
    """Dates and infinities are YAML, but nothing that a provider can be sent."""
    try:
        json.dumps(value, allow_nan=False)
    except TypeError as error:
        raise ValueError from error
    return value


def web_address(value: str) -> str:
    """The address of a model server, or "". Raises ValueError if it is none, or has a password in it."""
    parts = urlsplit(value)
    if value and (parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc):
        raise ValueError
    return value


# The descriptions are what a mistake is told with: "must be {description}".
Whole = Annotated[int, BeforeValidator(_no_flag), Field(ge=1, le=_LARGEST, description="a whole number of at least 1")]


class _Fields(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Suggestion(_Fields):
    """A card of an empty conversation."""

    title: str = Field(min_length=1, max_length=80, description="a text")
    prompt: str = Field(min_length=1, max_length=4000, description="a text")


class LimitsEntry(_Fields):
    iterations: Whole = 5
    seconds: Whole = 1800
    tool_calls: Annotated[int, BeforeValidator(_no_flag)] = Field(
        200, ge=0, le=_LARGEST, description="a whole number of at least 0"
    )


class AgentEntry(_Fields):
    """One agent as the file gives it. Fields that are not given are left as they are in the database."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9_-]+$", max_length=60, description="a name of letters, digits, dashes and underscores"
    )
    title: str = Field(min_length=1, max_length=80, description="a text")
    description: str = Field("", max_length=300, description="a text")
    provider: str = Field(description=f"one of: {', '.join(LLMS)}")
    model: str = Field("", max_length=120, description="a text")
    base_url: Annotated[str, AfterValidator(web_address)] = Field(
        "", max_length=300, description="an address such as http://127.0.0.1:11434/v1, without a password in it"
    )
    api_key_variable: Annotated[str, AfterValidator(key_variable)] = Field(
        "", max_length=80, pattern=r"^([A-Za-z_][A-Za-z0-9_]*)?$", description=KEY_VARIABLE
    )
    instructions: str = Field("", description="a text")
    functions: list[str] = Field(["*"], description='a list of function names, or ["*"] for all')
    limits: LimitsEntry = Field(LimitsEntry(), description="a mapping with iterations, seconds, tool_calls")
    parameters: Annotated[dict[str, Any], AfterValidator(_plain_json)] = Field(
        {}, description="a mapping of what the provider understands, e.g. temperature: 0.2"
    )
    suggestions: list[Suggestion] = Field([], description="a list of mappings with title and prompt")
    enabled: bool = Field(True, description="true or false")

    @field_validator("provider")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in LLMS:
            raise ValueError
        return value

    def columns(self) -> dict[str, Any]:
        """The columns of `Agent` that the file gives a value for."""
        given = self.model_dump(exclude_unset=True)
        limits = given.pop("limits", {})
        return given | {f"max_{name}": value for name, value in limits.items()}


class AgentsFile(_Fields):
    """Each agent is validated by itself, so that a mistake in one does not hide those in another."""

    agents: list[Any] = Field(description="a list of agents")


_MUST_BE = {
    name: info.description
    for model in (AgentsFile, AgentEntry, LimitsEntry, Suggestion)
    for name, info in model.model_fields.items()
}


#: The fields there are, by how deep in the file they stand.
_FIELDS = {
    1: AgentsFile.model_fields,
    3: AgentEntry.model_fields,
    4: LimitsEntry.model_fields,
    5: Suggestion.model_fields,
}


def path_text(place: Place) -> str:
    """E.g. `agents[1].limits.iterations`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".")


def value_text(value: Any) -> str:
    if value is None:
        return "nothing"
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


def sentence(error: ErrorDetails, place: Place, shown: Callable[[Place, Any], str]) -> str:
    """What is wrong at `place` of the file. `shown` puts the value that stands there into words."""
    last = place[-1] if place else ""
    match error["type"]:
        case "missing":
            return f"is missing: give it {_MUST_BE.get(str(last), 'a value')}."
        case "extra_forbidden" if last == "api_key":
            return (
                "a key does not belong in this file. Put it into an environment variable, "
                "and that variable's name into api_key_variable."
            )
        case "extra_forbidden":
            return f"there is no such field. Use: {', '.join(_FIELDS[len(place)])}."
        case "string_too_long":
            return f"must have at most {error['ctx']['max_length']} characters, not {len(error['input'])}."
        case "string_too_short":
            return "must not be empty."
        case "less_than_equal":
            return f"must be at most {error['ctx']['le']}, not {error['input']}."
    if isinstance(last, int):
        wanted = "the name of a function" if place[-2] == "functions" else "a mapping of fields"
    else:
        wanted = _MUST_BE.get(last) or 'a mapping with the list "agents"'
    if last in ("api_key_variable", "base_url"):  # Somebody may have put the key there.
        return f"must be {wanted}."
    hint = " Put it in quotes." if wanted == "a text" and isinstance(error["input"], int | float) else ""
    return f"must be {wanted}, not {shown(place, error['input'])}.{hint}"


def suggestion_problems(suggestions: Any) -> list[str]:
    """What is wrong with the cards of an agent, a sentence each."""
    try:
        TypeAdapter(list[Suggestion]).validate_python(suggestions)
    except ValidationError as error:
        return [f"{path_text(problem['loc']) or 'They'}: {_card_sentence(problem)}" for problem in error.errors()]
    return []


def _card_sentence(problem: ErrorDetails) -> str:
    return sentence(problem, ("agents", 0, "suggestions", *problem["loc"]), lambda _, value: value_text(value))


def provider_problems(
    provider: str, model: str, base_url: str, parameters: dict[str, Any]
) -> Iterator[tuple[str, str]]:
    """What the provider's class objects to, as (field, sentence). The field is "" where it is not about one."""
    try:
        cls = llm_class(provider)
    except ImportError as error:
        yield ("provider", f"{provider} cannot be used: {error}. Install what it needs.")
        return
    problems = cls.check_parameters(parameters)
    yield from (("parameters", sentence) for sentence in problems)
    if not problems:
        try:
            cls(Endpoint(model, base_url), **parameters)
        except (ValueError, TypeError) as error:
            yield ("" if base_url else "base_url", str(error))
