"""What templates are given of a declared task: its steps as they were declared, how far each is, and what it gave."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from django.utils.safestring import SafeString

from conversations import words
from conversations.sub_tasks import gives_tasks
from conversations.values import output_html
from executor.core.validation import parse_answer
from executor.history import owners
from executor.models import Status, Step, Task
from executor.states import State

if TYPE_CHECKING:
    from conversations.present import StepView

#: How a step stands, and what that is called beside its name.
LABELS = {
    "done": "done",
    "running": "running",
    "waiting": "waiting for you",
    "elsewhere": "working elsewhere",
    "paused": "paused",
    "again": "trying again",
    "failed": "failed",
    "stopped": "stopped",
    "open": "not begun",
}


@dataclass(frozen=True, slots=True)
class PartView:
    """A declared step. `state` is one of LABELS; `steps` are the calls and answers in it. `is_changed`: a person wrote
    what it gave, where the task was forked."""

    id: str
    number: int
    name: str
    state: str
    label: str
    started_at: datetime | None
    duration: str
    error: str
    output: SafeString
    is_changed: bool
    steps: tuple[StepView, ...]


@dataclass(frozen=True, slots=True)
class DeclaredView:
    title: str
    #: What it is started by; "" where it is not offered any more.
    name: str
    #: It has an agent of its own, which answers whoever is chosen in the composer.
    keeps_agent: bool
    parts: tuple[PartView, ...]
    total: int
    done: int
    #: What it is at, or where trying again begins; "" when all is done.
    at: str


#: Rows that are told by what belongs to them, or as the answer.
FRAMES = (Step.Kind.STEP, Step.Kind.QUESTION, Step.Kind.NOTE)


def declared_view(
    task: Task, steps: Sequence[Step], state: State, views: Mapping[int, StepView], *, whole: bool
) -> DeclaredView | None:
    """None of a task that is not declared. `views` are those of the steps that are listed. Unless `whole`, the parts
    are left out, for which more is read of the rows."""
    if task.declared is None:
        return None
    declaration: dict[str, Any] = task.declared.declaration
    offered = task.declared.task
    rows = {step.name: step for step in steps if step.kind == Step.Kind.STEP}
    names = {each["id"]: each.get("name") or words.human_name(each["id"]) for each in declaration.get("steps", ())}
    # What its code has declared since then has rows, too.
    names |= {name: row.text or words.human_name(name) for name, row in rows.items() if name not in names}
    left = [name for key, name in names.items() if key not in rows or rows[key].status != Step.Status.DONE]
    inside = _inside(steps) if whole else {}
    parts = (
        _part(task, number, name, rows.get(key), state, inside, views)
        for number, (key, name) in enumerate(names.items(), 1)
    )
    return DeclaredView(
        title=declaration.get("title", ""),
        name=offered.name if offered and offered.enabled and not offered.is_missing else "",
        keeps_agent=offered is not None and offered.agent_id is not None,
        parts=tuple(parts) if whole else (),
        total=len(names),
        done=len(names) - len(left),
        at=left[0] if left else "",
    )


def _part(
    task: Task,
    number: int,
    name: str,
    row: Step | None,
    task_state: State,
    inside: Mapping[int, Sequence[Step]],
    views: Mapping[int, StepView],
) -> PartView:
    mine = inside.get(row.seq, ()) if row else ()
    state = _state(task, row, mine, task_state)
    result = row.result if row and row.status == Step.Status.DONE else ""
    shown = [step for step in mine if step.seq in views and not _is_output(step, row)]
    return PartView(
        id=f"{task.pk}-{number}",
        number=number,
        name=name,
        state=state,
        label=f"failed after {row.attempt} attempts"
        if row and state == "failed" and row.attempt > 1
        else LABELS[state],
        started_at=row.started_at if row else None,
        duration=words.duration(row.started_at, row.ended_at) if row else "",
        error=row.error if row and state in ("failed", "again") else "",
        output=output_html(row.name, result) if row and result else SafeString(""),
        is_changed=state == "done" and row is not None and row.started_at is None,
        steps=tuple(views[step.seq] for step in shown),
    )


def _state(task: Task, row: Step | None, inside: Sequence[Step], state: State) -> str:
    match row.status if row else None:
        case None:
            return "open"
        case Step.Status.PENDING if task.is_active:  # A fork is to go on with it.
            return "open"
        case Step.Status.DONE:
            return "done"
        case Step.Status.FAILED:
            return "again" if task.is_active else "failed"
        case Step.Status.STARTED if task.is_active:
            waiting = [step for step in inside if step.status == Step.Status.WAITING]
            if waiting and all(map(gives_tasks, waiting)) and task.status == Status.AWAITING:
                return "elsewhere"
            if waiting or task.status == Status.WAITING:
                return "waiting"
            is_at_work = task.status in (Status.RUNNING, Status.STOPPING) and not state.is_still
            return "running" if is_at_work else "paused"
    return "stopped"


def _inside(steps: Sequence[Step]) -> dict[int, list[Step]]:
    """The rows that belong to each declared step, by its `seq`: calls, and what models said."""
    owner = owners(steps)
    found: dict[int, list[Step]] = defaultdict(list)
    for step in steps:
        if step.kind != Step.Kind.STEP and step.seq in owner:
            found[owner[step.seq]].append(step)
    return found


def _is_output(step: Step, row: Step | None) -> bool:
    """Whether a model said nothing but what the declared step gave, which is shown anyway."""
    if row is None or step.kind != Step.Kind.MODEL or step.reasoning or row.status != Step.Status.DONE:
        return False
    return _says_the_same(step.text, row.name, row.result)


@lru_cache(maxsize=256)  # As with `output_html`.
def _says_the_same(text: str, name: str, result: str) -> bool:
    try:
        value = parse_answer(result).get(name)
        return bool(value == text or value == parse_answer(text))
    except ValueError:
        return False
