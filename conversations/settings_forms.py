"""What people may enter about keys, servers and agents of their own, and how a key that was entered is kept."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from django import forms
from django.views.decorators.debug import sensitive_variables

from executor import probes
from executor.core.llms.factory import LLMS, llm_class
from executor.credentials import address_problem
from executor.models import Agent
from tools.registry import fresh_registry
from users import api_keys
from users.models import User, validate_single_line
from users.vault import KeyringError

#: What a server speaks if nobody says otherwise.
USUAL = "openai_compatible"


def key_providers() -> list[str]:
    """The providers that nothing can be asked of without a key."""
    return [name for name in LLMS if llm_class(name).needs_key]


class SecretField(forms.CharField):
    """A key: never rendered back, and checked as far as that goes without asking anybody."""

    def __init__(self, **kwargs: Any) -> None:
        attrs = {"autocomplete": "off", "spellcheck": "false", "data-1p-ignore": "", "data-lpignore": "true"}
        # Wrong lengths are refused by `looks_like_a_key`, in a sentence of its own.
        super().__init__(strip=False, widget=forms.PasswordInput(attrs=attrs), **kwargs)

    def clean(self, value: Any) -> str:
        secret = api_keys.tidy(str(super().clean(value) or ""))
        if (self.required or secret) and (problem := api_keys.looks_like_a_key(secret)):
            raise forms.ValidationError(problem)
        return secret


#: How keys begin that everybody knows; the longer beginning first. Not those of gateways.
_BEGINNINGS = {"sk-ant-": "claude", "sk-or-": "", "sk-": "gpt", "AIza": "gemini"}


class KeyForm(forms.Form):
    secret = SecretField(label="Key", error_messages={"required": "Enter the key."})
    anyway = forms.BooleanField(label="Use it anyway", required=False)
    asks_anyway = False

    def refuse_to_replace(self, there: api_keys.KeyThere) -> None:
        self.add_error("secret", str(there))

    def doubt(self, provider: str) -> bool:
        """Whether this looks like a key of another provider than `provider`, and the person has not said that it is
        meant. The form says so, before anything is sent anywhere."""
        begins = (name for start, name in _BEGINNINGS.items() if self.cleaned_data["secret"].startswith(start))
        other = next(begins, "")
        if self.cleaned_data["anyway"] or other in ("", provider) or other not in LLMS:
            return False
        self.asks_anyway = True
        self.add_error(
            "secret",
            f"This looks like a key of {llm_class(other).label}. Enter the right one, or this one again and tick “Use "
            "it anyway”.",
        )
        return True


class AddKeyForm(KeyForm):
    """`places` are those that keys can be added for: provider and address."""

    provider = forms.CharField(max_length=40, widget=forms.HiddenInput)
    base_url = forms.CharField(max_length=300, required=False, widget=forms.HiddenInput)

    def __init__(self, data: Any = None, *, places: Collection[tuple[str, str]]) -> None:
        super().__init__(data)
        self._places = places

    def clean(self) -> dict[str, Any]:
        super().clean()
        if (self.cleaned_data.get("provider"), self.cleaned_data.get("base_url")) not in self._places:
            raise forms.ValidationError("No key can be added there. Reload the page.")
        return self.cleaned_data


class ServerForm(forms.Form):
    base_url = forms.CharField(
        label="Address",
        max_length=300,
        widget=forms.URLInput(attrs={"autocomplete": "url", "inputmode": "url", "spellcheck": "false"}),
        help_text="As the server's own pages give it, most often with <code>/v1</code> at the end.",
        error_messages={"required": "Enter the address of the server.", "max_length": "This address is too long."},
    )
    secret = SecretField(label="Key", required=False, help_text="Only if the server wants one.")
    replace = forms.BooleanField(label="Replace the key that is there", required=False)
    provider = forms.ChoiceField(
        label="Format",
        required=False,
        help_text="What the server speaks: nearly always the first.",
        error_messages={"invalid_choice": "Choose one from the list."},
    )

    def __init__(self, data: Any = None, *, user: User) -> None:
        super().__init__(data)
        self._user = user
        provider = self.fields["provider"]
        assert isinstance(provider, forms.ChoiceField)
        provider.choices = formats()
        self._ask_to_replace = False

    def visible_fields(self) -> list[forms.BoundField]:
        """Whether to replace a key is asked only where there is one."""
        return [field for field in super().visible_fields() if field.name != "replace" or self._ask_to_replace]

    def refuse_to_replace(self, there: api_keys.KeyThere) -> None:
        """Ask first: a mistyped key must not cost the one that works."""
        fingerprint = there.fingerprint
        self._ask_to_replace = True
        self["replace"].label = f"Replace {fingerprint} when this one has passed its test"
        self.add_error(
            "secret",
            f"You have a key for this address already: {fingerprint}. Leave this empty to use that one, or enter the "
            "new key again and tick “Replace”.",
        )

    def clean_base_url(self) -> str:
        text: str = self.cleaned_data["base_url"]
        try:
            base_url = api_keys.address(text if "://" in text else f"https://{text}")
        except ValueError as error:
            raise forms.ValidationError(str(error)) from error
        if problem := address_problem(self._user, base_url):
            raise forms.ValidationError(problem)
        return base_url

    def clean_provider(self) -> str:
        return self.cleaned_data["provider"] or USUAL


def formats() -> list[tuple[str, str]]:
    """What servers speak: agent type and what people call it."""
    usual = [(USUAL, "OpenAI-compatible")]
    return usual + [(name, f"As {llm_class(name).label or name}") for name in key_providers()]


class OwnAgentForm(forms.ModelForm):  # type: ignore[type-arg]  # not subscriptable at run time
    class Meta:
        model = Agent
        fields = ("title", "instructions", "functions")
        labels = {"title": "Name"}
        widgets = {"instructions": forms.Textarea(attrs={"rows": 6})}
        help_texts = {"title": "", "instructions": "What the model is told before everything else."}
        error_messages = {"title": {"required": "An agent needs a name."}}

    functions = forms.MultipleChoiceField(
        required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text="What it may call. A small model does better with few of them, or none.",
        error_messages={"invalid_choice": "Choose functions from the list."},
    )

    def __init__(self, data: Any = None, *, instance: Agent) -> None:
        super().__init__(data, instance=instance)
        functions = self.fields["functions"]
        assert isinstance(functions, forms.MultipleChoiceField)
        # Only those that need nobody's agreement: naming one of the others is the administrator's agreement.
        harmless = fresh_registry().select(["*"], harmless=True)
        self._known = [function.name for function in harmless]
        functions.choices = [(function.name, function.title) for function in harmless]
        if "*" in instance.functions:
            self.initial["functions"] = self._known

    def clean_title(self) -> str:
        title = " ".join(str(self.cleaned_data["title"]).split())
        validate_single_line(title)
        return title

    def clean_functions(self) -> list[str]:
        chosen: list[str] = self.cleaned_data["functions"]
        return ["*"] if set(chosen) == set(self._known) else chosen

    def save(self, commit: bool = True) -> Agent:
        agent: Agent = self.instance
        agent.save(update_fields=["title", "instructions", "functions", "updated_at"])
        return agent


@sensitive_variables()
def store_key(form: KeyForm | ServerForm, user: User, place: tuple[str, str], *, replace: bool) -> bool:
    """Keep the key that was entered for `place` (provider and address), and have it tested. With `replace`, one that is
    there is used until then. False if it cannot be kept; the form says why."""
    provider, base_url = place
    try:
        key = api_keys.add(user, provider, form.cleaned_data["secret"], base_url, replace=replace, on_trial=replace)
    except api_keys.KeyThere as there:
        form.refuse_to_replace(there)
        return False
    except ValueError as error:
        form.add_error("secret", str(error))
        return False
    except KeyringError:
        form.add_error(None, "Keys cannot be stored at the moment: the site's keyring is wrong. Tell an administrator.")
        return False
    probes.ask_key_test(key)
    return True
