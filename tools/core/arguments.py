"""From what a language model sent to validated arguments, or to a message that lets it do better."""

import json
from typing import Any

from pydantic import ValidationError

from tools.core.function import Function
from tools.core.schema import Arguments

_QUOTE = 200
_SHAPE = 2_000
# What pydantic says when it wanted a structure and got text. Small models often send such values as JSON in a string.
_STRUCTURE_WANTED = {"list_type", "dict_type", "model_type", "model_attributes_type", "dataclass_type", "set_type"}


class ArgumentsError(ValueError):
    """The arguments are wrong; the message names each field, what was wrong with it and what is expected."""


def validate(function: Function, arguments: dict[str, Any] | None, raw: str) -> Arguments:
    """Validate and coerce ("3" becomes 3) what the model sent. `arguments` is None where it was no JSON object.

    Raises ArgumentsError.
    """
    if arguments is None:
        sent = raw.strip()
        quoted = f"What was sent begins with: {sent[:_QUOTE]}" if sent else "Nothing was sent."
        raise ArgumentsError(
            f"{function.name} was not run: its arguments are not a JSON object. {quoted}\n"
            f"Send one JSON object of this shape: {_shape(function.parameters)}"
        )
    try:
        return function.arguments.model_validate(arguments)
    except ValidationError as error:
        parsed = _parse_text(arguments, error)
        if parsed != arguments:
            try:
                return function.arguments.model_validate(parsed)
            except ValidationError:
                pass  # The first complaint is about what the model really sent.
        raise ArgumentsError(_explain(function, error)) from error


def _parse_text(arguments: dict[str, Any], error: ValidationError) -> dict[str, Any]:
    """`arguments` with those values parsed that are JSON in a string where a structure was wanted."""
    parsed = dict(arguments)
    for detail in error.errors(include_url=False, include_context=False):
        name = detail["loc"][0] if detail["loc"] else None
        if detail["type"] in _STRUCTURE_WANTED and isinstance(name, str) and isinstance(parsed.get(name), str):
            try:
                parsed[name] = json.loads(parsed[name])
            except ValueError:
                continue
    return parsed


def _explain(function: Function, error: ValidationError) -> str:
    properties = function.parameters["properties"]
    lines = [f"{function.name} was not run: its arguments are wrong."]
    wrong: dict[str, Any] = {}
    for detail in error.errors(include_url=False, include_context=False):
        name = str(detail["loc"][0]) if detail["loc"] else ""
        where = ".".join(str(part) for part in detail["loc"]) or "arguments"
        if name in properties:
            wrong[name] = properties[name]
        match detail["type"]:
            case "missing":
                lines.append(f"- {where}: is missing.")
            case "extra_forbidden" if len(detail["loc"]) == 1:
                lines.append(f"- {where}: there is no such parameter. There are: {', '.join(properties) or 'none'}.")
            case _:
                lines.append(f"- {where}: {_lower(detail['msg'])}, but got {_quote(detail['input'])}.")
    if wrong:
        lines.append(f"Expected: {_shape(wrong)}")
    return "\n".join(lines)


def _lower(message: str) -> str:
    message = message.rstrip(".")
    return message[:1].lower() + message[1:]


def _quote(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=repr)
    return text if len(text) <= _QUOTE else f"{text[:_QUOTE]}…"


def _shape(schema: dict[str, Any]) -> str:
    text = json.dumps(schema, ensure_ascii=False, default=str)
    return text if len(text) <= _SHAPE else f"{text[:_SHAPE]}…"
