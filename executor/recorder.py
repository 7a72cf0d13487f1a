"""What happens in a task, written down and told as it happens: from events of the loop to rows and the live stream."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Any

from django.db import Error as DatabaseError

from executor.at_limit import SUMMARISE
from executor.core.budget import Scales
from executor.core.errors import TaskExecutionError
from executor.core.events import (
    Failed,
    Finished,
    LoopEvent,
    ModelAsked,
    ModelRetried,
    PersonAsked,
    ReasoningDelta,
    Started,
    TextDelta,
    ToolFinished,
    ToolsStarted,
)
from executor.core.limits import Spent
from executor.core.llms.base import BaseLlm
from executor.core.messages import ToolCall
from executor.database import in_database
from executor.declared_journal import DeclaredJournal
from executor.hints import notify
from executor.journal import Journal
from executor.kept import Kept
from executor.lease import LeaseLost
from executor.live import TaskStream
from executor.models import OnUnknown, Step
from executor.toolset import Toolset, may_have_run
from tools.core.toolbox import Outcome

logger = logging.getLogger(__name__)

#: Seconds between two saves of an answer that is still being written.
PARTIAL_EVERY = 2.0


class Steered(Exception):
    """The person said something to the task: it goes on from the transcript as it is now."""


class Doubtful(TaskExecutionError):
    """A call may have run, and the agent's setting is to end its task then."""

    kind = "doubtful"

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(
            f"It was interrupted in {', '.join(names)}, which may have run or not.",
            hint="Find out whether it did. Try again then: the model is told that its outcome is unknown.",
        )


