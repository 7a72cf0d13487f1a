"""People in Django admin."""

from typing import Any

from allauth.account import admin as allauth_admin
from allauth.account.models import EmailAddress
from django.contrib import admin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.views.decorators.cache import never_cache

from users import api_key_admin  # noqa: F401  (it registers itself)
from users.models import User

# A person has one address, `User.email`. Importing allauth's admin first makes sure that there is something to remove.
assert allauth_admin
admin.site.unregister(EmailAddress)


LIMITS = "Limits"


@never_cache
def login(request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
    """Admin has no log-in of its own: only the site's counts failures."""
    index = reverse("admin:index")
    if admin.site.has_permission(request):
        return redirect(index)
    if request.user.is_authenticated:
        raise PermissionDenied
    return redirect_to_login(request.GET.get("next") or index)


admin.site.login = login  # type: ignore[method-assign]


@admin.register(User)
class UserAdmin(DjangoUserAdmin):  # type: ignore[type-arg]  # not subscriptable at run time
    list_display = ("username", "display_name", "email", "is_active", "is_staff", "last_login", "date_joined")
    list_filter = ("is_active", "is_staff", "is_superuser", "groups", "last_login")
    search_fields = ("username", "display_name", "email")
    ordering = ("username",)
    actions = ("suspend", "readmit")
    fieldsets = (
        (None, {"fields": ("username", "password")}),
        ("Person", {"fields": ("display_name", "email")}),
        ("Rights", {"fields": ("is_active", "is_staff", "is_superuser", "groups", "user_permissions")}),
        (
            LIMITS,
            {
                "description": "What their tasks may use on a day, whoever’s key they use (with 0 dollars, only what "
                "is free), and how much they may keep.",
                "fields": ("max_tokens_per_day", "max_cost_per_day", "max_files_mb"),
            },
        ),
        ("Dates", {"fields": ("last_login", "date_joined")}),
    )
    add_fieldsets = (
        (None, {"classes": ("wide",), "fields": ("username", "email", "usable_password", "password1", "password2")}),
    )
    readonly_fields = ("last_login", "date_joined")

    # Whoever may edit people must not be able to make themselves, or become, an administrator or another of the staff,
    # who may have rights that they do not have.

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> Any:
        fields = tuple(super().get_readonly_fields(request, obj))
        if request.user.is_superuser:
            return fields
        return (*fields, "is_staff", "is_superuser", "groups", "user_permissions")

    def has_change_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        return super().has_change_permission(request, obj) and self._may_touch(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        return super().has_delete_permission(request, obj) and self._may_touch(request, obj)

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """A person goes with everything that is theirs. How much that is is shown, but not what: it is private."""
        _, counts, _, protected = super().get_deleted_objects(objs, request)
        allowed = all(self.has_delete_permission(request, person) for person in objs)
        return [str(person) for person in objs], counts, set() if allowed else {"person"}, protected

    def _may_touch(self, request: HttpRequest, obj: User | None) -> bool:
        return request.user.is_superuser or obj is None or not (obj.is_staff or obj.is_superuser)

    @admin.action(description="Suspend selected people", permissions=["change"])
    def suspend(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        self._set_active(request, queryset, active=False)

    @admin.action(description="Let selected people back in", permissions=["change"])
    def readmit(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        self._set_active(request, queryset, active=True)

    def _set_active(self, request: HttpRequest, queryset: QuerySet[User], *, active: bool) -> None:
        # You cannot suspend yourself: it would be the last thing you did.
        people = [
            person for person in queryset if person != request.user and self.has_change_permission(request, person)
        ]
        for person in people:
            # One by one, because an update in bulk would not be heard (signals.py).
            person.is_active = active
            person.save(update_fields=["is_active"])
            self.log_change(request, person, "Let back in." if active else "Suspended.")
        self.message_user(request, f"{len(people)} {'let back in' if active else 'suspended'}.")
