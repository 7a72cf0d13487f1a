"""Agents, and what they did, in Django admin. Agents are edited here; the rest is a record and is only read."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.utils import flatten_fieldsets
from django.db.models import Count, F, Max, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce, Now
from django.forms.widgets import Script
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from executor import money
from executor.actions import stop
from executor.agent_form import AgentForm, AgentRow
from executor.core.llms.factory import LLMS, llm_class
from executor.decision_admin import ApprovalRuleAdmin, DecisionAdmin
from executor.declared_admin import DeclaredTaskAdmin, DeclaredTaskVersionAdmin
from executor.durations import duration
from executor.mcp_admin import McpServerAdmin
from executor.models import ASKS, Agent, AgentVersion, ReviewLog, Step, Task, Worker
from executor.parameter_fields import field_name
from executor.people_admin import PersonAdmin
from executor.review import ReviewedAdmin, block, json_block, mark
from executor.states import state_of
from executor.usage import step_use
from executor.usage_admin import UsageAdmin
from tools.admin import ReadOnlyAdmin
from tools.registry import get_registry
from users.models import User

__all__ = [  # Admin finds them by way of this module.
    "ApprovalRuleAdmin",
    "DecisionAdmin",
    "DeclaredTaskAdmin",
    "DeclaredTaskVersionAdmin",
    "McpServerAdmin",
    "PersonAdmin",
    "UsageAdmin",
]

#: A worker beats every 5 s; after so long it is gone or stuck.
SILENT_AFTER = timedelta(seconds=20)
#: How many steps the page of a task lists; the list of steps has the others.
STEPS_SHOWN = 500


# --- agents ----------------------------------------------------------------------------------------------------------


class VersionInline(admin.TabularInline):  # type: ignore[type-arg]  # not subscriptable at run time
    model = AgentVersion
    fields = readonly_fields = ("version", "created_at", "provider", "model_name")
    extra = 0
    can_delete = False
    verbose_name_plural = "Versions: what it was, newest first"

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @admin.display(description="version")
    def version(self, version: AgentVersion) -> SafeString:
        return _link("executor_agentversion", version.pk, str(version.number))

    @admin.display(description="provider")
    def provider(self, version: AgentVersion) -> str:
        return str(version.config["provider"])

    @admin.display(description="model")
    def model_name(self, version: AgentVersion) -> str:
        return str(version.config["model"])


@admin.register(Agent)
class AgentAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # not subscriptable at run time
    form = AgentForm
    inlines = (VersionInline,)
    list_display = ("title", "name", "provider", "model", "whose", "position", "enabled", "task_count")
    list_editable = ("position", "enabled")
    list_filter = ("enabled", "provider", ("owner", admin.EmptyFieldListFilter))
    list_select_related = ("owner",)
    search_fields = ("name", "title", "description", "owner__username")
    readonly_fields = ("key_state", "function_problems", "whose")
    # The settings of each provider come behind "Model": see get_fieldsets.
    fieldsets = (
        (None, {"fields": ("name", "title", "description", "enabled", "position", "whose", "opened")}),
        (
            "Model",
            {
                "description": "Which language model answers. Each change that matters to it is kept as a version.",
                "fields": ("provider", "model", "base_url", "api_key_variable", "key_state"),
            },
        ),
        ("Instructions", {"fields": ("instructions",)}),
        (
            "Functions",
            {
                "description": "Python functions that the model may call. It learns of no others.",
                "fields": (
                    *("all_functions", "functions", "function_problems"),
                    *("always_ask", "never_ask", "on_unknown"),
                ),
            },
        ),
        (
            "Limits",
            {
                "description": "For one message, with everything that is done to answer it. "
                "At a limit the task waits, and its person says whether it may use more.",
                "fields": ("max_iterations", "max_seconds", "max_tool_calls", "max_tokens", "max_cost"),
            },
        ),
        ("When the provider does not answer", {"fields": ("fallback",)}),
        (
            "Price",
            {
                "description": "Only for a model that the built-in price list does not know, or of which it is wrong. "
                "Without any price, what it costs is shown as unknown.",
                "fields": ("input_price", "output_price"),
            },
        ),
        ("Form of answers", {"fields": ("response_schema",)}),
        ("Empty conversation", {"fields": ("suggestions",)}),
    )

    class Media:
        js = (Script("js/agent_form.js", type="module"),)

    def get_fieldsets(self, request: HttpRequest, obj: Agent | None = None) -> Any:
        first, model, *others = self.fieldsets
        if obj and not self.has_change_permission(request, obj):
            return [first, model, ("Settings of the provider", {"fields": ("parameters",)}), *others]
        shown = request.POST.get("provider") or (obj.provider if obj else request.GET.get("provider", ""))
        settings = [_provider_fieldset(name, shown=name == shown, agent=obj) for name in LLMS]
        return [first, model, *settings, *others]

    def get_form(self, request: HttpRequest, obj: Agent | None = None, change: bool = False, **kwargs: Any) -> Any:
        # The form itself adds the fields of the providers.
        return super().get_form(request, obj, change, **{**kwargs, "fields": flatten_fieldsets(self.fieldsets)})

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        """A new agent comes behind the others, so that the one that is preselected stays so."""
        last = Agent.objects.aggregate(last=Max("position"))["last"]
        position = {} if last is None else {"position": str(last + 1)}
        return {**position, **super().get_changeform_initial_data(request)}

    def get_queryset(self, request: HttpRequest) -> QuerySet[Agent]:
        tasks = Task.objects.filter(agent_version__agent=OuterRef("pk")).order_by().values("agent_version__agent")
        found: QuerySet[Agent] = super().get_queryset(request)
        return found.annotate(
            task_total=Coalesce(Subquery(tasks.annotate(total=Count("pk")).values("total")), 0),
        )

    def get_changelist_form(self, request: HttpRequest, **kwargs: Any) -> Any:
        return super().get_changelist_form(request, **{**kwargs, "form": AgentRow})

    def save_model(self, request: HttpRequest, obj: Agent, form: Any, change: bool) -> None:
        """Only what was changed. The forms see to it that nobody's change undoes somebody else's unnoticed."""
        if (not change or "api_key_variable" in form.changed_data) and not _is_set(obj.api_key_variable):
            warning = f"{obj.api_key_variable} is not set in this environment, so the agent has no key yet."
            self.message_user(request, f"{warning} Set it and start AgentSite again.", messages.WARNING)
        if not change:
            obj.save()
            return
        columns = {field.name for field in Agent._meta.concrete_fields}
        of_column = {"all_functions": "functions", "always_ask": "approvals", "never_ask": "approvals"}
        changed = {of_column.get(name, name) for name in form.changed_data} & columns
        if form.changed_data and obj.parameters != getattr(form, "saved_parameters", obj.parameters):
            changed.add("parameters")
        if changed:
            obj.save(update_fields=[*changed, "updated_at"])

    @admin.display(description="tasks", ordering="task_total")
    def task_count(self, agent: Any) -> SafeString:
        url = f"{reverse('admin:executor_task_changelist')}?agent_version__agent__id__exact={agent.pk}"
        return format_html('<a href="{}">{}</a>', url, agent.task_total)

    @admin.display(description="whose", ordering="owner__username")
    def whose(self, agent: Agent) -> str:
        return agent.owner.username if agent.owner else "everybody’s"

    @admin.display(description="key")
    def key_state(self, agent: Agent) -> SafeString:
        if not agent.pk:
            return mark("idle", "Told once the agent is saved.")
        if not agent.api_key_variable:
            needed = agent.provider in LLMS and llm_class(agent.provider).needs_key
            return mark("idle", "Each person’s own key, or the site’s." if needed else "None is needed.")
        if _is_set(agent.api_key_variable):
            return mark("done", f"{agent.api_key_variable} is set.")
        return mark("failed", f"{agent.api_key_variable} is not set. Set it and start AgentSite again.")

    @admin.display(description="problems")
    def function_problems(self, agent: Agent) -> SafeString:
        registry = get_registry()
        problems = [f"{name}: there is no such function at the moment." for name in registry.unknown(agent.functions)]
        problems += [str(problem) for problem in registry.problems]
        if not problems:
            return mark("done", "None: every function found can be called.")
        items = format_html_join("", "<li>{}</li>", ((problem,) for problem in problems))
        return format_html('<ul class="problems">{}</ul>', items)


def _is_set(variable: str) -> bool:
    return not variable or bool(os.environ.get(variable))


def _provider_fieldset(name: str, *, shown: bool, agent: Agent | None) -> tuple[str, dict[str, Any]]:
    """What can be set for one provider. Only the chosen one's is shown; see static/js/agent_form.js."""
    cls = llm_class(name)
    known = [parameter.name for parameter in cls.PARAMETERS]
    description = "What is left empty is as the provider has it."
    if address := getattr(cls, "default_base_url", ""):
        description += f" It is asked at {address} unless there is an address above."
    if shown and agent and agent.provider == name and (unknown := sorted(agent.parameters.keys() - known)):
        description += f" Not understood by it, and left out when you save: {', '.join(unknown)}."
    classes = ["provider-settings", f"provider-{name}", *([] if shown else ["other-provider"])]
    fields = [field_name(name, parameter) for parameter in known]
    return (
        f"Settings of {cls.label or name}",
        {"fields": fields, "classes": classes, "description": format_html("{}", description)},
    )


