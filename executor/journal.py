"""Every change of a running task's state: short transactions that first make sure that the task is still ours.

To acquire a task raises its fence (lease.py). Each later transaction begins with an UPDATE that makes sure that this is
still the fence, and adds its rows then, so a worker that lost the task (it was frozen, cut off, presumed dead) cannot
add anything. What the task uses up is counted beside that (meter.py), and times are the database's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from types import MappingProxyType
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import DatabaseError, transaction
from django.db.models import F, Q
from django.db.models.functions import Now

from executor import shared, sub_tasks
from executor.approvals import ALWAYS, GO, policy_for
from executor.at_limit import details
from executor.core.config import AgentConfig
from executor.core.errors import LimitReached, LLMError, TaskExecutionError
from executor.core.events import Finished, ToolFinished
from executor.core.limits import Spent
from executor.core.messages import Reasoning, ToolCall, Usage
from executor.core.retry import LONGEST_DELAY
from executor.core.task_events import FunctionCalled, ModelAsked, TaskEnded
from executor.core.validation import ResponseInvalid
from executor.lease import LEASE, LeaseLost, extend, give_back
from executor.meter import NOTHING, Meter
from executor.models import ACTIVE, OPEN, Decision, OnUnknown, Status, Step, Task
from executor.prepared import Param, Select, Statement
from executor.queue import UNBEGUN, take_out
from executor.statements import (
    ACCEPT,
    ADD_CALL,
    BEGIN_MODEL,
    BEGUN_CALLS,
    BREAK_OFF,
    CHECKPOINT,
    CLOSE_QUESTIONS,
    CLOSE_STEPS,
    COVER,
    END,
    FAIL_MODEL,
    FINISH_CALL,
    FINISH_MODEL,
    HOLD,
    LEAVE_MODEL,
    OPEN_QUESTIONS,
    PRICE,
    SAVE_OUTPUT,
    SAVE_PARTIAL,
    START_CALL,
    TAKE_UP_MODEL,
    WITHDRAW,
)
from executor.stored import clean, clean_json, digest
from executor.task_events import E, event_of, tell
from tools.core.context import NewFile
from tools.core.function import REPEATABLE, Function
from tools.core.toolbox import Outcome
from tools.resources import fitting, store

#: Acquisitions without a finished step after which a task is not tried again by itself. It takes a worker along each
#: time, and once more where a step came before: less often than `up` suffers (supervisor.QUICK_DEATHS).
MAX_STALLED_ATTEMPTS = 3
#: Later than that, nobody is told when a provider may be asked again.
_FAR_AWAY = 30 * 86400.0


_ACQUIRED: Select[Any] = Select(
    lambda: Task.objects.filter(pk=Param("task")).select_related("agent_version", "user").annotate(now=Now())
)


@dataclass(frozen=True, slots=True)
class Source:
    """Whose model is asked, with the key of which row (None: none, or one from the environment). `took_over`: it is not
    the agent's own, which did not answer."""

    config: AgentConfig
    api_key_id: int | None = None
    took_over: bool = False

    @property
    def name(self) -> str:
        """That of its steps."""
        return clean(self.config.title)[:64] if self.took_over else ""


@dataclass(frozen=True, slots=True)
class Covers:
    """Everything up to the step `seq` of a task before, or of the one at work (None)."""

    task_id: UUID | None
    seq: int


