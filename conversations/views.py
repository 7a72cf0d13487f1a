"""The pages of the chat, and what can be done on them. Each view: one door, a form, an action, a response."""

from __future__ import annotations

import time
from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods, require_POST, require_safe
from django_htmx.http import HttpResponseClientRedirect
from django_htmx.middleware import HtmxDetails

from conversations import actions, fragments, words
from conversations.access import find_agent, get_conversation, get_task, get_turn
from conversations.forms import MessageForm, TitleForm
from conversations.models import Conversation, Turn
from conversations.offers import offers
from conversations.present import (
    agent_views,
    answer_text,
    file_views,
    task_views,
)
from conversations.search import search as search_conversations
from conversations.sidebar import conversation_view, sidebar_groups
from executor import actions as tasks
from executor.actions import NotNow
from executor.sandboxes import code_off
from tools import uploads
from users.models import User

#: So many declared tasks are suggested before the first message.
OFFERS = 3


class Request(HttpRequest):
    """A request of somebody who is logged in."""

    user: User
    htmx: HtmxDetails


# --- pages -----------------------------------------------------------------------------------------------------------


@require_safe
@login_required
def home(request: Request) -> HttpResponse:
    return _home(request)


@require_safe
@login_required
def conversation(request: Request, conversation_id: UUID) -> HttpResponse:
    found = get_conversation(request.user, conversation_id)
    actions.mark_seen(found)
    return _chat(request, found)


@require_GET
@login_required
def older(request: Request, conversation_id: UUID, turn_id: UUID) -> HttpResponse:
    """The turns before one that is shown already: a fragment, or the page as it was then."""
    found = get_conversation(request.user, conversation_id)
    before = found.turns.filter(pk=turn_id).values_list("position", flat=True).first()
    if before is None:
        raise Http404("There is no such turn.")
    if not request.htmx:
        return _chat(request, found, before)
    return render(request, "conversations/_turns.html", fragments.turns(found, before))


@require_GET
@login_required
def task_steps(request: Request, task_id: UUID) -> HttpResponse:
    found = get_task(request.user, task_id)
    if not request.htmx:
        return redirect("task", task_id)
    view = task_views([found], every_step=True)[found.pk]
    if view.declared:
        return render(request, "conversations/_parts.html", {"parts": view.declared.parts})
    return render(request, "conversations/_steps.html", {"steps": view.steps})


@require_GET
@login_required
def answer(request: Request, task_id: UUID) -> HttpResponse:
    """The answer as the model wrote it."""
    text = answer_text(get_task(request.user, task_id))
    return HttpResponse(text, content_type="text/markdown; charset=utf-8")


@require_GET
@login_required
def search(request: Request) -> HttpResponse:
    query = request.GET.get("q", "")[:200].strip()
    results = search_conversations(request.user, query)
    if request.htmx:
        return render(request, "conversations/_search_results.html", {"q": query, "results": results})
    return render(request, "conversations/search.html", {**frame(request), "q": query, "results": results})


# --- what can be done ------------------------------------------------------------------------------------------------


@require_http_methods(["GET", "POST"])
@login_required
def send_new(request: Request) -> HttpResponse:
    """The first message of a new conversation. A refused one leaves its address in the browser."""
    if request.method == "GET":
        return redirect("home")
    form = MessageForm(request.POST, user=request.user)
    turn = _sent(form, request.user)
    return redirect(turn.conversation) if turn else _home(request, form)


@require_POST
@login_required
def send(request: Request, conversation_id: UUID) -> HttpResponse:
    found = get_conversation(request.user, conversation_id)
    form = MessageForm(request.POST, user=request.user, thread=found.pk)
    turn = _sent(form, request.user, found)
    if turn is None:
        if request.htmx:
            said = fragments.composer_error(form.sentence()) + fragments.chips_gone(form.gone)
            return HttpResponse(said, status=422)
        return _chat(request, found, form=form)
    if not request.htmx:
        return redirect(found)
    return HttpResponse(fragments.turn_added(fragments.turn_view(turn)) + fragments.composer_error(""))


