"""Settings → What is remembered: facts that agents wrote down about the person, to see, delete and switch off."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from conversations import memory
from conversations.views import Request


@require_safe
@login_required
@never_cache
def remembered(request: Request) -> HttpResponse:
    context = {
        "memories": memory.memories_of(request.user).select_related("conversation"),
        "is_on": memory.is_on(request.user),
        "most": memory.MAX_FACTS,
    }
    return render(request, "conversations/remembered.html", context)


@require_POST
@login_required
def forget(request: Request, memory_id: int) -> HttpResponse:
    if not memory.forget(request.user, memory_id):
        raise Http404("There is no such fact.")
    messages.success(request, "Deleted. No agent will find it any more.")
    return redirect("remembered")


@require_POST
@login_required
def forget_all(request: Request) -> HttpResponse:
    number = memory.forget_all(request.user)
    messages.success(request, "One fact was deleted." if number == 1 else f"{number} facts were deleted.")
    return redirect("remembered")


@require_POST
@login_required
def switch(request: Request) -> HttpResponse:
    """On with `on=1`, off otherwise."""
    on = request.POST.get("on") == "1"
    memory.switch(request.user, on=on)
    messages.success(request, "Agents remember again." if on else "Agents neither remember nor recall any more.")
    return redirect("remembered")
