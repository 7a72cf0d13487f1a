"""The page of a person in Django admin, with what their tasks used today."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.template.defaultfilters import filesizeformat

from executor import accounts, money
from executor.accounts import DayLimits
from tools.resources import Quota
from users.admin import LIMITS, UserAdmin
from users.models import User

_TOLD = ("in_force", "used_today", "kept_files")

admin.site.unregister(User)


@admin.register(User)
class PersonAdmin(UserAdmin):
    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> Any:
        return (*super().get_readonly_fields(request, obj), *_TOLD)

    def get_fieldsets(self, request: HttpRequest, obj: User | None = None) -> Any:
        return [
            (name, {**options, "fields": (*options["fields"], *_TOLD)} if name == LIMITS else options)
            for name, options in super().get_fieldsets(request, obj)
        ]

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        least = {"min_value": 0} if db_field.name == "max_cost_per_day" else {}
        return super().formfield_for_dbfield(db_field, request, **kwargs, **least)

    @admin.display(description="in force")
    def in_force(self, person: User) -> str:
        limits = DayLimits.of(person)
        tokens = "" if limits.tokens is None else f"{limits.tokens:,} tokens"
        cost = "" if limits.cost is None else money.dollars(limits.cost)
        return " · ".join(filter(None, (tokens, cost))) or "No limit."

    @admin.display(description="files")
    def kept_files(self, person: User) -> str:
        quota = Quota.of(person)
        allowed = "" if quota.allowed is None else f" of {filesizeformat(quota.allowed)}"
        return f"{filesizeformat(quota.used)}{allowed}."

    @admin.display(description="used today")
    def used_today(self, person: User) -> str:
        account = accounts.used(person.pk, accounts.today())
        used = money.line(account.tokens, account.cost) if account.tokens or account.cost else "Nothing."
        held = money.line(account.reserved_tokens, account.reserved) if account.reserved_tokens else ""
        return f"{used} Held back for what is being asked: {held}." if held else used