def _sent(form: MessageForm, user: User, found: Conversation | None = None) -> Turn | None:
    """None if the form says why not."""
    if form.is_valid():
        try:
            return actions.send(user, **form.cleaned_data, conversation=found)
        except NotNow as why:
            form.add_error(None, str(why))
    return None


@require_POST
@login_required
def stop(request: Request, task_id: UUID) -> HttpResponse:
    turn = get_turn(request.user, task_id)
    tasks.stop(turn.task)
    if not request.htmx:
        return redirect(turn.conversation)
    return HttpResponse(fragments.task_stopped(task_views([turn.task])[turn.task_id]))


BEGUN = "It is being answered already."


@require_POST
@login_required
def send_now(request: Request, task_id: UUID) -> HttpResponse:
    """Let a message that waits go into the task at work."""
    turn = get_turn(request.user, task_id)
    if not actions.send_now(turn):
        return _said(request, turn.conversation, BEGUN, 409)
    return HttpResponse() if request.htmx else redirect(turn.conversation)


@require_POST
@login_required
def take_back(request: Request, task_id: UUID) -> HttpResponse:
    """Remove a message that waits; with `edit`, its words and files go back into the composer. (With JavaScript,
    composer.js has put the words there.)"""
    turn, is_edit = get_turn(request.user, task_id), "edit" in request.GET
    if not actions.take_back(turn, keep_files=is_edit):
        return _said(request, turn.conversation, BEGUN, 409)
    if not request.htmx:
        if is_edit:
            request.session["taken_back"] = turn.text
        return redirect(turn.conversation)
    gone = fragments.turn_gone(task_id) + fragments.composer_actions(turn.conversation_id)
    return HttpResponse(gone + fragments.chips(uploads.drafts(request.user, turn.conversation_id)))


@require_POST
@login_required
def retry(request: Request, task_id: UUID) -> HttpResponse:
    """With the `agent` that is chosen in the composer, if the page says which."""
    turn = get_turn(request.user, task_id)
    name = request.POST.get("agent", "")
    agent = find_agent(request.user, name) if name else None
    if name and agent is None:
        return _said(request, turn.conversation, "This agent is not available any more. Choose another one.", 422)
    try:
        actions.retry(turn, agent)
    except NotNow as why:
        return _said(request, turn.conversation, str(why), 409)
    if not request.htmx:
        return redirect(turn.conversation)
    return HttpResponse(fragments.task_retried(task_views([turn.task])[turn.task_id]))


@require_POST
@login_required
def rename(request: Request, conversation_id: UUID) -> HttpResponse:
    found = get_conversation(request.user, conversation_id)
    form = TitleForm(request.POST)
    if not form.is_valid():
        return _said(request, found, form.sentence(), status=422)
    actions.rename(found, form.cleaned_data["title"])
    return _said(request, found)


@require_POST
@login_required
def pin(request: Request, conversation_id: UUID) -> HttpResponse:
    found = get_conversation(request.user, conversation_id)
    actions.toggle_pin(found)
    return _said(request, found)


@require_POST
@login_required
def delete(request: Request, conversation_id: UUID) -> HttpResponse:
    found = get_conversation(request.user, conversation_id)
    actions.delete(found)
    said = f"“{found.title}” was deleted."
    undo = reverse("restore", args=[found.pk])
    if not request.htmx:
        messages.info(request, said)
        return redirect("home")
    if request.htmx.current_url_abs_path == found.get_absolute_url():
        request.session["deleted"] = str(found.pk)
        return HttpResponseClientRedirect(reverse("home"))
    return HttpResponse(_sidebar(request) + fragments.toast(said, undo))


