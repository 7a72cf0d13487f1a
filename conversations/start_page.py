"""Starting a declared task: the page that lists those on offer, and the form of one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_safe

from conversations import actions
from conversations.access import find_agent, get_conversation, get_task, get_turn
from conversations.models import Conversation
from conversations.offers import offers, place_query
from conversations.sidebar import conversation_view
from conversations.views import Request, frame
from executor.actions import NotNow
from executor.core.errors import StepValidationError, TaskExecutionError
from executor.core.steps import TaskInput
from executor.declared import offered_to
from executor.models import Agent, DeclaredTask

#: What the names of fields begin with, so that none of them is called as one of our own.
INPUT = "in-"


@dataclass(frozen=True, slots=True)
class Place:
    """Where it is started: in a conversation, or in a new one; and whom the person talks to there."""

    conversation: Conversation | None
    agent: Agent

    @classmethod
    def of(cls, request: Request, data: QueryDict) -> Place:
        """Where the task `like` is, if one is to be started again. Raises Http404 where there is no such thing, or
        nobody to talk to."""
        earlier = data.get("like")
        conversation = get_turn(request.user, _uuid(earlier)).conversation if earlier else None
        if chosen := data.get("conversation"):
            conversation = get_conversation(request.user, _uuid(chosen))
        usable = Agent.objects.usable_by(request.user)
        agent = find_agent(request.user, data.get("agent", ""))
        if agent is None and conversation and conversation.agent_id:
            agent = usable.filter(pk=conversation.agent_id).first()
        agent = agent or usable.first()
        if agent is None:
            raise Http404("There is no agent yet.")
        return cls(conversation, agent)

    @property
    def query(self) -> str:
        return place_query(self.agent, self.conversation)

    def context(self, request: Request) -> dict[str, Any]:
        found = self.conversation
        return {**frame(request, found), "place": self, "back": conversation_view(found.pk) if found else None}


@dataclass(frozen=True, slots=True)
class InputView:
    """A field. `value` is what stands in it: as it was typed, else what the task takes for granted."""

    name: str
    label: str
    kind: str
    help: str
    required: bool
    choices: tuple[str, ...]
    value: str
    error: str

    @classmethod
    def of(cls, asked: TaskInput, typed: Mapping[str, Any] | None, error: str = "") -> InputView:
        value = asked.default if typed is None else typed.get(asked.name)
        shown = ("on" if value else "") if asked.kind == "boolean" else "" if value is None else str(value)
        must = asked.required and asked.kind != "boolean"
        return cls(f"{INPUT}{asked.name}", asked.title, asked.kind, asked.help, must, asked.choices, shown, error)


@require_safe
@login_required
def declared_tasks(request: Request) -> HttpResponse:
    """All that can be started; for the composer as the options of its list."""
    place = Place.of(request, request.GET)
    found = offers(request.user, place.agent, place.conversation)
    if request.htmx:
        return render(request, "conversations/_task_options.html", {"offers": found})
    return render(request, "conversations/declared_tasks.html", {**place.context(request), "offers": found})


@require_http_methods(["GET", "HEAD", "POST"])
@login_required
def start(request: Request, name: str) -> HttpResponse:
    place = Place.of(request, request.POST if request.method == "POST" else request.GET)
    declared = next((one for one in offered_to(request.user, place.agent) if one.name == name), None)
    if declared is None:
        raise Http404("There is no such task.")
    if request.method != "POST":
        return _form(request, place, declared, _like(request))
    typed = _typed(request.POST, _asked(declared))
    errors = {asked.name: why for asked in _asked(declared) if (why := _problem(asked, typed[asked.name]))}
    if errors:
        return _form(request, place, declared, typed, errors)
    key = request.POST.get("key", "")[:64]
    try:
        turn = actions.start(request.user, place.agent, declared, typed, place.conversation, key)
    except TaskExecutionError as error:
        return _form(request, place, declared, typed, problem=f"{error.message} {error.hint}".strip())
    except NotNow as why:
        return _form(request, place, declared, typed, problem=str(why))
    return redirect(f"{turn.conversation.get_absolute_url()}#turn-{turn.pk}")


def _form(
    request: Request,
    place: Place,
    declared: DeclaredTask,
    typed: Mapping[str, Any] | None = None,
    errors: Mapping[str, str] | None = None,
    problem: str = "",
) -> HttpResponse:
    """Empty, or with what was `typed` and what is wrong with that."""
    errors = errors or {}
    context = {
        **place.context(request),
        "declared": declared,
        "fields": [InputView.of(asked, typed, errors.get(asked.name, "")) for asked in _asked(declared)],
        "steps": [step["name"] for step in declared.declaration["steps"]],
        "worker": declared.agent or place.agent,
        "problem": problem,
        "key": request.POST.get("key") or uuid4(),
    }
    return render(request, "conversations/start_task.html", context, status=422 if request.method == "POST" else 200)


def _like(request: Request) -> Mapping[str, Any] | None:
    """What was filled in for an earlier task, which is to be changed. Raises Http404."""
    earlier = request.GET.get("like")
    return get_task(request.user, _uuid(earlier)).data if earlier else None


def _asked(declared: DeclaredTask) -> list[TaskInput]:
    return [TaskInput(**{**one, "choices": tuple(one["choices"])}) for one in declared.declaration["inputs"]]


def _typed(data: QueryDict, asked: list[TaskInput]) -> dict[str, Any]:
    """What was filled in. A box that is not ticked says no."""
    found: dict[str, Any] = {}
    for one in asked:
        value = data.get(f"{INPUT}{one.name}", "").replace("\r\n", "\n").replace("\x00", "\ufffd")
        found[one.name] = bool(value) if one.kind == "boolean" else value
    return found


def _problem(asked: TaskInput, value: Any) -> str:
    """Why this cannot be taken, as a sentence; "" if it can."""
    try:
        asked.read(value)
    except StepValidationError as error:
        return error.message
    return ""


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError as error:
        raise Http404("There is no such thing.") from error