@admin.register(AgentVersion)
class AgentVersionAdmin(ReadOnlyAdmin):
    list_display = ("__str__", "agent", "number", "created_at")
    list_filter = ("agent",)
    list_select_related = ("agent",)
    show_full_result_count = False
    fields = ("agent", "number", "created_at", "settings")
    readonly_fields = ("settings",)

    @admin.display(description="settings")
    def settings(self, version: AgentVersion) -> SafeString:
        return json_block(version.config)


# --- what they did ---------------------------------------------------------------------------------------------------


@admin.register(Task)
class TaskAdmin(ReviewedAdmin):
    list_display = ("state", "person", "agents", "words", "step_count", "tokens", "price", "started_at", "duration")
    content_columns = ("words",)
    deferred = ("error_hint",)
    list_display_links = ("state",)
    list_filter = ("status", "agent_version__agent", "declared__task", "created_at")
    list_select_related = ("user", "agent_version", "parent__agent_version")
    search_fields = ("=id", "^user__username", "error_kind")
    content_search = ("error",)
    open_columns = ("status", "agent_version", "declared", "created_at", "parent")
    search_help_text = "By user name, number of the task, or error. To find words, search the conversations."
    ordering = ("-pk",)  # The time is in it.
    actions = ("stop",)
    fieldsets = (
        (None, {"fields": ("state", "person", "agent", "said", "failure")}),
        ("Steps", {"fields": ("steps", "checkpoint_count")}),
        ("Other agents", {"fields": ("given_by", "given")}),
        (
            "Use",
            {
                "fields": (
                    ("model_calls", "tool_calls", "failed_calls"),
                    ("input_tokens", "output_tokens", "cost", "unpriced_calls"),
                )
            },
        ),
        ("Times", {"fields": (("created_at", "started_at"), ("ended_at", "duration"))}),
        (
            "Worker",
            {
                "classes": ("collapse",),
                "fields": (
                    *("owner", "lease_until", "fence", "attempts", "stalled_attempts"),
                    *("stop_reason", "stop_requested_at", "not_before", "deadline_at", "previous"),
                ),
            },
        ),
    )
    readonly_fields = (
        *("state", "person", "agent", "said", "failure", "steps", "checkpoint_count", "duration"),
        *("given_by", "given"),
    )

    def owner(self, obj: Task) -> User:
        return obj.user

    def get_queryset(self, request: HttpRequest) -> QuerySet[Task]:
        given = Task.objects.filter(parent=OuterRef("pk")).order_by().values("parent").annotate(total=Count("pk"))
        found: QuerySet[Task] = super().get_queryset(request).annotate(given_total=Subquery(given.values("total")))
        return found

    def has_stop_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("executor.change_task"))

    @admin.action(description="Stop selected tasks", permissions=["stop"])
    def stop(self, request: HttpRequest, queryset: QuerySet[Task]) -> None:
        stopped = 0
        for task in queryset:
            if stop(task, by="administrator"):
                stopped += 1
                self.log_change(request, task, "Stopped.")
        rest = len(queryset) - stopped
        self.message_user(request, f"{stopped} told to stop." + (f" {rest} had ended already." if rest else ""))

    @admin.display(description="state", ordering="status")
    def state(self, task: Task) -> SafeString:
        return mark(task.status, state_of(task).label)

    @admin.display(description="person", ordering="user__username")
    def person(self, task: Task) -> str:
        return task.user.username

    @admin.display(description="agent")
    def agent(self, task: Task) -> str:
        return str(task.agent_version)

    @admin.display(description="agent")
    def agents(self, task: Any) -> SafeString:
        """Who works on it, whose task it is a part of, and how many others it gave."""
        lines = [format_html("{}", task.agent_version)]
        if task.parent:
            lines.append(format_html("part of {}", task_link(task.parent)))
        if task.given_total:
            url = f"{reverse('admin:executor_task_changelist')}?parent__id__exact={task.pk}"
            lines.append(format_html('gave <a href="{}">{}</a>', url, task.given_total))
        return format_html_join(SafeString("<br>"), "{}", ((line,) for line in lines))

    @admin.display(description="asked")
    def words(self, task: Task) -> str:
        text = " ".join(task.text.split())
        return text if len(text) <= 80 else f"{text[:79]}…"

    @admin.display(description="asked")
    def said(self, task: Task) -> SafeString:
        return block(task.text)

    @admin.display(description="error")
    def failure(self, task: Task) -> SafeString:
        return block("\n".join(part for part in (task.error, task.error_hint) if part))

    @admin.display(description="given by")
    def given_by(self, task: Task) -> SafeString | str:
        return task_link(task.parent) if task.parent else "–"

    @admin.display(description="tasks it gave")
    def given(self, task: Task) -> SafeString | str:
        found = task.sub_tasks.select_related("agent_version").order_by("pk")
        items = ((task_link(other), mark(other.status, state_of(other).label), other.name) for other in found)
        return format_html_join("", "<p>{} {} {}</p>", items) or "–"

    @admin.display(description="steps", ordering="head_seq")
    def step_count(self, task: Task) -> int:
        return task.head_seq

    @admin.display(description="tokens")
    def tokens(self, task: Task) -> str:
        return f"{task.input_tokens + task.output_tokens:,}"

    @admin.display(description="cost")
    def price(self, task: Task) -> str:
        return money.cost(task.cost, task.unpriced_calls)

    @admin.display(description="duration", ordering=F("ended_at") - F("started_at"))
    def duration(self, task: Task) -> str:
        return _duration(task)

    @admin.display(description="checkpoints")
    def checkpoint_count(self, task: Task) -> int:
        return task.checkpoints.count()

    @admin.display(description="steps")
    def steps(self, task: Task) -> SafeString:
        found = task.steps.order_by("seq").defer("native", "reasoning", "text", "result", "arguments", "raw_arguments")
        rows = format_html_join(
            "",
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            (
                (
                    _link("executor_step", step.pk, f"{step.seq}. {step.name or step.get_kind_display()}"),
                    mark(step.status, step.get_status_display()),
                    _duration(step),
                    f"{step.input_tokens + step.output_tokens:,}" if step.kind in ASKS else "",
                    step_use(step).price,
                    step.error[:200],
                )
                for step in found[:STEPS_SHOWN]
            ),
        )
        head = "<tr><th>Step</th><th>State</th><th>Took</th><th>Tokens</th><th>Cost</th><th>Error</th></tr>"
        table = format_html('<table class="steps"><thead>{}</thead><tbody>{}</tbody></table>', SafeString(head), rows)
        url = f"{reverse('admin:executor_step_changelist')}?task__id__exact={task.pk}"
        return format_html('{}<p><a href="{}">All {} steps</a></p>', table, url, task.head_seq)


