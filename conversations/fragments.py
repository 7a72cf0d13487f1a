"""Pieces of a page, rendered alone, for answers to a POST and for live updates: the page's own templates."""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from django.db.models import Case, Q, When
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.html import escape

from conversations.branches import variants
from conversations.models import Conversation, Turn
from conversations.present import (
    FileView,
    StepView,
    TaskView,
    TurnView,
    files_of,
    made_files,
    open_step,
    sent_files,
    shows_steps,
    task_view,
    task_views,
)
from conversations.sidebar import ConversationView, conversation_view, sidebar_groups
from conversations.sub_tasks import Given
from executor.history import folded, inherited
from executor.models import ACTIVE, Decision, Status, Step, Task
from executor.prepared import Param, Select
from tools.models import Resource
from users.models import User

#: So many turns are on a page, and come with each look further back.
TURNS = 20
CHIP = re.compile(r"[0-9a-f-]{36}")
#: The tags that end a block, from the one that holds its last words outwards.
CLOSING = re.compile(r"(?:</\w+>\s*)+\Z")


def partial(target: str, swap: str, html: str) -> str:
    """One change of the page for htmx: what to do with `html` at the element `target` (a CSS selector)."""
    return f'<hx-partial hx-target="{escape(target)}" hx-swap="{swap} ignoreTitle:true">{html}</hx-partial>'


# --- turns and tasks -------------------------------------------------------------------------------------------------


def turns(conversation: Conversation, before: int | None = None) -> dict[str, Any]:
    """The last turns, or those before a position; however long the conversation is, a page has the same size."""
    found = (
        conversation.turns.filter(shown=True)
        .select_related("task__agent_version", "task__declared__task")
        .order_by("-position")
    )
    if before is not None:
        found = found.filter(position__lt=before)
    last = list(found[: TURNS + 1])
    has_older = len(last) > TURNS
    last = last[:TURNS][::-1]
    older_url = reverse("older", args=[conversation.pk, last[0].pk]) if has_older else ""
    return {"turns": turn_views(last), "older_url": older_url}


def turn_views(turns: Sequence[Turn]) -> list[TurnView]:
    tasks = task_views([turn.task for turn in turns])
    beside = variants(turns)
    return [TurnView.of(turn, tasks[turn.task_id], beside.get(turn.pk)) for turn in turns]


def turn_view(turn: Turn) -> TurnView:
    """Of one that was just made, and has no other beside it."""
    snapshot = Snapshot.load(turn.task_id)
    return TurnView.of(turn, snapshot.view if snapshot else task_view(turn.task, ()))


def turn_added(turn: TurnView, task: str = "") -> str:
    """The turn, unless the page shows it already: then it knows more of it than the rows do. `task` is the HTML of its
    task, if that is at hand."""
    html = render_to_string("conversations/_turn.html", {"turn": turn, "task_html": task})
    return partial(f"#turns:not(:has(#turn-{turn.id}))", "beforeend", html)


def branch(conversation: Conversation, hidden: Sequence[UUID] | None = None, *, changed: bool = False) -> str:
    """The turns, for a page that shows one that is not shown any more, or not the last one.

    Without variants, `hidden` (looked up if it is not known), there is nothing to say, unless they have `changed`.
    """
    if hidden is None:
        hidden = list(Turn.objects.filter(conversation=conversation, shown=False).values_list("pk", flat=True))
    if not (hidden or changed):
        return ""
    found = turns(conversation)
    wrong = [f":has(#turn-{pk})" for pk in hidden]
    wrong += [f":not(:has(#turn-{turn.id}))" for turn in found["turns"][-1:]]
    html = render_to_string("conversations/_turns.html", found)
    return partial(f"#turns:is({', '.join(wrong)})", "innerMorph", html)


def turn_gone(task_id: UUID) -> str:
    """A message that was taken back, or that went into the task at work."""
    return partial(f".turn:has(> #task-{task_id})", "delete", "")


def turns_gone(waiting: Sequence[UUID]) -> str:
    """What a page shows as queued and is not among the turns that wait, or did until a moment ago."""
    others = "".join(f":not(#turn-{turn_id})" for turn_id in waiting)
    return partial(f".turn:has(> .task[data-status='queued']){others}", "delete", "")


