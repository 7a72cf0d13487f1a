"""JSON in a form: shown with line breaks, kept as it was typed when it is wrong, and said where it is wrong."""

from __future__ import annotations

import json
from typing import Any

from django import forms

from executor.stored import clean_json


class JsonField(forms.JSONField):
    """`shape` is dict or list. An empty text is an empty one of these, or None if the field is `optional`."""

    def __init__(self, *, shape: type, optional: bool = False, **kwargs: Any) -> None:
        self.shape, self.optional = shape, optional
        super().__init__(required=False, **kwargs)

    def to_python(self, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        if not value.strip():
            return None if self.optional else self.shape()
        return read_json(value, self.shape)

    def bound_data(self, data: Any, initial: Any) -> Any:
        return data

    def prepare_value(self, value: Any) -> str:
        if value is None:  # A new agent's.
            value = "" if self.optional else self.shape()
        return value if isinstance(value, str) else show_json(value)


def show_json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def read_json(text: str, shape: type) -> Any:
    """Raises ValidationError with a sentence."""
    try:
        found = json.loads(text, parse_constant=_refuse)
    except json.JSONDecodeError as error:
        raise forms.ValidationError(
            f"It is not valid JSON: {error.msg} in line {error.lineno}, column {error.colno}."
        ) from error
    except (ValueError, RecursionError) as error:
        raise forms.ValidationError("It is not JSON that can be stored: a number or the nesting is wrong.") from error
    if not isinstance(found, shape):
        raise forms.ValidationError(
            "Write an object: { … }." if shape is dict else "Write a list of objects: [{ … }, { … }]."
        )
    return clean_json(found)


def _refuse(constant: str) -> None:
    raise ValueError(constant)
