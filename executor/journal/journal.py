"""Every change of a running task's state: short transactions that first make sure that the task is still ours.

To acquire a task raises its fence (lease.py). Each later transaction begins with an UPDATE that makes sure that this is
still the fence, and adds its rows then, so a worker that lost the task (it was frozen, cut off, presumed dead) cannot
add anything. What the task uses up is counted beside that (meter.py), and times are the database's.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db.models import F
from django.db.models.functions import Now

from executor import shared, sub_tasks
from executor.at_limit import details
from executor.core.errors import LimitReached, LLMError, TaskExecutionError
from executor.core.retry import LONGEST_DELAY
from executor.core.task_events import FunctionCalled, TaskEnded
from executor.core.validation import ResponseInvalid
from executor.journal.questions import Questions
from executor.lease import give_back
from executor.models import ACTIVE, Decision, OnUnknown, Status, Step, Task
from executor.statements import (
    BEGUN_CALLS,
    CLOSE_QUESTIONS,
    CLOSE_STEPS,
    END,
    LEAVE_MODEL,
    OPEN_QUESTIONS,
    WITHDRAW,
)
from executor.stored import clean
from executor.task_events import tell
from tools.core.function import REPEATABLE

#: Acquisitions without a finished step after which a task is not tried again by itself. It takes a worker along each
#: time, and once more where a step came before: less often than `up` suffers (supervisor.QUICK_DEATHS).
MAX_STALLED_ATTEMPTS = 3
#: Later than that, nobody is told when a provider may be asked again.
_FAR_AWAY = 30 * 86400.0


class Journal(Questions):
    """What one acquisition of a task writes down. `elapsed`: seconds since the task was first begun; `shares`: it was
    given by another task, or has given any itself (shared.py).

    Each method is a transaction, except with `later`: then it touches no database, and what it notes is written in the
    next transaction. An answer goes with the beginning of the calls that it asks for, the last result with the next
    question.
    """

    # --- its time ----------------------------------------------------------------------------------------------------

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

    # --- what was left behind ----------------------------------------------------------------------------------------

    def recover(self) -> list[str]:
        """Settle what an earlier acquisition left open: half an answer is dropped, a started call is run again only if
        running it twice does no harm. Returns the names of the functions that may have run."""
        with self._transaction():
            return self._settle()

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

    # --- until somebody has decided, or somebody else goes on ---------------------------------------------------------

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
