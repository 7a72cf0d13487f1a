"""What OpenAI's formats refuse in the JSON Schema of an answer that they shall hold strictly."""

from __future__ import annotations

from typing import Any


def objection(form: Any) -> str:
    """`form` has `name`, `schema` and `strict`. Why it is refused, "" when it is fine."""
    if not isinstance(form, dict) or not isinstance(form.get("name"), str) or not isinstance(form.get("schema"), dict):
        return "a json_schema needs a name and a schema"
    if form.keys() - {"type", "name", "schema", "strict", "description"}:
        return "a json_schema has unknown fields"
    if not form.get("strict"):
        return ""
    if form["schema"].get("type") != "object":
        return f"Invalid schema for response_format {form['name']!r}: schema must have 'type': 'object'"
    return _strictly(form["schema"], "")


def _strictly(schema: Any, where: str) -> str:
    if schema.get("type") == "object":
        if schema.get("additionalProperties") is not False:
            return f"In context=({where}), 'additionalProperties' is required to be supplied and to be false"
        if sorted(schema.get("required", ())) != sorted(schema.get("properties", {})):
            return f"In context=({where}), 'required' must include every key in properties"
    if more := schema.keys() & {"default", "allOf", "oneOf", "not", "if", "patternProperties", "uniqueItems"}:
        return f"In context=({where}), {sorted(more)} is not permitted"
    inner = {**schema.get("properties", {}), **schema.get("$defs", {})}
    inner |= {str(n): item for n, item in enumerate(schema.get("anyOf", ()))}
    if "items" in schema:
        inner["items"] = schema["items"]
    return next((found for name, item in inner.items() if (found := _strictly(item, f"{where}/{name}"))), "")
