"""The form in which an administrator edits an agent. What it refuses, `load_agents` refuses in the same words."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cached_property
from typing import Any

from django import forms
from django.http import QueryDict
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from executor.agent_rules import provider_problems, schema_problems, suggestion_problems, web_address
from executor.approvals import ALWAYS, NEVER
from executor.core.fields import Place
from executor.core.llms.factory import LLMS
from executor.core.llms.known_models import known_models
from executor.fallbacks import candidates
from executor.json_field import JsonField
from executor.models import Agent
from executor.parameter_fields import ParameterField, field_name, is_parameter_field, parameter_fields
from executor.stored import clean_json
from tools.registry import fresh_registry


class OpenedField(forms.CharField):
    """When the row that the form shows was last changed, carried along unseen."""

    def __init__(self) -> None:
        super().__init__(required=False, widget=forms.HiddenInput)

    def has_changed(self, initial: Any, data: Any) -> bool:
        return False  # It is not a thing to save.


class ModelNameInput(forms.TextInput):
    """Suggests the names that are known of each provider; any other one can be typed. See static/js/agent_form.js."""

    def render(self, name: str, value: Any, attrs: Any = None, renderer: Any = None) -> SafeString:
        lists = format_html_join(
            "",
            '<datalist id="{}">{}</datalist>',
            (
                (suggestions_id(provider), format_html_join("", '<option value="{}">', ((name,) for name in known)))
                for provider, known in known_models().items()
            ),
        )
        return format_html("{}{}", super().render(name, value, attrs, renderer), lists)


def suggestions_id(provider: str) -> str:
    return f"models-{provider}"


class FallbackField(forms.ModelChoiceField):  # type: ignore[type-arg]  # not subscriptable at run time
    def label_from_instance(self, agent: Any) -> str:
        return f"{agent.title}" if agent.enabled else f"{agent.title} (switched off: takes over from nobody)"


class AgentForm(forms.ModelForm):  # type: ignore[type-arg]  # not subscriptable at run time
    opened = OpenedField()
    model = forms.CharField(
        required=False,
        max_length=120,
        widget=ModelNameInput(attrs={"class": "vTextField", "autocomplete": "off"}),
        help_text="As the provider spells it. Names that are known are suggested.",
    )
    base_url = forms.CharField(
        label="Address",
        required=False,
        max_length=300,
        widget=forms.TextInput(attrs={"class": "vTextField", "placeholder": "http://127.0.0.1:11434/v1"}),
        help_text="Where an OpenAI-compatible server answers, with its /v1. For any other provider: a gateway or proxy "
        "that answers as it does; empty for its own address.",
    )
    fallback = FallbackField(
        queryset=Agent.objects.none(),
        required=False,
        empty_label="None: the task waits, then fails",
        help_text="The agent whose model takes over when this one’s provider does not answer.",
    )
    response_schema = JsonField(
        shape=dict,
        optional=True,
        label="Form of answers",
        widget=forms.Textarea(attrs={"rows": 5, "class": "vLargeTextField json"}),
        help_text="JSON Schema that every answer must fit, for agents that programs talk to. Empty: answers are free. "
        "An answer that does not fit goes back to the model with what is wrong, twice at most.",
    )
    all_functions = forms.BooleanField(
        required=False, help_text="Also those that are added later. The choice below does not count then."
    )
    functions = forms.MultipleChoiceField(
        required=False, widget=forms.CheckboxSelectMultiple, help_text="What this agent may call."
    )
    always_ask = forms.CharField(
        required=False,
        widget=forms.TextInput(attrs={"class": "vTextField"}),
        help_text="Functions that the person is asked about each time, also where they said “always”: names with "
        "commas between them, * for all others. Empty: as each function says; those that may do harm ask.",
    )
    never_ask = forms.CharField(
        required=False,
        widget=forms.TextInput(attrs={"class": "vTextField"}),
        help_text="Functions that run without asking although they may do harm.",
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
            *("provider", "model", "base_url", "api_key_variable", "fallback", "response_schema", "instructions"),
            *("functions", "on_unknown", "max_iterations", "max_seconds", "max_tool_calls", "max_tokens", "max_cost"),
            *("input_price", "output_price", "suggestions"),
        )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk:
            self.initial["opened"] = self.instance.updated_at.isoformat()
        self.saved_parameters = dict(self.instance.parameters)
        self._add_model_fields()
        self._add_function_fields()

    def _add_model_fields(self) -> None:
        if "provider" not in self.fields:
            return  # Somebody who may only look.
        self.fields.update(parameter_fields(self.instance.provider, self.saved_parameters))
        if isinstance(fallback := self.fields.get("fallback"), forms.ModelChoiceField):
            fallback.queryset = candidates(self.instance)
        if self.instance.provider and self.instance.provider not in LLMS:
            self.fields["provider"].help_text = (
                f"Its provider is “{self.instance.provider}”, of which there is no class now. "
                "Choose another one, or see to the setting MODEL_CLASSES."
            )
        if "model" in self.fields:
            self.fields["model"].widget.attrs["list"] = suggestions_id(self["provider"].value() or "")

    def _add_function_fields(self) -> None:
        registry = fresh_registry()
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
        for name, policy in (("always_ask", ALWAYS), ("never_ask", NEVER)):
            self.initial[name] = ", ".join(
                function for function, said in self.instance.approvals.items() if said == policy
            )
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
            cleaned["functions"] = ["*"]
        if "always_ask" in self.fields:
            self._clean_approvals(cleaned)
        if (cleaned.get("input_price") is None) != (cleaned.get("output_price") is None):
            empty = "input_price" if cleaned.get("input_price") is None else "output_price"
            if not {"input_price", "output_price"} & self.errors.keys():
                self.add_error(empty, "Give both prices, or none.")
        self._add_errors(schema_problems(cleaned.get("response_schema")))
        if cleaned.get("provider") in LLMS:
            self._clean_parameters(cleaned["provider"], cleaned)
        return cleaned

    def _clean_approvals(self, cleaned: dict[str, Any]) -> None:
        approvals: dict[str, str] = {}
        for name, policy in (("always_ask", ALWAYS), ("never_ask", NEVER)):
            for function in re.split(r"[\s,]+", cleaned.get(name, "").strip(", ")):
                if function in approvals:
                    self.add_error(name, f"{function} stands in both fields. Leave it in one.")
                elif function and function != "*" and fresh_registry().unknown([function]):
                    self.add_error(name, f"There is no function {function}.")
                elif function:
                    approvals[function] = policy
        self.instance.approvals = approvals

    def _clean_parameters(self, provider: str, cleaned: dict[str, Any]) -> None:
        """Those of the chosen provider are the agent's; what stands in the fields of another one is not looked at."""
        parameters = {}
        for name, field in self.fields.items():
            if isinstance(field, ParameterField) and name == field_name(provider, field.parameter.name):
                try:
                    value = field.read(cleaned.get(name, ""))
                except forms.ValidationError as error:
                    self.add_error(name, error)
                    continue
                if value is not None:
                    parameters[field.parameter.name] = value
        self.instance.parameters = clean_json(parameters)
        if {"base_url", "model"} & self.errors.keys():
            return
        self._add_errors(
            provider_problems(provider, cleaned.get("model", ""), cleaned.get("base_url", ""), self.instance.parameters)
        )

    def _add_errors(self, problems: Iterable[tuple[Place, str]]) -> None:
        for place, sentence in problems:
            match place:
                case ("parameters", *_):
                    # Of those that do not go together, the sentence names one first.
                    about = place[1] if len(place) > 1 else sentence.partition(" ")[0]
                    name = field_name(self.cleaned_data["provider"], str(about))
                    self.add_error(name if name in self.fields else None, sentence)
                case (str(name),):
                    self.add_error(name, sentence[:1].upper() + sentence[1:])
                case _:
                    self.add_error(None, sentence)

    @cached_property
    def changed_data(self) -> list[str]:
        """Without what was typed into the fields of a provider that is not the chosen one."""
        chosen = self["provider"].value() if "provider" in self.fields else ""
        mine = field_name(str(chosen), "")
        return [name for name in super().changed_data if not is_parameter_field(name) or name.startswith(mine)]

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
