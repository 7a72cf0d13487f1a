"""What a declared task writes down beside the rest: its steps, what they ask, and what they do once.

A step is a row of the kind `STEP`, which is written when it begins and changed when it ends. What belongs to it has its
number as `parent_seq`: questions, under which their models answer, and parts, which are calls that code makes instead
of a model. So everything that is said of calls holds for parts (docs/durability.md).
"""

from __future__ import annotations

import json
from typing import Any

from django.db.models.functions import Coalesce, Now

from executor.core.errors import LLM_ERROR_KINDS, TaskExecutionError
from executor.core.limits import Spent
from executor.core.messages import ToolCall
from executor.core.record import Opened, Part, Question
from executor.core.steps import TaskStep
from executor.history import inherited, whole
from executor.journal import Journal
from executor.models import Decision, OnUnknown, Step
from executor.stored import clean, clean_json, digest
from executor.told import Told, told_of

#: Why a step ended that has not failed itself: when it is tried again, it goes on with what it asked and did by then.
#: Without a model, at a limit, or with a call that may have run, of which its model is told then.
NOT_ITS_OWN = (*LLM_ERROR_KINDS, "no_key", "limit", "budget", "doubtful")


class DeclaredJournal(Journal):
    """The journal of a task that works through declared steps."""

    #: The step at work: its number, and which attempt it is.
    step_seq: int | None = None
    attempt = 1

    def outputs(self) -> dict[str, dict[str, Any]]:
        """What the finished steps gave, by their ids."""
        done = [step for step in self._rows() if step.kind == Step.Kind.STEP and step.status == Step.Status.DONE]
        return {step.name: json.loads(step.result) for step in done}

    # --- steps -------------------------------------------------------------------------------------------------------

    def begin_step(self, step: TaskStep) -> int:
        """Which attempt it is. One that ended for a reason that is not its own goes on."""
        row = Step.objects.filter(task=self.task_id, kind=Step.Kind.STEP, name=step.id).order_by("-seq").first()
        with self._transaction():
            if row is None:
                row = self._add(kind=Step.Kind.STEP, status=Step.Status.STARTED, name=step.id, text=clean(step.name))
            elif row.status != Step.Status.STARTED:
                row.attempt += row.status == Step.Status.FAILED and row.error_kind not in NOT_ITS_OWN
                begun = {"status": Step.Status.STARTED, "error": "", "error_kind": "", "ended_at": None}
                began = Coalesce("started_at", Now())
                Step.objects.filter(pk=row.pk).update(**begun, attempt=row.attempt, started_at=began)
        self.step_seq, self.attempt = row.seq, row.attempt
        return row.attempt

    def finish_step(self, output: dict[str, Any], spent: Spent) -> None:
        assert self.step_seq is not None
        self._meter.count()
        self._checkpoint(self.step_seq, spent)
        with self._transaction():
            result = json.dumps(clean_json(output), ensure_ascii=False)
            self._change_step(status=Step.Status.DONE, result=result, ended_at=Now())
        self.step_seq = self.within = None

    def fail_step(self, error: TaskExecutionError) -> bool:
        """What it was about is settled as it is when a worker dies. True if a person has to say what became of it."""
        with self._transaction():
            doubtful = self._settle()
            if kept := self._no_longer_kept():
                self._break_off([kept])
            self._fail_step(error)
        self.within = None
        return bool(doubtful) and self.config.on_unknown == OnUnknown.ASK

    def say(self, text: str) -> None:
        """What the task says in the end."""
        with self._transaction():
            if not Step.objects.filter(task=self.task_id, kind=Step.Kind.NOTE).exists():
                self._add(kind=Step.Kind.NOTE, status=Step.Status.DONE, text=clean(text), ended_at=Now())

    def _note_failure(self, error: TaskExecutionError) -> None:
        super()._note_failure(error)
        self._fail_step(error)

    def _fail_step(self, error: TaskExecutionError) -> None:
        failed = {"status": Step.Status.FAILED, "error_kind": error.kind, "error": clean(error.message)}
        self._change_step(**failed, ended_at=Now())

    def _change_step(self, **changes: Any) -> None:
        if self.step_seq is not None:
            Step.objects.filter(task=self.task_id, seq=self.step_seq, kind=Step.Kind.STEP).update(**changes)

    # --- what belongs to a step --------------------------------------------------------------------------------------

    def open(self, question: Question) -> Opened:
        """The question, as far as it got in this attempt."""
        key = digest(question.text, [question.instructions, question.n])
        rows = self._rows()
        mine = (row for row in rows if row.kind == Step.Kind.QUESTION and self._is_mine(row))
        asked = next((row for row in mine if row.arguments_digest == key), None)
        if asked is None:
            with self._transaction():
                done = {"status": Step.Status.DONE, "attempt": self.attempt, "ended_at": Now()}
                asked = self._add(kind=Step.Kind.QUESTION, text=clean(question.text), arguments_digest=key, **done)
        self.within = asked.seq
        told = told_of(asked, rows)
        answers = [row for row in rows if row.kind == Step.Kind.MODEL and row.parent_seq == asked.seq]
        rounds = sum(row.status == Step.Status.DONE for row in answers)
        ratio = told.ratio(self.source.config.provider)
        return Opened([*question.opening, *told.messages("")], rounds, ratio=ratio)

    def told(self) -> Told:
        """What the model is told of what came of the open question."""
        rows = self._rows()
        return told_of(next(row for row in rows if row.seq == self.within), rows)

    def take_up_model(self, still_wanted: bool = True) -> Step | None:
        """Only for the question that it belongs to: others may come before."""
        if self.kept is None or self.kept.parent_seq != self.within:
            return None
        return super().take_up_model(still_wanted)

    def find(self, part: Part) -> tuple[ToolCall, Step]:
        """The call that stands for the part, on record from now on, and its row. What may have been done already is
        asked of the person."""
        arguments = clean_json({str(n): value for n, value in enumerate(part.arguments, 1)})
        call = ToolCall(digest(f"{part.step}/{part.name}/{part.n}", arguments), part.name, arguments)
        rows = Step.objects.filter(task=self.task_id, call_id=call.id)
        if not (row := rows.first() or self._shared_part(call.id)):
            with self._transaction():
                self._add(
                    kind=Step.Kind.TOOL,
                    status=Step.Status.PENDING,
                    name=clean(part.name)[:64],
                    call_id=call.id,
                    arguments=arguments,
                    arguments_digest=digest(part.name, arguments),
                    effect=part.effect,
                )
            row = rows.get()
        elif row.status in (Step.Status.FAILED, Step.Status.CANCELLED):
            with self._transaction():
                fresh = {"status": Step.Status.PENDING, "result": "", "error": "", "error_kind": "", "ended_at": None}
                rows.update(**fresh)
            row = rows.get()
        elif row.status == Step.Status.UNKNOWN:  # There is no model that could be told so.
            with self._transaction():
                self._ask(row, Decision.Kind.UNKNOWN)
            row = rows.get()
        self._calls[call.id] = row.seq, row.effect
        return call, row

    def _shared_part(self, call_id: str) -> Step | None:
        """The part in the task that this one was forked from. If it is not done there, it is this one's to do."""
        shared = inherited([self.task], Step.objects.filter(call_id=call_id)).get(self.task_id, [])
        if not shared or shared[-1].status in (Step.Status.DONE, Step.Status.SKIPPED):
            return shared[-1] if shared else None
        with self._transaction():
            return shared[-1].replaced_in(self.task, status=shared[-1].status)

    def _is_mine(self, row: Step) -> bool:
        return row.parent_seq == self.step_seq and row.attempt == self.attempt

    def _rows(self) -> list[Step]:
        return whole([self.task], Step.objects.all())[self.task_id]

    def _add(self, **values: Any) -> Step:
        values = {"parent_seq": self.step_seq, "fence": self.fence, "started_at": Now(), **values}
        if values["kind"] in (Step.Kind.STEP, Step.Kind.NOTE):
            values["parent_seq"] = None
        if values["kind"] == Step.Kind.TOOL:
            values["started_at"] = None
        step = Step.objects.create(task_id=self.task_id, seq=self._meter.next_seq(), **values)
        self._meter.recount()
        return step