def task_link(task: Task) -> SafeString:
    """By its agent, which says more than its number."""
    return _link("executor_task", task.pk, str(task.agent_version))


class FunctionFilter(admin.SimpleListFilter):
    """By name of a registered function: the names come from the registry, not from a scan of all steps."""

    title = "function"
    parameter_name = "function"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, name) for name in get_registry().functions]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Step]) -> QuerySet[Step]:
        return queryset.filter(name=self.value()) if self.value() else queryset


@admin.register(Step)
class StepAdmin(ReviewedAdmin):
    list_display = (
        *("label", "kind", "state", "person", "task_link", "tokens", "price"),
        *("started_at", "duration", "error_kind"),
    )
    open_columns = ("kind", "status", "task")
    deferred = ("native", "reasoning", "text", "result", "arguments", "raw_arguments", "error")
    list_filter = ("kind", "status", FunctionFilter)
    list_select_related = ("task__user",)
    search_fields = ("^name", "=task__id", "=call_id", "^task__user__username", "error_kind")
    content_search = ("error",)
    search_help_text = "By function, number of the task or the call, user name or error."
    ordering = ("-pk",)
    actions = None
    fieldsets = (
        (None, {"fields": ("label", "kind", "state", "person", "task_link", "attempt", "error_kind", "failure")}),
        ("The call", {"fields": ("effect", "call_arguments", "outcome", "from_cache", "call_id", "provider_call_id")}),
        ("The model", {"fields": ("provider", "model", "said", "thought", "finish_reason", "response_id")}),
        (
            "Use",
            {
                "fields": (
                    *("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens"),
                    *("cost", "first_token_ms", "started_at", "ended_at", "duration", "fence"),
                )
            },
        ),
    )
    readonly_fields = (
        *("label", "state", "person", "task_link", "failure", "call_arguments", "outcome", "said", "thought"),
        *("from_cache", "duration"),
    )

    def owner(self, obj: Step) -> User:
        return obj.task.user

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest | None = None) -> bool:
        return lookup == "task__id__exact" or super().lookup_allowed(lookup, value, request)

    @admin.display(description="step")
    def label(self, step: Step) -> str:
        return f"{step.seq}. {step.name or step.get_kind_display()}"

    @admin.display(description="state", ordering="status")
    def state(self, step: Step) -> SafeString:
        return mark(step.status, step.get_status_display())

    @admin.display(description="person")
    def person(self, step: Step) -> str:
        return step.task.user.username

    @admin.display(description="task")
    def task_link(self, step: Step) -> SafeString:
        return _link("executor_task", step.task_id, str(step.task_id))

    @admin.display(description="tokens")
    def tokens(self, step: Step) -> str:
        return f"{step.input_tokens + step.output_tokens:,}" if step.kind in ASKS else ""

    @admin.display(description="cost")
    def price(self, step: Step) -> str:
        return step_use(step).price

    @admin.display(description="took")
    def duration(self, step: Step) -> str:
        return _duration(step)

    @admin.display(description="error")
    def failure(self, step: Step) -> SafeString:
        return block(step.error)

    @admin.display(description="arguments")
    def call_arguments(self, step: Step) -> SafeString:
        return block(step.raw_arguments) if step.arguments is None else json_block(step.arguments)

    @admin.display(description="result")
    def outcome(self, step: Step) -> SafeString:
        return block(step.result)

    @admin.display(description="from the cache")
    def from_cache(self, step: Step) -> str:
        return f"Made at {timezone.localtime(step.made_at):%Y-%m-%d %H:%M:%S}" if step.made_at else "No"

    @admin.display(description="said")
    def said(self, step: Step) -> SafeString:
        return block(step.text)

    @admin.display(description="thought")
    def thought(self, step: Step) -> SafeString:
        return block(step.reasoning)


