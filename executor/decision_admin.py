"""What people decided, for review: who let which call run, with what, and when."""

from __future__ import annotations

from django.contrib import admin
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from executor.models import ApprovalRule, Decision
from executor.review import ReviewedAdmin, block, json_block, mark
from users.models import User

#: The colour of a state, by the name that states of tasks have in it.
COLOURS = {
    Decision.Status.PENDING: "waiting",
    Decision.Status.DECIDED: "done",
    Decision.Status.EXPIRED: "failed",
    Decision.Status.WITHDRAWN: "stopped",
}


@admin.register(Decision)
class DecisionAdmin(ReviewedAdmin):
    list_display = ("state", "kind", "about", "person", "who", "created_at", "decided_at")
    open_columns = ("status", "kind", "choice", "task")
    list_filter = ("status", "kind", "choice", "created_at")
    list_select_related = ("task__user", "step", "decided_by")
    search_fields = ("=task__id", "^step__name", "^task__user__username")
    search_help_text = "By function, number of the task, or user name."
    ordering = ("-pk",)
    actions = None
    fieldsets = (
        (None, {"fields": ("state", "kind", "about", "asker", "person", "task_link")}),
        ("Asked", {"fields": ("asked", "limit", "created_at", "expires_at")}),
        ("Decided", {"fields": ("choice", "changed", "said", "who", "decided_at", "consumed_at")}),
    )
    readonly_fields = ("state", "about", "asker", "person", "task_link", "asked", "limit", "changed", "said", "who")

    def owner(self, obj: Decision) -> User:
        return obj.task.user

    def lookup_allowed(self, lookup: str, value: object, request: HttpRequest | None = None) -> bool:
        return lookup == "task__id__exact" or super().lookup_allowed(lookup, value, request)

    @admin.display(description="state", ordering="status")
    def state(self, decision: Decision) -> SafeString:
        decided = decision.status == Decision.Status.DECIDED
        label = decision.get_choice_display() if decided else decision.get_status_display()
        return mark(COLOURS[Decision.Status(decision.status)], str(label))

    @admin.display(description="about", ordering="step__name")
    def about(self, decision: Decision) -> str:
        return decision.step.name if decision.step else "the task"

    @admin.display(description="asked by")
    def asker(self, decision: Decision) -> str:
        task = decision.task
        return f"{task.agent_version}, for {task.parent.agent_version}" if task.parent else str(task.agent_version)

    @admin.display(description="whose", ordering="task__user__username")
    def person(self, decision: Decision) -> str:
        return decision.task.user.username

    @admin.display(description="decided by", ordering="decided_by__username")
    def who(self, decision: Decision) -> str:
        return decision.decided_by.username if decision.decided_by else ""

    @admin.display(description="task")
    def task_link(self, decision: Decision) -> SafeString:
        url = reverse("admin:executor_task_change", args=[decision.task_id])
        return format_html('<a href="{}">{}</a>', url, decision.task_id)

    @admin.display(description="arguments")
    def asked(self, decision: Decision) -> SafeString:
        return json_block(decision.step.arguments if decision.step else None)

    @admin.display(description="details")
    def limit(self, decision: Decision) -> SafeString:
        return json_block(decision.details)

    @admin.display(description="changed to")
    def changed(self, decision: Decision) -> SafeString:
        return json_block(decision.arguments)

    @admin.display(description="note")
    def said(self, decision: Decision) -> SafeString:
        return block(decision.note)


@admin.register(ApprovalRule)
class ApprovalRuleAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # not subscriptable at run time
    """What people always allow. Deleting a rule lets the person be asked again."""

    list_display = ("function", "user", "created_at")
    list_filter = ("function",)
    search_fields = ("function", "user__username")
    list_select_related = ("user",)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False
