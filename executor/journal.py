"""Every change of a running task's state: short transactions that first make sure that the task is still ours.

A task is acquired by one conditional UPDATE, which raises its fence. Each later transaction first makes sure that this
is still the fence and adds its rows then, so a worker that lost the task (it was frozen, cut off, presumed dead)
cannot add anything. Times are the database's. A message that wakes a worker twice, or not at all, does no harm.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import Case, Exists, F, OuterRef, Q, QuerySet, Value, When
from django.db.models.functions import Coalesce, Now

from executor.core.config import AgentConfig
from executor.core.errors import LLMError, TaskExecutionError
from executor.core.events import Finished, ToolFinished
from executor.core.limits import Spent
from executor.core.messages import Reasoning, ToolCall
from executor.models import ACTIVE, HELD, Checkpoint, Status, Step, Task
from tools.core.function import Function
from tools.resources import store

LEASE = timedelta(seconds=20)
#: Acquisitions without a finished step after which a task is not tried again by itself.
MAX_STALLED_ATTEMPTS = 5
#: The effects of functions that may run twice without harm.
REPEATABLE = ("read", "idempotent")


class LeaseLost(Exception):
    """Somebody else has the task now. Whoever gets this stops at once and writes nothing more."""


def claimable() -> Q:
    """Queued with nothing before it still at work, or held by somebody whose lease ran out."""
    before_it = Task.objects.filter(pk=OuterRef("previous_id"), status__in=ACTIVE)
    return (Q(status=Status.QUEUED) & ~Exists(before_it)) | Q(status__in=HELD, lease_until__lt=Now())


def claim(task_id: UUID, owner: str) -> Journal | None:
    """Acquire the task, or None if it is somebody else's, over, or not its turn yet."""
    with transaction.atomic():  # Also around a single UPDATE: on SQLite it waits its turn then (agentsite/sqlite).
        won = Task.objects.filter(claimable(), pk=task_id).update(
            status=_unless_stopping(Status.RUNNING),
            owner=owner,
            fence=F("fence") + 1,
            attempts=F("attempts") + 1,
            stalled_attempts=F("stalled_attempts") + 1,
            lease_until=Now() + LEASE,
            started_at=Coalesce("started_at", Now()),
        )
    if not won:
        return None
    task = Task.objects.select_related("agent_version").annotate(now=Now()).get(pk=task_id)
    if task.owner != owner or task.started_at is None:
        return None
    return Journal(task, elapsed=(task.now - task.started_at).total_seconds())


def _unless_stopping(status: Status) -> Case:
    """A task that was being stopped when it lost its worker is stopped by the next one, not begun again."""
    return Case(When(status=Status.STOPPING, then=Value(Status.STOPPING)), default=Value(status))


def heartbeat(owner: str, task_ids: Iterable[UUID]) -> set[UUID]:
    """Extend the leases of `owner` in one UPDATE. Returns the tasks that are no longer its own."""
    ids = set(task_ids)
    if not ids:
        return set()
    mine: QuerySet[Task] = Task.objects.filter(pk__in=ids, owner=owner, status__in=HELD)
    with transaction.atomic():
        extended = mine.update(lease_until=Now() + LEASE)
    if extended == len(ids):
        return set()
    return ids - set(mine.values_list("pk", flat=True))


def give_up(owner: str) -> None:
    """End the leases of a worker that is dead, so that its tasks can be taken up at once."""
    with transaction.atomic():
        Task.objects.filter(owner=owner, status__in=HELD).update(lease_until=Now() - timedelta(seconds=1))


