"""What is written down of function calls: who has to agree, that they begin, what they say and what came of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from types import MappingProxyType
from typing import Any

from django.conf import settings
from django.db import DatabaseError, transaction
from django.db.models.functions import Now

from executor import shared, sub_tasks
from executor.approvals import ALWAYS, GO, policy_for
from executor.core.errors import TaskExecutionError
from executor.core.events import ToolFinished
from executor.core.limits import Spent
from executor.core.messages import ToolCall
from executor.core.task_events import FunctionCalled
from executor.journal.writing import Writing
from executor.models import OPEN, Decision, Step
from executor.statements import (
    ADD_CALL,
    FINISH_CALL,
    SAVE_OUTPUT,
    START_CALL,
)
from executor.stored import clean, clean_json, digest
from executor.task_events import tell
from tools.core.context import NewFile
from tools.core.function import REPEATABLE, Function
from tools.core.toolbox import Outcome
from tools.resources import fitting, store


class Calls(Writing):
    def ask(self, kinds: Mapping[str, Decision.Kind]) -> None:
        """Ask the person about these calls, as far as that was not done."""
        with self._transaction():
            calls = Step.objects.filter(task=self.task_id, call_id__in=kinds)
            for step in list(calls.filter(status=Step.Status.PENDING).order_by("seq")):
                self._ask(step, kinds[step.call_id or ""])

    def _ask(self, step: Step, kind: Decision.Kind) -> None:
        Step.objects.filter(pk=step.pk).update(status=Step.Status.WAITING)
        Decision.objects.get_or_create(
            task_id=self.task_id,
            step=step,
            status=Decision.Status.PENDING,
            defaults={
                "kind": kind,
                "arguments_digest": step.arguments_digest,
                "arguments": _agreed_arguments(step),
                # Who has to be asked each time is not offered to say it once for all.
                "details": {"each_time": True} if policy_for(self.config.approvals, step.name) == ALWAYS else {},
                "expires_at": Now() + timedelta(days=settings.DECISION_DAYS),
            },
        )

    def give(self, wanted: Mapping[str, Sequence[Mapping[str, Any]] | str]) -> None:
        """Give the tasks that answer these calls to other agents, as far as that was not done; instead of tasks, a
        sentence says why there are none."""
        with self._transaction():
            for step in list(
                Step.objects.filter(task=self.task_id, call_id__in=wanted, status__in=OPEN).order_by("seq")
            ):
                if step.status == Step.Status.PENDING:
                    self._give(step, wanted[step.call_id or ""])
                sub_tasks.answer(self.task, step.call_id or "")

    def _give(self, step: Step, wanted: Sequence[Mapping[str, Any]] | str) -> None:
        begun = {"status": Step.Status.WAITING, "started_at": Now()}
        try:
            if isinstance(wanted, str):
                raise sub_tasks.CannotGive(wanted)
            sub_tasks.give(self.task, step.call_id or "", wanted)
        except sub_tasks.CannotGive as refusal:
            said = clean(str(refusal))
            begun = {"status": Step.Status.FAILED, "result": said, "error": said[:500], "error_kind": "refused"}
        Step.objects.filter(pk=step.pk).update(**begun)

    def start_tools(self, calls: Sequence[ToolCall], decided: Mapping[str, Decision] = MappingProxyType({})) -> None:
        """On record before any of them begins. What was agreed to in `decided` is used up by that.

        Raises TaskExecutionError if it was used before, LimitReached or BudgetUsedUp if tasks share how many there may
        be, and these are too many: the answer that asks for them is on record all the same.
        """
        if not self._meter.shares:
            self._note_starts(calls, decided)
            self.commit()
            return
        with self._transaction():
            refused = shared.refusal_of_calls(self.task, len(calls))
            if refused is None:
                self._note_starts(calls, decided)
                self._write_noted()
        if refused is not None:
            raise refused

    def _note_starts(self, calls: Sequence[ToolCall], decided: Mapping[str, Decision]) -> None:
        for call in calls:
            if decision := decided.get(call.id):
                self._noted.append(partial(self._consume, decision, call))
            if call.id not in self._calls:  # An earlier acquisition asked for it.
                known = Step.objects.filter(task=self.task_id, call_id=call.id)
                self._calls[call.id] = known.values_list("seq", "effect").get()
            self._note(START_CALL, call_id=call.id, fence=self.fence)

    def _consume(self, decision: Decision, call: ToolCall) -> None:
        step = Step.objects.filter(task=self.task_id, call_id=call.id).values("pk", "arguments_digest").get()
        used = Decision.objects.filter(
            pk=decision.pk,
            step=step["pk"],
            arguments_digest=step["arguments_digest"],
            status=Decision.Status.DECIDED,
            consumed_at=None,
        ).update(consumed_at=Now())
        if not used:
            raise TaskExecutionError(f"What was agreed to for {call.name} is not valid any more.", hint="Try again.")

    def transact(self, call: ToolCall, work: Callable[[], Outcome]) -> Outcome:
        """Run a transactional function in the transaction that says what came of it: both are on record, or neither.
        If it fails, everything that it did is undone."""
        self._meter.count(tool_calls=1)
        with self._transaction():
            try:
                with transaction.atomic():
                    outcome = work()
                    if outcome.is_error:
                        raise _Undo(outcome)
            except _Undo as undone:
                outcome = undone.outcome
            except DatabaseError as error:  # Of the function itself; ours would come again with the next statement.
                outcome = Outcome(f"{call.name} failed: {error}", is_error=True, error_kind="exception")
            if outcome.is_error:
                self._meter.counts["failed_calls"] += 1
                self._meter.recount()
            self._finish_call(call, outcome.content, outcome.files, outcome.error_kind, failed=outcome.is_error)
            self._write_noted()
        self._transacted.add(call.id)
        return outcome

    def save_output(self, call: ToolCall, text: str) -> None:
        """What a call that runs has said so far, for whoever looks."""
        self._note(SAVE_OUTPUT, call_id=call.id, output=clean(text))
        self.commit()

    def finish_tool(self, event: ToolFinished, spent: Spent, *, later: bool = False) -> None:
        """The result of one call, with the files that it made. What took too long may have had its effect or have it
        yet, so its outcome is unknown, unless that does no harm; if the event is open, the person is asked."""
        call = event.call
        if call.id not in self._transacted:
            self._meter.count(tool_calls=1, failed_calls=int(event.result.is_error))
            self._finish_call(
                call,
                event.result.content,
                event.files,
                event.error_kind,
                failed=event.result.is_error,
                is_open=event.is_open,
                made_at=event.made_at,
                output=event.output,
                notes=event.notes,
            )
        if not event.is_open:
            self._checkpoint(self._calls[call.id][0], spent)
        if not later:
            self.commit()

    def _finish_call(
        self,
        call: ToolCall,
        content: str,
        files: Sequence[NewFile],
        error_kind: str,
        *,
        failed: bool,
        is_open: bool = False,
        made_at: datetime | None = None,
        output: str = "",
        notes: Sequence[str] = (),
    ) -> None:
        _, effect = self._calls[call.id]
        unknown = error_kind in ("timeout", "unclear") and effect not in REPEATABLE
        status = Step.Status.UNKNOWN if unknown else Step.Status.FAILED if failed else Step.Status.DONE
        called = self._event(FunctionCalled, name=call.name, outcome="cached" if made_at else str(status))
        self._noted.append(partial(tell, called))
        self._note(
            FINISH_CALL,
            call_id=call.id,
            status=status,
            result=clean(content),
            made_at=made_at.isoformat() if made_at else "",
            error_kind=error_kind,
            error=clean(content)[:500] if failed else "",
            output=clean(output),
            notes=clean_json(list(notes)),
        )
        if files:
            self._noted.append(partial(self._store, call.id, files, notes))
        if is_open:
            self._noted.append(partial(self._ask_what_became_of, call.id))

    def _store(self, call_id: str, files: Sequence[NewFile], notes: Sequence[str]) -> None:
        """As much as the person may keep."""
        fit, refused = fitting(self.task.user, files)
        store(self.task.user_id, self.task_id, call_id, fit, self.task.thread)
        if refused:
            said = clean_json([*notes, refused])
            Step.objects.filter(task=self.task_id, call_id=call_id).update(notes=said)

    def _ask_what_became_of(self, call_id: str) -> None:
        self._ask(Step.objects.get(task=self.task_id, call_id=call_id), Decision.Kind.UNKNOWN)

    def _add_call(self, parent_seq: int, call: ToolCall, function: Function | None) -> None:
        arguments = clean_json(call.arguments)
        seq = self._meter.next_seq()
        effect = function.effect if function else "read"  # An unknown function does nothing at all.
        self._calls[call.id] = seq, effect
        self._note(
            ADD_CALL,
            seq=seq,
            parent_seq=parent_seq,
            fence=self.fence,
            name=clean(call.name)[:64],
            call_id=call.id,
            provider_call_id=clean(call.provider_id)[:120],
            arguments=arguments,
            raw_arguments=clean(call.raw_arguments) if call.arguments is None else "",
            arguments_digest=digest(call.name, arguments),
            effect=effect,
        )


def _agreed_arguments(step: Step) -> Any:
    """What a person changed the arguments of a call to, when they last said that it may run; None if nothing."""
    agreed = Decision.objects.filter(step=step, status=Decision.Status.DECIDED, choice__in=GO)
    return agreed.order_by("pk").values_list("arguments", flat=True).last()


class _Undo(Exception):
    """A transactional function failed."""

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome
