"""YAML to plain values: with ${NAME} replaced, and knowing of every value in which line it stands."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from executor.agent_rules import sentence
from executor.core.fields import Place, path_text, value_text

M = TypeVar("M", bound=BaseModel)

#: Variables whose values are nobody's business: keys, passwords, and the addresses that have one in them.
_SECRET = re.compile(
    r"(?:^|_)(?:KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL)S?$|^(?:KEYRING|(?:DATABASE|REDIS|EMAIL)_URL)$", re.I
)
_VARIABLE = re.compile(r"\$(?:(?P<dollar>\$)|\{(?P<name>[A-Za-z_]\w*)(?::-(?P<default>[^{}]*))?\}|(?P<open>\{))")


class FileError(Exception):
    """The file cannot be used. `mistakes` has all that is wrong with it, a line each."""

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


@dataclass
class Source:
    """The file's values, and where in it each of them stands."""

    name: str
    #: What is wrong with a field of this kind of file, in words.
    sentence: Callable[[ErrorDetails, Place, Callable[[Place, Any], str]], str] = sentence
    #: Models and pages are told what stands in it, so nothing secret may.
    is_told: bool = False
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
        where = f"{self.at(line)}, {path_text(place)}" if place else self.at(line)
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
                    self.add(inside, self.sentence(problem, inside, self.shown))
            return None

    def check(self) -> None:
        """Raise FileError with all mistakes, in the order of the lines, if there are any."""
        if self.mistakes:
            raise FileError(list(dict.fromkeys(text for _, text in sorted(self.mistakes, key=itemgetter(0)))))

    def mask(self, text: str) -> str:
        """`text` without anything that came from the environment."""
        for value, written in self.secrets.items():
            text = text.replace(value, written)
        return text

    def shown(self, place: Place, value: Any) -> str:
        if place in self.written:
            return f"what {self.written[place]} stands for"
        return value_text(value)


def read_yaml(path: Path, source: Source, environment: Mapping[str, str]) -> Any:
    """The values in `path`. Mistakes go to `source`. Raises FileError if the file cannot be read at all."""
    return _Reader(source, environment).read(path)


class _Reader:
    """YAML nodes to plain values, remembering lines and replacing ${NAME}."""

    def __init__(self, source: Source, environment: Mapping[str, str]) -> None:
        self._source = source
        self._environment = environment

    def read(self, path: Path) -> Any:
        try:
            self._loader = yaml.SafeLoader(path.read_bytes().decode("utf-8-sig"))
            node = self._loader.get_single_node()
            return self._value(node, ()) if node else {}
        except OSError as error:
            raise FileError([f"{path.name} cannot be read: {error.strerror or error}."]) from error
        except UnicodeDecodeError as error:
            raise FileError([f"{path.name} is not text in UTF-8. Save it as such."]) from error
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            at = self._source.at(mark.line + 1) if mark else path.name
            said = ", ".join(part for part in (error.context, error.problem) if part)
            raise FileError([f"{at}: it is not valid YAML ({said})."]) from error
        except yaml.YAMLError as error:
            said = str(error).splitlines()[0]
            raise FileError([f"{path.name}: it is not valid YAML ({said})."]) from error
        except RecursionError as error:
            raise FileError([f"{path.name}: it is nested too deeply."]) from error

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
            if self._source.is_told and _SECRET.search(found["name"]):
                self._source.refuse(
                    place,
                    f"{found['name']} holds a secret, and what stands here is told to models and shown on pages. "
                    "Leave it out, and let a function of your own read it where it is used.",
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
