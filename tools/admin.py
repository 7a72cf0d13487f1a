"""Functions and resources in Django admin, both to be looked at only. Kept results can be cleared."""

import json
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import path
from django.views.decorators.http import require_POST

from tools import cache
from tools.models import FunctionOverview, Resource
from tools.registry import fresh_registry
from tools.sandbox import availability

CLEAR = "tools.delete_cachedresult"


class ReadOnlyAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # not subscriptable at run time
    """What the program made stays as it was made."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(FunctionOverview)
class FunctionsAdmin(ReadOnlyAdmin):
    """One page: every function with its schema, and every problem met while looking for them."""

    def get_urls(self) -> list[Any]:
        # None of admin's others: there are no rows to look at.
        view = self.admin_site.admin_view
        return [
            path("", view(self.changelist_view), name="tools_functionoverview_changelist"),
            path("clear/", view(require_POST(self.clear_view)), name="tools_functionoverview_clear"),
        ]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        registry, kept = fresh_registry(), cache.kept()
        availability()  # Tried by the first who looks: it is what `why_not_here` tells.
        context = {
            **self.admin_site.each_context(request),
            "title": "Functions",
            "opts": self.opts,
            "functions": [
                (
                    function,
                    json.dumps(function.parameters, indent=2, ensure_ascii=False, default=str),
                    kept.get(function.name),
                )
                for function in registry.functions.values()
            ],
            "problems": registry.problems,
            "kept": sum(of_function.number for of_function in kept.values()),
            "may_clear": request.user.has_perm(CLEAR),
        }
        return TemplateResponse(request, "admin/tools/functions.html", context)

    def clear_view(self, request: HttpRequest) -> HttpResponse:
        """Forget the kept results of one function or, without a name, of all."""
        if not request.user.has_perm(CLEAR):
            raise PermissionDenied
        name = request.POST.get("function", "")[:64].replace("\x00", "")
        number = cache.clear(name)
        results = "result was" if number == 1 else "results were"
        messages.success(request, f"{number} kept {results} cleared{f' of {name}' if name else ''}.")
        return redirect("admin:tools_functionoverview_changelist")


@admin.register(Resource)
class ResourceAdmin(ReadOnlyAdmin):
    """What there is, whose it is and how large; not what is in it, which belongs to its owner."""

    list_display = ("name", "media_type", "size", "owner", "created_at")
    list_filter = ("media_type", "created_at")
    list_select_related = ("owner",)
    search_fields = ("name", "=task_id", "owner__username")
    date_hierarchy = "created_at"
    exclude = ("file",)
