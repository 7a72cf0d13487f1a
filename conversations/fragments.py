"""Pieces of a page, rendered alone, for answers to a POST and for live updates: the page's own templates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from django.template.loader import render_to_string

from conversations.markdown import BlockStream
from conversations.models import Conversation, Turn
from conversations.present import (
    ConversationView,
    StepView,
    TaskView,
    TurnView,
    conversation_views,
    task_view,
    task_views,
)
from executor.models import ACTIVE, Step, Task
from tools.models import Resource


def partial(target: str, swap: str, html: str) -> str:
    """One change of the page for htmx: what to do with `html` at the element `target` (a CSS selector)."""
    return f'<hx-partial hx-target="{target}" hx-swap="{swap} ignoreTitle:true">{html}</hx-partial>'


# --- turns and tasks -------------------------------------------------------------------------------------------------


def turn_views(turns: Sequence[Turn]) -> list[TurnView]:
    tasks = task_views([turn.task for turn in turns])
    return [TurnView(turn.pk, turn.text, turn.created_at, tasks[turn.task_id]) for turn in turns]


def turn_added(turn: TurnView) -> str:
    return partial("#turns", "upsert", render_to_string("conversations/_turn.html", {"turn": turn}))


def task_repainted(task: TaskView) -> str:
    return partial(f"#task-{task.id}", "outerMorph", render_to_string("conversations/_task.html", {"task": task}))


def composer_actions(conversation_id: UUID) -> str:
    """Send, and Stop if something is at work in the conversation."""
    html = render_to_string("conversations/_composer_actions.html", {"active_task": active_task(conversation_id)})
    return partial("#composer-actions", "outerMorph", html)


def active_task(conversation_id: UUID) -> Task | None:
    """The task that Stop would stop: the one at work, or the first in the queue."""
    return Task.objects.filter(turn__conversation=conversation_id, status__in=ACTIVE).order_by("created_at").first()


def composer_error(sentence: str) -> str:
    return partial("#composer-error", "innerHTML", render_to_string("conversations/_sentence.html", {"text": sentence}))


def toast(text: str, undo_url: str = "") -> str:
    html = render_to_string("conversations/_toast.html", {"text": text, "undo_url": undo_url})
    return partial("#toasts", "beforeend", html)


# --- what happens in a task that somebody watches --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A task with everything on record of it."""

    task: Task
    steps: list[Step]
    resources: list[Resource]

    @classmethod
    def load(cls, task_id: UUID) -> Snapshot | None:
        task = Task.objects.select_related("agent_version").filter(pk=task_id).first()
        if task is None:
            return None
        steps = list(task.steps.defer("native").order_by("seq"))
        return cls(task, steps, list(Resource.objects.filter(task_id=task_id).order_by("created_at", "id")))

    def view(self, open_text: BlockStream | None = None, note: str = "") -> TaskView:
        return task_view(self.task, self.steps, self.resources, open_text=open_text, note=note)


def steps_changed(before: TaskView, after: TaskView) -> str:
    """What turns a page that shows `before` into one that shows `after`, both of a task that is still at work."""
    known = {step.seq: step for step in before.steps}
    changed = "".join(_step(step) for step in after.steps if known.get(step.seq) != step)
    pieces = []
    if (changed and not before.steps) or known.keys() - {step.seq for step in after.steps}:
        # The list appears, or something in it vanished (half an answer that is asked for again).
        pieces.append(partial(f"#work-{after.id}", "outerMorph", _render_task("_work", after)))
    elif changed:
        pieces.append(partial(f"#steps-{after.id}", "upsert", changed))
    if before.step_count != after.step_count or before.state_label != after.state_label:
        pieces.append(partial(f"#summary-{after.id}", "outerMorph", _render_task("_summary", after)))
        pieces.append(partial(f"#foot-{after.id}", "outerMorph", _render_task("_foot", after)))
    if before.files != after.files:
        pieces.append(partial(f"#files-{after.id}", "innerMorph", _files(after)))
    return "".join(pieces)


def answer_repainted(task: TaskView) -> str:
    return partial(f"#answer-{task.id}", "outerMorph", _render_task("_open_answer", task))


def text_grown(task_id: UUID, done: str, open_html: str) -> str:
    """The blocks that became complete go before the open one, which is redrawn; never one without the other."""
    before = partial(f"#open-{task_id}", "beforebegin", done) if done else ""
    return before + partial(f"#open-{task_id}", "innerHTML", open_html)


def _render_task(name: str, task: TaskView) -> str:
    return render_to_string(f"conversations/{name}.html", {"task": task})


def _step(step: StepView) -> str:
    return render_to_string("conversations/_step.html", {"step": step})


def _files(task: TaskView) -> str:
    return render_to_string("conversations/_files.html", {"files": task.files})


# --- the sidebar -----------------------------------------------------------------------------------------------------


def conversation_item(conversation: ConversationView, current: bool) -> str:
    context = {"conversation": conversation, "current": conversation if current else None}
    return render_to_string("conversations/_conversation_item.html", context)


def conversation_changed(conversation_id: UUID, current_id: UUID | None) -> str:
    """The sidebar's line of a conversation, where it is."""
    views = conversation_views(Conversation.objects.filter(pk=conversation_id, deleted_at=None))
    if not views:
        return partial(f"#conversation-{conversation_id}", "delete", "")
    return partial(
        f"#conversation-{conversation_id}", "outerMorph", conversation_item(views[0], conversation_id == current_id)
    )


def sidebar(groups: list[tuple[str, list[ConversationView]]], current_path: str) -> str:
    current = next((view for _, views in groups for view in views if view.url == current_path), None)
    html = render_to_string("conversations/_conversations.html", {"groups": groups, "current": current})
    return partial("#conversations", "outerMorph", html)


def title_changed(conversation: Conversation) -> str:
    """The heading, where the page is that of the conversation."""
    heading = render_to_string("conversations/_sentence.html", {"text": conversation.title})
    return partial(f'main[data-conversation="{conversation.pk}"] #title', "innerHTML", heading)
