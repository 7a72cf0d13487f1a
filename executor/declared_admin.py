"""Declared tasks in Django admin: who works on them, and whether they are offered. What they are is in files."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Count, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import redirect
from django.urls import path, reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from executor.declared import absent_agents, lacking, synchronise
from executor.models import Agent, DeclaredTask, DeclaredTaskVersion
from executor.review import block, json_block, mark
from executor.tasks_file import get_declared, reload_declared
from tools.admin import ReadOnlyAdmin


class VersionInline(admin.TabularInline):  # type: ignore[type-arg]  # not subscriptable at run time
    model = DeclaredTaskVersion
    fields = readonly_fields = ("version", "created_at", "what_steps", "used")
    extra = 0
    can_delete = False
    verbose_name_plural = "Versions: what it was, newest first"

    def get_queryset(self, request: HttpRequest) -> QuerySet[DeclaredTaskVersion]:
        found: QuerySet[DeclaredTaskVersion] = super().get_queryset(request)
        return found.annotate(task_total=Count("tasks"))

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @admin.display(description="version")
    def version(self, version: DeclaredTaskVersion) -> SafeString:
        url = reverse("admin:executor_declaredtaskversion_change", args=[version.pk])
        return format_html('<a href="{}">{}</a>', url, version.number)

    @admin.display(description="steps")
    def what_steps(self, version: DeclaredTaskVersion) -> str:
        return _step_names(version.declaration)

    @admin.display(description="started")
    def used(self, version: Any) -> str:
        return f"{version.task_total:,}"


@admin.register(DeclaredTask)
class DeclaredTaskAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # not subscriptable at run time
    change_list_template = "admin/executor/declared_tasks.html"
    inlines = (VersionInline,)
    list_display = ("title", "command", "step_names", "who", "version_count", "task_count", "enabled", "state")
    list_editable = ("enabled",)
    list_filter = ("enabled", "agent")
    list_select_related = ("agent",)
    search_fields = ("name", "title", "description")
    actions = None
    fieldsets = (
        (None, {"fields": ("title", "command", "description", "state", "source")}),
        (
            "Here",
            {"description": "What is set here stays as it is when the file changes.", "fields": ("enabled", "agent")},
        ),
        ("What it asks for", {"fields": ("inputs",)}),
        ("Steps", {"fields": ("steps", "answer")}),
    )
    readonly_fields = ("title", "command", "description", "state", "source", "inputs", "steps", "answer")

    # --- what may be done --------------------------------------------------------------------------------------------

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False  # It would come back with its file, and tasks keep its versions.

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name == "agent":
            kwargs["queryset"] = Agent.objects.filter(owner=None)
            kwargs["empty_label"] = "The agent that the person talks to"
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def save_model(self, request: HttpRequest, obj: DeclaredTask, form: Any, change: bool) -> None:
        """Only what was changed: the rest may have come from its file meanwhile."""
        if changed := [name for name in form.changed_data if name in ("enabled", "agent")]:
            obj.save(update_fields=[*changed, "updated_at"])

    def get_urls(self) -> list[Any]:
        reload = self.admin_site.admin_view(self.reload)
        return [path("reload/", reload, name="executor_declaredtask_reload"), *super().get_urls()]

    def reload(self, request: HttpRequest) -> HttpResponse:
        """Read the files again."""
        if not self.has_change_permission(request):
            raise PermissionDenied
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        problems = reload_declared().problems
        changed = synchronise()
        told = ", ".join(f"{name} {outcome}" for name, outcome in changed) or "nothing has changed"
        self.message_user(request, f"The files were read: {told}.", messages.SUCCESS)
        if problems:
            said = "1 mistake is" if len(problems) == 1 else f"{len(problems)} mistakes are"
            self.message_user(request, f"{said} listed below.", messages.WARNING)
        return redirect("admin:executor_declaredtask_changelist")

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        more = {"problems": get_declared().problems, "may_reload": self.has_change_permission(request)}
        return super().changelist_view(request, {**more, **(extra_context or {})})

    def get_queryset(self, request: HttpRequest) -> QuerySet[DeclaredTask]:
        found: QuerySet[DeclaredTask] = super().get_queryset(request)
        return found.annotate(
            version_total=Count("versions", distinct=True), task_total=Count("versions__tasks", distinct=True)
        )

    # --- how it looks ------------------------------------------------------------------------------------------------

    @admin.display(description="command", ordering="name")
    def command(self, declared: DeclaredTask) -> SafeString:
        return format_html("<code>/{}</code>", declared.name)

    @admin.display(description="steps")
    def step_names(self, declared: DeclaredTask) -> str:
        return _step_names(declared.declaration)

    @admin.display(description="agent", ordering="agent__title")
    def who(self, declared: DeclaredTask) -> str:
        return declared.agent.title if declared.agent else "the person’s choice"

    @admin.display(description="versions", ordering="version_total")
    def version_count(self, declared: Any) -> int:
        return int(declared.version_total)

    @admin.display(description="started", ordering="task_total")
    def task_count(self, declared: Any) -> SafeString:
        url = f"{reverse('admin:executor_task_changelist')}?declared__task__id__exact={declared.pk}"
        return format_html('<a href="{}">{}</a>', url, declared.task_total)

    @admin.display(description="state")
    def state(self, declared: DeclaredTask) -> SafeString:
        broken = any(problem.source == declared.source for problem in get_declared().problems)
        if declared.is_missing:
            why = "Its file has mistakes." if broken else "Nothing declares it any more."
            return mark("failed", f"{why} It is not offered.")
        if broken:
            return mark("needs_attention", "Its file has mistakes. The last good version is used.")
        if declared.agent and (names := lacking(declared, declared.agent)):
            return mark("needs_attention", f"Its agent may not call {', '.join(names)}. It is not offered.")
        if names := absent_agents(declared):
            return mark("needs_attention", f"It names agents that there are not: {', '.join(names)}.")
        return mark("done", "In order") if declared.enabled else mark("idle", "Not offered")

    @admin.display(description="inputs")
    def inputs(self, declared: DeclaredTask) -> SafeString:
        return _inputs(declared.declaration)

    @admin.display(description="steps")
    def steps(self, declared: DeclaredTask) -> SafeString:
        return _steps(declared.declaration)

    @admin.display(description="answer")
    def answer(self, declared: DeclaredTask) -> SafeString:
        if "class" in declared.declaration:
            return format_html("As its code says: <code>{}</code>", declared.declaration["class"])
        return block(declared.declaration.get("answer") or "What the last step wrote.")


@admin.register(DeclaredTaskVersion)
class DeclaredTaskVersionAdmin(ReadOnlyAdmin):
    list_display = ("__str__", "task", "number", "created_at")
    list_filter = ("task",)
    list_select_related = ("task",)
    show_full_result_count = False
    fields = ("task", "number", "created_at", "inputs", "steps", "whole")
    readonly_fields = ("inputs", "steps", "whole")

    @admin.display(description="inputs")
    def inputs(self, version: DeclaredTaskVersion) -> SafeString:
        return _inputs(version.declaration)

    @admin.display(description="steps")
    def steps(self, version: DeclaredTaskVersion) -> SafeString:
        return _steps(version.declaration)

    @admin.display(description="declaration")
    def whole(self, version: DeclaredTaskVersion) -> SafeString:
        return json_block(version.declaration)


def _step_names(declaration: dict[str, Any]) -> str:
    return " → ".join(step.get("name") or step["id"] for step in declaration.get("steps") or ())


def _inputs(declaration: dict[str, Any]) -> SafeString:
    inputs = declaration.get("inputs") or ()
    if not inputs:
        return SafeString("Nothing.")
    rows = format_html_join(
        "",
        "<tr><td><code>{}</code></td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
        (
            (
                asked["name"],
                asked.get("label", ""),
                _kind(asked),
                "required" if asked.get("required", True) and asked.get("default") is None else _default(asked),
                asked.get("help", ""),
            )
            for asked in inputs
        ),
    )
    head = "<tr><th>Name</th><th>Label</th><th>Kind</th><th>If it is left out</th><th>Help</th></tr>"
    return format_html('<table class="steps"><thead>{}</thead><tbody>{}</tbody></table>', SafeString(head), rows)


def _kind(asked: dict[str, Any]) -> str:
    kind = str(asked.get("kind", "text")).replace("_", " ")
    return f"{kind}: {', '.join(asked['choices'])}" if asked.get("choices") else kind


def _default(asked: dict[str, Any]) -> str:
    return "optional" if asked.get("default") is None else f"“{asked['default']}”"


def _steps(declaration: dict[str, Any]) -> SafeString:
    return format_html(
        '<ol class="declared-steps">{}</ol>',
        format_html_join("", "<li><h3>{} <code>{}</code></h3>{}{}{}</li>", map(_step, declaration.get("steps") or ())),
    )


def _step(step: dict[str, Any]) -> tuple[str, str, SafeString, SafeString, SafeString]:
    facts = [
        ("Needs", ", ".join(step.get("required_info") or ())),
        ("May call", ", ".join(step.get("functions") or ())),
        ("Agent", step.get("agent") or ""),
        ("Retries", str(step["retries"]) if step.get("retries", 1) != 1 else ""),
        ("Time limit", f"{step['timeout']:g} s" if step.get("timeout") else ""),
    ]
    told = format_html_join(" · ", "{}: {}", ((label, value) for label, value in facts if value))
    schema = step.get("output")
    return (
        step.get("name") or step["id"],
        step["id"],
        format_html('<p class="quiet">{}</p>', told) if told else SafeString(""),
        block(step["instruction"]) if step.get("instruction") else SafeString(""),
        format_html("<details><summary>Form of its output</summary>{}</details>", json_block(schema))
        if schema
        else SafeString(""),
    )
