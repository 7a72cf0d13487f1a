"""Settings → Usage, and the use of one conversation: a person's own tokens and dollars."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from django.contrib.auth.decorators import login_required
from django.db.models import F, Q, QuerySet
from django.db.models.functions import Coalesce
from django.http import HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_safe

from conversations.access import get_conversation
from conversations.models import Conversation
from conversations.use import UseView
from conversations.views import Request
from conversations.words import human_name
from executor import usage as used
from executor.decisions import always_allowed
from executor.models import Task
from executor.usage import PERIODS, Line, Period, Use
from executor.usage_chart import charts
from users.models import User

#: So many conversations are listed, those that cost most.
LISTED = 20


@require_safe
@login_required
@never_cache
def usage(request: Request) -> HttpResponse:
    found = used.usage(_period(request), request.user)
    context = {
        "usage": found,
        "periods": PERIODS.items(),
        "charts": charts(found),
        "tables": [("Models", found.models), ("Agents", found.agents), ("Keys", found.keys)],
        "conversations": conversations(found.period, request.user),
        "listed": LISTED,
        "csv_url": reverse("usage_csv"),
    }
    return render(request, "users/usage.html", context)


@require_safe
@login_required
@never_cache
def usage_csv(request: Request) -> HttpResponse:
    period = _period(request)
    rows = used.rows(period, request.user)
    names = used.Names.of(rows, request.user)
    return csv_file(f"usage-{period.first}-{period.last}.csv", used.CSV_HEAD, used.csv_rows(rows, names))


@require_GET
@login_required
@never_cache
def conversation_usage(request: Request, conversation_id: UUID) -> HttpResponse:
    """The use of a conversation and what runs in it without asking: for its menu, or a page where there are no
    scripts."""
    found = get_conversation(request.user, conversation_id)
    own, below = Task.objects.filter(turn__conversation=found), Task.objects.filter(root__turn__conversation=found)
    steps = used.answers().filter(Q(task__in=own) | Q(task__in=below))
    by_model = {row["model"]: used.use_of(row) for row in steps.values("model").annotate(**used.SUMS)}
    total = Use()
    for use in by_model.values():
        total.add(use)
    context = {
        "conversation": found,
        "total": total,
        "use": UseView.of(total),
        "allowed": [(name, human_name(name)) for name in always_allowed(request.user, found.pk)],
        "models": used.ranked(Line(name or "Demonstration", "", use) for name, use in by_model.items()),
    }
    template = "_conversation_use.html" if request.htmx else "conversation_use.html"
    return render(request, f"conversations/{template}", context)


def _in_conversations() -> QuerySet[Any]:
    """What is counted, with the conversation that it belongs to: also what other agents did for its tasks."""
    ways = ("task__turn__conversation", "task__root__turn__conversation")
    return used.answers().annotate(conversation=Coalesce(*ways), title=Coalesce(*(f"{way}__title" for way in ways)))


def conversations(period: Period, user: User) -> list[Line]:
    """What the tasks of the period cost by conversation, the dearest ones. One query."""
    steps = _in_conversations().filter(task__user=user, task__created_at__gte=period.since)
    kept = steps.filter(conversation__in=Conversation.objects.filter(user=user, deleted_at=None))
    by = ("conversation", "title")
    sums = kept.values(*by).annotate(**used.SUMS)
    some = sums.filter(Q(sum_input_tokens__gt=0) | Q(sum_output_tokens__gt=0) | Q(unpriced__gt=0))
    dearest = some.order_by(F("price").desc(nulls_last=True), "-sum_input_tokens", by[0])[:LISTED]
    return [
        Line(
            row[by[1]] or "New chat",
            "",
            used.use_of(row),
            Conversation(pk=row[by[0]]).get_absolute_url(),
        )
        for row in dearest
    ]


def csv_file(name: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> HttpResponse:
    response = HttpResponse(content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    writer = csv.writer(response)
    writer.writerow(head)
    writer.writerows(rows)
    return response


def _period(request: Request) -> Period:
    return Period.named(request.GET.get("period", ""), timezone.localdate())
