"""From the rows of a task to what is told of it: a pure function of what is on record. (told.py has the rest.)

Nothing stored is ever changed to make it fit. Calls that never got a result (a stop, a crash) are closed here, in the
same words every time, because no provider accepts an open call.

A fork (`Task.base`) has the steps of another task up to `base_seq` as its first ones. They are not copied: what it has
changed of them is a row of its own with the same number, which takes their place.
"""

from __future__ import annotations

import itertools
import json
import operator
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, reduce
from typing import Any
from uuid import UUID

from django.db import connection
from django.db.models import Q, QuerySet

from executor.core.messages import (
    Message,
    Native,
    Part,
    Reasoning,
    Text,
    ToolCall,
    ToolResult,
    assistant,
    message_from_json,
    tool,
    user,
)
from executor.models import FOR_PERSON, Step, Task
from executor.prepared import Param, Select

NOT_RUN = "This call was not run: the task was stopped before it."
OUTCOME_UNKNOWN = (
    "This call was interrupted and its outcome is unknown: it may or may not have had its effect. "
    "Check before repeating it, or tell the person."
)


@dataclass(frozen=True, slots=True)
class Piece:
    """What belongs together in a transcript, because no provider takes half of it: a message, or an answer with the
    results of its calls. It is told of the task, up to its step `upto`; 0 is the input."""

    task_id: UUID
    upto: int
    messages: tuple[Message, ...]


def task_pieces(task: Task, steps: Sequence[Step], *, close: bool) -> list[Piece]:
    """The input and what came of it. With `close`, calls without a result get one that says so."""
    opening = Piece(task.pk, 0, (message_from_json(task.input),))
    if any(step.kind == Step.Kind.STEP for step in steps):
        outcome = tuple(_outcome(steps, close=close))
        return [opening, Piece(task.pk, steps[-1].seq, outcome)] if outcome else [opening]
    return [opening, *(Piece(task.pk, upto, messages) for upto, messages in _pieces(steps, close=close))]


def task_messages(task: Task, steps: Sequence[Step], *, close: bool) -> list[Message]:
    return [message for piece in task_pieces(task, steps, close=close) for message in piece.messages]


def _outcome(steps: Sequence[Step], *, close: bool) -> list[Message]:
    """What is told of a declared task: what it said in the end, else what there is; not how it came to that."""
    said = [step.text for step in steps if step.kind == Step.Kind.NOTE]
    if not said:
        done = {step.name: step.result for step in steps if step.kind == Step.Kind.STEP and step.result}
        said = [f"So far there is:\n{json.dumps(done, ensure_ascii=False)}"] if done else []
    after = [step for step in steps if step.kind == Step.Kind.MODEL and step.parent_seq is None]
    return [*(assistant(text) for text in said), *answers(after, close=close)]


def pieces_of(question: Step, steps: Sequence[Step]) -> list[Piece]:
    """What came of a question of a declared step: what its model answered, with calls and results."""
    asked = {step.seq for step in steps if step.kind == Step.Kind.MODEL and step.parent_seq == question.seq}
    mine = [step for step in steps if step.seq in asked or step.parent_seq in asked]
    return [Piece(question.task_id, upto, messages) for upto, messages in _pieces(mine, close=False)]


def owners(steps: Iterable[Step]) -> dict[int, int]:
    """The declared step that each row belongs to, itself as well, both by `seq`."""
    found: dict[int, int] = {}
    for step in steps:
        if step.kind == Step.Kind.STEP:
            found[step.seq] = step.seq
        elif step.parent_seq in found:
            found[step.seq] = found[step.parent_seq]
    return found


def answers(steps: Sequence[Step], *, close: bool) -> list[Message]:
    """What models said in these steps, and what they were told."""
    return [message for _, messages in _pieces(steps, close=close) for message in messages]


