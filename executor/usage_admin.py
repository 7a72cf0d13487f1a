"""What everybody used and what it cost, in Django admin: numbers and names, never what was said."""

from __future__ import annotations

import csv
from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils import timezone

from executor import usage
from executor.models import UsageOverview
from executor.usage import CSV_HEAD, PERIODS, Period
from executor.usage_chart import charts
from tools.admin import ReadOnlyAdmin

#: So many people are listed, those who cost most; the CSV has everybody.
LISTED = 100


@admin.register(UsageOverview)
class UsageAdmin(ReadOnlyAdmin):
    """One page, for staff who may view it."""

    def get_urls(self) -> list[Any]:
        # None of admin's others: there are no rows to look at.
        page, download = self.admin_site.admin_view(self.changelist_view), self.admin_site.admin_view(self.download)
        return [
            path("", page, name="executor_usageoverview_changelist"),
            path("usage.csv", download, name="executor_usageoverview_csv"),
        ]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        period = self._period(request)
        found, people = usage.usage(period), usage.people(period)
        context = {
            **self.admin_site.each_context(request),
            "title": "Usage",
            "opts": self.opts,
            "usage": found,
            "periods": PERIODS.items(),
            "csv_url": reverse("admin:executor_usageoverview_csv"),
            "charts": charts(found),
            "tables": [
                ("People", people[:LISTED]),
                ("Models", found.models),
                ("Agents", found.agents),
                ("Keys", found.keys),
            ],
            "unlisted": len(people[LISTED:]),
        }
        return TemplateResponse(request, "admin/executor/usage.html", context)

    def download(self, request: HttpRequest) -> HttpResponse:
        """A line for each day, person, agent, model and key."""
        period = self._period(request)
        rows = usage.rows(period, people=True)
        who = usage.usernames({row.person for row in rows})
        response = HttpResponse(content_type="text/csv; charset=utf-8")
        response["Content-Disposition"] = f'attachment; filename="usage-{period.first}-{period.last}.csv"'
        writer = csv.writer(response)
        writer.writerow(("person", *CSV_HEAD))
        for row, line in zip(rows, usage.csv_rows(rows, usage.Names.of(rows, None)), strict=True):
            writer.writerow((usage.cell(who.get(row.person, "")), *line))
        return response

    def _period(self, request: HttpRequest) -> Period:
        if not self.has_view_permission(request):
            raise PermissionDenied
        return Period.named(request.GET.get("period", ""), timezone.localdate())
