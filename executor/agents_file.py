"""agents.yaml: agents as text, so that an installation can be set up, reviewed and repeated.

The file is read as a whole before anything is changed, and each mistake names file, line and field. YAML gives the
lines, pydantic the rules, and the provider's own class has the last word about its parameters.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import Annotated, Any, TypeVar
from urllib.parse import urlsplit

import yaml
from django.db import transaction
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
from executor.models import Agent
from tools.registry import get_registry

Place = tuple[str | int, ...]
M = TypeVar("M", bound=BaseModel)

_VARIABLE = re.compile(r"\$(?:(?P<dollar>\$)|\{(?P<name>[A-Za-z_]\w*)(?::-(?P<default>[^{}]*))?\}|(?P<open>\{))")
_LARGEST = 2**31 - 1  # What the database's integers hold.
_SHOWN = 60


# --- what a file may say ---------------------------------------------------------------------------------------------


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
    api_key_variable: str = Field(
        "",
        max_length=80,
        pattern=r"^([A-Za-z_][A-Za-z0-9_]*)?$",
        description="the name of an environment variable such as OPENAI_API_KEY, never the key itself",
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

# --- mistakes --------------------------------------------------------------------------------------------------------


class AgentsFileError(Exception):
    """The file cannot be used. `mistakes` has all that is wrong with it, a line each."""

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


@dataclass
class _Source:
    """The file's values, and where in it each of them stands."""

    name: str
    lines: dict[Place, int] = field(default_factory=dict)
    #: As written in the file, what came from the environment: by place, and by value. It may be secret.
    written: dict[Place, str] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)
    #: Places of which it has been said already why they have no value.
    unread: set[Place] = field(default_factory=set)
    mistakes: list[tuple[int, str]] = field(default_factory=list)

    def add(self, place: Place, sentence: str) -> None:
        known = place
        while known and known not in self.lines:
            known = known[:-1]
        line = self.lines.get(known, 1)
        where = f"{self.at(line)}, {_path(place)}" if place else self.at(line)
        self.mistakes.append((line, f"{where}: {sentence}"))

    def refuse(self, place: Place, sentence: str) -> None:
        """As `add`, for a value that could not even be read."""
        self.add(place, sentence)
        self.unread.add(place)

    def at(self, line: int) -> str:
        return f"{self.name}, line {line}"

    def validate(self, model: type[M], data: Any, place: Place) -> M | None:
        """`data`, which stands at `place`, as a `model`; None if it is none, with the mistakes added."""
        try:
            return model.model_validate(data)
        except ValidationError as error:
            for problem in error.errors():
                inside = (*place, *problem["loc"])
                if inside not in self.unread:
                    self.add(inside, _sentence(problem, inside, self))
            return None

    def mask(self, sentence: str) -> str:
        for value, written in self.secrets.items():
            sentence = sentence.replace(value, written)
        return sentence

    def shown(self, place: Place, value: Any) -> str:
        if place in self.written:
            return f"what {self.written[place]} stands for"
        if value is None:
            return "nothing"
        text = json.dumps(value, ensure_ascii=False, default=str)
        return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


def _path(place: Place) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".")


def _sentence(error: ErrorDetails, place: Place, source: _Source) -> str:
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
    return f"must be {wanted}, not {source.shown(place, error['input'])}.{hint}"


# --- reading ---------------------------------------------------------------------------------------------------------


def read(path: Path, environment: Mapping[str, str], *, ask_providers: bool = True) -> list[AgentEntry]:
    """The agents in `path`. Raises AgentsFileError with everything that is wrong.

    With `ask_providers` each provider's class has to agree with its parameters, for which its SDK is imported.
    """
    source = _Source(path.name)
    data = _Reader(source, environment).read(path)
    source.validate(AgentsFile, data, ())
    items = data.get("agents") if isinstance(data, dict) else None
    entries: dict[int, AgentEntry] = {}
    for index, item in enumerate(items if isinstance(items, list) else ()):
        place = ("agents", index)
        entry = source.validate(AgentEntry, item, place)
        if entry is None:
            continue
        first = next((at for at, other in entries.items() if other.name == entry.name), None)
        if first is not None:
            line = source.lines["agents", first, "name"]
            source.add((*place, "name"), f"{entry.name!r} stands in line {line} already. Give it another name.")
        entries[index] = entry
        if ask_providers and not any(unread[:2] == place for unread in source.unread):
            for name, sentence in provider_problems(entry.provider, entry.model, entry.base_url, entry.parameters):
                source.add((*place, name) if name else place, source.mask(sentence))
    if source.mistakes:
        raise AgentsFileError(list(dict.fromkeys(text for _, text in sorted(source.mistakes, key=itemgetter(0)))))
    return list(entries.values())


def warnings(agents: list[AgentEntry], environment: Mapping[str, str]) -> list[str]:
    """What may be right in a moment and is not right now, a sentence each."""
    found = []
    for agent in agents:
        if unknown := get_registry().unknown(agent.functions):
            found.append(f"{agent.name}: there is no function {', '.join(unknown)} now; it does without.")
        if agent.api_key_variable and not environment.get(agent.api_key_variable):
            found.append(f"{agent.name}: the environment variable {agent.api_key_variable} is not set now.")
    return found