@require_POST
@login_required
def restore(request: Request, conversation_id: UUID) -> HttpResponse:
    found = get_conversation(request.user, conversation_id, deleted=True)
    actions.restore(found)
    if not request.htmx:
        return redirect(found)
    return HttpResponse(_sidebar(request) + fragments.toast(f"“{found.title}” is back."))


# --- what the pages have in common -----------------------------------------------------------------------------------


def _home(request: Request, form: MessageForm | None = None) -> HttpResponse:
    chosen = request.GET.get("agent", "") if form is None else form.data.get("agent", "")
    context: dict[str, Any] = {**frame(request), **_agents(request.user, chosen), **_refused(form)}
    context["files"] = file_views(uploads.drafts(request.user, None))
    if context["agent"] and (agent := find_agent(request.user, context["agent"].name)):
        context["offers"] = offers(request.user, agent)[:OFFERS]
    if deleted := request.session.pop("deleted", None):
        found = Conversation.objects.filter(pk=deleted, user=request.user).exclude(deleted_at=None).first()
        if found:
            context["toast"] = {
                "text": f"“{found.title}” was deleted.",
                "undo_url": reverse("restore", args=[found.pk]),
            }
    return render(request, "conversations/home.html", context, status=422 if form else 200)


def _chat(
    request: Request, found: Conversation, before: int | None = None, form: MessageForm | None = None
) -> HttpResponse:
    context = {
        **frame(request, found),
        **_agents(request.user, found.agent.name if found.agent else ""),
        # Asked first: a page that shows a task at work must look again, or without JavaScript it shows that for ever.
        "active_task": fragments.active_task(found.pk),
        **fragments.turns(found, before),
        "conversation": conversation_view(found.pk),
        "files": file_views(uploads.drafts(request.user, found.pk)),
        **_refused(form),
    }
    if taken_back := request.session.pop("taken_back", ""):
        context["composer_text"] = taken_back
    return render(request, "conversations/chat.html", context, status=422 if form else 200)


def _refused(form: MessageForm | None) -> dict[str, str]:
    """A message that was not taken goes back into the composer, with the reason."""
    if form is None:
        return {}
    text = form.data.get("text", "").replace("\x00", "\ufffd")  # HTML has no NUL.
    return {"composer_error": form.sentence(), "composer_text": text}


def frame(request: Request, current: Conversation | None = None) -> dict[str, Any]:
    """What every page shows, and when: its socket is told what has changed since then."""
    return {
        "since": int(time.time()),
        "groups": sidebar_groups(request.user),
        "current": current,
        "upload_mb": settings.UPLOAD_MB,
    }


def _agents(user: User, chosen: str) -> dict[str, Any]:
    """The agents to choose from, and which is: `chosen`, else the one used last if it could answer, else the first."""
    agents = agent_views(user)
    by_name = {agent.name: agent for agent in agents}
    agent = by_name.get(chosen)
    if agent is None and len(agents) > 1:
        used = Conversation.objects.filter(user=user).values_list("agent__name", flat=True).first()
        last = by_name.get(used or "")
        agent = last if last and not last.missing_key else None
    keyless = words.listed([agent.title for agent in agents if agent.missing_key])
    return {
        "agents": agents,
        "agent": agent or (agents[0] if agents else None),
        "keyless": keyless,
        "code_off": code_off() if any(agent.runs_code for agent in agents) else None,
    }


def _sidebar(request: Request) -> str:
    return fragments.sidebar(request.user, request.htmx.current_url_abs_path or "")


def _said(request: Request, found: Conversation, sentence: str = "", status: int = 200) -> HttpResponse:
    """The answer to a small change of a conversation."""
    if not request.htmx:
        if sentence:
            messages.error(request, sentence)
        return redirect(found)
    title = fragments.title_changed(found) if not sentence else ""
    said = fragments.toast(sentence) if sentence else ""
    return HttpResponse(_sidebar(request) + title + said, status=status)
