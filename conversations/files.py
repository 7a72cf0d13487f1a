"""Files of a conversation: uploads, the gallery, downloads. What they are and may be is in tools/."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db import transaction
from django.http import Http404, HttpResponse, StreamingHttpResponse
from django.shortcuts import redirect, render
from django.template.defaultfilters import filesizeformat
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from conversations import fragments
from conversations.access import get_conversation
from conversations.downloads import file_name, sent
from conversations.gallery import files_of, gallery, named
from conversations.models import Conversation
from conversations.views import Request
from executor.hints import tell_pages_soon
from tools import resources, uploads
from tools.models import Resource
from tools.resources import Quota
from tools.serving import as_zip, resource_response
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
    for brought in request.FILES.getlist("upload"):
        try:
            uploads.take_in(request.user, thread, brought.name or "", brought.chunks())
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
    is_draft, thread = resource.is_draft, resource.thread
    with transaction.atomic():
        resources.delete([resource])
        gone = {"type": "file.deleted", "file": str(resource_id)}
        transaction.on_commit(partial(tell_pages_soon, request.user.pk, gone))
    if request.htmx:
        return HttpResponse()
    if thread is None:
        return redirect("home")
    return redirect("conversation" if is_draft else "files", thread)


@require_safe
@login_required
@never_cache
def files(request: Request, conversation_id: UUID) -> HttpResponse:
    """All files of a conversation: by name, each with its older versions."""
    found = get_conversation(request.user, conversation_id)
    kept = gallery(request.user, found)
    context = {
        "conversation": found,
        "files": kept,
        "count": sum(1 + len(line.older) for line in kept),
        "size": filesizeformat(sum(file.bytes for line in kept for file in (line.newest, *line.older))),
        "quota": Quota.of(request.user),
    }
    return render(request, "conversations/files.html", context)


@require_safe
@login_required
@never_cache
def files_zip(request: Request, conversation_id: UUID) -> StreamingHttpResponse:
    """All of them in one archive; older versions have their number in their name."""
    found = get_conversation(request.user, conversation_id)
    kept = list(files_of(request.user, found))
    return sent(request, as_zip(named(kept)), file_name(found, "zip"), "application/zip")
