"""The form in which an administrator edits an agent. What it refuses, `load_agents` refuses in the same words."""

from __future__ import annotations

import json
from typing import Any

from django import forms
from django.http import QueryDict

from executor.agent_rules import provider_problems, suggestion_problems, web_address
from executor.core.llms.factory import LLMS
from executor.journal import clean_json
from executor.models import Agent
from tools.registry import get_registry


class JsonField(forms.JSONField):
    """Shows JSON with line breaks, keeps what was typed when it is wrong, and says where it is wrong."""

    def __init__(self, *, shape: type, **kwargs: Any) -> None:
        self.shape = shape
        super().__init__(required=False, **kwargs)

    def to_python(self, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        try:
            found = json.loads(value, parse_constant=_refuse) if value.strip() else self.shape()
        except json.JSONDecodeError as error:
            raise forms.ValidationError(
                f"It is not valid JSON: {error.msg} in line {error.lineno}, column {error.colno}."
            ) from error
        except (ValueError, RecursionError) as error:
            raise forms.ValidationError(
                "It is not JSON that can be stored: a number or the nesting is wrong."
            ) from error
        if not isinstance(found, self.shape):
            raise forms.ValidationError(
                "Write an object: { … }." if self.shape is dict else "Write a list of objects: [{ … }, { … }]."
            )
        return clean_json(found)

    def bound_data(self, data: Any, initial: Any) -> Any:
        return data

    def prepare_value(self, value: Any) -> str:
        if value is None:  # A new agent's.
            value = self.shape()
        return value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)


class OpenedField(forms.CharField):
    """When the row that the form shows was last changed, carried along unseen."""

    def __init__(self) -> None:
        super().__init__(required=False, widget=forms.HiddenInput)

    def has_changed(self, initial: Any, data: Any) -> bool:
        return False  # It is not a thing to save.


def _refuse(constant: str) -> None:
    raise ValueError(constant)


class AgentForm(forms.ModelForm):  # type: ignore[type-arg]  # not subscriptable at run time
    opened = OpenedField()
    base_url = forms.CharField(
        label="Address",
        required=False,
        max_length=300,
        widget=forms.TextInput(attrs={"class": "vTextField", "placeholder": "http://127.0.0.1:11434/v1"}),
        help_text="Where an OpenAI-compatible server answers, with its /v1. Leave it empty for the demonstration.",
    )
    all_functions = forms.BooleanField(
        required=False, help_text="Also those that are added later. The choice below does not count then."
    )
    functions = forms.MultipleChoiceField(
        required=False, widget=forms.CheckboxSelectMultiple, help_text="What this agent may call."
    )
    parameters = JsonField(
        shape=dict,
        widget=forms.Textarea(attrs={"rows": 5, "class": "vLargeTextField json"}),
        help_text='What the provider understands, as JSON, e.g. {"temperature": 0.2}.',
    )
    suggestions = JsonField(
        shape=list,
        widget=forms.Textarea(attrs={"rows": 10, "class": "vLargeTextField json"}),
        help_text='Cards that an empty conversation offers, as JSON: [{"title": "…", "prompt": "…"}].',
    )

    class Meta:
        model = Agent
        fields = (
            *("name", "title", "description", "enabled", "position"),
            *("provider", "model", "base_url", "api_key_variable", "parameters", "instructions", "functions"),
            *("max_iterations", "max_seconds", "max_tool_calls", "suggestions"),
        )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk:
            self.initial["opened"] = self.instance.updated_at.isoformat()
        registry = get_registry()
        chosen = [name for name in self.instance.functions if name != "*"]
        field = self.fields.get("functions")
        if not isinstance(field, forms.MultipleChoiceField):
            return  # Somebody who may only look.
        field.choices = [
            *(
                (name, f"{name}: {function.description.splitlines()[0]}")
                for name, function in registry.functions.items()
            ),
            *((name, f"{name}: missing at the moment") for name in registry.unknown(chosen)),
        ]
        self.initial["functions"] = chosen
        self.initial["all_functions"] = "*" in self.instance.functions

    def clean_base_url(self) -> str:
        try:
            return web_address(self.cleaned_data["base_url"].strip())
        except ValueError as error:
            raise forms.ValidationError(
                "Give an address such as http://127.0.0.1:11434/v1, without a password in it."
            ) from error

    def clean_suggestions(self) -> list[dict[str, str]]:
        suggestions: list[dict[str, str]] = self.cleaned_data["suggestions"]
        if problems := suggestion_problems(suggestions):
            raise forms.ValidationError(problems)
        return suggestions

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        self._refuse_to_undo(cleaned.get("opened", ""))
        if cleaned.get("all_functions"):
            known = get_registry().functions
            chosen = cleaned.get("functions", [])
            named = [name for name in chosen if name in known and known[name].approval]
            cleaned["functions"] = ["*", *named]
        if cleaned.get("provider") in LLMS and "base_url" in cleaned and "parameters" in cleaned:
            for field, sentence in provider_problems(
                cleaned["provider"], cleaned.get("model", ""), cleaned["base_url"], cleaned["parameters"]
            ):
                self.add_error(field or None, sentence)
        return cleaned

    def _refuse_to_undo(self, opened: str) -> None:
        """Object if somebody else saved the agent since: every field of theirs would be set back to what it was.

        Who saves again after that has been told, and means it.
        """
        if not self.instance.pk or not self.changed_data:
            return
        # Locked until all is saved, so that of two who save in the same moment the second one sees the first.
        now = Agent.objects.select_for_update().values_list("updated_at", flat=True).get(pk=self.instance.pk)
        if opened == now.isoformat():
            return
        self.add_error(
            None,
            "This agent was changed by somebody else while you were editing it, so nothing was saved yet. "
            "What you typed is still here. Open the agent in another tab to see theirs. "
            "To replace all of it by what stands here, save again.",
        )
        data = QueryDict(mutable=True)
        data.update(self.data)
        data[self.add_prefix("opened")] = now.isoformat()
        self.data = data


class AgentRow(forms.ModelForm):  # type: ignore[type-arg]  # not subscriptable at run time
    """An agent in the list. What was not touched there is not saved, whoever else may have changed it meanwhile."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for field in self.fields.values():
            field.show_hidden_initial = True
