"""MCP servers in Django admin: registering them, testing them, and seeing which functions came of them."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import path
from django.utils.decorators import method_decorator
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables
from django.views.decorators.http import require_POST

from executor import mcp_servers
from executor.review import mark
from tools.mcp import connection
from tools.mcp.commands import commands
from tools.mcp.functions import functions_of
from tools.models import McpServer
from users import api_keys, vault
from users.api_key_admin import ON_TRIAL


class McpServerForm(forms.ModelForm):  # type: ignore[type-arg]  # not subscriptable at run time
    key = forms.CharField(
        required=False,
        strip=False,
        max_length=api_keys.LONGEST,
        widget=forms.PasswordInput(attrs={"autocomplete": "off", "class": "vTextField"}),
        help_text="Only for a server with an address. Stored encrypted as a key of the site and never shown again; "
        "it is sent to this address only. Empty: the one that is there stays. Else that one is used until the new one "
        "has passed its test.",
    )

    class Meta:
        model = McpServer
        fields = ("name", "url", "command", "key", "key_header", "trusted", "enabled", "timeout")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "command" in self.fields:
            names = dict.fromkeys([*commands(), *filter(None, [self.instance.command])])
            choices = [("", "None"), *((name, name) for name in names)]
            help_text = self.fields["command"].help_text
            self.fields["command"] = forms.ChoiceField(choices=choices, required=False, help_text=help_text)

    def clean_url(self) -> str:
        try:
            return api_keys.address(self.cleaned_data["url"])
        except ValueError as error:
            raise forms.ValidationError(str(error).replace("/v1", "/mcp")) from error

    def clean_key(self) -> str:
        key = str(self.cleaned_data["key"])
        if key and (problem := api_keys.looks_like_a_key(key)):
            raise forms.ValidationError(problem)
        if key:
            try:
                vault.keyring()
            except vault.KeyringError as error:
                raise forms.ValidationError(f"No key can be stored now. {error}.") from error
        return key

    def clean(self) -> dict[str, Any]:
        if self.cleaned_data.get("key") and self.cleaned_data.get("command"):
            self.add_error("key", "A command gets no key. What it needs is for whoever wrote it into MCP_COMMANDS.")
        return self.cleaned_data


@admin.register(McpServer)
class McpServerAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    form = McpServerForm
    change_form_template = "admin/executor/mcp_server.html"
    list_display = ("name", "place", "state", "tool_count", "trusted", "enabled")
    list_filter = ("enabled", "trusted")
    search_fields = ("name", "url", "command")
    readonly_fields = ("state", "checked_at", "key_state", "functions")
    fieldsets = (
        (None, {"fields": ("name", "enabled", "state", "checked_at")}),
        ("Where it is", {"fields": ("url", "command", "key", "key_state", "key_header")}),
        ("What its tools may", {"fields": ("trusted", "timeout", "functions")}),
    )

    def get_fieldsets(self, request: HttpRequest, obj: McpServer | None = None) -> Any:
        if obj and not self.has_change_permission(request, obj):  # Then there is no form, and no field for a key.
            return [
                (title, {"fields": [name for name in part["fields"] if name != "key"]})
                for title, part in self.fieldsets
            ]
        return self.fieldsets

    def get_urls(self) -> list[Any]:
        test = self.admin_site.admin_view(require_POST(self.test_view))
        return [path("<int:pk>/test/", test, name="tools_mcpserver_test"), *super().get_urls()]

    @method_decorator(sensitive_post_parameters("key"))
    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return super().changeform_view(request, *args, **kwargs)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        server = self.get_object(request, object_id) if request.method == "GET" else None
        awaited = server is not None and mcp_servers.is_awaited(server)  # Then the page looks again by itself.
        return super().change_view(request, object_id, form_url, {**(extra_context or {}), "is_awaited": awaited})

    @sensitive_variables()
    def save_model(self, request: HttpRequest, obj: McpServer, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        if key := form.cleaned_data.get("key"):
            label = f"MCP server {obj.name}"
            added = api_keys.add(None, mcp_servers.PROVIDER, key, obj.url, label, on_trial=True)
            api_keys.have_tested(added)
            if added.on_trial:
                self.message_user(request, ON_TRIAL)
        mcp_servers.ask(obj)

    def test_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        server = McpServer.objects.filter(pk=pk).first()
        if not self.has_change_permission(request, server):
            raise PermissionDenied
        if server is None:
            raise Http404
        if not mcp_servers.is_awaited(server):
            mcp_servers.ask(server)
        return redirect("admin:tools_mcpserver_change", pk)

    @admin.display(description="where")
    def place(self, server: McpServer) -> str:
        return server.url or f"command {server.command}"

    @admin.display(description="state")
    def state(self, server: McpServer) -> SafeString:
        if server.pk is None:
            return SafeString("It is asked for its tools when it is saved.")
        if mcp_servers.is_awaited(server):
            return mark("running", "A worker is asking it…")
        if mcp_servers.is_unanswered(server):
            return mark("failed", "No worker has answered")
        if server.problem:
            return format_html("{} {}", mark("failed", "Failed its test"), server.problem)
        return format_html("{} {}", mark("done", "Answers"), server.note)

    @admin.display(description="tools")
    def tool_count(self, server: McpServer) -> int:
        return len(server.tools)

    @admin.display(description="its key")
    def key_state(self, server: McpServer) -> str:
        key = mcp_servers.site_key(server.url) if server.url else None
        if key is None:
            return "None"
        trial = api_keys.trials().filter(owner=None, provider=key.provider, base_url=key.base_url).first()
        waits = f" {trial.fingerprint} takes its place when it has passed its test." if trial else ""
        return " ".join(f"{key.fingerprint}, {key.state}.{waits} {key.check_note} Revoke it under API keys.".split())

    @admin.display(description="functions")
    def functions(self, server: McpServer) -> SafeString:
        found, problems = functions_of(server, connection.call)
        rows = format_html_join(
            "",
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            ((one.name, one.effect, one.agreement, one.description.partition("\n")[0][:200]) for one in found),
        )
        wrong = format_html_join("", "<p>{}</p>", ((problem.sentence,) for problem in problems))
        head = SafeString("<tr><th>Function</th><th>Effect</th><th>Approval</th><th>What it does</th></tr>")
        table = format_html("<table><thead>{}</thead><tbody>{}</tbody></table>", head, rows)
        return format_html("{}{}", table if found else "None yet", wrong)
