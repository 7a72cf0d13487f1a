"""What a task did and why: its page, its document, and trying again from one of its steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from conversations import branches, fragments
from conversations.access import get_task, get_turn
from conversations.again import Typed
from conversations.branch_views import refused, shown
from conversations.cards import read_arguments, read_object
from conversations.code_cells import all_again, edited
from conversations.document import document, written
from conversations.models import Turn
from conversations.outputs import code_of, read_output
from conversations.record import Record
from conversations.sidebar import conversation_view
from conversations.task_live import task_context
from conversations.views import Request, frame
from executor.actions import NotNow
from executor.decisions import WrongAnswer
from executor.forks import StillAtWork, can_go_on_from, steps_of
from executor.models import Step, Task


@require_safe
@login_required
def task(request: Request, task_id: UUID) -> HttpResponse:
    return _page(request, get_task(request.user, task_id))


@require_safe
@login_required
@never_cache
def task_json(request: Request, task_id: UUID) -> HttpResponse:
    found = get_task(request.user, task_id)
    response = HttpResponse(written(document(Record.of(found), _turn(found))), content_type="application/json")
    response["Content-Disposition"] = f'attachment; filename="task-{found.pk}.json"'
    return response


@require_POST
@login_required
def fork(request: Request, task_id: UUID, seq: int) -> HttpResponse:
    """Go on from a step: `what` is "arguments", "result" or "output" if that is changed, "code" if that of a cell is,
    and "all" if all cells run again."""
    turn = get_turn(request.user, task_id)
    steps = steps_of(turn.task)
    step = next((step for step in steps if step.seq == seq), None)
    data = {name: str(value).replace("\x00", "\ufffd") for name, value in request.POST.items()}
    what = data.get("what", "")
    try:
        made = branches.fork(turn, seq, **(_changes(turn.task, step, steps, what, data) if step else {}))
    except (NotNow, StillAtWork) as why:
        if step and what and what != "all" and not turn.task.is_active:
            return _not_taken(request, turn, step, Typed(seq, what, str(why), data))
        return refused(request, turn, str(why))
    except WrongAnswer as error:
        if step is None or not can_go_on_from(turn.task, step):
            raise Http404("There is no such step.") from error
        if what == "all":
            return refused(request, turn, str(error))
        return _not_taken(request, turn, step, Typed(seq, what, str(error), data))
    return shown(request, made)


def _not_taken(request: Request, turn: Turn, step: Step, typed: Typed) -> HttpResponse:
    """What was typed stays where it is: in the cell, or in the form on this page."""
    if request.htmx:
        return HttpResponse(fragments.cell_error(step, typed.problem), status=422)
    return _page(request, turn.task, typed)


def _changes(task: Task, step: Step, steps: Sequence[Step], what: str, data: dict[str, str]) -> dict[str, Any]:
    match what:
        case "code":
            return {"arguments": edited(step, steps, data)}
        case "all":
            return {"arguments": all_again(step, steps)}
        case "arguments" if "arguments" in data:
            return {"arguments": read_object(data["arguments"])}
        case "arguments":
            return {"arguments": read_arguments(step, data)}
        case "output":
            return {"output": read_output(code_of(task), step, data)}
        case "result":
            return {"result": data.get("result", "").replace("\r\n", "\n")}
        case _:
            return {}


def _page(request: Request, found: Task, typed: Typed | None = None) -> HttpResponse:
    context = task_context(found, typed)
    place = context["turn"] or (Turn.objects.filter(task=found.root_id).first() if found.root_id else None)
    context |= {"place": place, "back": conversation_view(place.conversation_id) if place else None}
    return render(request, "conversations/task.html", {**frame(request), **context}, status=422 if typed else 200)


def _turn(found: Task) -> Turn | None:
    return Turn.objects.filter(task=found).select_related("conversation").first()
