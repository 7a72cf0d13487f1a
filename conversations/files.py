"""Files of a conversation: uploads, the gallery, downloads. What they are and may be is in tools/."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_POST, require_safe

from conversations import fragments
from conversations.access import get_conversation
from conversations.models import Conversation
from conversations.views import Request
from tools import resources, uploads
from tools.models import Resource
from tools.serving import resource_response
from tools.uploads import Refused

_PIECE = 64 * 1024


@require_safe
@login_required
def file(request: Request, resource_id: UUID) -> HttpResponse:
    try:
        resource = resources.get_resource(request.user, resource_id)
        return resource_response(resource, request, inline="download" not in request.GET)
    except Resource.DoesNotExist as error:
        raise Http404("There is no such file.") from error


@require_POST
@login_required
def upload_new(request: Request) -> HttpResponse:
    """For the first message of a new conversation."""
    return _upload(request, None)


@require_POST
@login_required
def upload(request: Request, conversation_id: UUID) -> HttpResponse:
    return _upload(request, get_conversation(request.user, conversation_id))


def _upload(request: Request, found: Conversation | None) -> HttpResponse:
    """The body is the file, and `name` in the address what it is called; the answer is its chip, or why not. Without
    scripts a form brings several."""
    thread = found.pk if found else None
    if "name" in request.GET and request.content_type != "multipart/form-data":
        try:
            taken = uploads.take_in(request.user, thread, request.GET.get("name", ""), _pieces(request))
        except Refused as why:
            return HttpResponse(str(why), status=422, content_type="text/plain; charset=utf-8")
        return HttpResponse(fragments.chip(taken))
    for sent in request.FILES.getlist("upload"):
        try:
            uploads.take_in(request.user, thread, sent.name or "", sent.chunks())
        except Refused as why:
            messages.error(request, str(why))
    return redirect(found or "home")


def _pieces(request: Request) -> Iterator[bytes]:
    while piece := request.read(_PIECE):
        yield piece


@require_POST
@login_required
def delete_file(request: Request, resource_id: UUID) -> HttpResponse:
    """One that is not sent yet leaves the composer, any other one the gallery."""
    try:
        resource = resources.get_resource(request.user, resource_id)
    except Resource.DoesNotExist as error:
        raise Http404("There is no such file.") from error
    resources.delete([resource])
    if request.htmx:
        return HttpResponse()
    return redirect("conversation", resource.thread) if resource.thread else redirect("home")