def turn_moved(turn: Turn) -> str:
    """A message that waits, to its place behind `turn.parent`, where a page shows it elsewhere."""
    if turn.parent_id is None:
        return ""
    html = render_to_string("conversations/_turn.html", {"turn": turn_view(turn)})
    mine, before_it = f"#turn-{turn.pk}", f"#turn-{turn.parent_id}"
    away = partial(f"{before_it} + :not({mine}) ~ {mine}", "delete", "")
    return away + partial(f"#turns:not(:has({mine})) > {before_it}", "afterend", html)


def task_repainted(task: TaskView) -> str:
    return partial(f"#task-{task.id}", "outerMorph", _render_task("_task", task))


def turn_repainted(turn: TurnView) -> str:
    """The turn for a page that may not have it, and its task for one that does."""
    task = _render_task("_task", turn.task)
    return turn_added(turn, task) + partial(f"#task-{turn.task.id}", "outerMorph", task)


def composer_actions(conversation_id: UUID) -> str:
    """Send, and Stop if something is at work in the conversation."""
    html = render_to_string("conversations/_composer_actions.html", {"active_task": active_task(conversation_id)})
    return partial("#composer-actions", "outerMorph", html)


# --- answers to a POST: the socket may have told the page more by the time they arrive -------------------------------


def task_retried(task: TaskView) -> str:
    """The task, unless the page shows it at work already, or knows how that went."""
    html = _render_task("_task", task)
    return partial(f"#task-{task.id}[data-attempt='{task.attempts}']:not([data-active])", "outerMorph", html)


def task_stopped(task: TaskView) -> str:
    """The task if it is over, otherwise its state; unless the page shows already that it is over."""
    shown = f"#task-{task.id}[data-active]"
    if not task.is_active:
        return partial(shown, "outerMorph", _render_task("_task", task))
    return partial(f"{shown} #foot-{task.id}", "outerMorph", _render_task("_foot", task))


_ACTIVE_TASK = Select(
    lambda: (
        Task.objects.filter(turn__conversation=Param("conversation"), status__in=ACTIVE)
        .only("status")
        .order_by(Case(When(status=Status.QUEUED, then=1), default=0), "turn__position")[:1]
    )
)


def active_task(conversation_id: UUID) -> Task | None:
    """The task that Stop would stop: the one at work, or the first in the queue."""
    return _ACTIVE_TASK.first(conversation=conversation_id)


def decided(decision: Decision) -> str:
    """The card goes; what comes of it is told by the socket."""
    return partial(f"#decision-{decision.pk}", "delete", "")


def decision_error(decision: Decision, sentence: str) -> str:
    return partial(f"#decision-error-{decision.pk}", "innerHTML", escape(sentence))


def edit_error(turn: Turn, sentence: str) -> str:
    return partial(f"#edit-error-{turn.pk}", "innerHTML", escape(sentence))


def cell_error(step: Step, sentence: str) -> str:
    return partial(f"#cell-error-{step.task_id}-{step.seq}", "innerHTML", escape(sentence))


def composer_error(sentence: str) -> str:
    return partial("#composer-error", "innerHTML", escape(sentence))


def chips(files: Iterable[Resource]) -> str:
    """What is attached to the message that is being written."""
    html = "".join(map(chip, files))
    return partial("#chips", "upsert", html) if html else ""


def chip(file: Resource) -> str:
    return render_to_string("conversations/_chip.html", {"file": FileView.of(file)})


def file_gone(pk: str) -> str:
    """A file that was deleted, wherever a page shows it."""
    return partial(f"[data-file='{pk}']", "delete", "")


def chips_gone(ids: Sequence[str]) -> str:
    return "".join(partial(f"#chip-{pk}", "delete", "") for pk in ids if CHIP.fullmatch(pk))


def toast(text: str, undo_url: str = "") -> str:
    html = render_to_string("conversations/_toast.html", {"text": text, "undo_url": undo_url})
    return partial("#toasts", "beforeend", html)


# --- what happens in a task that somebody watches --------------------------------------------------------------------