class Recorder:
    """`boundary` is called where a task may change hands, and raises CancelledError then."""

    def __init__(self, journal: Journal, stream: TaskStream, boundary: Callable[[], None]) -> None:
        #: A model is being asked: it can be asked again, so a hand-over need not wait.
        self.asking = False
        #: Something waits for a person, or for other agents.
        self.asked = False
        #: The person may want to say something before the next question.
        self.steered = False
        #: Who is asked.
        self.llm: BaseLlm | None = None
        self.question_size = 0
        self.scales = Scales()
        self._journal = journal
        self._stream = stream
        self.boundary = boundary
        self._kept: Kept | None = None  # The response that is being written, if its provider keeps it.
        self._begun = False  # The next question is on record already.
        self._seq = 0
        self._running = 0  # Calls that began and have no result yet.
        self._writing = asyncio.Lock()  # Calls run side by side; what is written down of them does not.
        self._asked_at = 0.0
        self._first_token_ms: int | None = None
        self._saved_at = 0.0

    async def follow(self, solving: AsyncGenerator[LoopEvent, None], spent: Spent, toolset: Toolset) -> None:
        async with aclosing(solving) as events:
            async for event in events:
                await self.record(event, spent, toolset)

    async def record(self, event: LoopEvent, spent: Spent, toolset: Toolset) -> None:
        """Write down what happened and tell it, before the loop goes on to anything that has an effect.

        What the loop follows up at once is noted first and written with that: half as many transactions for a step.
        """
        match event:
            case TextDelta(text):
                self._mark_first_token()
                self._stream.add_text(text)
                await self._save_partial()
            case ReasoningDelta(text):
                self._mark_first_token()
                self._stream.add_reasoning(text)
                await self._save_partial()
            case Started(response_id, is_kept=True) if self.llm and self.waits_for(self.llm, response_id):
                await in_database(self._journal.accept, self._seq, response_id)
            case ModelAsked(question):
                self.boundary()
                self.asking = True  # From here on a hand-over need not wait.
                self.question_size = self.scales(question, toolset.specs)
                is_last = SUMMARISE in self._journal.task.allowed  # What is said now is for the task after it.
                takes_in = self.steered and not is_last and not isinstance(self._journal, DeclaredJournal)
                if not self._begun:
                    self.let_go()
                    if takes_in and await self._take_in():
                        raise Steered
                    await self._begin_step()
                self._begun = False
                spent.longest_answer = self._journal.longest_answer
            case ModelRetried(error, _, delay, begun, usage):
                if begun:  # It stays on record; written with the beginning of the step that replaces it.
                    self.let_go()
                    said = self._stream.text, self._stream.reasoning
                    self._journal.fail_model(self._seq, error, *said, usage, begun=True, later=True)
                    await self._begin_step()
                    spent.longest_answer = self._journal.longest_answer
                self._stream.note(f"{error.message} Trying again in {delay:.0f} s." if delay >= 1 else error.message)
            case Finished(reason="length", usage=usage) if cut := self._journal.cut:
                self.asking = False
                self.has_answer()
                said = self._stream.text, self._stream.reasoning
                await in_database(self._journal.fail_model, self._seq, cut, *said, usage, begun=True)
                raise cut
            case Finished():
                self.asking = False
                self.has_answer()
                # Written with the beginning of its calls, or with the end.
                self._journal.finish_model(self._seq, event, spent, toolset.functions, self._first_token_ms, later=True)
                spent.cost = self._journal.spent.cost
            case Failed(error, _, usage):
                self.asking = False
                self.let_go()
                said = self._stream.text, self._stream.reasoning
                await in_database(self._journal.fail_model, self._seq, error, *said, usage, begun=error.partial)
                self.close_step()
            case PersonAsked(calls):
                self.asked = True
                await self._ask(calls, toolset)
                self.close_step()
                await notify(self._journal.task.user_id, self._journal.task_id)
            case ToolsStarted(calls):
                self._running = len(calls)
                await in_database(self._journal.start_tools, calls, toolset.decided)
                if time.monotonic() > self._journal.held_until:  # Frozen meanwhile, so it may be up to somebody else.
                    await in_database(self._journal.make_sure)
                self.close_step()
            case ToolFinished():
                self._running -= 1
                self.asked |= event.is_open
                if self._running or self.asked:
                    async with self._writing:
                        await in_database(self._journal.finish_tool, event, spent)
                    self._stream.rows_changed()
                else:  # Written with the next question.
                    self._journal.finish_tool(event, spent, later=True)
                if event.error_kind in ("timeout", "unclear") and self._journal.config.on_unknown == OnUnknown.FAIL:
                    function = toolset.functions.get(event.call.name)
                    if may_have_run(function, event.error_kind):
                        raise Doubtful([event.call.name])

    async def take_up(self, llm: BaseLlm) -> str:
        """The response to the question that was left behind, if `llm` can fetch it: its step is open then."""
        self._begun, left = False, self._journal.kept
        if not left or left.kind != Step.Kind.MODEL or (kept := await in_database(self._journal.take_up_model)) is None:
            return ""
        self._begun = True
        self.waits_for(llm, kept.response_id)
        self._open_step(kept.seq)
        return kept.response_id

    def waits_for(self, llm: BaseLlm, response_id: str) -> bool:
        """For a response that its provider keeps. False if that was known."""
        if self._kept is None:
            self._kept = Kept(llm, response_id)
            return True
        return False

    def has_answer(self) -> None:
        """The response that is kept, if any, is whole."""
        self._kept = None

    def let_go(self) -> None:
        """Nobody waits any more for the response that is being written."""
        if self._kept:
            self._kept.let_go()
            self._kept = None

    async def _ask(self, calls: Sequence[ToolCall], toolset: Toolset) -> None:
        """Those who answer these calls: a person, or other agents."""
        kinds, wanted = {}, {}
        for call in calls:
            try:
                tasks: list[dict[str, Any]] | str | None = toolset.tasks_of(call)
            except ValueError as refusal:
                tasks = str(refusal)
            if tasks is None:
                kinds[call.id] = toolset.question(call)
            else:
                wanted[call.id] = tasks
        if wanted:
            await in_database(self._journal.give, wanted)
        if kinds:
            await in_database(self._journal.ask, kinds)

    async def _begin_step(self) -> None:
        self._stream.close_step()
        self._open_step(await in_database(self._journal.begin_model, self.question_size))

    async def _take_in(self) -> bool:
        """Whether there was something to take in: then the next question is on record with it."""
        self.steered = False
        seq = await in_database(self._journal.take_in, self.question_size)
        if seq is not None:
            self._stream.close_step()
            self._open_step(seq)
            self._begun = True
        return self._begun

    def _open_step(self, seq: int) -> None:
        self._seq = seq
        self._asked_at = self._saved_at = time.monotonic()
        self._first_token_ms = None
        self._stream.open_step(seq)

    async def transact(self, call: ToolCall, work: Callable[[], Outcome]) -> Outcome:
        async with self._writing:
            return await in_database(self._journal.transact, call, work)

    async def save_output(self, call: ToolCall, text: str) -> None:
        """Of a call that runs: what it said so far."""
        try:
            async with self._writing:
                await in_database(self._journal.save_output, call, text)
        except (LeaseLost, DatabaseError) as error:  # Whoever writes next finds out.
            logger.warning("What %s says could not be written down: %s", call.name, error)
        else:
            self._stream.rows_changed()

    def _mark_first_token(self) -> None:
        if self._first_token_ms is None:
            self._first_token_ms = round((time.monotonic() - self._asked_at) * 1000)

    async def _save_partial(self) -> None:
        if time.monotonic() - self._saved_at >= PARTIAL_EVERY:
            await in_database(self._journal.save_partial, self._seq, self._stream.text, self._stream.reasoning)
            self._saved_at = time.monotonic()

    def changed(self) -> None:
        """Pages look at the rows."""
        self._stream.rows_changed()

    def close_step(self) -> None:
        self._stream.close_step()
        self._stream.rows_changed()
