"""Compaction: what was said first is summarised, on record as a step of the task, and that stands for it from then on.

History stays as it is; only what a model is told gets shorter (told.py). The step is a question like any other: it is
stopped, handed over, limited and paid for, and fetched if its worker ended and its provider keeps it. Else it is asked
again when it broke off; if nothing useful comes of it, what was said is left out, which is on record in the same way.
In a declared step the same is done for what came of one of its questions.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any
from uuid import UUID

from django.conf import settings

from executor.core import compaction, prices
from executor.core.budget import NEWEST, WORTHWHILE, Budget, newest_from, pruned, size
from executor.core.config import AgentConfig
from executor.core.errors import LLMError
from executor.core.events import Finished
from executor.core.llms.base import BaseLlm
from executor.core.llms.parameters import CONTEXT_WINDOW, MAX_TOKENS
from executor.core.messages import Message, ToolSpec, Usage
from executor.history import Piece
from executor.journal import Covers, Journal
from executor.models import Step
from executor.recorder import Recorder
from executor.told import EARLIER_TASKS, Told

#: So many of the tasks before stay as they are.
NEWEST_TASKS = EARLIER_TASKS // 2

#: Runs a method of the journal.
Write = Callable[..., Awaitable[Any]]


def budget_for(config: AgentConfig, specs: Sequence[ToolSpec], ratio: float) -> Budget:
    """How much the model of an agent is told. `ratio` is tokens per byte."""
    reads = config.parameters.get(CONTEXT_WINDOW.name)
    window = reads or prices.window(config.provider, config.model, config.base_url) or settings.CONTEXT_WINDOW
    used = reads or min(window, settings.CONTEXT_TOKENS)
    longest = int(config.parameters.get(MAX_TOKENS.name) or 0)
    return Budget.of(used, longest, specs, ratio, reads=window)


@dataclass(frozen=True, slots=True)
class Plan:
    """To have `older` summarised, which ends where `covers` says. `before` is the summary that is among it. It is to
    have its place in so many bytes of `room`."""

    older: tuple[Message, ...]
    covers: Covers
    before: str
    room: int

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
        return cls((*opening, *older), covers, told.summary.text if told.summary else "", room)

    def to_json(self) -> dict[str, Any]:
        """With the response to it: what that is a summary of."""
        task = self.covers.task_id
        return {"room": self.room, "covers_task": task and str(task), "covers_seq": self.covers.seq}


def _as_told(opening: Sequence[Message], pieces: Sequence[Piece], room: int) -> list[Piece]:
    """The pieces with what is left out of them anyway."""
    messages = [*opening, *(message for piece in pieces for message in piece.messages)]
    found = iter(pruned(messages, room)[len(opening) :])
    return [replace(piece, messages=tuple(islice(found, len(piece.messages)))) for piece in pieces]


class Compacting:
    """Summaries of what one model is told: of what `planned` says is the plan, if there is room for so many bytes.
    `before` is said before it in any case. `write` runs what changes rows."""

    def __init__(
        self,
        llm: BaseLlm,
        journal: Journal,
        recorder: Recorder,
        write: Write,
        planned: Callable[[int], Plan | None],
        before: Sequence[Message] = (),
    ) -> None:
        self._llm = llm
        self._journal = journal
        self._recorder = recorder
        self._write = write
        self._planned = planned
        self._before = before

    async def compact(self, room: int) -> bool:
        """Have what was said first summarised, so that about `room` bytes are enough for a while. False if that would
        not help.

        Raises LLMError where another question would fail as well, and LimitReached.
        """
        self._recorder.boundary()
        plan = await self._write(self._plan, room)
        if plan is not None:
            await self._ask(plan)
        return plan is not None

    async def resume(self) -> bool:
        """Fetch the summary that an earlier acquisition waited for, if there is one and it is still what is wanted."""
        left = self._journal.kept
        if left is None or left.kind != Step.Kind.COMPACTION or left.parent_seq != self._journal.within:
            return False
        wanted = left.arguments or {}
        plan = await self._write(self._plan, wanted.get("room", 0))
        taken_up = await self._write(self._journal.take_up_model, plan is not None and plan.to_json() == wanted)
        if plan is not None and taken_up is not None:
            await self._ask(plan, taken_up)
        return taken_up is not None

    def _plan(self, room: int) -> Plan | None:
        self._journal.commit()  # A result may be noted that is not in the rows yet.
        return self._planned(room)

    async def _ask(self, plan: Plan, left: Step | None = None) -> None:
        minutes = _Minutes(self._llm, self._journal, self._recorder, self._write, plan)
        kept = ""
        if left is not None:
            minutes.seq, minutes.is_open, kept = left.seq, True, left.response_id
            self._recorder.waits_for(self._llm, kept)
        asking = compaction.ask(
            self._llm, plan.older, plan.room, self._before, kept, lambda: self._journal.longest_answer
        )
        self._recorder.asking = True
        try:
            await compaction.compact(asking, plan.room, minutes)
        finally:
            self._recorder.asking = False
        self._recorder.changed()


class _Minutes:
    """Writes a summary down as a step of the task."""

    def __init__(self, llm: BaseLlm, journal: Journal, recorder: Recorder, write: Write, plan: Plan) -> None:
        self.seq = 0
        self.is_open = False  # Its step is on record already.
        self._llm = llm
        self._journal = journal
        self._recorder = recorder
        self._write = write
        self._plan = plan

    async def asked(self, size: int) -> None:
        if not self.is_open:
            self._recorder.let_go()
            self.seq = await self._write(self._journal.begin_model, size, Step.Kind.COMPACTION)
            self._recorder.changed()
        self.is_open = False

    async def accepted(self, response_id: str) -> None:
        if self._recorder.waits_for(self._llm, response_id):
            await self._write(self._journal.accept, self.seq, response_id, self._plan.to_json())

    async def broke_off(self, error: LLMError, usage: Usage, *, begun: bool) -> None:
        self._recorder.let_go()
        await self._write(self._journal.fail_model, self.seq, error, "", usage=usage, begun=begun)

    async def left_out(self, error: LLMError, usage: Usage) -> None:
        self._recorder.let_go()
        plan = self._plan
        await self._write(self._journal.leave_out, self.seq, error, plan.covers, plan.before, usage)

    async def finished(self, event: Finished) -> None:
        self._recorder.has_answer()
        await self._write(self._journal.finish_compaction, self.seq, event, self._plan.covers)