# --- who works, who looks --------------------------------------------------------------------------------------------


@admin.register(Worker)
class WorkerAdmin(ReadOnlyAdmin):
    list_display = ("host", "pid", "state", "beat_at", "running", "code", "started_at")
    list_filter = ("host",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Worker]:
        found: QuerySet[Worker] = super().get_queryset(request)
        return found.annotate(now=Now())

    @admin.display(description="state")
    def state(self, worker: Any) -> SafeString:
        silent = worker.now - worker.beat_at > SILENT_AFTER
        return mark("failed", "Silent") if silent else mark("done", "Alive")

    @admin.display(description="code can be run")
    def code(self, worker: Worker) -> SafeString:
        if worker.sandbox is None:
            return SafeString("–")
        if worker.sandbox["ok"]:
            return mark("done", f"Yes ({worker.sandbox['mode']})" if worker.sandbox["mode"] else "Yes")
        return mark("failed", " ".join(filter(None, ("No.", worker.sandbox["reason"], worker.sandbox["hint"]))))


@admin.register(ReviewLog)
class ReviewLogAdmin(ReadOnlyAdmin):
    list_display = ("created_at", "reviewer_name", "owner_name", "what")
    list_filter = ("created_at",)
    search_fields = ("reviewer_name", "owner_name", "what")
    show_full_result_count = False


def _link(model: str, key: Any, label: str) -> SafeString:
    return format_html('<a href="{}">{}</a>', reverse(f"admin:{model}_change", args=[key]), label)


def _duration(thing: Task | Step) -> str:
    if isinstance(thing, Step) and thing.made_at:
        return "from cache"
    return duration(thing.started_at, thing.ended_at)