def suggestion_problems(suggestions: Any) -> list[str]:
    """What is wrong with the cards of an agent, a sentence each."""
    try:
        TypeAdapter(list[Suggestion]).validate_python(suggestions)
    except ValidationError as error:
        above: Place = ("agents", 0, "suggestions")
        return [
            f"{_path(problem['loc']) or 'They'}: {_sentence(problem, (*above, *problem['loc']), _Source(''))}"
            for problem in error.errors()
        ]
    return []


def provider_problems(
    provider: str, model: str, base_url: str, parameters: dict[str, Any]
) -> Iterator[tuple[str, str]]:
    """What the provider's class objects to, as (field, sentence). The field is "" where it is not about one."""
    try:
        cls = llm_class(provider)
    except ImportError as error:
        yield ("provider", f"{provider} cannot be used: {error}. Install what it needs.")
        return
    check: Callable[[dict[str, Any]], list[str]] | None = getattr(cls, "check_parameters", None)
    problems = check(parameters) if check else []
    yield from (("parameters", sentence) for sentence in problems)
    if not problems:
        try:
            cls(Endpoint(model, base_url), **parameters)
        except (ValueError, TypeError) as error:
            yield ("" if base_url else "base_url", str(error))


class _Reader:
    """YAML nodes to plain values, remembering lines and replacing ${NAME}."""

    def __init__(self, source: _Source, environment: Mapping[str, str]) -> None:
        self._source = source
        self._environment = environment

    def read(self, path: Path) -> Any:
        try:
            self._loader = yaml.SafeLoader(path.read_bytes().decode("utf-8-sig"))
            node = self._loader.get_single_node()
            return self._value(node, ()) if node else {}
        except OSError as error:
            raise AgentsFileError([f"{path.name} cannot be read: {error.strerror or error}."]) from error
        except UnicodeDecodeError as error:
            raise AgentsFileError([f"{path.name} is not text in UTF-8. Save it as such."]) from error
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            at = self._source.at(mark.line + 1) if mark else path.name
            said = ", ".join(part for part in (error.context, error.problem) if part)
            raise AgentsFileError([f"{at}: it is not valid YAML ({said})."]) from error
        except yaml.YAMLError as error:
            said = str(error).splitlines()[0]
            raise AgentsFileError([f"{path.name}: it is not valid YAML ({said})."]) from error
        except RecursionError as error:
            raise AgentsFileError([f"{path.name}: it is nested too deeply."]) from error

    def _value(self, node: yaml.Node, place: Place) -> Any:
        self._source.lines.setdefault(place, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, place)
        if isinstance(node, yaml.SequenceNode):
            return [self._value(item, (*place, index)) for index, item in enumerate(node.value)]
        try:
            value = self._loader.construct_object(node)
        except (ValueError, OverflowError, yaml.constructor.ConstructorError):
            self._source.refuse(place, f"{node.value!r} cannot be read as a value. Put it in quotes.")
            return None
        return self._text(value, place) if isinstance(value, str) else value

    def _mapping(self, node: yaml.MappingNode, place: Place) -> dict[str, Any]:
        own = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        self._loader.flatten_mapping(node)  # `<<: *anchor`
        values = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self._source.add(place, "a field's name must be a plain word.")
                continue
            inside = (*place, str(key.value))
            self._source.lines[inside] = key.start_mark.line + 1
            values[str(key.value)] = self._value(value, inside)
        for twice in sorted({key for key in own if own.count(key) > 1}):
            self._source.add((*place, twice), "it is given twice. Remove one.")
        return values

    def _text(self, text: str, place: Place) -> str:
        """`text` with ${NAME} and ${NAME:-default} replaced; what comes in stays text, whatever it looks like."""

        def replace(found: re.Match[str]) -> str:
            if found["dollar"]:
                return "$"
            if found["open"]:
                self._source.refuse(
                    place, "after ${ a name and } must follow, as in ${NAME}. For a plain ${ write $${."
                )
                return ""
            self._source.written[place] = text
            value, default = self._environment.get(found["name"]), found["default"]
            if value:
                self._source.secrets[value] = found[0]
            if default is not None:
                return value or default
            if value is None:
                name = found["name"]
                self._source.refuse(
                    place, f"the environment variable {name} is not set. Set it, or write ${{{name}:-a default}}."
                )
            return value or ""

        replaced = _VARIABLE.sub(replace, text)
        if any(char == "\0" or "\ud800" <= char <= "\udfff" for char in replaced):
            self._source.refuse(place, "it contains characters that are not text.")
        return replaced


# --- loading ---------------------------------------------------------------------------------------------------------


def load(agents: list[AgentEntry]) -> list[tuple[str, str]]:
    """Create or update `agents` by name, in one transaction. Returns (name, what happened). Nothing is ever deleted."""
    with transaction.atomic():
        return [(entry.name, _load(entry, position)) for position, entry in enumerate(agents)]


def _load(entry: AgentEntry, position: int) -> str:
    columns = entry.columns()
    agent = Agent.objects.filter(name=entry.name).first()
    if agent is None:
        Agent.objects.create(**columns, position=position)
        return "added"
    changed = [name for name, value in columns.items() if getattr(agent, name) != value]
    if not changed:
        return "unchanged"
    for name in changed:
        setattr(agent, name, columns[name])
    agent.save(update_fields=[*changed, "updated_at"])
    return f"changed (version {agent.current_version().number})"
