"""Tasks that a task gave to other agents, as pages show them: a tree under the call that they answer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import OuterRef, Prefetch, Q, QuerySet, Subquery
from django.urls import reverse
from django.utils.safestring import SafeString

from conversations import words
from conversations.markdown import render
from executor import money
from executor.models import ACTIVE, HELD, Status, Step, Task
from executor.states import RESUMING, State, lost_its_worker
from executor.sub_tasks import DEPENDENCY, as_given
from executor.usage import Use
from tools.registry import get_registry

#: What a task is called that is the only one of its call.
ALONE = "task"
#: So much is shown of what it is to do.
FIRST_WORDS = 100

_SAID = Step.objects.filter(task=OuterRef("pk"), kind__in=(Step.Kind.NOTE, Step.Kind.MODEL)).exclude(text="")


@dataclass(frozen=True, slots=True)
class SubTaskView:
    """`tasks` are those that it gave itself; `after` are the names of those that had to be done before it."""

    id: UUID
    agent: str
    name: str
    words: str
    text: str
    status: str
    state: str
    is_active: bool
    started_at: datetime | None
    duration: str
    use: str
    answer: SafeString
    error: str
    url: str
    after: tuple[str, ...]
    tasks: tuple[SubTaskView, ...]

    @property
    def asks(self) -> bool:
        """Whether it, or one below it, waits for the person."""
        return self.status == Status.WAITING or any(task.asks for task in self.tasks)

    @property
    def is_at_work(self) -> bool:
        works = self.status in HELD and self.state != RESUMING
        return works or any(task.is_at_work for task in self.tasks)


Tasks = tuple[SubTaskView, ...]


@dataclass(frozen=True, slots=True)
class Given:
    """What tasks gave to others: by the call that gave it, and what all below a task used by that task."""

    calls: Mapping[tuple[UUID, str], Tasks] = field(default_factory=dict)
    uses: Mapping[UUID, Use] = field(default_factory=dict)

    @classmethod
    def by(cls, steps: Mapping[UUID, Sequence[Step]], counted: Collection[UUID], shown: Iterable[Step]) -> Given:
        """Of tasks with these `steps`, by task: below some of them use is `counted`, and some steps are `shown`. In
        three queries; in none where nothing was given."""
        givers = {pk for pk in counted if any(map(gives_tasks, steps[pk]))}
        return cls(trees(shown), _uses(givers) if givers else {})

    def of(self, step: Step) -> Tasks:
        return self.calls.get((step.task_id, step.call_id or ""), ())


def gives_tasks(step: Step) -> bool:
    """Whether other tasks answer this call."""
    function = get_registry().functions.get(step.name) if step.kind == Step.Kind.TOOL else None
    return function is not None and function.answered_by == "tasks"


def trees(steps: Iterable[Step]) -> dict[tuple[UUID, str], Tasks]:
    """What was given by `steps`, by task and call, with all below it."""
    givers = {step.task_id for step in steps if gives_tasks(step)}
    if not givers:
        return {}
    below: dict[UUID, list[Any]] = defaultdict(list)
    for task in _all_below(givers):
        below[task.parent_id].append(task)
    calls: dict[tuple[UUID, str], list[SubTaskView]] = defaultdict(list)
    for giver in givers:
        for task in below[giver]:
            calls[giver, task.parent_call].append(_view(task, below))
    return {call: tuple(views) for call, views in calls.items()}


def _below(givers: Collection[UUID]) -> QuerySet[Task]:
    """Everything in the trees of these tasks: it is found by what stands at the top."""
    above = Task.objects.filter(pk__in=givers).values("root")
    return Task.objects.filter(Q(root__in=givers) | Q(root__in=above)).order_by("pk")


def _all_below(givers: Collection[UUID]) -> Iterable[Any]:
    awaited = Prefetch("awaits", Task.objects.only("name").order_by("pk"))
    said = Subquery(_SAID.order_by("-seq").values("text")[:1])
    return _below(givers).select_related("agent_version").defer("data").prefetch_related(awaited).annotate(said=said)


def _view(task: Any, below: Mapping[UUID, Sequence[Any]]) -> SubTaskView:
    """What it says and costs is told at the end: nobody tells this page of every word and answer before."""
    is_over = not task.is_active
    text = " ".join(as_given(task).split())
    return SubTaskView(
        id=task.pk,
        agent=task.agent_version.config["title"],
        name="" if task.name == ALONE else task.name,
        words=text if len(text) <= FIRST_WORDS else f"{text[: FIRST_WORDS - 1]}…",
        text=words.shorten(task.text),
        status=task.status,
        state=_state(task),
        is_active=task.is_active,
        started_at=task.started_at,
        duration=words.duration(task.started_at, task.ended_at),
        use=money.line(task.input_tokens + task.output_tokens, task.cost, task.unpriced_calls) if is_over else "",
        answer=render(task.said) if is_over and task.said else SafeString(""),
        error="" if task.status == Status.DONE else task.error,
        url=reverse("task", args=[task.pk]),
        after=tuple(other.name for other in task.awaits.all()),
        tasks=tuple(_view(other, below) for other in below.get(task.pk, ())),
    )


def _state(task: Task) -> str:
    if task.stop_reason == DEPENDENCY:
        return "Not begun"
    if lost_its_worker(task) or (task.status == Status.QUEUED and task.attempts):
        return RESUMING
    return str(task.get_status_display())


def waits_for(tasks: Tasks) -> str:
    """Of a call that is not answered yet: how far those are that answer it."""
    if any(task.asks for task in tasks):
        return "waiting for you"
    if len(tasks) < 2:
        return "working elsewhere"
    return f"{sum(not task.is_active for task in tasks)} of {len(tasks)} over"


def state_while(tasks: Sequence[SubTaskView], state: State) -> State:
    """Of a task that awaits these."""
    label = "Waiting for you" if any(task.asks for task in tasks) else state.label
    return State(label, is_still=not any(task.is_at_work for task in tasks))


def intent(tasks: Tasks) -> str:
    """Who was given something."""
    return ", ".join(dict.fromkeys(task.agent for task in tasks))


def _uses(givers: Collection[UUID]) -> dict[UUID, Use]:
    """What the tasks below each of `givers` used that are over, at whatever depth. Of the others it is told at the end,
    as everywhere."""
    uses: dict[UUID, Use] = defaultdict(Use)
    for task in _below(givers).exclude(status__in=ACTIVE).select_related("parent").only(*_COUNTED, "parent__parent"):
        use = Use(task.model_calls, task.input_tokens, task.output_tokens, cost=task.cost, unpriced=task.unpriced_calls)
        # Tasks are given on three times at most (executor.sub_tasks.MAX_DEPTH), so these are all that are above it.
        above = {task.root_id, task.parent_id, task.parent.parent_id if task.parent else None}
        for giver in (giver for giver in givers if giver in above):
            uses[giver].add(use)
    return dict(uses)


_COUNTED = ("root", "parent", "model_calls", "input_tokens", "output_tokens", "unpriced_calls", "cost")
