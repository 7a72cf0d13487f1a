"""Conversations in Django admin, for those who may review them; every look is on record (executor/review.py)."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import Count, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.utils.safestring import SafeString

from conversations.models import Conversation, Turn
from conversations.present import task_views
from executor.review import ReviewedAdmin
from users.models import User

#: How many turns a page shows, the newest ones.
TURNS_SHOWN = 100


@admin.register(Conversation)
class ConversationAdmin(ReviewedAdmin):
    list_display = ("active_at", "person", "title", "agent", "turn_count", "created_at", "deleted_at")
    content_columns = ("title",)
    open_columns = ("agent", "active_at", "deleted_at")
    list_display_links = ("active_at",)
    list_filter = ("agent", "active_at", ("deleted_at", admin.EmptyFieldListFilter))
    list_select_related = ("user", "agent")
    search_fields = ("=id", "^user__username")
    content_search = ("title", "turns__text")
    search_help_text = "By user name or number; with the permission to review also by title and by what was asked."
    ordering = ("-pk",)
    fieldsets = (
        (None, {"fields": ("person", "title", "agent", "created_at", "active_at", "seen_at", "deleted_at")}),
        ("Turns", {"fields": ("turn_list",)}),
    )
    readonly_fields = ("person", "turn_list")

    def owner(self, obj: Conversation) -> User:
        return obj.user

    def get_queryset(self, request: HttpRequest) -> QuerySet[Conversation]:
        turns = Turn.objects.filter(conversation=OuterRef("pk")).order_by().values("conversation")
        found: QuerySet[Conversation] = super().get_queryset(request)
        return found.annotate(turn_total=Coalesce(Subquery(turns.annotate(total=Count("pk")).values("total")), 0))

    @admin.display(description="person", ordering="user__username")
    def person(self, conversation: Conversation) -> str:
        return conversation.user.username

    @admin.display(description="turns", ordering="turn_total")
    def turn_count(self, conversation: Any) -> int:
        return int(conversation.turn_total)

    @admin.display(description="turns")
    def turn_list(self, conversation: Conversation) -> SafeString:
        newest = conversation.turns.select_related("task__agent_version").order_by("-position", "-pk")
        turns = list(newest[: TURNS_SHOWN + 1])
        shown = turns[:TURNS_SHOWN][::-1]
        views = task_views(turn.task for turn in shown)
        return render_to_string(
            "admin/conversations/_turns.html",
            {
                "turns": [(turn, views[turn.task_id]) for turn in shown],
                "more": len(turns) > TURNS_SHOWN,
                "limit": TURNS_SHOWN,
            },
        )
