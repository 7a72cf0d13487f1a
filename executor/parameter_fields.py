"""A provider's parameters as fields of a form, one for each. Empty is the provider's own default.

All fields are text, as a browser sends it, so that what is wrong is shown as it was typed. Only the chosen provider's
are read: what stands in those of another one is no mistake.
"""

from __future__ import annotations

import json
import math
from typing import Any

from django import forms
from django.utils.html import escape

from executor.core.llms.factory import LLMS, llm_class
from executor.core.llms.parameters import Parameter
from executor.json_field import read_json, show_json

_PREFIX = "parameter-"
_DEFAULT = ("", "Provider’s default")
_FLAGS = {"true": True, "false": False}


def field_name(provider: str, parameter: str) -> str:
    return f"{_PREFIX}{provider}-{parameter}"


def is_parameter_field(name: str) -> bool:
    return name.startswith(_PREFIX)


class ParameterField(forms.Field):
    def __init__(self, parameter: Parameter, value: Any) -> None:
        """`value` is what is set at the moment, None if nothing is."""
        self.parameter, self.value = parameter, value
        self.shown = "" if value is None else _shown(parameter, value)
        super().__init__(
            required=False,
            initial=self.shown,
            label=parameter.name.replace("_", " ").capitalize(),
            help_text=" ".join(filter(None, (escape(parameter.help), _form(parameter)))),
            widget=_widget(parameter, self.shown),
        )

    def clean(self, value: Any) -> str:
        return "" if value is None else str(value).replace("\r\n", "\n").strip(" ")

    def has_changed(self, initial: Any, data: Any) -> bool:
        return self.clean(data) != self.shown

    def read(self, text: str) -> Any:
        """The value that was typed, None for nothing. Raises ValidationError with a sentence.

        What was not touched stays as it is: the text "1" may stand for 1 or 1.0, a line for a word or a list of one.
        """
        value = self.value if text == self.shown else _read(self.parameter, text)
        if problem := self.parameter.problem(value):
            raise forms.ValidationError(problem)
        return value


def parameter_fields(provider: str, values: dict[str, Any]) -> dict[str, forms.Field]:
    """The fields of all providers by name; those of `provider` show `values`."""
    return {
        field_name(name, parameter.name): ParameterField(
            parameter, values.get(parameter.name) if name == provider else None
        )
        for name in LLMS
        for parameter in llm_class(name).PARAMETERS
    }


def _read(parameter: Parameter, text: str) -> Any:
    """What cannot be read is given back as it is, so that the parameter objects to it."""
    if not text.strip():
        return None
    match parameter.kind:
        case "whole" | "number":
            try:
                number = float(text)
                return int(text) if parameter.kind == "whole" or text.strip().isdecimal() else number
            except (ValueError, OverflowError):
                return text
        case "flag":
            return _FLAGS.get(text, text)
        case "words":
            if text.lstrip().startswith("["):
                return read_json(text, list)
            lines = [line for line in text.split("\n") if line.strip()]
            return lines[0] if len(lines) == 1 else lines
        case "object":
            return read_json(text, dict) or None
        case "choice" | "word":
            return text.strip()


def _shown(parameter: Parameter, value: Any) -> str:
    match parameter.kind:
        case "words" if isinstance(value, list) and all(isinstance(word, str) for word in value):
            plain = all(word == word.strip() and word and "\n" not in word and word[0] != "[" for word in value)
            return "\n".join(value) if plain else json.dumps(value, ensure_ascii=False)
        case "object":
            return show_json(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _form(parameter: Parameter) -> str:
    """In which form it is written, as far as the field does not show it."""
    match parameter.kind:
        case "number" | "whole" if math.isfinite(parameter.low):
            places = ".0f" if parameter.kind == "whole" else "g"
            top = f"to {parameter.high:{places}}" if parameter.high < 2**31 else "on"
            return f"From {parameter.low:{places}} {top}."
        case "words":
            return "One in a line, or a list as JSON."
    return ""


def _widget(parameter: Parameter, shown: str) -> forms.Widget:
    match parameter.kind:
        case "choice" | "flag":
            choices = [_DEFAULT]
            if parameter.kind == "flag":
                choices += [("true", "Yes"), ("false", "No")]
            else:
                choices += [(choice, choice) for choice in parameter.choices]
            if shown not in dict(choices):
                choices.append((shown, f"{shown} (not known any more)"))
            return forms.Select(choices=choices)
        case "words":
            return forms.Textarea(attrs={"rows": 2, "class": "words"})
        case "object":
            return forms.Textarea(attrs={"rows": 4, "class": "vLargeTextField json"})
        case "number" | "whole":
            # A number field would not show what was typed if that is no number.
            return forms.TextInput(attrs={"inputmode": "decimal" if parameter.kind == "number" else "text"})
        case "word":
            return forms.TextInput()
