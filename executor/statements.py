"""What a running task writes at every step. `executor/journal` says when, and why."""

from __future__ import annotations

from dataclasses import fields

from django.db.models import Case, F, Q, QuerySet, TextField, Value, When
from django.db.models.functions import Coalesce, Now, NullIf

from executor.core.messages import Usage
from executor.models import ASKS, HELD, OPEN, Checkpoint, Decision, Step, Task
from executor.prepared import Param, Select, insert, update

#: What the row of a task counts. Only who holds the task changes these, so they are written as they should be.
COUNTS = (
    *("head_seq", "stalled_attempts", "postponements", "model_calls", "tool_calls", "failed_calls"),
    *("input_tokens", "output_tokens", "cost", "unpriced_calls", "reserved", "reserved_tokens", "reserved_on"),
)
_COUNTS = {name: Param(name) for name in COUNTS}


def _held() -> QuerySet[Task]:
    return Task.objects.filter(pk=Param("task"), fence=Param("fence"), status__in=HELD)


def _step() -> QuerySet[Step]:
    return Step.objects.filter(task=Param("task"), seq=Param("seq"))


def _questions() -> QuerySet[Step]:
    """What was asked and has no answer yet."""
    return Step.objects.filter(task=Param("task"), kind__in=ASKS, status__in=OPEN)


def _call() -> QuerySet[Step]:
    return Step.objects.filter(task=Param("task"), call_id=Param("call_id"))


# --- the task --------------------------------------------------------------------------------------------------------

HOLD = update(_held, **_COUNTS)

#: Also where it is nobody's any more, in the transaction that began with one of the others.
RECOUNT = update(lambda: Task.objects.filter(pk=Param("task")), **_COUNTS)

END = update(
    _held,
    **_COUNTS,
    status=Param("status"),
    error_kind=Param("error_kind"),
    error=Param("error"),
    error_hint=Param("error_hint"),
    stop_reason=Coalesce(NullIf(Param("stop_reason"), Value("")), F("stop_reason")),
    owner="",
    lease_until=None,
    ended_at=Now(),
)

#: What is still open at the end. A call that had begun may have had its effect, unless it has none or it was undone.
CLOSE_STEPS = update(
    lambda: Step.objects.filter(task=Param("task"), status__in=OPEN),
    status=Case(
        When(
            (Q(started_at__isnull=False) | Q(attempt__gt=1)) & ~Q(effect__in=("read", "transactional")),
            kind=Step.Kind.TOOL,
            then=Value(Step.Status.UNKNOWN),
        ),
        default=Value(Step.Status.CANCELLED),
    ),
    text=Case(
        When(kind=Step.Kind.MODEL, then=Coalesce(NullIf(Param("partial"), Value("", TextField())), F("text"))),
        default=F("text"),
    ),
    ended_at=Now(),
)

#: A question that is not waited for any more, though its task is not over.
CLOSE_QUESTIONS = update(
    _questions,
    status=Step.Status.CANCELLED,
    text=Coalesce(NullIf(Param("partial"), Value("", TextField())), F("text")),
    ended_at=Now(),
)

#: Nobody need decide any more.
WITHDRAW = update(
    lambda: Decision.objects.filter(task=Param("task"), status=Decision.Status.PENDING),
    status=Decision.Status.WITHDRAWN,
    decided_at=Now(),
)

CHECKPOINT = insert(Checkpoint, task_id=Param("task"), seq=Param("seq"), counters=Param("counters"))

# --- the model -------------------------------------------------------------------------------------------------------

BEGIN_MODEL = insert(
    Step,
    task_id=Param("task"),
    seq=Param("seq"),
    kind=Param("kind"),
    parent_seq=Param("parent_seq"),
    status=Step.Status.STARTED,
    fence=Param("fence"),
    name=Param("name"),
    provider=Param("provider"),
    model=Param("model"),
    api_key_id=Param("api_key"),
    asked_bytes=Param("asked_bytes"),
    started_at=Now(),
)

_USED = {field.name: Param(field.name) for field in fields(Usage)} | {"cost": Param("cost")}

SAVE_PARTIAL = update(_step, text=Param("text"), reasoning=Param("reasoning"))

FINISH_MODEL = update(
    _step,
    status=Step.Status.DONE,
    text=Param("text"),
    reasoning=Param("reasoning"),
    native=Param("native"),
    model=Param("model"),
    response_id=Param("response_id"),
    finish_reason=Param("finish_reason"),
    first_token_ms=Param("first_token_ms"),
    ended_at=Now(),
    **_USED,
)

FAIL_MODEL = update(
    _step,
    status=Step.Status.FAILED,
    text=Param("text"),
    reasoning=Coalesce(NullIf(Param("reasoning"), Value("", TextField())), F("reasoning")),
    error_kind=Param("error_kind"),
    error=Param("error"),
    attempt=Param("attempt"),
    ended_at=Now(),
    **_USED,
)

#: From here on the text of a compaction stands for everything up to there.
COVER = update(_step, text=Param("text"), covers_task=Param("covers_task"), covers_seq=Param("covers_seq"))

PRICE = update(_step, cost=Param("cost"))

_ASKED = ("seq", "parent_seq", "kind", "status", "name", "provider", "model", "api_key", "response_id", "arguments")
OPEN_QUESTIONS = Select(lambda: _questions().order_by("seq").only(*_ASKED))

#: The provider keeps the response, so somebody else can fetch it.
ACCEPT = update(_step, response_id=Param("response_id"), arguments=Param("arguments"))

#: Its worker ended. Until somebody fetches it, nobody works on it …
LEAVE_MODEL = update(_step, status=Step.Status.PENDING, attempt=F("attempt") + 1)

#: … which they do from now on.
TAKE_UP_MODEL = update(_step, status=Step.Status.STARTED, fence=Param("fence"))

#: There is half an answer at the most, and there will not be more.
BREAK_OFF = update(
    _step,
    status=Step.Status.FAILED,
    error_kind="interrupted",
    error="The worker was interrupted.",
    cost=Param("cost"),
    ended_at=Now(),
)

# --- functions -------------------------------------------------------------------------------------------------------

ADD_CALL = insert(
    Step,
    task_id=Param("task"),
    seq=Param("seq"),
    parent_seq=Param("parent_seq"),
    kind=Step.Kind.TOOL,
    status=Step.Status.PENDING,
    fence=Param("fence"),
    name=Param("name"),
    call_id=Param("call_id"),
    provider_call_id=Param("provider_call_id"),
    arguments=Param("arguments"),
    raw_arguments=Param("raw_arguments"),
    arguments_digest=Param("arguments_digest"),
    effect=Param("effect"),
)

#: What runs, or did when its worker died.
BEGUN_CALLS = Select(
    lambda: Step.objects.filter(task=Param("task"), kind=Step.Kind.TOOL, status=Step.Status.STARTED).only("seq")
)

SAVE_OUTPUT = update(_call, output=Param("output"))

START_CALL = update(_call, status=Step.Status.STARTED, started_at=Now(), fence=Param("fence"))

FINISH_CALL = update(
    _call,
    status=Param("status"),
    result=Param("result"),
    response_id=Param("made_at"),
    error_kind=Param("error_kind"),
    error=Param("error"),
    output=Param("output"),
    notes=Param("notes"),
    ended_at=Now(),
)
