"""Deciding: the card's form, and the page of a card by itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from conversations import fragments
from conversations.access import get_conversation, get_decision
from conversations.cards import DecisionView, changed_arguments
from conversations.models import Turn
from conversations.views import Request
from executor import decisions
from executor.decisions import TooLate, WrongAnswer
from executor.models import Decision
from users.models import User

Verb = Callable[[Decision, User, dict[str, str]], None]
Kind, Choice = Decision.Kind, Decision.Choice


def _allow(decision: Decision, by: User, data: dict[str, str]) -> None:
    always = data["choice"] == Choice.ALWAYS
    decisions.allow(decision, by, changed_arguments(decision, data), always=always)


def _deny(decision: Decision, by: User, data: dict[str, str]) -> None:
    decisions.deny(decision, by, data.get("note", ""))


def _answer(decision: Decision, by: User, data: dict[str, str]) -> None:
    decisions.answer(decision, by, data.get("option") or data.get("text", ""))


def _it_did(decision: Decision, by: User, data: dict[str, str]) -> None:
    decisions.it_did(decision, by, data.get("note", ""))


def _run_again(decision: Decision, by: User, data: dict[str, str]) -> None:
    decisions.run_again(decision, by)


def _skip(decision: Decision, by: User, data: dict[str, str]) -> None:
    decisions.skip(decision, by, data.get("note", ""))


def _go_on(decision: Decision, by: User, data: dict[str, str]) -> None:
    decisions.go_on(decision, by, data.get("more"))


def _summarise(decision: Decision, by: User, data: dict[str, str]) -> None:
    decisions.summarise(decision, by)


#: What can be decided on each kind of card.
VERBS: dict[str, dict[str, Verb]] = {
    Kind.APPROVAL: {Choice.ALLOW: _allow, Choice.ALWAYS: _allow, Choice.DENY: _deny},
    Kind.QUESTION: {Choice.ANSWER: _answer, Choice.DENY: _deny},
    Kind.PLAN: {Choice.ALLOW: _allow, Choice.DENY: _deny},
    Kind.LIMIT: {Choice.CONTINUE: _go_on, Choice.SUMMARISE: _summarise},
    Kind.UNKNOWN: {Choice.DID: _it_did, Choice.AGAIN: _run_again, Choice.SKIP: _skip},
}


@require_http_methods(["GET", "POST"])
@login_required
def decide(request: Request, decision_id: int) -> HttpResponse:
    decision = get_decision(request.user, decision_id)
    if request.method == "GET":
        return _page(request, decision)
    data = {name: str(value).replace("\x00", "\ufffd") for name, value in request.POST.items()}
    if data.get("option"):
        data["choice"] = Choice.ANSWER
    verb = VERBS[decision.kind].get(data.get("choice", ""))
    try:
        if verb is None:
            raise WrongAnswer("Choose one of the buttons.")
        verb(decision, request.user, data)
    except WrongAnswer as error:
        return _refused(request, decision, str(error), data)
    except TooLate as late:
        return _too_late(request, decision, str(late))
    if request.htmx:
        return HttpResponse(fragments.decided(decision))
    return _back(decision)


@require_POST
@login_required
def ask_again(request: Request, conversation_id: UUID) -> HttpResponse:
    """Take “Always in this conversation” back, and show what is left of it."""
    found = get_conversation(request.user, conversation_id)
    decisions.ask_again(request.user, found.pk, request.POST.get("function", "").replace("\x00", ""))
    return redirect("conversation_usage", found.pk)


def _page(
    request: Request, decision: Decision, status: int = 200, problem: str = "", data: dict[str, str] | None = None
) -> HttpResponse:
    if decision.status != Decision.Status.PENDING:
        return _back(decision)
    typed = data or {}
    view = DecisionView.of(decision)
    fields = tuple(replace(field, value=typed.get(field.name, field.value)) for field in view.fields)
    context: dict[str, Any] = {"decision": replace(view, fields=fields), "problem": problem, "typed": typed}
    return render(request, "conversations/decide.html", context, status=status)


def _refused(request: Request, decision: Decision, sentence: str, data: dict[str, str]) -> HttpResponse:
    """What was typed stays: in the page that sent it, or in the page of the card."""
    if request.htmx:
        return HttpResponse(fragments.decision_error(decision, sentence), status=422)
    return _page(request, decision, 422, sentence, data)


def _too_late(request: Request, decision: Decision, sentence: str) -> HttpResponse:
    if request.htmx:
        return HttpResponse(fragments.decided(decision) + fragments.toast(sentence), status=409)
    messages.error(request, sentence)
    return _back(decision)


def _back(decision: Decision) -> HttpResponse:
    top = decision.task.root_id or decision.task_id
    turn = Turn.objects.filter(task=top).select_related("conversation").first()
    return redirect(turn.conversation) if turn else redirect("task", decision.task_id)
