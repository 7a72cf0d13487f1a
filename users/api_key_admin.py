"""API keys in Django admin: that they exist, never what they are. Staff add the site's keys and revoke anybody's."""

from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.views.decorators.debug import sensitive_post_parameters

from users import api_keys, vault
from users.models import ApiKey

ON_TRIAL = "The key that is there is used until the new one has passed its test."


class SharingForm(forms.ModelForm):  # type: ignore[type-arg]  # not subscriptable at run time
    """Who may use a key of the site."""

    class Meta:
        model = ApiKey
        fields = ("label", "restricted", "groups")
        widgets = {"groups": forms.CheckboxSelectMultiple}

    def clean(self) -> dict[str, Any]:
        restricted, groups = self.cleaned_data.get("restricted"), self.cleaned_data.get("groups")
        if groups and not restricted:
            self.add_error("restricted", "Tick this as well, or take out the groups to let everybody use it.")
        if restricted and not groups and self.instance.pk is None:
            self.add_error("groups", "Choose a group, or untick the restriction to let everybody use it.")
        return self.cleaned_data


class NewKeyForm(SharingForm):
    """A new key of the site. It takes the place of the one for the same provider and address, if there is one, when it
    has passed its test."""

    key = forms.CharField(
        strip=False,
        max_length=api_keys.LONGEST,
        widget=forms.PasswordInput(attrs={"autocomplete": "off", "class": "vTextField"}),
        help_text="It is stored encrypted and never shown again. "
        "It is tested at once. The site's key for the same provider and address, if there is one, is used until then, "
        "and revoked if this one works.",
    )

    class Meta(SharingForm.Meta):
        fields = ("provider", "base_url", *SharingForm.Meta.fields)  # type: ignore[assignment]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        choices = {name: label for providers in api_keys.PROVIDERS for name, label in providers().items()}
        self.fields["provider"] = forms.ChoiceField(choices=[("", "Choose one"), *choices.items()])

    def clean_base_url(self) -> str:
        try:
            return api_keys.address(self.cleaned_data["base_url"])
        except ValueError as error:
            raise forms.ValidationError(str(error)) from error

    def clean_key(self) -> str:
        if problem := api_keys.looks_like_a_key(self.cleaned_data["key"]):
            raise forms.ValidationError(problem)
        try:
            vault.keyring()
        except vault.KeyringError as error:
            raise forms.ValidationError(f"No key can be stored now. {error}.") from error
        return str(self.cleaned_data["key"])


@admin.register(ApiKey)
class ApiKeyAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # not subscriptable at run time
    list_display = ("__str__", "whose", "base_url", "label", "state", "last_used_at", "created_at")
    list_filter = ("provider", ("owner", admin.EmptyFieldListFilter), ("revoked_at", admin.EmptyFieldListFilter))
    list_select_related = ("owner",)
    search_fields = ("owner__username", "provider", "base_url", "label", "fingerprint")
    ordering = ("-created_at", "-pk")
    actions = ("test", "revoke")
    history = (
        *("whose", "provider", "base_url", "fingerprint", "state", "check_problem", "check_note", "checked_at"),
        *("last_used_at", "created_at", "changed_at", "revoked_at"),
    )

    def get_form(self, request: HttpRequest, obj: ApiKey | None = None, change: bool = False, **kwargs: Any) -> Any:
        form = SharingForm if obj else NewKeyForm
        return super().get_form(request, obj, change, **{**kwargs, "form": form})

    def get_fields(self, request: HttpRequest, obj: ApiKey | None = None) -> Any:
        sharing = ("label", "restricted", "groups") if not obj or obj.owner_id is None else ("label",)
        return (*self.history, *sharing) if obj else ("provider", "base_url", "key", *sharing)

    def get_readonly_fields(self, request: HttpRequest, obj: ApiKey | None = None) -> Any:
        return self.history if obj else ()

    def has_change_permission(self, request: HttpRequest, obj: ApiKey | None = None) -> bool:
        """People's own keys are theirs, and what is revoked is history. Revoking (obj None) is for all."""
        editable = obj is None or (obj.owner_id is None and obj.revoked_at is None)
        return editable and super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: ApiKey | None = None) -> bool:
        return False  # What was spent with it must still have a name.

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest) -> bool:
        # An address like ?secret__startswith=… would tell, letter by letter, what no page shows.
        return lookup.partition("__")[0] != "secret" and super().lookup_allowed(lookup, value, request)

    @method_decorator(sensitive_post_parameters())
    def add_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return super().add_view(request, *args, **kwargs)

    def save_model(self, request: HttpRequest, obj: ApiKey, form: Any, change: bool) -> None:
        if change:
            obj.changed_at = timezone.now()
            obj.save(update_fields=["label", "restricted", "changed_at"])
            return
        data = form.cleaned_data
        groups = data["groups"]
        place = data["provider"], data["key"], data["base_url"], data["label"]
        added = api_keys.add(None, *place, groups, on_trial=True)
        api_keys.have_tested(added)
        if added.on_trial:
            self.message_user(request, ON_TRIAL)
        obj.pk = added.pk
        obj.refresh_from_db()

    @admin.display(description="whose", ordering="owner__username")
    def whose(self, key: ApiKey) -> str:
        return key.owner.username if key.owner else "the site's"

    @admin.action(description="Test selected keys", permissions=["change"])
    def test(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        tested = list(queryset.filter(revoked_at=None))
        for key in tested:
            api_keys.have_tested(key)
        self.message_user(request, f"{len(tested)} are being tested. Look at this page again in a moment.")

    @admin.action(description="Revoke selected keys for good", permissions=["change"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        revoked = [key for key in queryset if api_keys.revoke(key)]
        for key in revoked:
            self.log_change(request, key, "Revoked.")
        self.message_user(request, f"{len(revoked)} revoked.")
