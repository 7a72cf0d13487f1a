"""From rows to a transcript: what the model is told next is a pure function of what is on record.

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
    system,
    tool,
    user,
)
from executor.models import Step, Task
from executor.prepared import Param, Select

#: How much of what came before a task's own work is told to the model. Older turns stay in the history.
EARLIER_TASKS = 40
EARLIER_CHARACTERS = 200_000

NOT_RUN = "This call was not run: the task was stopped before it."
OUTCOME_UNKNOWN = (
    "This call was interrupted and its outcome is unknown: it may or may not have had its effect. "
    "Check before repeating it, or tell the person."
)


def transcript(task: Task, instructions: str) -> list[Message]:
    """What the model of `task` is told. The open calls of the task itself are left open."""
    messages = [system(instructions)] if instructions else []
    earlier = _earlier(task) if task.previous_id else []
    tasks = [*earlier, task]
    steps_of = whole(tasks, Step.objects.all()) if any(each.base_id for each in tasks) else _steps_of(tasks)
    for before in earlier:
        messages += task_messages(before, steps_of[before.pk], close=True)
    return messages + task_messages(task, steps_of[task.pk], close=False)


def task_messages(task: Task, steps: Sequence[Step], *, close: bool) -> list[Message]:
    """The input and what came of it. With `close`, calls without a result get one that says so."""
    opening = message_from_json(task.input)
    if any(step.kind == Step.Kind.STEP for step in steps):
        return [opening, *_outcome(steps, close=close)]
    return [opening, *answers(steps, close=close)]


def _outcome(steps: Sequence[Step], *, close: bool) -> list[Message]:
    """What is told of a declared task: what it said in the end, else what there is; not how it came to that."""
    said = [step.text for step in steps if step.kind == Step.Kind.NOTE]
    if not said:
        done = {step.name: step.result for step in steps if step.kind == Step.Kind.STEP and step.result}
        said = [f"So far there is:\n{json.dumps(done, ensure_ascii=False)}"] if done else []
    after = [step for step in steps if step.kind == Step.Kind.MODEL and step.parent_seq is None]
    return [*(assistant(text) for text in said), *answers(after, close=close)]


def conversation(question: Step, steps: Sequence[Step]) -> list[Message]:
    """What came of a question of a declared step: what its model answered, with calls and results."""
    asked = {step.seq for step in steps if step.kind == Step.Kind.MODEL and step.parent_seq == question.seq}
    return answers([step for step in steps if step.seq in asked or step.parent_seq in asked], close=False)


def answers(steps: Sequence[Step], *, close: bool) -> list[Message]:
    """What models said in these steps, and what they were told."""
    messages: list[Message] = []
    calls = {step.call_id: step for step in steps if step.kind == Step.Kind.TOOL}
    asked = [step for step in steps if step.kind == Step.Kind.MODEL]
    for step in steps:
        if step.kind == Step.Kind.MESSAGE:  # It came in before a question, when all calls had their results.
            messages.append(user(step.text))
        if step.kind != Step.Kind.MODEL:
            continue
        # Half an answer counts only where nothing came after it: a task that goes on asks for the whole.
        if not (message := _model_message(step, calls.values(), close=close, is_last=step is asked[-1])):
            continue
        if close and step is not asked[-1] and not message.tool_calls:
            continue  # It did not have the demanded form, and was corrected.
        messages.append(message)
        results = [result for call in message.tool_calls if (result := tool_result(calls[call.id], close=close))]
        if results:
            messages.append(tool(*results))
    return messages


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


def _earlier(task: Task) -> list[Task]:
    """The tasks that `task` goes on from, oldest first, as far back as the context allows; the nearest in any case.

    Of them only what `_chain` asks for is known. Their steps may be many megabytes, so their sizes are asked for first.
    """
    kept: list[Task] = []
    room = EARLIER_CHARACTERS
    chain = _chain(task)
    shared = _bases([earlier for earlier, _ in chain])
    for earlier, size in chain:
        room -= len(earlier.text) + size + sum(base.size for base in shared.get(earlier.pk, ()))
        if room < 0 and kept:
            break
        kept.append(earlier)
    return kept[::-1]


def _chain(task: Task) -> list[tuple[Task, int]]:
    """Back along `previous`, nearest first, each with the size of its steps in characters, in one query."""
    tasks, steps = (connection.ops.quote_name(model._meta.db_table) for model in (Task, Step))
    sql = f"""
        WITH RECURSIVE chain(id, previous_id, input, base_id, base_seq, depth) AS (
            SELECT id, previous_id, input, base_id, base_seq, 1 FROM {tasks} WHERE id = %s
            UNION ALL
            SELECT t.id, t.previous_id, t.input, t.base_id, t.base_seq, chain.depth + 1
            FROM {tasks} t JOIN chain ON t.id = chain.previous_id WHERE chain.depth < %s
        ) SELECT id, input, base_id, base_seq,
            (SELECT SUM(LENGTH(text) + LENGTH(result)) FROM {steps} WHERE task_id = chain.id)
        FROM chain ORDER BY depth
    """  # noqa: S608  (the tables' names are ours)
    with connection.cursor() as cursor:
        cursor.execute(sql, [_key(task.previous_id), EARLIER_TASKS])
        rows = cursor.fetchall()
    return [
        (Task(id=_uuid(pk), input=json.loads(said), base_id=base and _uuid(base), base_seq=base_seq), size or 0)
        for pk, said, base, base_seq, size in rows
    ]


# --- forks -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Base:
    """A task whose steps up to `upto` are those of a fork too; `size` is theirs in characters."""

    task_id: UUID
    upto: int
    size: int


def whole(tasks: Sequence[Task], steps: QuerySet[Step]) -> dict[UUID, list[Step]]:
    """All steps of `tasks` in order, by task, with those that forks share with the tasks they were forked from.

    They are taken from `steps`, so that who needs little of them may defer the rest. A query, and one more for forks.
    """
    shared = _bases(tasks)
    wanted = reduce(operator.or_, _wanted(shared), Q(task__in=[task.pk for task in tasks]))
    rows: dict[UUID, list[Step]] = defaultdict(list)
    for step in steps.filter(wanted).order_by("task", "seq"):
        rows[step.task_id].append(step)
    return {task.pk: folded(_shared(shared.get(task.pk, ()), rows), rows[task.pk]) for task in tasks}


def inherited(task: Task, steps: QuerySet[Step]) -> list[Step]:
    """Of a fork, the steps that it shares with the task that it was forked from, also those that it has changed."""
    bases = _bases([task])
    if not bases:
        return []
    rows: dict[UUID, list[Step]] = defaultdict(list)
    for step in steps.filter(reduce(operator.or_, _wanted(bases))).order_by("task", "seq"):
        rows[step.task_id].append(step)
    return _shared(bases[task.pk], rows)


def folded(shared: Iterable[Step], own: Iterable[Step]) -> list[Step]:
    """The steps of a fork: the shared ones, of which its own take the place where it has changed them."""
    by_seq = {step.seq: step for step in itertools.chain(shared, own)}
    return [by_seq[seq] for seq in sorted(by_seq)]


def _wanted(shared: Mapping[UUID, Sequence[_Base]]) -> Iterator[Q]:
    for base in itertools.chain.from_iterable(shared.values()):
        yield Q(task=base.task_id, seq__lte=base.upto)


def _shared(bases: Sequence[_Base], rows: Mapping[UUID, list[Step]]) -> list[Step]:
    steps: list[Step] = []
    for base in reversed(bases):
        steps = folded(steps, [step for step in rows[base.task_id] if step.seq <= base.upto])
    return steps


def _bases(tasks: Iterable[Task]) -> dict[UUID, list[_Base]]:
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
        cursor.execute(sql, [_key(pk) for pk in forks])
        rows = cursor.fetchall()
    found: dict[UUID, list[_Base]] = defaultdict(list)
    for fork, pk, upto, size in rows:
        found[_uuid(fork)].append(_Base(_uuid(pk), upto, size or 0))
    return found


def _steps_of(tasks: Sequence[Task]) -> dict[UUID, list[Step]]:
    """`whole` of tasks that are no forks: what every task begins with, so the query is built once for each number."""
    rows: dict[UUID, list[Step]] = {task.pk: [] for task in tasks}
    for step in _steps(len(tasks)).all(**{f"task{n}": task.pk for n, task in enumerate(tasks)}):
        rows[step.task_id].append(step)
    return rows


@cache
def _steps(count: int) -> Select[Step]:
    these = reduce(operator.or_, (Q(task=Param(f"task{n}")) for n in range(count)))
    return Select(lambda: Step.objects.filter(these).order_by("task", "seq"))


def _key(pk: UUID | None) -> Any:
    """As the database has it."""
    return Task._meta.pk.get_db_prep_value(pk, connection)


def _uuid(value: Any) -> UUID:
    return UUID(str(value))
