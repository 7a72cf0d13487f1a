"""Variants of what was said and answered: regenerating, editing, and stepping from one to the other."""

from __future__ import annotations

from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from conversations import branches, fragments
from conversations.access import find_agent, get_turn
from conversations.forms import MessageForm
from conversations.models import Turn
from conversations.views import Request, frame
from executor.actions import NotNow
from executor.models import Agent


@require_POST
@login_required
def regenerate(request: Request, task_id: UUID) -> HttpResponse:
    """By the `agent` that is chosen in the composer, if the page says which."""
    turn = get_turn(request.user, task_id)
    try:
        made = branches.regenerate(turn, _agent(request))
    except NotNow as why:
        return refused(request, turn, str(why))
    return shown(request, made)


@require_POST
@login_required
def choose(request: Request, task_id: UUID) -> HttpResponse:
    turn = get_turn(request.user, task_id)
    try:
        branches.choose(turn)
    except NotNow as why:
        return refused(request, turn, str(why))
    return shown(request, turn)


@require_http_methods(["GET", "POST"])
@login_required
def edit(request: Request, task_id: UUID) -> HttpResponse:
    """The form, in place of the words or as a page of its own; with `cancel`, the words again."""
    turn = get_turn(request.user, task_id)
    if request.method == "GET":
        if not request.htmx:
            return _edit_page(request, turn, turn.text)
        name = "_said" if "cancel" in request.GET else "_edit"
        return render(request, f"conversations/{name}.html", {"turn": _words(turn), "text": turn.text})
    form = MessageForm(request.POST, user=request.user)
    if not form.is_valid():
        return _not_taken(request, turn, form.sentence())
    try:
        made = branches.edit(turn, form.cleaned_data["text"], _agent(request))
    except NotNow as why:
        return _not_taken(request, turn, str(why))
    return shown(request, made)


def shown(request: Request, turn: Turn) -> HttpResponse:
    """The page, with this variant."""
    if not request.htmx:
        return redirect(f"{turn.conversation.get_absolute_url()}#turn-{turn.pk}")
    return HttpResponse(fragments.branch(turn.conversation))


def refused(request: Request, turn: Turn, sentence: str) -> HttpResponse:
    if not request.htmx:
        messages.error(request, sentence)
        return redirect(turn.conversation)
    return HttpResponse(fragments.toast(sentence), status=409)


def _agent(request: Request) -> Agent | None:
    """The one that was chosen, if one was. Raises NotNow if it may not be used any more."""
    name = request.POST.get("agent", "")
    agent = find_agent(request.user, name) if name else None
    if name and agent is None:
        raise NotNow(branches.AGENT_GONE)
    return agent


def _not_taken(request: Request, turn: Turn, sentence: str) -> HttpResponse:
    """What was written stays where it is."""
    if request.htmx:
        return HttpResponse(fragments.edit_error(turn, sentence), status=422)
    return _edit_page(request, turn, request.POST.get("text", ""), sentence)


def _edit_page(request: Request, turn: Turn, text: str, problem: str = "") -> HttpResponse:
    text = text.replace("\x00", "\ufffd")  # HTML has no NUL.
    context = {**frame(request, turn.conversation), "turn": _words(turn), "text": text, "problem": problem}
    return render(request, "conversations/edit.html", context, status=422 if problem else 200)


def _words(turn: Turn) -> dict[str, object]:
    """What the templates of a turn's words need of it."""
    url = f"{turn.conversation.get_absolute_url()}#turn-{turn.pk}"
    return {"id": turn.pk, "text": turn.text, "created_at": turn.created_at, "task": {"id": turn.task_id}, "url": url}
