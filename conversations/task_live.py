"""The page of a task, `/t/<id>/`, while that is at work: what its rows tell, sent as they change.

The hub says when to look; what streams in between is in no row yet, and not on this page. Forms are left alone by
repaints (hx-morph-skip): somebody may be typing in one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.template.loader import render_to_string

from conversations import words
from conversations.again import Typed
from conversations.fragments import partial
from conversations.hub import Viewer
from conversations.models import Turn
from conversations.present import task_views
from conversations.record import Record
from conversations.timeline import timeline
from executor.database import in_database
from executor.models import Task

#: Seconds between two looks, and at least so many times what a look takes: a long time line is slow to draw.
LOOK_EVERY = 0.25
LOOK_SHARE = 10


def task_context(found: Task, typed: Typed | None = None) -> dict[str, Any]:
    """What the templates of the page need of a task."""
    turn = Turn.objects.filter(task=found).select_related("conversation").first()
    record = Record.of(found)
    return {
        "task": task_views([found], every_step=True)[found.pk],
        "lines": timeline(record, turn, typed),
        "base": record.task.base_id,
        "base_seq": record.task.base_seq,
        "turn": turn,
        "giver": _giver(found),
        "given": words.shorten(found.text),
    }


def _giver(found: Task) -> Task | None:
    """The task of which another agent gave this one."""
    return Task.objects.filter(sub_tasks=found).select_related("agent_version").first() if found.parent_id else None


@dataclass(frozen=True, slots=True)
class Drawn:
    """The page's pieces: the facts about the task, and its steps by their id. To draw them took so many `seconds`."""

    facts: str
    lines: Mapping[str, str]
    seconds: float

    @classmethod
    def load(cls, task_id: UUID) -> Drawn | None:
        found = Task.objects.filter(pk=task_id).select_related("agent_version", "declared__task").first()
        if found is None:
            return None
        began = time.thread_time()
        context = task_context(found)
        lines = {
            line.step.id: render_to_string("conversations/_timeline_step.html", {"line": line, "step": line.step})
            for line in context["lines"]
        }
        facts = render_to_string("conversations/_task_facts.html", context)
        return cls(facts, lines, time.thread_time() - began)


def changes(task_id: UUID, before: Drawn | None, after: Drawn) -> str:
    """What turns a page that shows `before` into one that shows `after`; None is whatever it was loaded with."""
    pieces = []
    if before is None or before.facts != after.facts:
        pieces.append(partial(f"#facts-{task_id}", "outerMorph", after.facts))
    if before is None or not before.lines or before.lines.keys() - after.lines.keys():
        if after.lines:
            pieces.append(partial(f"#line-{task_id}", "innerMorph", "".join(after.lines.values())))
    elif changed := "".join(html for key, html in after.lines.items() if before.lines.get(key) != html):
        pieces.append(partial(f"#line-{task_id}", "upsert", changed))
    return "".join(pieces)


class TaskPage:
    """One of the hub's viewers: `page`, which shows what the task did. `begin` lets something run beside the rest."""

    def __init__(self, task_id: UUID, page: Viewer, begin: Callable[[Coroutine[Any, Any, None], str], None]) -> None:
        self.task_id = task_id
        self._page, self._begin = page, begin
        self._shown: Drawn | None = None
        self._stale = False
        self._looking = False

    def show(self, html: str) -> None:
        self._look_soon()

    def rows_read(self) -> None:
        self._look_soon()

    def task_over(self, task_id: UUID) -> None:
        self._look_soon()
        self._page.task_over(task_id)

    def task_stands(self, task_id: UUID) -> None:
        self._look_soon()
        self._page.task_stands(task_id)

    def _look_soon(self) -> None:
        self._stale = True
        if not self._looking:
            self._looking = True
            self._begin(self._look(), "task page")

    async def _look(self) -> None:
        """Until nothing happened since the last look."""
        try:
            while self._stale:
                self._stale = False
                drawn = await in_database(Drawn.load, self.task_id)
                if drawn is None:
                    return
                self._page.show(changes(self.task_id, self._shown, drawn))
                self._shown = drawn
                await asyncio.sleep(max(LOOK_EVERY, drawn.seconds * LOOK_SHARE))
        finally:
            self._looking = False
