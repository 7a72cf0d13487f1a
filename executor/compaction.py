"""Compaction: what was said first is summarised, on record as a step of the task, and that stands for it from then on.

History stays as it is; only what a model is told gets shorter (told.py). The step is a question like any other: it is
stopped, handed over, limited and paid for. If it breaks off, it is asked again; if nothing useful comes of it, what was
said is left out, which is on record in the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from itertools import islice
from uuid import UUID

from django.conf import settings

from executor.core import compaction, prices
from executor.core.budget import NEWEST, WORTHWHILE, Budget, Scales, newest_from, pruned, size
from executor.core.config import AgentConfig
from executor.core.errors import LLMError
from executor.core.events import Failed, Finished, ModelAsked, ModelRetried
from executor.core.llms.base import BaseLlm
from executor.core.llms.parameters import CONTEXT_WINDOW, MAX_TOKENS
from executor.core.messages import Message, ToolSpec
from executor.database import in_database
from executor.history import Piece
from executor.journal import Covers, Journal
from executor.models import Step
from executor.told import EARLIER_TASKS, Told, what_is_told

#: So many of the tasks before stay as they are.
NEWEST_TASKS = EARLIER_TASKS // 2
#: A provider that says that a question is too long is asked one that has so much of it, at the most.
SMALLER = 0.6


def budget_for(config: AgentConfig, told: Told, specs: Sequence[ToolSpec], scales: Scales | None = None) -> Budget:
    """How much the model of an agent is told."""
    window = config.parameters.get(CONTEXT_WINDOW.name)
    if not window:
        listed = prices.window(config.provider, config.model, config.base_url)
        window = min(listed or settings.CONTEXT_WINDOW, settings.CONTEXT_TOKENS)
    longest = int(config.parameters.get(MAX_TOKENS.name) or 0)
    budget = Budget.of(window, longest, specs, told.ratio(config.provider))
    return replace(budget, scales=scales) if scales else budget


@dataclass(frozen=True, slots=True)
class Plan:
    """To have `older` summarised, which ends where `covers` says. `before` is the summary that is among it."""

    older: tuple[Message, ...]
    covers: Covers
    before: str

    @classmethod
    def of(cls, task_id: UUID, told: Told, instructions: str, room: int) -> Plan | None:
        """None where there is nothing that a summary would make much shorter."""
        opening = told.opening(instructions)
        pieces = _as_told(opening, told.pieces, room)
        cut = newest_from([size(piece.messages) for piece in pieces], NEWEST * room)
        inputs = [at for at, piece in enumerate(pieces) if piece.upto == 0]
        if told.is_long and len(inputs) > NEWEST_TASKS:
            cut = max(cut, inputs[-NEWEST_TASKS])
        older = [message for piece in pieces[:cut] for message in piece.messages]
        if not older or not (told.is_long or size(older) >= WORTHWHILE * room):
            return None
        last = pieces[cut - 1]
        covers = Covers(None if last.task_id == task_id else last.task_id, last.upto)
        return cls((*opening, *older), covers, told.summary.text if told.summary else "")


def _as_told(opening: Sequence[Message], pieces: Sequence[Piece], room: int) -> list[Piece]:
    """The pieces with what is left out of them anyway."""
    messages = [*opening, *(message for piece in pieces for message in piece.messages)]
    found = iter(pruned(messages, room)[len(opening) :])
    return [replace(piece, messages=tuple(islice(found, len(piece.messages)))) for piece in pieces]


async def compact(llm: BaseLlm, journal: Journal, room: int, changed: Callable[[], None]) -> bool:
    """Have what was said first summarised, so that about `room` bytes are enough for a while. Calls `changed` when the
    rows have. False if that would not help.

    Raises LLMError where another question would fail as well, and LimitReached.
    """
    plan = await in_database(_plan, journal, room)
    if plan is None:
        return False
    seq = asked = 0
    async with aclosing(compaction.ask(llm, plan.older, room)) as events:
        async for event in events:
            match event:
                case ModelAsked(question):
                    asked = size(question)
                    seq = await in_database(journal.begin_model, asked, Step.Kind.COMPACTION)
                    changed()
                case ModelRetried(error, begun=True, usage=usage):  # It has to be paid for, so it stays on record.
                    await in_database(journal.fail_model, seq, error, "", usage=usage, begun=True)
                    seq = await in_database(journal.begin_model, asked, Step.Kind.COMPACTION)
                case Failed(error, usage=usage) if error.kind in compaction.NOT_HERE:
                    await in_database(journal.fail_model, seq, error, "", usage=usage, begun=error.partial)
                    raise error
                case Failed(error, usage=usage):
                    await in_database(journal.leave_out, seq, error, plan.covers, plan.before, usage)
                    break
                case Finished(message) if problem := compaction.problem(message.text, room):
                    useless = LLMError("protocol", problem, partial=True)
                    await in_database(journal.leave_out, seq, useless, plan.covers, plan.before, event.usage)
                case Finished():
                    await in_database(journal.finish_compaction, seq, event, plan.covers)
    changed()
    return True


def _plan(journal: Journal, room: int) -> Plan | None:
    journal.commit()  # A result may be noted that is not in the rows yet.
    return Plan.of(journal.task_id, what_is_told(journal.task), journal.config.instructions, room)
