"""Forms about people."""

from typing import Any

from allauth.account import forms as allauth_forms
from django import forms
from django.contrib.auth.forms import UserCreationForm

from users.models import User


class LoginForm(allauth_forms.LoginForm):  # type: ignore[misc]  # allauth carries no types
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Longer ones belong to nobody, and the database refuses to compare very long ones. The browser may fill in
        # what it remembers as the user name.
        self.fields["login"] = forms.CharField(
            label="User name or e-mail", max_length=254, widget=forms.TextInput(attrs={"autocomplete": "username"})
        )


class FirstAdminForm(UserCreationForm):  # type: ignore[type-arg]  # not subscriptable at run time
    class Meta:
        model = User
        fields = ("username", "email")


class SettingsForm(forms.ModelForm):  # type: ignore[type-arg]  # not subscriptable at run time
    """A person's own profile. A new e-mail address asks for the password, since it can reset the password."""

    current_password = forms.CharField(
        required=False,
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "current-password"}),
        help_text="Only needed to change the e-mail address.",
    )

    class Meta:
        model = User
        fields = ("display_name", "email")
        widgets = {
            "display_name": forms.TextInput(attrs={"autocomplete": "name"}),
            "email": forms.EmailInput(attrs={"autocomplete": "email"}),
        }

    def clean_email(self) -> str:
        return str(self.cleaned_data["email"]).lower()

    def clean(self) -> dict[str, Any]:
        super().clean()
        new_address = self.cleaned_data.get("email", self.initial["email"]) != self.initial["email"]
        if new_address and not self.instance.check_password(self.cleaned_data.get("current_password", "")):
            self.add_error("current_password", "Enter your current password to change the e-mail address.")
        return self.cleaned_data

    def save(self, commit: bool = True) -> User:
        person: User = self.instance
        person.save(update_fields=["display_name", "email"])
        return person
