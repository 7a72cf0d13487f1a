"""Which JSON Schemas OpenAI's formats take in their strict form, where an answer cannot fail to fit.

https://platform.openai.com/docs/guides/structured-outputs#supported-schemas: every property is required, nothing else
may be added, and only some keywords are known. Any other schema is refused there, so it is sent as a mere wish.
"""

from __future__ import annotations

from typing import Any

# Fewer than are documented: what is doubtful is better wished for than refused.
_KEYWORDS = {"type", "title", "description", "properties", "required", "additionalProperties", "items", "enum", "const"}
_KEYWORDS |= {"anyOf", "$ref", "$defs"}
MAX_DEPTH = 5


def is_strict(schema: dict[str, Any]) -> bool:
    return schema.get("type") == "object" and "anyOf" not in schema and _is_strict(schema, MAX_DEPTH)


def _is_strict(schema: Any, depth: int) -> bool:
    if not isinstance(schema, dict) or depth < 0 or schema.keys() - _KEYWORDS:
        return False
    properties, required = schema.get("properties", {}), schema.get("required", [])
    defined, either = schema.get("$defs", {}), schema.get("anyOf", [])
    if not (isinstance(properties, dict) and isinstance(required, list)):
        return False
    if not (isinstance(defined, dict) and isinstance(either, list)):
        return False
    kind = schema.get("type")
    is_object = "object" in (kind if isinstance(kind, list) else [kind]) or properties
    is_closed = schema.get("additionalProperties") is False and set(map(str, required)) == properties.keys()
    if is_object and not is_closed:
        return False
    if kind == "array" and "items" not in schema:
        return False
    inner = [*properties.values(), *defined.values(), *either, *([schema["items"]] if "items" in schema else [])]
    return all(_is_strict(item, depth - 1) for item in inner)
