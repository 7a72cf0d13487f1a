"""Reading what other people said to agents: who may, and the record of each time somebody does.

Lists show to everybody on the staff that there is something, whose it is and how it went. What was said takes the
permission, and a row in `ReviewLog` for each look.
"""

from __future__ import annotations

import json
from typing import Any

from django.contrib.admin import ShowFacets
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from executor.models import ReviewLog
from tools.admin import ReadOnlyAdmin
from users.models import User

#: It is about conversations, so it is named and kept there; tasks are read by the same people.
PERMISSION = "conversations.review_conversation"


def may_review(request: HttpRequest) -> bool:
    return bool(request.user.has_perm(PERMISSION))


def log_look(request: HttpRequest, owner: User | None, what: str) -> None:
    """Looks at one's own are nobody's business. `owner` is None for a list of several people's."""
    reviewer = request.user
    if not isinstance(reviewer, User) or owner == reviewer:
        return
    ReviewLog.objects.create(
        reviewer=reviewer,
        reviewer_name=reviewer.username,
        owner=owner,
        owner_name=owner.username if owner else "",
        what=what[:200],
        path=request.get_full_path()[:500],
    )


class ReviewedAdmin(ReadOnlyAdmin):
    """Rows of which some columns are what people said."""

    #: Columns of the list, and fields for the search, that only reviewers get.
    content_columns: tuple[str, ...] = ()
    content_search: tuple[str, ...] = ()
    #: Columns that everybody on the staff may filter by.
    open_columns: tuple[str, ...] = ()
    #: Large columns that the list does not show.
    deferred: tuple[str, ...] = ()
    show_full_result_count = False
    show_facets = ShowFacets.NEVER
    view_on_site = False
    list_per_page = 50

    def owner(self, obj: Any) -> User:
        raise NotImplementedError

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        allowed = super().has_view_permission(request, obj)
        return allowed and (obj is None or may_review(request) or self.owner(obj) == request.user)

    def get_queryset(self, request: HttpRequest) -> Any:
        found = super().get_queryset(request)
        match = request.resolver_match
        is_list = match is not None and (match.url_name or "").endswith("_changelist")
        return found.defer(*self.deferred) if is_list else found

    def get_list_display(self, request: HttpRequest) -> Any:
        columns = super().get_list_display(request)
        return columns if may_review(request) else [name for name in columns if name not in self.content_columns]

    def get_search_fields(self, request: HttpRequest) -> Any:
        return [*super().get_search_fields(request), *(self.content_search if may_review(request) else ())]

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest | None = None) -> bool:
        """Admin lets any column be asked for in the address; whoever may not read it may not guess at it either."""
        if not super().lookup_allowed(lookup, value, request):  # type: ignore[arg-type]
            return False
        return request is None or may_review(request) or lookup.partition("__")[0] in self.open_columns

    def get_actions(self, request: HttpRequest) -> Any:
        # The box that selects a row has its name, and that begins with what was said.
        return super().get_actions(request) if may_review(request) else {}

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        response = super().changelist_view(request, extra_context)
        if request.method == "GET" and response.status_code == 200 and self.content_columns and may_review(request):
            log_look(request, None, f"List of {self.opts.verbose_name_plural}")
        return response

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> HttpResponse:
        obj = context["original"]
        log_look(request, self.owner(obj), f"{str(self.opts.verbose_name).capitalize()} {obj.pk}")
        return super().render_change_form(request, context, *args, **kwargs)


# --- how rows look ---------------------------------------------------------------------------------------------------


def mark(state: str, label: str) -> SafeString:
    """A coloured dot and a word; the colour is never all there is."""
    return format_html('<span class="state-mark state-{}">{}</span>', state, label)


def block(text: str) -> SafeString:
    return format_html('<pre class="said">{}</pre>', text) if text else SafeString("–")


def json_block(value: Any) -> SafeString:
    return block(json.dumps(value, indent=2, ensure_ascii=False)) if value not in (None, {}, []) else SafeString("–")