def _pieces(steps: Sequence[Step], *, close: bool) -> Iterator[tuple[int, tuple[Message, ...]]]:
    """The same in pieces, each with the number of its last step."""
    calls = {step.call_id: step for step in steps if step.kind == Step.Kind.TOOL}
    asked = [step for step in steps if step.kind == Step.Kind.MODEL]
    for step in steps:
        if step.kind == Step.Kind.MESSAGE:  # It came in before a question, when all calls had their results.
            yield step.seq, (user(step.text),)
        if step.kind != Step.Kind.MODEL:
            continue
        # Half an answer counts only where nothing came after it: a task that goes on asks for the whole.
        if not (message := _model_message(step, calls.values(), close=close, is_last=step is asked[-1])):
            continue
        if close and step is not asked[-1] and not message.tool_calls:
            continue  # It did not have the demanded form, and was corrected.
        mine = [calls[call.id] for call in message.tool_calls]
        results = [result for call in mine if (result := tool_result(call, close=close))]
        upto = max((call.seq for call in mine), default=step.seq)
        yield upto, (message, tool(*results)) if results else (message,)


def tool_result(step: Step, *, close: bool) -> ToolResult | None:
    """What the model is told of a function call; None while that is still open."""
    call_id = step.call_id or ""
    match step.status:
        case Step.Status.DONE | Step.Status.FAILED:
            return ToolResult(call_id, step.name, step.result, step.status == Step.Status.FAILED)
        case Step.Status.UNKNOWN:
            return ToolResult(call_id, step.name, step.result or OUTCOME_UNKNOWN, is_error=True)
        case Step.Status.CANCELLED | Step.Status.DENIED | Step.Status.SKIPPED:
            return ToolResult(call_id, step.name, step.error or NOT_RUN, is_error=True)
        case _ if close:
            begun = step.started_at is not None or step.attempt > 1
            harmless = ("read", "transactional")
            said = OUTCOME_UNKNOWN if begun and step.effect not in harmless else NOT_RUN
            return ToolResult(call_id, step.name, said, is_error=True)
        case _:
            return None


def _model_message(step: Step, calls: Iterable[Step], *, close: bool, is_last: bool) -> Message | None:
    """The assistant message of a model step, or None if nothing of it counts.

    An answer with nothing in it is an answer only while its task is at work: it is not asked for again.
    """
    mine = [
        ToolCall(call.call_id or "", call.name, call.arguments, call.raw_arguments, call.provider_call_id)
        for call in calls
        if call.parent_seq == step.seq
    ]
    parts: list[Part] = []
    if step.reasoning:
        parts.append(Reasoning(step.reasoning))
    if step.text.strip():
        parts.append(Text(step.text))
    parts += mine
    if step.status == Step.Status.DONE:
        native = Native.from_json(step.native) if step.native else None
        return Message("assistant", tuple(parts), native) if parts or not close else None
    # A stopped answer: what had been said by then was seen by the person, so the model is told as well.
    if close and is_last and step.status == Step.Status.CANCELLED and step.text.strip():
        return Message("assistant", (Text(step.text),))
    return None


# --- forks -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Base:
    """A task whose steps up to `upto` are those of a fork too; `size` is theirs in characters."""

    task_id: UUID
    upto: int
    size: int


def whole(tasks: Sequence[Task], steps: QuerySet[Step]) -> dict[UUID, list[Step]]:
    """All steps of `tasks` in order, by task, with those that forks share with the tasks they were forked from.

    They are taken from `steps`, so that who needs little of them may defer the rest. A query, and one more for forks.
    """
    shared = bases_of(tasks)
    wanted = reduce(operator.or_, _wanted(shared), Q(task__in=[task.pk for task in tasks]))
    rows: dict[UUID, list[Step]] = defaultdict(list)
    for step in steps.filter(wanted).order_by("task", "seq"):
        rows[step.task_id].append(step)
    return {task.pk: folded(_shared(shared.get(task.pk, ()), rows), rows[task.pk]) for task in tasks}