class Journal:
    """What one acquisition of a task writes down. `elapsed`: seconds since the task was first begun; `shares`: it was
    given by another task, or has given any itself (shared.py).

    Each method is a transaction, except with `later`: then it touches no database, and what it notes is written in the
    next transaction. An answer goes with the beginning of the calls that it asks for, the last result with the next
    question.
    """

    def __init__(self, task: Task, elapsed: float = 0.0, *, shares: bool = False) -> None:
        self.task = task
        self.elapsed = elapsed
        #: What the task at the top has left of its time, for one that was given.
        self.shared_seconds: float | None = None
        #: Until then it is certainly ours, by the clock of this process; the heart puts it off.
        self.held_until = time.monotonic() + LEASE.total_seconds()
        self.task_id: UUID = task.pk
        self.fence = task.fence
        self.config: AgentConfig = task.agent_version.agent_config()
        #: The agent's, and what the person allowed beyond them.
        self.limits = self.config.limits.raised(task.allowed)
        #: Who is asked from now on.
        self.source = Source(self.config)
        self._meter = Meter(task, self.limits, shares=shares)
        #: The step to which the next questions belong: that of a declared task which asks them.
        self.within: int | None = None
        self._noted: list[Callable[[], object]] = []
        self._calls: dict[str, tuple[int, str]] = {}  # Seq and effect of the calls at hand.
        self._transacted: set[str] = set()  # Calls of which the result is on record already.
        #: The question that an earlier acquisition left behind, whose answer its provider keeps.
        self.kept: Step | None = None

    @property
    def seconds_left(self) -> float | None:
        """Of the time that the task may take, in which it did not wait for its provider. None: as many as it likes."""
        return min((left for left in (self._own_seconds, self.shared_seconds) if left is not None), default=None)

    @property
    def _own_seconds(self) -> float | None:
        limit = self.limits.seconds
        if limit is not None and self.task.deadline_at and self.task.started_at:
            limit = (self.task.deadline_at - self.task.started_at).total_seconds()
        return None if limit is None else max(0.0, limit - self.elapsed)

    @property
    def out_of_time(self) -> TaskExecutionError:
        """What it means that no seconds are left."""
        limit = self.limits.seconds
        if self.shared_seconds is not None and self.shared_seconds == self.seconds_left:
            return shared.out_of_time()
        said = f"It reached its time limit of {limit:g} s."
        return LimitReached("seconds", said, used=limit, allowed=limit)

    @property
    def spent(self) -> Spent:
        """By the counts in its row, with what failed attempts took."""
        return self._meter.spent

    @property
    def longest_answer(self) -> int | None:
        """In tokens, of an answer to the question that has begun; None: as its agent allows."""
        return allowance.tokens if (allowance := self._meter.allowance) else None

    @property
    def cut(self) -> TaskExecutionError | None:
        """What it means if that answer is as long as it may be, and not at its end."""
        return allowance.cut if (allowance := self._meter.allowance) else None

    @property
    def is_new(self) -> bool:
        """Nothing was done so far."""
        return not self._meter.counts["head_seq"]

    @property
    def postponements(self) -> int:
        """How often in a row it was put off."""
        return int(self._meter.counts["postponements"])

    # --- what was left behind ----------------------------------------------------------------------------------------

    def recover(self) -> list[str]:
        """Settle what an earlier acquisition left open: half an answer is dropped, a started call is run again only if
        running it twice does no harm. Returns the names of the functions that may have run."""
        with self._transaction():
            return self._settle()

    # --- the model ---------------------------------------------------------------------------------------------------

    def begin_model(self, size: int = 0, kind: Step.Kind = Step.Kind.MODEL, *, later: bool = False) -> int:
        """A model step begins, or another `kind` of step in which a model is asked, with a question of `size` bytes.
        Returns its seq.

        Raises LimitReached if the question does not fit into what the task or its person may use, and BudgetUsedUp or
        BudgetHeld if it does not fit into what tasks share. What was noted is written all the same.
        """
        self._meter.asks(size)
        if self._meter.is_limited and not later:
            with self._transaction():
                seq, refused = self._begin_if_it_fits(kind)
            if refused is not None:
                raise refused
            return seq
        seq = self._meter.next_seq()
        self._note_question(seq, kind)
        if not later:
            self.commit()
        return seq

    def _begin_if_it_fits(self, kind: Step.Kind = Step.Kind.MODEL) -> tuple[int, TaskExecutionError | None]:
        """The seq of a question that begins in this transaction, or why it does not fit."""
        seq, refused = 0, self._meter.reserve(self.source.config)
        if refused is None:
            seq = self._meter.next_seq()
            self._note_question(seq, kind)
            self._write_noted()
        self._meter.recount()
        return seq, refused

    def take_in(self, size: int = 0) -> int | None:
        """Let in what the person wants to have said to the task at once, together with the beginning of the next model
        step: the tasks that were to answer it are gone then. Returns the seq of the model step, None if there is
        nothing to let in, or the task is being stopped and would not answer it.

        The question has `size` bytes without it. Raises as `begin_model`; it was let in all the same.
        """
        self._meter.asks(size)
        with self._transaction():
            if not Task.objects.filter(pk=self.task_id, status=Status.RUNNING).exists():
                return None
            before = self._meter.counts["head_seq"]
            next_said = Task.objects.filter(UNBEGUN, previous=self.task_id, steers=True).order_by("created_at")
            while (said := next_said.first()) and take_out(said, Q(steers=True)):
                Step.objects.create(
                    task_id=self.task_id,
                    seq=self._meter.next_seq(),
                    kind=Step.Kind.MESSAGE,
                    status=Step.Status.DONE,
                    fence=self.fence,
                    text=said.text,
                    started_at=Now(),
                    ended_at=Now(),
                )
                self._meter.add_to_question(len(said.text))
            if self._meter.counts["head_seq"] == before:
                return None
            seq, refused = self._begin_if_it_fits()
        if refused is not None:
            raise refused
        return seq

    def _note_question(self, seq: int, kind: Step.Kind) -> None:
        config = self.source.config
        self._note(
            BEGIN_MODEL,
            seq=seq,
            kind=kind,
            parent_seq=self.within,
            fence=self.fence,
            name=self.source.name,
            provider=config.provider,
            model=config.model,
            api_key=self.source.api_key_id,
            asked_bytes=self._meter.asked_bytes or None,
        )

    def accept(self, seq: int, response_id: str, plan: dict[str, Any] | None = None) -> None:
        """The provider keeps the response to this question: whoever takes the task over can fetch it. `plan` says of
        what it is to be a summary."""
        self._note(ACCEPT, seq=seq, response_id=response_id, arguments=plan)
        self.commit()

    def take_up_model(self, still_wanted: bool = True) -> Step | None:
        """The question that was left behind, if `source` asked it: it is ours now. If another model or another key did,
        nobody can fetch its answer; nor is one fetched that is not `still_wanted`."""
        if not (kept := self._no_longer_kept()):
            return None
        source, config = self.source, self.source.config
        asked_by = (kept.name, kept.provider, kept.model, kept.api_key_id)
        is_ours = still_wanted and asked_by == (source.name, config.provider, config.model, source.api_key_id)
        with self._transaction():
            if is_ours:
                TAKE_UP_MODEL.execute(task=self.task_id, seq=kept.seq, fence=self.fence)
            else:
                self._break_off([kept])
        return kept if is_ours else None

    def save_partial(self, seq: int, text: str, reasoning: str) -> None:
        """What has been said so far, for whoever looks after a crash."""
        self._note(SAVE_PARTIAL, seq=seq, text=clean(text), reasoning=clean(reasoning))
        self.commit()

    def finish_model(
        self,
        seq: int,
        event: Finished,
        spent: Spent,
        functions: dict[str, Function],
        first_token_ms: int | None,
        *,
        later: bool = False,
    ) -> None:
        """The answer and the calls it asks for, in one transaction: neither is ever on record without the other."""
        self._meter.count(model_calls=1)
        self._note_answer(seq, event, first_token_ms)
        for call in event.message.tool_calls:
            self._add_call(seq, call, functions.get(call.name))
        self._checkpoint(seq, spent)
        if not later:
            self.commit()

    def _note_answer(self, seq: int, event: Finished, first_token_ms: int | None = None) -> None:
        message, usage = event.message, event.usage
        self._meter.learn(usage)
        self._note(
            FINISH_MODEL,
            seq=seq,
            text=clean(message.text),
            reasoning=clean("".join(part.text for part in message.parts if isinstance(part, Reasoning))),
            native=clean_json(asdict(message.native)) if message.native else None,
            model=clean(event.model or self.source.config.model)[:120],
            response_id=clean(event.response_id)[:120],
            finish_reason=event.reason,
            first_token_ms=first_token_ms,
            **self._used(usage, event.model, first_token_ms=first_token_ms),
        )

    def finish_compaction(self, seq: int, event: Finished, covers: Covers) -> None:
        """A summary, which stands for what it `covers` from now on. It is no round of the loop."""
        self._meter.count()
        self._note_answer(seq, event)
        self._note(COVER, seq=seq, text=clean(event.message.text), covers_task=covers.task_id, covers_seq=covers.seq)
        self._checkpoint(seq, self.spent)
        self.commit()

    def leave_out(self, seq: int, error: LLMError, covers: Covers, text: str, usage: Usage = NOTHING) -> None:
        """No summary: of what it would have covered, only `text` is told from now on."""
        self._meter.count()
        self.fail_model(seq, error, text, usage=usage, begun=error.partial, later=True)
        self._note(COVER, seq=seq, text=clean(text), covers_task=covers.task_id, covers_seq=covers.seq)
        self._checkpoint(seq, self.spent)
        self.commit()

    def fail_model(
        self,
        seq: int,
        error: TaskExecutionError,
        text: str,
        reasoning: str = "",
        usage: Usage = NOTHING,
        *,
        begun: bool = False,
        later: bool = False,
    ) -> None:
        """No answer, or half of one: a provider wants money for what had `begun`, and for what it was too slow with."""
        begun = begun or bool(text or reasoning) or error.kind == "timeout"
        self._note(
            FAIL_MODEL,
            seq=seq,
            text=clean(text),
            reasoning=clean(reasoning),
            error_kind=error.kind,
            error=clean(error.message),
            attempt=error.attempts if isinstance(error, LLMError) else 1,
            **self._used(usage, begun=begun, outcome=error.kind),
        )
        if not later:
            self.commit()

    # --- functions ---------------------------------------------------------------------------------------------------

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

    def wait(self) -> bool:
        """Give the task back until somebody has decided, or the tasks that it gave are over. What it waits is not part
        of the time that it may take.

        False if there is nothing to wait for by now, or it is being stopped: then it is still ours.
        """
        self._meter.counts["stalled_attempts"] = 0
        with self._transaction():
            if Decision.objects.filter(task=self.task_id, status=Decision.Status.PENDING).exists():
                return self._put_aside(Status.WAITING, timedelta(0))
            awaited = self.task.sub_tasks.filter(status__in=ACTIVE).exists()
            return awaited and self._put_aside(Status.AWAITING, timedelta(0))

    def wait_at_limit(self, error: LimitReached, partial: str = "") -> tuple[bool, list[str]]:
        """Give the task back until its person says whether it may use more. What is at work is settled as it is when a
        worker leaves, but of an answer that is being written, `partial` stays.

        False if it is being stopped, or has to end because of a call that may have run: then it is still ours. Comes
        with the names of the functions that may have run.
        """
        self._meter.counts["stalled_attempts"] = 0
        with self._transaction():
            self._price_open()
            CLOSE_QUESTIONS.execute(task=self.task_id, partial=clean(partial))
            doubtful = self._settle()
            if doubtful and self.config.on_unknown == OnUnknown.FAIL:
                return False, doubtful
            aside = self._put_aside(Status.WAITING, timedelta(0))
            if aside:
                Decision.objects.create(
                    task_id=self.task_id,
                    kind=Decision.Kind.LIMIT,
                    details=details(error, self.config.limits),
                    expires_at=Now() + timedelta(days=settings.DECISION_DAYS),
                )
            return aside, doubtful

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

    # --- the end -----------------------------------------------------------------------------------------------------

    def end(
        self, status: Status, *, error: TaskExecutionError | None = None, stop_reason: str = "", partial: str = ""
    ) -> list[UUID]:
        """The task is over. Returns the tasks that waited for it. The state changes with everything else.

        Without a `stop_reason`, the one that came with a request to stop remains.
        """
        with self._transaction(
            END,
            status=status,
            error_kind=error.kind if error else "",
            error=clean(error.message) if error else "",
            error_hint=clean(error.hint) if error else "",
            stop_reason=stop_reason,
        ):
            self._price_open()
            CLOSE_STEPS.execute(task=self.task_id, partial=clean(partial))
            WITHDRAW.execute(task=self.task_id)
            if error is not None:
                self._note_failure(error)
            sub_tasks.report(self.task)
            reason = stop_reason or (error.kind if error else "")
            tell(self._event(TaskEnded, status=str(status), reason=reason))
        return list(Task.objects.filter(previous=self.task_id, status=Status.QUEUED).values_list("pk", flat=True))

    def _note_failure(self, error: TaskExecutionError) -> None:
        """What is to be known of a failure when the task is tried again."""
        if isinstance(error, ResponseInvalid):  # Else it would be given up at once for the same answers.
            asked = Step.objects.filter(task=self.task_id, kind=Step.Kind.MODEL).order_by("-seq").values("pk")[:1]
            Step.objects.filter(pk__in=list(asked.values_list("pk", flat=True))).update(
                status=Step.Status.FAILED, error_kind=error.kind, error=clean(error.message)
            )
        elif isinstance(error, LLMError) and LONGEST_DELAY < (error.retry_after or 0) < _FAR_AWAY:
            wait = timedelta(seconds=error.retry_after or 0)
            Task.objects.filter(pk=self.task_id).update(not_before=Now() + wait)

    def postpone(self, error: TaskExecutionError, seconds: float) -> bool:
        """Give the task back, to be asked again after `seconds`. How long it really waits, for the provider and for a
        worker, is not part of the time that it may take.

        False if it is being stopped: then it is still ours.
        """
        self._meter.counts["stalled_attempts"] = 0
        self._meter.counts["postponements"] += 1
        with self._transaction():
            return self._put_aside(
                Status.RETRYING,
                timedelta(seconds=seconds),
                error_kind=error.kind,
                error=clean(error.message),
                error_hint=clean(error.hint),
            )

    def _put_aside(self, status: Status, wait: timedelta, **changes: Any) -> bool:
        """Nobody works on it, for `wait` or until something is decided: `not_before` is when that began to count."""
        task, limit = self.task, self.limits.seconds
        self._meter.give_back()
        deadline = task.deadline_at
        if limit is not None and task.started_at:
            deadline = (deadline or task.started_at + timedelta(seconds=limit)) + wait
        aside = Task.objects.filter(pk=self.task_id, status=Status.RUNNING).update(
            status=status, owner="", lease_until=None, not_before=Now() + wait, deadline_at=deadline, **changes
        )
        return bool(aside)

    def release(self) -> None:
        """Give the task back, to go on elsewhere at once. Nothing is left open that nobody works on."""
        self._meter.counts["stalled_attempts"] = 0
        with self._transaction():
            give_back(self.task_id)
            self._settle()

    # --- a transaction -----------------------------------------------------------------------------------------------

    def make_sure(self) -> None:
        """Raise LeaseLost if the task is not ours any more. Asks the database only where our clock says that the lease
        is over, and begins the lease anew then. Writes nothing else, so any thread may call it."""
        if time.monotonic() <= self.held_until:
            return
        began = time.monotonic()
        if not extend(self.task_id, self.fence):
            raise LeaseLost(str(self.task_id))
        self.held_until = began + LEASE.total_seconds()

    def commit(self) -> None:
        """Write down what was noted."""
        if self._noted:
            with self._transaction():
                pass

    @contextmanager
    def _transaction(self, hold: Statement = HOLD, **changes: Any) -> Iterator[None]:
        """Make sure that the task is still ours, or raise LeaseLost; then write what was noted, and what the caller
        does inside. All of it or nothing.

        It begins with an UPDATE in any case: that locks the row, so nobody can take the task before it ends.
        """
        noted, self._noted = self._noted, []
        try:
            with transaction.atomic():
                if hold.execute(task=self.task_id, fence=self.fence, **self._meter.counts, **changes) != 1:
                    raise LeaseLost(str(self.task_id))
                for write in noted:
                    write()
                yield
        except BaseException:
            self._meter.rolled_back()
            raise
        self._meter.committed()

    def _write_noted(self) -> None:
        """Within a transaction that has begun."""
        noted, self._noted = self._noted, []
        for write in noted:
            write()

    def _note(self, statement: Statement, **values: Any) -> None:
        self._noted.append(partial(statement.execute, task=self.task_id, **values))

    def _used(
        self,
        usage: Usage,
        model: str = "",
        *,
        begun: bool = True,
        outcome: str = "done",
        first_token_ms: int | None = None,
    ) -> dict[str, Any]:
        """What the row of a question says of tokens and cost; noted for the person's day as well, and told."""
        values, booking = self._meter.use(self.source.config, usage, model, begun=begun)
        if booking:
            self._noted.append(booking)
        asked = self._asked(outcome, values["cost"], usage, first_token_ms)
        self._noted.append(partial(tell, asked))
        return values

    def _asked(
        self, outcome: str, cost: Decimal | None, usage: Usage = NOTHING, first_token_ms: int | None = None
    ) -> ModelAsked:
        config = self.source.config
        return self._event(
            ModelAsked,
            provider=config.provider,
            model=config.model,
            outcome=outcome,
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cost=cost,
            first_token=None if first_token_ms is None else first_token_ms / 1000,
        )

    def _event(self, kind: type[E], **values: Any) -> E:
        return event_of(kind, self.task, self.config, **values)

    def _price_open(self) -> None:
        """What was asked and is not waited for any more."""
        self._meter.give_back()
        self._write_price(PRICE, OPEN_QUESTIONS.all(task=self.task_id))

    def _break_off(self, questions: Sequence[Step]) -> None:
        """Nobody writes or fetches their answers."""
        self._write_price(BREAK_OFF, questions)

    def _write_price(self, statement: Statement, questions: Sequence[Step]) -> None:
        """An earlier acquisition may have asked, or a model that took over then: the step says whose it was."""
        for step in questions:
            cost = self._meter.price(step, self.source.config, is_own=step.name == self.source.name)
            statement.execute(task=self.task_id, seq=step.seq, cost=cost)
            tell(self._asked("interrupted", cost))
        if questions:
            self._meter.recount()

    def _no_longer_kept(self) -> Step | None:
        """The question that was left behind."""
        kept, self.kept = self.kept, None
        return kept

    def _can_be_fetched(self, asked: Step) -> bool:
        """By the next acquisition, which asks the agent's own model first: not of one that took over."""
        return bool(asked.response_id) and not asked.name

    def _checkpoint(self, seq: int, spent: Spent) -> None:
        self._note(CHECKPOINT, seq=seq, counters=spent.to_json())

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

    def _settle(self) -> list[str]:
        """Leave nothing started that nobody works on. Returns the names of the functions that may have run."""
        self._meter.give_back()
        questions = OPEN_QUESTIONS.all(task=self.task_id)
        self.kept = next((step for step in questions if self._can_be_fetched(step)), None)
        if self.kept and self.kept.status == Step.Status.STARTED:
            LEAVE_MODEL.execute(task=self.task_id, seq=self.kept.seq)
        self._break_off([step for step in questions if step is not self.kept])
        if not BEGUN_CALLS.all(task=self.task_id):
            return []
        started = Step.objects.filter(task=self.task_id, kind=Step.Kind.TOOL, status=Step.Status.STARTED)
        again = started.filter(effect__in=(*REPEATABLE, "verifiable"))
        # What was agreed to for a call holds for the same call.
        Decision.objects.filter(step__in=list(again)).update(consumed_at=None)
        again.update(status=Step.Status.PENDING, attempt=F("attempt") + 1, started_at=None)
        doubtful = list(started)
        started.update(status=Step.Status.UNKNOWN, error_kind="interrupted", error="It may have run.", ended_at=Now())
        for step in doubtful:
            tell(self._event(FunctionCalled, name=step.name, outcome="unknown"))
        if doubtful:
            self._meter.counts["tool_calls"] += len(doubtful)
            self._meter.recount()
        if self.config.on_unknown == OnUnknown.ASK:
            for step in doubtful:
                self._ask(step, Decision.Kind.UNKNOWN)
        return [step.name for step in doubtful]


def _agreed_arguments(step: Step) -> Any:
    """What a person changed the arguments of a call to, when they last said that it may run; None if nothing."""
    agreed = Decision.objects.filter(step=step, status=Decision.Status.DECIDED, choice__in=GO)
    return agreed.order_by("pk").values_list("arguments", flat=True).last()


class _Undo(Exception):
    """A transactional function failed."""

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome
