"""What the model of a task is told: the tasks before it and its own steps, as far back as the last summary.

A pure function of what is on record, like all of a transcript (history.py). A compaction (`Step.Kind.COMPACTION`) says
up to where its text stands for everything, and nobody reads further back than that: what a message costs does not
depend on how long the conversation is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.db import connection

from executor import files
from executor.core import compaction
from executor.core.budget import TELLING, learnt
from executor.core.messages import Message, message_from_json, system
from executor.history import Piece, bases_of, key_of, pieces_of, plain_steps, task_pieces, uuid_of, whole
from executor.models import ASKS, FOR_PERSON, Step, Task

#: So many tasks, or characters in them, are read for each message; then they are summarised, whatever a model can read.
EARLIER_TASKS = 100
EARLIER_CHARACTERS = 2_000_000
#: Nobody looks further back, should no summary have been possible.
LOOK_BACK = 2 * EARLIER_TASKS


@dataclass(frozen=True, slots=True)
class Told:
    """`pieces` are what was said since the summary, if there is one; `request` is what the person wants, if that was
    said before it. `is_long`: they are to be summarised, whoever is told; `is_cut`: there was more, which nobody read.
    `counted` is what providers said of earlier questions: who, how many tokens, of how many bytes. Files that are
    `unread` are told by their names only, until `files.read` has read them."""

    pieces: tuple[Piece, ...]
    summary: Step | None = None
    request: str = ""
    is_long: bool = False
    is_cut: bool = False
    counted: tuple[tuple[str, int, int], ...] = field(default=(), repr=False)
    unread: tuple[UUID, ...] = ()

    def messages(self, instructions: str) -> list[Message]:
        return [*self.opening(instructions), *(message for piece in self.pieces for message in piece.messages)]

    def opening(self, instructions: str) -> list[Message]:
        """What stands before the pieces."""
        found = [system(instructions)] if instructions else []
        if self.summary or self.is_cut:
            text = self.summary.text if self.summary else ""
            is_partial = self.is_cut or self.summary is None or self.summary.status != Step.Status.DONE
            found.append(compaction.told(text, self.request, is_partial=is_partial))
        return found

    def ratio(self, provider: str) -> float:
        """Tokens per byte, by the last question to `provider` that was counted."""
        return next((learnt(tokens, asked) for who, tokens, asked in self.counted if who == provider), learnt(0, 0))


def transcript(task: Task, instructions: str) -> list[Message]:
    """What the model of `task` is told. The open calls of the task itself are left open."""
    return what_is_told(task).messages(instructions)


def what_is_told(task: Task) -> Told:
    earlier = _earlier(task) if task.previous_id else _Earlier()
    tasks = [*earlier.tasks, task]
    mark = earlier.mark
    if mark:
        steps_of = whole(tasks, Step.objects.defer(*FOR_PERSON).exclude(task=mark.task_id, seq__lte=mark.seq))
    else:
        steps_of = (
            whole(tasks, Step.objects.defer(*FOR_PERSON)) if any(one.base_id for one in tasks) else plain_steps(tasks)
        )
    pieces = [piece for one in tasks for piece in task_pieces(one, steps_of[one.pk], close=one is not task)]
    summary, covered = _newest(tasks, steps_of)
    if summary is None and mark:  # It is further back than is read.
        summary, covered = Step.objects.filter(pk=mark.step_id).first(), mark.task_id
    at = {one.pk: number for number, one in enumerate(tasks)}
    request = ""
    if summary is not None:
        upto = at.get(covered, -1) if covered else -1, summary.covers_seq or 0
        pieces = [piece for piece in pieces if (at[piece.task_id], piece.upto) > upto]
        if covered == task.pk or any(piece.task_id == covered for piece in pieces):
            request = message_from_json(tasks[upto[0]].input).text
    pieces, unread = files.in_words(pieces)
    return Told(
        tuple(pieces),
        summary,
        request,
        unread=unread,
        is_long=len(earlier.tasks) >= EARLIER_TASKS or earlier.size >= EARLIER_CHARACTERS,
        is_cut=earlier.has_more and covered not in at,
        counted=tuple(_counted([step for one in reversed(tasks) for step in reversed(steps_of[one.pk])])),
    )


def told_of(question: Step, steps: Sequence[Step]) -> Told:
    """What the model is told of what came of a question of a declared step, behind the question itself."""
    mine = [step for step in steps if step.parent_seq == question.seq]
    summary = next(filter(_stands_for_something, reversed(mine)), None)
    upto = (summary and summary.covers_seq) or 0
    pieces = [piece for piece in pieces_of(question, steps) if piece.upto > upto]
    return Told(tuple(pieces), summary, counted=tuple(_counted(steps[::-1])))


def _newest(tasks: Sequence[Task], steps_of: Mapping[UUID, Sequence[Step]]) -> tuple[Step | None, UUID | None]:
    """The last compaction that came to something, and the task up to which it stands for everything."""
    for task in reversed(tasks):
        for step in reversed(steps_of[task.pk]):
            if step.parent_seq is None and _stands_for_something(step):
                return step, step.covers_task or task.pk
    return None, None


def _stands_for_something(step: Step) -> bool:
    return step.kind == Step.Kind.COMPACTION and step.covers_seq is not None


def _counted(steps: Sequence[Step]) -> list[tuple[str, int, int]]:
    return [
        (step.provider, step.input_tokens, step.asked_bytes or 0)
        for step in steps
        if step.kind in ASKS and step.input_tokens and (step.asked_bytes or 0) >= TELLING
    ]


# --- the tasks before ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Mark:
    """The compaction `step_id` stands for everything up to the step `seq` of a task."""

    step_id: int
    task_id: UUID
    seq: int


@dataclass(frozen=True, slots=True)
class _Earlier:
    """The tasks that one goes on from, oldest first, of which only what `_chain` asks for is known, and their size."""

    tasks: tuple[Task, ...] = ()
    size: int = 0
    has_more: bool = False
    mark: _Mark | None = None


def _earlier(task: Task) -> _Earlier:
    """As far back as there is no summary, or as is read at once; the nearest in any case.

    Their steps may be many megabytes, so their sizes are asked for first.
    """
    chain, mark = _chain(task)
    shared = bases_of([earlier for earlier, _ in chain])
    kept: list[Task] = []
    total = 0
    for earlier, characters in chain:
        characters += len(earlier.text) + sum(base.size for base in shared.get(earlier.pk, ()))
        if kept and total + characters > 2 * EARLIER_CHARACTERS:
            break
        kept.append(earlier)
        total += characters
    has_more = len(kept) < len(chain) or bool(kept and kept[-1].previous_id)
    return _Earlier(tuple(kept[::-1]), total, has_more, mark)


def _chain(task: Task) -> tuple[list[tuple[Task, int]], _Mark | None]:
    """Back along `previous` to where a compaction says that everything before is summarised, nearest first, each with
    the size of its steps in characters, in one query. What a fork shares with another task is not looked at."""
    tasks, steps = (connection.ops.quote_name(model._meta.db_table) for model in (Task, Step))
    # Few are compactions: with “+ 0” they are found by the index that has the kind, instead of all in order of `seq`.
    mark = f"""(SELECT s.id FROM {steps} s WHERE s.task_id = t.id AND s.kind = %s AND s.covers_seq IS NOT NULL
        AND s.parent_seq IS NULL ORDER BY s.seq + 0 DESC LIMIT 1)"""  # noqa: S608
    sql = f"""
        WITH RECURSIVE chain(id, previous_id, input, base_id, base_seq, depth, mark) AS (
            SELECT t.id, t.previous_id, t.input, t.base_id, t.base_seq, 0, {mark} FROM {tasks} t WHERE t.id = %s
            UNION ALL
            SELECT t.id, t.previous_id, t.input, t.base_id, t.base_seq, chain.depth + 1, COALESCE(chain.mark, {mark})
            FROM {tasks} t JOIN chain ON t.id = chain.previous_id
            WHERE chain.depth < %s AND NOT EXISTS (
                SELECT 1 FROM {steps} m WHERE m.id = chain.mark AND COALESCE(m.covers_task, m.task_id) = chain.id
            )
        ) SELECT chain.id, chain.previous_id, chain.input, chain.base_id, chain.base_seq,
            (SELECT SUM(LENGTH(s.text) + LENGTH(s.result)) FROM {steps} s WHERE s.task_id = chain.id AND (
                m.id IS NULL OR COALESCE(m.covers_task, m.task_id) <> chain.id OR s.seq > m.covers_seq)),
            m.id, COALESCE(m.covers_task, m.task_id), m.covers_seq
        FROM chain LEFT JOIN {steps} m ON m.id = chain.mark ORDER BY chain.depth
    """  # noqa: S608  (the tables' names are ours)
    kind = Step.Kind.COMPACTION
    with connection.cursor() as cursor:
        cursor.execute(sql, [kind, key_of(task.pk), kind, LOOK_BACK])
        rows = cursor.fetchall()
    chain = [
        (_task(pk, previous, said, base, base_seq), size or 0)
        for pk, previous, said, base, base_seq, size, *_ in rows[1:]
    ]
    marks = [_Mark(step_id, uuid_of(covered), seq) for *_, step_id, covered, seq in rows[-1:] if step_id]
    return chain, marks[0] if marks else None


def _task(pk: Any, previous: Any, said: str, base: Any, base_seq: int | None) -> Task:
    return Task(
        id=uuid_of(pk),
        previous_id=previous and uuid_of(previous),
        input=json.loads(said),
        base_id=base and uuid_of(base),
        base_seq=base_seq,
    )
