"""A declared task whose every step is in the test's hand, as `Work` is for any other."""

from __future__ import annotations

from typing import Any

from conversations.models import Turn
from executor.core.declaration import declaration_of, executor_class
from executor.core.errors import TaskExecutionError
from executor.core.limits import Spent
from executor.core.record import Part, Question
from executor.declared_journal import DeclaredJournal
from executor.hints import notify
from executor.models import DeclaredTask, Step
from tests.conversations.worker import Work, db

TIDES: dict[str, Any] = {
    "name": "tides",
    "title": "Report on tides",
    "description": "Gathers what is known of the tides and writes it down.",
    "inputs": [
        {"name": "place", "label": "Which place?", "help": "A town by the sea."},
        {"name": "days", "kind": "number", "default": 3},
        {"name": "unit", "kind": "choice", "choices": ["metres", "feet"], "default": "metres"},
        {"name": "notes", "kind": "long_text", "label": "Anything else?", "required": False},
        {"name": "moon", "kind": "boolean", "label": "With the moon"},
    ],
    "steps": [
        {"id": "plan", "name": "Plan", "instruction": "Plan it."},
        {"id": "gather", "name": "Gather", "instruction": "Gather.", "output": {"type": "object"}},
        {"id": "report", "name": "Write the report", "instruction": "Write it."},
    ],
}


def declare(data: dict[str, Any] = TIDES) -> DeclaredTask:
    cls = executor_class(data)
    columns = {"title": cls.title, "description": cls.description, "declaration": declaration_of(cls)}
    return DeclaredTask.objects.create(name=cls.name, **columns)


def make_declared(turn: Turn) -> None:
    """As `start_declared` leaves it, of a turn that waits."""
    task = turn.task
    task.declared, task.data = declare().current_version(), {"place": "Brest"}
    task.save(update_fields=["declared", "data"])


class DeclaredWork(Work):
    """One acquisition of a declared task. Each method does what executor/declared_run.py does at that point."""

    journal: DeclaredJournal

    async def begin_step(self, step_id: str) -> None:
        from executor.declared import class_for

        assert self.journal.task.declared is not None
        cls = class_for(self.journal.task.declared)
        await db(self.journal.begin_step, next(step for step in cls.task_steps if step.id == step_id))
        await self._changed()

    async def question(self, text: str) -> None:
        await db(self.journal.open, Question("", text))
        await self.ask()

    async def part(self, name: str, result: str) -> None:
        """Something that is done once."""
        call, _ = await db(self.journal.find, Part("", name, "read", (), 1))
        await self.start(call)
        await self.result(call, result)

    async def answers(self, text: str) -> None:
        """A question, and a model that answers it."""
        await self.question("What do you know?")
        self.say(text)
        await self.finish()

    async def finish_step(self, output: dict[str, Any]) -> None:
        await db(self.journal.finish_step, output, Spent(1, 120))
        await self._changed()

    async def fail_step(self, error: TaskExecutionError) -> None:
        await db(self.journal.fail_step, error)
        await self._changed()

    async def conclude(self, text: str) -> None:
        await db(self.journal.say, text)
        await self.end()

    async def _changed(self) -> None:
        self.stream.rows_changed()
        await notify(self.journal.task.user_id, self.journal.task_id)


def steps_of(turn: Turn) -> dict[str, str]:
    return {step.name: step.status for step in turn.task.steps.filter(kind=Step.Kind.STEP)}