def inherited(tasks: Sequence[Task], steps: QuerySet[Step]) -> dict[UUID, list[Step]]:
    """Of the forks among `tasks`, by fork: the steps that it shares with the task that it was forked from, also those
    that it has changed. Two queries, or none without forks."""
    bases = bases_of(tasks)
    if not bases:
        return {}
    rows: dict[UUID, list[Step]] = defaultdict(list)
    for step in steps.filter(reduce(operator.or_, _wanted(bases))).order_by("task", "seq"):
        rows[step.task_id].append(step)
    return {fork: _shared(found, rows) for fork, found in bases.items()}


def folded(shared: Iterable[Step], own: Iterable[Step]) -> list[Step]:
    """The steps of a fork: the shared ones, of which its own take the place where it has changed them."""
    by_seq = {step.seq: step for step in itertools.chain(shared, own)}
    return [by_seq[seq] for seq in sorted(by_seq)]


def _wanted(shared: Mapping[UUID, Sequence[Base]]) -> Iterator[Q]:
    for base in itertools.chain.from_iterable(shared.values()):
        yield Q(task=base.task_id, seq__lte=base.upto)


def _shared(bases: Sequence[Base], rows: Mapping[UUID, list[Step]]) -> list[Step]:
    steps: list[Step] = []
    for base in reversed(bases):
        steps = folded(steps, [step for step in rows[base.task_id] if step.seq <= base.upto])
    return steps


def bases_of(tasks: Iterable[Task]) -> dict[UUID, list[Base]]:
    """The tasks that the forks among `tasks` were forked from, nearest first, by fork. A base may be a fork itself."""
    forks = [task.pk for task in tasks if task.base_id and task.base_seq]
    if not forks:
        return {}
    table, steps = (connection.ops.quote_name(model._meta.db_table) for model in (Task, Step))
    sql = f"""
        WITH RECURSIVE bases(fork, id, upto, depth) AS (
            SELECT id, base_id, base_seq, 1 FROM {table} WHERE id IN ({", ".join(["%s"] * len(forks))})
            UNION ALL
            SELECT bases.fork, t.base_id, CASE WHEN t.base_seq < bases.upto THEN t.base_seq ELSE bases.upto END,
                bases.depth + 1
            FROM {table} t JOIN bases ON t.id = bases.id WHERE t.base_id IS NOT NULL AND t.base_seq > 0
        ) SELECT fork, id, upto, (
            SELECT SUM(LENGTH(text) + LENGTH(result)) FROM {steps} WHERE task_id = bases.id AND seq <= bases.upto
        ) FROM bases ORDER BY fork, depth
    """  # noqa: S608  (the tables' names are ours)
    with connection.cursor() as cursor:
        cursor.execute(sql, [key_of(pk) for pk in forks])
        rows = cursor.fetchall()
    found: dict[UUID, list[Base]] = defaultdict(list)
    for fork, pk, upto, size in rows:
        found[uuid_of(fork)].append(Base(uuid_of(pk), upto, size or 0))
    return found


def plain_steps(tasks: Sequence[Task]) -> dict[UUID, list[Step]]:
    """`whole` of tasks that are no forks: what every task begins with, so the query is built once for each number."""
    rows: dict[UUID, list[Step]] = {task.pk: [] for task in tasks}
    for step in _steps(len(tasks)).all(**{f"task{n}": task.pk for n, task in enumerate(tasks)}):
        rows[step.task_id].append(step)
    return rows


@cache
def _steps(count: int) -> Select[Step]:
    these = reduce(operator.or_, (Q(task=Param(f"task{n}")) for n in range(count)))
    return Select(lambda: Step.objects.filter(these).defer(*FOR_PERSON).order_by("task", "seq"))


def key_of(pk: UUID | None) -> Any:
    """As the database has it."""
    return Task._meta.pk.get_db_prep_value(pk, connection)


def uuid_of(value: Any) -> UUID:
    return UUID(str(value))
