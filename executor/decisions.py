"""What people decide about a task that waits for them.

Each verb is one transaction. It locks the task first, as the worker does when it lets a task wait, so that of an answer
and a wait at the same moment one sees the other. An answer is taken once: whoever comes later is told why not.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import F
from django.db.models.functions import Now
from django.utils.timezone import localtime

from executor import lease, shared
from executor.actions import stop
from executor.approvals import with_changes
from executor.at_limit import SUMMARISE, added, amount, is_of_a_day
from executor.hints import notify_soon, wake
from executor.models import ApprovalRule, Decision, Status, Step, Task
from executor.statements import CLOSE_STEPS, WITHDRAW
from executor.stored import clean, clean_json
from tools.core.arguments import ArgumentsError, validate
from tools.registry import find_function
from users.models import User

Choice, Kind = Decision.Choice, Decision.Kind

DENIED = "The person did not allow this call, so it was not run."
PLAN_DENIED = "The person does not want this plan."
NOT_ANSWERED = "The person lets you decide this. Decide by yourself, and say what you assumed."
SKIPPED = (
    "This call was interrupted, and its outcome is unknown. The person decided that it is not run again; go on without."
)
DID_RUN = "This call was interrupted. The person found out that it did run and had its effect."
SAID = " They said: {note}"


class TooLate(Exception):
    """It was decided already, or need not be any more; the message is a sentence for the person."""


class WrongAnswer(ValueError):
    """The answer cannot be taken as it is; the message says what to change."""


def allow(decision: Decision, by: User, arguments: dict[str, Any] | None = None, *, always: bool = False) -> None:
    """Let the call run, with other `arguments` if there are any; with `always`, also all later ones of its function in
    the thread. Raises TooLate, and WrongAnswer if the function cannot take the arguments."""
    assert decision.step is not None
    edited = None if arguments in (None, decision.step.arguments) else arguments
    if edited is not None:
        edited = checked(decision.step.name, edited)
    choice = Choice.ALWAYS if always else Choice.ALLOW
    with _decided(decision, by, choice, arguments=edited) as step:
        if decision.kind == Kind.PLAN:
            plan = f" They changed it to: {json.dumps(edited, ensure_ascii=False)}" if edited else ""
            _close(step, Step.Status.DONE, result=f"The person agrees with this plan.{plan}")
            return
        _set(step, status=Step.Status.PENDING)
        if always and decision.task.thread:
            ApprovalRule.objects.get_or_create(user=by, thread=decision.task.thread, function=step.name)
            _allow_the_same(decision, by)


def always_allowed(user: User, thread: UUID) -> list[str]:
    """The functions that run in the thread without asking, because the person said so."""
    rules = ApprovalRule.objects.filter(user=user, thread=thread)
    return list(rules.order_by("function").values_list("function", flat=True))


def ask_again(user: User, thread: UUID, function: str) -> bool:
    """Take “always” back: the next task of the thread asks before the function runs. False if it was not there."""
    deleted, _ = ApprovalRule.objects.filter(user=user, thread=thread, function=function).delete()
    return bool(deleted)


def deny(decision: Decision, by: User, note: str = "") -> None:
    """Let the call not run. The model is told, with what the person said. Raises TooLate."""
    said = {Kind.PLAN: PLAN_DENIED, Kind.QUESTION: NOT_ANSWERED}.get(Kind(decision.kind), DENIED)
    with _decided(decision, by, Choice.DENY, note=note) as step:
        _close(step, Step.Status.DENIED, error=_with(said, note))


def answer(decision: Decision, by: User, text: str) -> None:
    """Answer a question of the model. Raises TooLate, and WrongAnswer for an empty one."""
    text = clean(text).strip()
    if not text:
        raise WrongAnswer("Write an answer, or deny the question.")
    with _decided(decision, by, Choice.ANSWER, note=text) as step:
        _close(step, Step.Status.DONE, result=text)


def it_did(decision: Decision, by: User, note: str = "") -> None:
    """The call that may have run did run. Raises TooLate."""
    with _decided(decision, by, Choice.DID, note=note) as step:
        _close(step, Step.Status.DONE, result=with_changes(decision.arguments, _with(DID_RUN, note)))


def run_again(decision: Decision, by: User) -> None:
    """Run once more what may have run. Raises TooLate."""
    with _decided(decision, by, Choice.AGAIN) as step:
        fresh = {"started_at": None, "ended_at": None, "error_kind": "", "error": "", "result": ""}
        _set(step, status=Step.Status.PENDING, attempt=F("attempt") + 1, **fresh)


def skip(decision: Decision, by: User, note: str = "") -> None:
    """Leave open what became of the call, and go on without it. Raises TooLate."""
    with _decided(decision, by, Choice.SKIP, note=note) as step:
        _close(step, Step.Status.SKIPPED, error=_with(SKIPPED, note))


def go_on(decision: Decision, by: User, more: Any = None) -> None:
    """Let a task go on that waits at a limit, with so much `more` of it, or what was suggested. At a limit of a day it
    just tries again. Raises TooLate, and WrongAnswer if it is no amount, or too large a one."""
    limit = decision.details["limit"]
    if is_of_a_day(limit):
        with _decided_of_task(decision, by, Choice.CONTINUE):
            return
    try:
        given = amount(limit, decision.details["more"] if more in (None, "") else more)
    except ValueError as error:
        raise WrongAnswer(str(error)) from error
    details = decision.details | {"given": given}
    with _decided_of_task(decision, by, Choice.CONTINUE, details=details) as task:
        Task.objects.filter(pk=task.pk).update(allowed=added(task.allowed, limit, given))
        if limit == "seconds":
            Task.objects.filter(pk=task.pk).update(deadline_at=F("deadline_at") + timedelta(seconds=int(given)))


def summarise(decision: Decision, by: User) -> None:
    """End a task that waits at a limit, after a last question to its model: what was done, and what is left. What it
    did not get round to is not done. Raises TooLate."""
    with _decided_of_task(decision, by, Choice.SUMMARISE) as task:
        CLOSE_STEPS.execute(task=task.pk, partial="")
        WITHDRAW.execute(task=task.pk)
        last = {"limit": decision.details["limit"], "sentence": decision.details["sentence"], "after": task.head_seq}
        Task.objects.filter(pk=task.pk).update(allowed=task.allowed | {SUMMARISE: last})


def expire() -> int:
    """Stop the tasks that waited too long for a person. Returns how many."""
    due = Decision.objects.filter(status=Decision.Status.PENDING, expires_at__lt=Now(), task__status=Status.WAITING)
    tasks = list(Task.objects.filter(pk__in=list(due.values_list("task", flat=True)))) if due.exists() else []
    for task in tasks:
        with transaction.atomic():
            Task.objects.select_for_update().get(pk=task.pk)
            Decision.objects.filter(task=task, status=Decision.Status.PENDING, expires_at__lt=Now()).update(
                status=Decision.Status.EXPIRED, decided_at=Now()
            )
            stop(task, by="expired")
    return len(tasks)


# --- what they have in common ----------------------------------------------------------------------------------------


@contextmanager
def _decided(decision: Decision, by: User, choice: Decision.Choice, **values: Any) -> Iterator[Step]:
    """One answer about a call; the caller does to the step what follows from it."""
    with _decided_of_task(decision, by, choice, **values):
        assert decision.step is not None
        yield decision.step


@contextmanager
def _decided_of_task(decision: Decision, by: User, choice: Decision.Choice, **values: Any) -> Iterator[Task]:
    """One answer; the caller does to the task what follows from it. It goes on when nothing else is asked."""
    if "note" in values:
        values["note"] = clean(values["note"]).strip()
    with transaction.atomic():
        task = Task.objects.select_for_update().get(pk=decision.task_id)
        taken = Decision.objects.filter(pk=decision.pk, status=Decision.Status.PENDING).update(
            status=Decision.Status.DECIDED, choice=choice, decided_by=by, decided_at=Now(), **values
        )
        decision.refresh_from_db()
        if not taken:
            raise TooLate(_why_not(decision))
        yield task
        _go_on(task)


def _go_on(task: Task) -> None:
    transaction.on_commit(partial(notify_soon, task.user_id, task.pk))
    if Decision.objects.filter(task=task, status=Decision.Status.PENDING).exists():
        return
    shared.was_decided(task)
    if lease.go_on(Task.objects.filter(pk=task.pk, status=Status.WAITING)):
        transaction.on_commit(partial(wake, task.pk))


def _allow_the_same(decision: Decision, by: User) -> None:
    """Calls of the same function that wait in the same task need not be asked about one by one."""
    assert decision.step is not None
    others = Decision.objects.filter(
        task=decision.task_id, kind=Kind.APPROVAL, status=Decision.Status.PENDING, step__name=decision.step.name
    )
    steps = list(others.values_list("step", flat=True))
    others.update(status=Decision.Status.DECIDED, choice=Choice.ALWAYS, decided_by=by, decided_at=Now())
    Step.objects.filter(pk__in=steps, status=Step.Status.WAITING).update(status=Step.Status.PENDING)


def _set(step: Step, **changes: Any) -> None:
    Step.objects.filter(pk=step.pk, status=Step.Status.WAITING).update(**changes)


def _close(step: Step, status: Step.Status, **changes: Any) -> None:
    _set(step, status=status, ended_at=Now(), error_kind="", **{"error": "", **changes})


def _with(sentence: str, note: str) -> str:
    return sentence + (SAID.format(note=clean(note).strip()) if note.strip() else "")


def checked(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """`arguments` as they are kept. Raises WrongAnswer if the function cannot take them."""
    function = find_function(name)
    if function is not None:
        try:
            validate(function, arguments, "")
        except ArgumentsError as error:
            raise WrongAnswer(str(error)) from error
    kept: dict[str, Any] = clean_json(arguments)
    return kept


def _why_not(decision: Decision) -> str:
    match decision.status:
        case Decision.Status.EXPIRED:
            return "Nobody answered in time, so the task was stopped. Send a message to go on."
        case Decision.Status.WITHDRAWN:
            return "The task was stopped before this was decided, so there is nothing to decide any more."
        case _:
            when = f"{localtime(decision.decided_at):%H:%M}" if decision.decided_at else "before"
            return f"This was decided already: {decision.get_choice_display().lower()}, at {when}."
