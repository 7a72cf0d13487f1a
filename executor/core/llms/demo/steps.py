"""What a step of a declared task asks: an instruction, and behind it, as JSON, what is known so far.

No rule can follow an instruction. So the demonstration quotes what it was given, and says so; where JSON of a certain
form is demanded it fills that in with quotes. Where it is to call a function with given arguments, it does.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from executor.core.llms.demo.planning import Past, Plan, Want, ask, need
from executor.core.llms.demo.writing import plain

# What stands around a page that was read, and what the demonstration said itself, is not worth a quote.
_FRAME = re.compile(
    r"^(?:Untrusted content from|End of the untrusted content|\*A language model would do this).*$", re.M
)
_SENTENCE = re.compile(r"[^.!?\n]*\w[^.!?\n]*[.!?]?")
_DEEPEST = 12
#: Sentences of a quote.
_QUOTED = 3


@dataclass(frozen=True, slots=True)
class StepQuestion:
    instruction: str
    known: dict[str, Any]

    def wants(self, tools: Collection[str]) -> Want | None:
        """The call that it says to make."""
        name, arguments = self.known.get("function"), self.known.get("arguments")
        if not isinstance(name, str) or name not in tools or not isinstance(arguments, dict):
            return None
        return Want(name, arguments)

    def plan(self, past: Past) -> Plan:
        """Make that call."""
        want = Want(self.known["function"], self.known["arguments"])
        (result,) = yield ask("", want)
        need(result)
        return f"`{want.name}` has done it: {plain(want.arguments.get('title', 'as it was told'))}."

    def written(self) -> str:
        """What a language model would have written, as far as one can tell without one."""
        task = plain(next(_sentences(self.instruction), "Write something."), 160)
        quotes = [
            f"> {plain(sentence, 200)}" for sentence in itertools.islice(_sentences(_source(self.known)), _QUOTED)
        ]
        given = ", ".join(f"`{plain(name)}`" for name in self.known)
        said = (
            f"*A language model would do this now: {task} The demonstration only quotes what it was given ({given}).*"
        )
        return "\n>\n".join([f"{said}\n\n{quotes[0]}", *quotes[1:]]) if quotes else said


def step_question(text: str) -> StepQuestion | None:
    instruction, brace, rest = text.rpartition("\n\n{")
    if not brace:
        return None
    try:
        known = json.loads("{" + rest)
    except (ValueError, RecursionError):
        return None
    return StepQuestion(instruction, known) if known else None


def filled_in(schema: dict[str, Any], known: dict[str, Any]) -> Any:
    """A value of the form that `schema` demands, with quotes from what is known where it wants text."""
    quotes = list(itertools.islice(_sentences(_source(known)), 40)) or ["Nothing was given."]
    return _Form(schema, itertools.cycle(quotes)).value(schema)


@dataclass(frozen=True, slots=True)
class _Form:
    root: dict[str, Any]
    quotes: Iterator[str]

    def value(self, schema: Any, depth: int = 0) -> Any:
        if not isinstance(schema, dict) or depth > _DEEPEST:
            return None
        if "const" in schema:
            return schema["const"]
        if schema.get("enum"):
            return schema["enum"][0]
        if isinstance(reference := schema.get("$ref"), str):
            return self.value(self._found(reference), depth + 1)
        if either := schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf"):
            return self.value(either[0], depth + 1)
        kind = schema.get("type", "object" if "properties" in schema else "string")
        match kind[0] if isinstance(kind, list) else kind:
            case "object":
                inside = schema.get("properties") or {}
                return {name: self.value(wanted, depth + 1) for name, wanted in inside.items()}
            case "array":
                items = schema.get("items") or {}
                # A list of plain texts, such as of what is wrong, may as well be empty.
                fewest = schema.get("minItems", 0 if items.get("type") == "string" else 1)
                return [self.value(items, depth + 1) for _ in range(min(fewest, schema.get("maxItems", fewest)))]
            case "integer" | "number":
                least = schema.get("minimum", schema.get("exclusiveMinimum", 0) + 1)
                return min(least, schema.get("maximum", least))
            case "boolean":
                return False  # Whatever it is about, nobody looked.
            case "null":
                return None
        return next(self.quotes)[: schema.get("maxLength", 200)].ljust(schema.get("minLength", 0), ".")

    def _found(self, reference: str) -> Any:
        found: Any = self.root
        for part in reference.removeprefix("#").strip("/").split("/"):
            found = found.get(part) if part and isinstance(found, dict) else found
        return found


def _source(known: Any) -> str:
    """The text of what is known that has most to quote; of several with enough, the one that was known first: what the
    person gave, rather than what was made of it."""
    return max(_texts(known), key=lambda text: sum(1 for _ in itertools.islice(_sentences(text), _QUOTED)), default="")


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield _FRAME.sub("", value)
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)


def _sentences(text: str) -> Iterator[str]:
    return (sentence.strip(" \t#>*-") for sentence in _SENTENCE.findall(text) if len(sentence.split()) > 1)