_TASK = Select(lambda: Task.objects.filter(pk=Param("task")).select_related("agent_version", "declared__task"))
_STEPS = Select(lambda: Step.objects.filter(task=Param("task"), seq__gt=Param("since")).defer("native").order_by("seq"))
_TOGETHER = Task.objects.filter(Q(pk=Param("task")) | Q(root=Param("task")))
_DECISIONS = Select(
    lambda: (
        Decision.objects.filter(task__in=_TOGETHER, status=Decision.Status.PENDING)
        .select_related("step", "task__agent_version")
        .order_by("pk")
    )
)
_FILES = Select(lambda: made_files().filter(task_id=Param("task")).order_by("created_at", "id"))


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A task as the rows tell it.

    `settled` are its first steps, up to the first that is not over. `open_seq` is the model step that is being written,
    0 if none is; `open_text` is what was saved of it last. `shared` are the steps that a fork shares, and their files.
    """

    view: TaskView
    settled: tuple[Step, ...]
    open_seq: int
    open_text: str
    shared: tuple[tuple[Step, ...], tuple[Resource, ...]] = ((), ())

    @classmethod
    def load(cls, task_id: UUID, before: Snapshot | None = None) -> Snapshot | None:
        """With `before`, only what may have changed since then is read: a look costs the same after 1,000 steps."""
        task = _TASK.first(task=task_id)
        if task is None:
            return None
        settled = before.settled if before else ()
        shared = before.shared if before else _shared(task)
        since = settled[-1].seq if settled else 0
        own = [*settled, *_STEPS.all(task=task_id, since=since)]
        steps = folded(shared[0], own)
        # What the model said last may be an answer now, and a step as soon as something comes after it.
        last = max((step.seq for step in settled if step.kind == Step.Kind.MODEL), default=0)
        shown = before.view.steps if before else ()
        known = {step.seq: step for step in shown if step.seq <= since and step.seq != last}
        asked = task.status == Status.WAITING or any(step.status == Step.Status.WAITING for step in steps)
        decisions = _DECISIONS.all(task=task_id) if asked else ()
        new = [step for step in steps if step.seq not in known] if shows_steps(task) else ()
        given = Given.by({task.pk: steps}, () if task.is_active else (task.pk,), new)
        files = [*shared[1], *_FILES.all(task=task_id)]
        sent = before.view.sent if before else sent_files([task])[task.pk]
        view = task_view(task, steps, files, decisions, given, sent=sent, known=known)
        settled = tuple(itertools.takewhile(_is_settled, own))
        writing = open_step(steps)
        return cls(view, settled, *((writing.seq, writing.text) if writing else (0, "")), shared)


def _is_settled(step: Step) -> bool:
    """Its row does not change any more. A declared step that failed may be begun again."""
    return not step.is_open and (step.kind != Step.Kind.STEP or step.status == Step.Status.DONE)


def _shared(task: Task) -> tuple[tuple[Step, ...], tuple[Resource, ...]]:
    """What a fork has of the task that it was forked from does not change."""
    steps = inherited([task], Step.objects.defer("native")).get(task.pk, [])
    makers = {step.task_id for step in steps}
    files: dict[UUID | None, list[Resource]] = defaultdict(list)
    for file in made_files().filter(task_id__in=makers) if makers else ():
        files[file.task_id].append(file)
    own = set(task.steps.values_list("seq", flat=True)) if steps else set()
    return tuple(steps), tuple(files_of(task, [step for step in steps if step.seq not in own], files))


def task_changed(before: TaskView, after: TaskView) -> str:
    """What turns a page that shows `before` into one that shows `after`."""
    if (before.status, before.attempts) != (after.status, after.attempts) or not after.is_active:
        return task_repainted(after) if before != after else ""
    pieces = [*(_steps_changed(before, after) if after.declared is None else _parts_changed(before, after))]
    if before.decisions != after.decisions:
        pieces.append(partial(f"#decisions-{after.id}", "innerMorph", _render_task("_decisions", after)))
    if _foot(before) != _foot(after):
        pieces.append(partial(f"#foot-{after.id}", "outerMorph", _render_task("_foot", after)))
    if before.messages != after.messages:
        pieces.append(partial(f"#meanwhile-{after.id}", "outerMorph", _render_task("_meanwhile", after)))
    if before.summaries != after.summaries:
        pieces.append(partial(f"#summarised-{after.id}", "outerMorph", _render_task("_summarised", after)))
    if before.files != after.files:
        pieces.append(partial(f"#files-{after.id}", "innerMorph", _files(after)))
    return "".join(pieces) + _text_changed(before, after)


def _steps_changed(before: TaskView, after: TaskView) -> Iterator[str]:
    changed = ""
    if after.steps is not before.steps:  # They are the same ones as long as only words come.
        known = {step.seq: step for step in before.steps}
        differ = [step for step in after.steps if known.get(step.seq) is not step and known.get(step.seq) != step]
        said = {step.seq: _output_added(known.get(step.seq), step) for step in differ}
        yield from filter(None, said.values())
        changed = "".join(_step(step) for step in differ if not said[step.seq])
        if (changed and not before.steps) or known.keys() - {step.seq for step in after.steps}:
            # The list appears, or something in it vanished (half an answer that is asked for again).
            yield partial(f"#work-{after.id}", "outerMorph", _render_task("_work", after))
            return
    if changed:
        yield partial(f"#steps-{after.id}", "upsert", changed)
    if _summed_up(before) != _summed_up(after):
        yield partial(f"#summary-{after.id}", "outerMorph", _render_task("_summary", after))


def _output_added(before: StepView | None, after: StepView) -> str:
    """What a call said since then, if nothing else is new; "" otherwise."""
    if before is None or not before.output or not after.output.startswith(before.output):
        return ""
    cell = after.cell and before.cell and replace(before.cell, printed=after.cell.printed)
    if replace(before, output=after.output, cell=cell) != after:
        return ""
    added = after.output[len(before.output) :]
    # Of a piece that is nothing but white space, htmx puts in nothing.
    return partial(f"#output-{after.id}", "beforeend", escape(added)) if added.strip() else ""


def _summed_up(task: TaskView) -> object:
    """What the line above the steps tells of a task that is not over."""
    return task.step_count, task.state_label, task.is_still


def _parts_changed(before: TaskView, after: TaskView) -> Iterator[str]:
    """Of a declared task: how far it is, and the steps that differ. All of them are on the page from the beginning."""
    if before.declared is None or after.declared is None or before.declared.total != after.declared.total:
        yield partial(f"#declared-{after.id}", "outerMorph", _render_task("_declared", after))
        return
    known = {part.id: part for part in before.declared.parts}
    if changed := [part for part in after.declared.parts if known.get(part.id) != part]:
        html = render_to_string("conversations/_parts.html", {"parts": changed})
        yield partial(f"#parts-{after.id}", "upsert", html)
    if (before.declared.done, before.declared.at) != (after.declared.done, after.declared.at):
        yield partial(f"#progress-{after.id}", "outerMorph", _render_task("_progress", after))


def _foot(task: TaskView) -> tuple[object, ...]:
    """What it shows of a task at work."""
    return task.started_at, task.state_label, task.note, task.retry_at, task.place, task.steers, task.is_still


def _text_changed(before: TaskView, after: TaskView) -> str:
    """Blocks that became complete go before the open one, which is redrawn; never one without the other."""
    if not after.open_blocks.startswith(before.open_blocks):
        return partial(f"#answer-{after.id}", "outerMorph", _render_task("_open_answer", after))
    done = after.open_blocks[len(before.open_blocks) :]
    if not done and before.open_block == after.open_block:
        return ""
    if not done and (grown := _words_added(before.open_block, after.open_block)):
        place, words = grown
        return partial(f"#open-{after.id}{place}", "beforeend", words)
    before_it = partial(f"#open-{after.id}", "beforebegin", done) if done else ""
    return before_it + partial(f"#open-{after.id}", "innerHTML", after.open_block)


def _words_added(before: str, after: str) -> tuple[str, str] | None:
    """Where plain text was added at the very end of a block, as a CSS path below it, and the text."""
    closing = CLOSING.search(before)
    if closing is None or not after.endswith(closing[0]) or not after.startswith(before[: closing.start()]):
        return None
    words = after[closing.start() : len(after) - len(closing[0])]
    if "<" in words:
        return None
    path = [f"> {tag}:last-child" for tag in reversed(re.findall(r"</(\w+)>", closing[0]))]
    return f" {' '.join(path)}", words


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
    view = conversation_view(conversation_id)
    if view is None or view.deleted:
        return partial(f"#conversation-{conversation_id}", "delete", "")
    item = conversation_item(view, conversation_id == current_id)
    return partial(f"#conversation-{conversation_id}", "outerMorph", item)


def sidebar(user: User, current_path: str) -> str:
    """All of it, on the page at `current_path`."""
    groups = sidebar_groups(user)
    current = next((view for _, views in groups for view in views if view.url == current_path), None)
    html = render_to_string("conversations/_conversations.html", {"groups": groups, "current": current})
    return partial("#conversations", "outerMorph", html)


def title_changed(conversation: Conversation) -> str:
    """The heading, where the page is that of the conversation."""
    return partial(f"main[data-conversation='{conversation.pk}'] #title", "innerHTML", escape(conversation.title))
