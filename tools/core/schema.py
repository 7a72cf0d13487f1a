"""From a signature to a pydantic model of its arguments, and from that to a JSON schema that a language model reads."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, create_model
from pydantic.json_schema import GenerateJsonSchema

from tools.core.context import Context

_ALLOWED_KINDS = {inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY}


class SignatureError(ValueError):
    """A function cannot be described; the message says what its author has to change."""


class Arguments(BaseModel):
    """Base of every arguments model. Its fields carry the parameter's name as an alias, so that a parameter may have
    any name, also one that pydantic keeps for itself (`json`, `schema`, `model_id`).
    """

    # Models write 3 where "3" is wanted as often as the other way round; both are clear.
    model_config = ConfigDict(extra="forbid", coerce_numbers_to_str=True)

    def given(self) -> dict[str, Any]:
        """The values that were given, by parameter name. What was left out keeps the function's own default."""
        return {
            info.alias or name: getattr(self, name)
            for name, info in type(self).model_fields.items()
            if name in self.model_fields_set
        }


def arguments_model(call: Callable[..., Any], descriptions: Mapping[str, str]) -> tuple[type[Arguments], str | None]:
    """The model of `call`'s arguments and the name of the parameter that takes the `Context`, if there is one.

    Raises SignatureError where a hint is missing or the parameters cannot be given by name.
    """
    try:
        hints = get_type_hints(call, include_extras=True)
    except Exception as error:
        raise SignatureError(
            f"Its type hints cannot be read ({type(error).__name__}: {error}). "
            "Import the types at run time, not only under TYPE_CHECKING."
        ) from error
    fields: dict[str, Any] = {}
    context_parameter = None
    for name, parameter in inspect.signature(call).parameters.items():
        if parameter.kind not in _ALLOWED_KINDS:
            raise SignatureError(f"Its parameter {parameter} cannot be given by name. Use plain named parameters.")
        if name not in hints:
            raise SignatureError(f"Its parameter '{name}' has no type hint. Add one, such as `{name}: str`.")
        if _is_context(hints[name]):
            if context_parameter:
                raise SignatureError("It asks for the Context twice. One parameter is enough.")
            context_parameter = name
            continue
        default = ... if parameter.default is inspect.Parameter.empty else parameter.default
        fields[f"p{len(fields)}"] = (hints[name], _field(name, default, descriptions.get(name)))
    try:
        return create_model(call.__name__, __base__=Arguments, **fields), context_parameter
    except Exception as error:  # pydantic raises many kinds, and the types' own code may raise anything.
        raise SignatureError(f"Its parameters cannot be described to a model: {_first_line(error)}") from error


def json_schema(model: type[BaseModel]) -> dict[str, Any]:
    """The JSON schema of `model`, without titles, with definitions written where they are used.

    `$defs` remains only for types that contain themselves. Raises SignatureError where there is no schema.
    """
    try:
        schema = model.model_json_schema(by_alias=True, schema_generator=_Generator)
    except Exception as error:
        raise SignatureError(f"Its parameters have no JSON schema: {_first_line(error)}") from error
    definitions = schema.pop("$defs", {})
    recursive = {name for name in definitions if name in _reachable(definitions[name], definitions)}
    plain: dict[str, Any] = _plain(schema, definitions, recursive)
    plain.setdefault("properties", {})
    if recursive:
        plain["$defs"] = {name: _plain(definitions[name], definitions, recursive) for name in sorted(recursive)}
    return plain


class _Generator(GenerateJsonSchema):
    ignored_warning_kinds = {"non-serializable-default", "skipped-choice"}


def _field(name: str, default: Any, description: str | None) -> Any:
    return Field(default, alias=name, description=description) if description else Field(default, alias=name)


def _is_context(hint: Any) -> bool:
    if get_origin(hint) is Union or type(hint).__name__ == "UnionType":
        return Context in get_args(hint)
    return hint is Context


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def _target(node: Any) -> str | None:
    """The name of the definition that `node` refers to."""
    reference = node.get("$ref") if isinstance(node, dict) else None
    return reference.removeprefix("#/$defs/") if isinstance(reference, str) else None


def _reachable(node: Any, definitions: Mapping[str, Any]) -> set[str]:
    """The names of all definitions that can be reached from `node`."""
    found: set[str] = set()
    waiting = [node]
    while waiting:
        current = waiting.pop()
        name = _target(current)
        if name is not None and name not in found:
            found.add(name)
            waiting.append(definitions[name])
        if isinstance(current, dict):
            waiting.extend(current.values())
        elif isinstance(current, list):
            waiting.extend(current)
    return found


def _plain(schema: Any, definitions: Mapping[str, Any], recursive: set[str]) -> Any:
    """`schema` without titles and with references written out, except those to `recursive` definitions."""
    if isinstance(schema, list):
        return [_plain(item, definitions, recursive) for item in schema]
    if not isinstance(schema, dict):
        return schema
    name = _target(schema)
    if name is not None and name not in recursive:
        # What stands beside the reference (description, default) says more than the definition and wins.
        beside = {key: value for key, value in schema.items() if key != "$ref"}
        return _plain({**definitions[name], **beside}, definitions, recursive)
    plain = {}
    for key, value in schema.items():
        if key == "title":
            continue
        if key == "properties":  # Its keys are names that the author chose; "title" may be one of them.
            plain[key] = {name: _plain(item, definitions, recursive) for name, item in value.items()}
        elif key in {"default", "const", "enum", "examples", "required"}:
            plain[key] = value
        elif key == "discriminator":  # Speaks of definitions that are gone; the branches say it themselves.
            continue
        else:
            plain[key] = _plain(value, definitions, recursive)
    return plain