class Journal:
    """What one acquisition of a task writes down. `elapsed`: seconds since the task was first begun."""

    def __init__(self, task: Task, elapsed: float = 0.0) -> None:
        self.task = task
        self.elapsed = elapsed
        self.task_id: UUID = task.pk
        self.fence = task.fence
        self.head_seq = task.head_seq
        self.config: AgentConfig = task.agent_version.agent_config()

    # --- what was left behind ----------------------------------------------------------------------------------------

    def recover(self) -> None:
        """Settle what an earlier acquisition left open: half an answer is dropped, a started call is run again only if
        running it twice does no harm."""
        with transaction.atomic():
            self._hold()
            self._settle()

    # --- the model ---------------------------------------------------------------------------------------------------

    def begin_model(self) -> int:
        """A model step begins. Returns its seq."""
        with transaction.atomic():
            seq = self.head_seq + 1
            self._hold(head_seq=seq)
            Step.objects.create(
                task_id=self.task_id,
                seq=seq,
                kind=Step.Kind.MODEL,
                status=Step.Status.STARTED,
                fence=self.fence,
                provider=self.config.provider,
                model=self.config.model,
                started_at=Now(),
            )
        self.head_seq = seq
        return seq

    def save_partial(self, seq: int, text: str, reasoning: str) -> None:
        """What has been said so far, for whoever looks after a crash."""
        with transaction.atomic():
            self._hold()
            Step.objects.filter(task=self.task_id, seq=seq).update(text=clean(text), reasoning=clean(reasoning))

    def finish_model(
        self, seq: int, event: Finished, spent: Spent, functions: dict[str, Function], first_token_ms: int | None
    ) -> None:
        """The answer and the calls it asks for, in one transaction: neither is ever on record without the other."""
        message, usage = event.message, event.usage
        native = asdict(message.native) if message.native else None
        with transaction.atomic():
            calls = [
                self._call_step(seq + offset, seq, call, functions.get(call.name))
                for offset, call in enumerate(message.tool_calls, start=1)
            ]
            head_seq = seq + len(calls)
            self._hold(
                progress=True,
                head_seq=head_seq,
                model_calls=F("model_calls") + 1,
                input_tokens=F("input_tokens") + usage.input_tokens,
                output_tokens=F("output_tokens") + usage.output_tokens,
            )
            Step.objects.filter(task=self.task_id, seq=seq).update(
                status=Step.Status.DONE,
                text=clean(message.text),
                reasoning=clean("".join(part.text for part in message.parts if isinstance(part, Reasoning))),
                native=clean_json(native),
                model=clean(event.model or self.config.model)[:120],
                response_id=clean(event.response_id)[:120],
                finish_reason=event.reason,
                first_token_ms=first_token_ms,
                ended_at=Now(),
                **asdict(usage),
            )
            Step.objects.bulk_create(calls)
            self._checkpoint(seq, spent)
        self.head_seq = head_seq

    def fail_model(self, seq: int, error: LLMError, text: str) -> None:
        with transaction.atomic():
            self._hold()
            Step.objects.filter(task=self.task_id, seq=seq).update(
                status=Step.Status.FAILED,
                text=clean(text),
                error_kind=error.kind,
                error=clean(error.message),
                attempt=error.attempts,
                ended_at=Now(),
            )

    # --- functions ---------------------------------------------------------------------------------------------------

    def start_tools(self, calls: Sequence[ToolCall]) -> None:
        """On record before any of them begins."""
        with transaction.atomic():
            self._hold()
            Step.objects.filter(task=self.task_id, call_id__in=[call.id for call in calls]).update(
                status=Step.Status.STARTED, started_at=Now(), fence=self.fence
            )

    def finish_tool(self, event: ToolFinished, spent: Spent) -> None:
        """The result of one call, with the files that it made. What took too long may have had its effect or have it
        yet, so its outcome is unknown, unless that does no harm."""
        failed = event.result.is_error
        with transaction.atomic():
            self._hold(
                progress=True,
                tool_calls=F("tool_calls") + 1,
                **({"failed_calls": F("failed_calls") + 1} if failed else {}),
            )
            store(self.task.user_id, self.task_id, event.call.id, event.files)
            step = Step.objects.filter(task=self.task_id, call_id=event.call.id)
            seq, effect = step.values_list("seq", "effect").get()
            unknown = event.error_kind == "timeout" and effect not in REPEATABLE
            step.update(
                status=Step.Status.UNKNOWN if unknown else Step.Status.FAILED if failed else Step.Status.DONE,
                result=clean(event.result.content),
                error_kind=event.error_kind,
                error=clean(event.result.content)[:500] if failed else "",
                ended_at=Now(),
            )
            self._checkpoint(seq, spent)

    # --- the end -----------------------------------------------------------------------------------------------------

    def end(
        self, status: Status, *, error: TaskExecutionError | None = None, stop_reason: str = "", partial: str = ""
    ) -> list[UUID]:
        """The task is over. Returns the tasks that waited for it. The state changes last, with everything else.

        Without a `stop_reason`, the one that came with a request to stop remains.
        """
        open_steps = Step.objects.filter(task=self.task_id, status__in=(Step.Status.PENDING, Step.Status.STARTED))
        with transaction.atomic():
            self._hold(
                status=status,
                error_kind=error.kind if error else "",
                error=clean(error.message) if error else "",
                error_hint=clean(error.hint) if error else "",
                owner="",
                lease_until=None,
                stop_reason=Value(stop_reason) if stop_reason else F("stop_reason"),
                ended_at=Now(),
            )
            if partial:
                open_steps.filter(kind=Step.Kind.MODEL).update(text=clean(partial))
            # A call that had begun when it was stopped may have had its effect, unless it has none.
            begun = Q(status=Step.Status.STARTED) | Q(attempt__gt=1)
            open_steps.filter(begun, kind=Step.Kind.TOOL).exclude(effect="read").update(
                status=Step.Status.UNKNOWN, ended_at=Now()
            )
            open_steps.update(status=Step.Status.CANCELLED, ended_at=Now())
        return list(Task.objects.filter(previous=self.task_id, status=Status.QUEUED).values_list("pk", flat=True))

    def release(self) -> None:
        """Give the task back, to go on elsewhere at once. Nothing is left open that nobody works on."""
        with transaction.atomic():
            self._hold(status=_unless_stopping(Status.QUEUED), owner="", lease_until=Now(), stalled_attempts=0)
            self._settle()

    # --- inside a transaction ----------------------------------------------------------------------------------------

    def _hold(self, *, progress: bool = False, **changes: Any) -> None:
        """Make sure that the task is still ours and apply `changes`, or raise LeaseLost: how every transaction begins.

        It is an UPDATE in any case: that locks the row, so nobody can take the task before the transaction ends.
        """
        if progress:
            changes["stalled_attempts"] = 0
        mine = Task.objects.filter(pk=self.task_id, fence=self.fence, status__in=HELD)
        if mine.update(**(changes or {"fence": self.fence})) != 1:
            raise LeaseLost(str(self.task_id))

    def _settle(self) -> None:
        """Leave nothing started that nobody works on."""
        started = Step.objects.filter(task=self.task_id, status=Step.Status.STARTED)
        started.filter(kind=Step.Kind.MODEL).update(
            status=Step.Status.FAILED, error_kind="interrupted", error="The worker was interrupted.", ended_at=Now()
        )
        calls = started.filter(kind=Step.Kind.TOOL)
        calls.filter(effect__in=REPEATABLE).update(
            status=Step.Status.PENDING, attempt=F("attempt") + 1, started_at=None
        )
        calls.update(status=Step.Status.UNKNOWN, error_kind="interrupted", error="It may have run.", ended_at=Now())

    def _checkpoint(self, seq: int, spent: Spent) -> None:
        Checkpoint.objects.create(task_id=self.task_id, seq=seq, counters=asdict(spent))

    def _call_step(self, seq: int, parent_seq: int, call: ToolCall, function: Function | None) -> Step:
        arguments = clean_json(call.arguments)
        return Step(
            task_id=self.task_id,
            seq=seq,
            parent_seq=parent_seq,
            kind=Step.Kind.TOOL,
            status=Step.Status.PENDING,
            fence=self.fence,
            name=clean(call.name)[:64],
            call_id=call.id,
            provider_call_id=clean(call.provider_id)[:120],
            arguments=arguments,
            raw_arguments=clean(call.raw_arguments) if call.arguments is None else "",
            arguments_digest=digest(call.name, arguments),
            effect=function.effect if function else "read",  # An unknown function does nothing at all.
        )


def digest(name: str, arguments: Any) -> str:
    """Identifies a call with these arguments, however they were ordered."""
    return hashlib.sha256(json.dumps([name, arguments], sort_keys=True).encode()).hexdigest()[:32]


def clean(text: str) -> str:
    """Text that every database stores: without NUL, lone surrogates replaced."""
    return text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode("utf-8")


def clean_json(value: Any) -> Any:
    match value:
        case str():
            return clean(value)
        case dict():
            return {clean(str(key)): clean_json(item) for key, item in value.items()}
        case list() | tuple():
            return [clean_json(item) for item in value]
        case float() if value != value or value in (float("inf"), float("-inf")):
            return str(value)
        case _:
            return value
