"""What an agent may be, for the file and for the form in admin, and the sentences that say what is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Annotated, Any, Literal
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

from executor.core.fields import Place, field_sentence, no_flag, path_text, plain_json, value_text
from executor.core.llms.base import Endpoint
from executor.core.llms.factory import LLMS, llm_class
from executor.core.validation import schema_problem
from executor.keys import KEY_VARIABLE, key_variable

_LARGEST = 2**31 - 1  # What the database's integers hold.


def web_address(value: str) -> str:
    """The address of a model server, or "". Raises ValueError if it is none, or has a password in it."""
    parts = urlsplit(value)
    if value and (parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc):
        raise ValueError
    return value


# The descriptions are what a mistake is told with: "must be {description}".
Whole = Annotated[int, BeforeValidator(no_flag), Field(ge=1, le=_LARGEST, description="a whole number of at least 1")]


_Price = Annotated[
    Decimal,
    BeforeValidator(no_flag),
    Field(
        ge=0,
        max_digits=10,
        decimal_places=4,
        description="dollars per million tokens, with up to 4 decimals, such as 0.25",
    ),
]


Dollars = Annotated[
    Decimal,
    BeforeValidator(no_flag),
    Field(ge=0, max_digits=10, decimal_places=4, description="US dollars, with up to 4 decimals, such as 0.25"),
]


class _Fields(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Suggestion(_Fields):
    """A card of an empty conversation."""

    title: str = Field(min_length=1, max_length=80, description="a text")
    prompt: str = Field(min_length=1, max_length=4000, description="a text")


class LimitsEntry(_Fields):
    iterations: Whole = 5
    seconds: Whole = 1800
    tool_calls: Annotated[int, BeforeValidator(no_flag)] = Field(
        200, ge=0, le=_LARGEST, description="a whole number of at least 0"
    )
    tokens: Whole | None = Field(None, description="a whole number of at least 1")
    cost: Dollars | None = Field(None, description="US dollars, with up to 4 decimals, such as 0.25")


class PriceEntry(_Fields):
    """For a model that the price list does not know, or of which it is wrong."""

    input: _Price
    output: _Price


class AgentEntry(_Fields):
    """One agent as the file gives it. Fields that are not given are left as they are in the database."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9_-]+$", max_length=60, description="a name of letters, digits, dashes and underscores"
    )
    title: str = Field(min_length=1, max_length=80, description="a text")
    description: str = Field("", max_length=300, description="a text")
    provider: str = Field(description="an agent type")  # The sentence lists those there are.
    model: str = Field("", max_length=120, description="a text")
    base_url: Annotated[str, AfterValidator(web_address)] = Field(
        "", max_length=300, description="an address such as http://127.0.0.1:11434/v1, without a password in it"
    )
    api_key_variable: Annotated[str, AfterValidator(key_variable)] = Field(
        "", max_length=80, pattern=r"^([A-Za-z_][A-Za-z0-9_]*)?$", description=KEY_VARIABLE
    )
    instructions: str = Field("", description="a text")
    functions: list[str] = Field(["*"], description='a list of function names, or ["*"] for all')
    approvals: dict[str, Literal["always", "never"]] = Field(
        {}, description='a mapping of function names, or "*" for all others, to always or never'
    )
    on_unknown: Literal["ask", "tell_model", "fail"] = Field("ask", description="one of: ask, tell_model, fail")
    limits: LimitsEntry = Field(
        LimitsEntry(), description="a mapping with iterations, seconds, tool_calls, tokens, cost"
    )
    parameters: Annotated[dict[str, Any], AfterValidator(plain_json)] = Field(
        {}, description="a mapping of what the provider understands, e.g. temperature: 0.2"
    )
    response_schema: Annotated[dict[str, Any] | None, AfterValidator(plain_json)] = Field(
        None, description="a JSON Schema: a mapping such as {type: object, properties: …}"
    )
    fallback: str = Field("", max_length=60, description="the name of an agent")
    price: PriceEntry | None = Field(None, description="a mapping with input and output")
    suggestions: list[Suggestion] = Field([], description="a list of mappings with title and prompt")
    enabled: bool = Field(True, description="true or false")

    @field_validator("provider")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in LLMS:
            raise ValueError
        return value

    def columns(self) -> dict[str, Any]:
        """The columns of `Agent` that the file gives a value for; `fallback` by its name."""
        given = self.model_dump(exclude_unset=True)
        given |= {f"max_{name}": value for name, value in given.pop("limits", {}).items()}
        if "price" in given:
            price = given.pop("price") or {}
            given |= {"input_price": price.get("input"), "output_price": price.get("output")}
        return given


class AgentsFile(_Fields):
    """Each agent is validated by itself, so that a mistake in one does not hide those in another."""

    agents: list[Any] = Field(description="a list of agents")


_MUST_BE = {
    name: info.description
    for model in (AgentsFile, AgentEntry, LimitsEntry, PriceEntry, Suggestion)
    for name, info in model.model_fields.items()
}


_INSIDE: dict[str, type[BaseModel]] = {"limits": LimitsEntry, "price": PriceEntry, "suggestions": Suggestion}


def _fields_at(place: Place) -> list[str]:
    """The fields there are where `place` stands."""
    if len(place) == 1:
        return list(AgentsFile.model_fields)
    model: type[BaseModel] = _INSIDE.get(str(place[2]), AgentEntry) if len(place) > 3 else AgentEntry
    return list(model.model_fields)


def sentence(error: ErrorDetails, place: Place, shown: Callable[[Place, Any], str]) -> str:
    """What is wrong at `place` of the file. `shown` puts the value that stands there into words."""
    last = place[-1] if place else ""
    if error["type"] == "extra_forbidden" and last == "api_key":
        return (
            "a key does not belong in this file. Put it into an environment variable, "
            "and that variable's name into api_key_variable."
        )
    if last == "provider":
        wanted = f"one of: {', '.join(LLMS)}"
    elif isinstance(last, int):
        wanted = "the name of a function" if place[-2] == "functions" else "a mapping of fields"
    elif len(place) > 1 and place[-2] == "approvals":
        wanted = "always or never"
    else:
        wanted = _MUST_BE.get(last) or 'a mapping with the list "agents"'
    may_be_a_key = last in ("api_key_variable", "base_url")  # Somebody may have put it there.
    told = None if may_be_a_key else shown(place, error["input"])
    return field_sentence(error, wanted, _fields_at(place), told)


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
) -> Iterator[tuple[Place, str]]:
    """What the provider's class objects to, as (place within the agent, sentence)."""
    try:
        cls = llm_class(provider)
    except ImportError as error:
        yield ("provider",), f"{provider} cannot be used: {error}. Install what it needs."
        return
    told = set()
    for name, value in parameters.items():
        for problem in cls.check_parameters({name: value}):
            told.add(problem)
            yield ("parameters", name), problem
    # Those that do not go together.
    for problem in cls.check_parameters(parameters):
        if problem not in told:
            told.add(problem)
            yield ("parameters",), problem
    if not model and cls.test_model:
        yield ("model",), f"is missing: give the name of a model, such as {cls.test_model}."
    elif not told:
        try:
            cls(Endpoint(model, base_url), **parameters)
        except (ValueError, TypeError) as error:
            about = "model" if model and repr(model) in str(error) else "" if base_url else "base_url"
            yield (about,) if about else (), str(error)


def schema_problems(schema: dict[str, Any] | None) -> Iterator[tuple[Place, str]]:
    """What is wrong with the form that an agent's answers are to have; as `provider_problems`."""
    if schema is not None and (problem := schema_problem(schema)):
        yield ("response_schema",), problem
