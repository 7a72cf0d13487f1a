"""One acquisition of a task, from claim to end: drives the loop, writes each event down, tells whoever watches."""

from __future__ import annotations

import asyncio
import enum
import logging
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from importlib import import_module
from typing import Any
from uuid import UUID

from django.db import Error as DatabaseError
from django.db import InterfaceError, OperationalError
from django.db.models import Q

from executor.advice import advise
from executor.approvals import Agreements
from executor.at_limit import SUMMARISE
from executor.compaction import SMALLER, budget_for, compact
from executor.core import prices
from executor.core.budget import ContextFull, Scales
from executor.core.config import AgentConfig
from executor.core.errors import GoingInCircles, LimitReached, LLMError, TaskExecutionError
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
from executor.core.executor import TaskSolver, Worker
from executor.core.limits import Spent
from executor.core.llms.base import BaseLlm
from executor.core.llms.factory import create_llm
from executor.core.messages import ToolCall
from executor.core.record import Suspended
from executor.core.retry import FALLS_BACK, MAX_POSTPONEMENTS, POSTPONED, postponement
from executor.core.steps import TaskStep
from executor.core.summary import summarise
from executor.credentials import Credentials, KeyMissing, accepted, credentials, refused
from executor.database import in_database
from executor.declared import class_for
from executor.declared_journal import DeclaredJournal
from executor.declared_run import RecordLost, RowRecord
from executor.hints import notify
from executor.journal import MAX_STALLED_ATTEMPTS, Journal, Source
from executor.kept import Kept
from executor.lease import LeaseLost
from executor.live import Publisher
from executor.models import Agent, OnUnknown, Status, Step
from executor.sub_tasks import check_budget
from executor.told import Told, what_is_told
from executor.toolset import Toolset, may_have_run
from tools.core.toolbox import Outcome
from tools.registry import refresh

logger = logging.getLogger(__name__)

#: Seconds between two saves of an answer that is still being written.
PARTIAL_EVERY = 2.0
#: … and for a summary at a limit, of whatever kind it is.
SUMMARY_WITHIN = 120.0


class Interruption(enum.Enum):
    STOP = "stop"  # A person wants it to end.
    HAND_OVER = "hand over"  # This worker is going away.
    LOST = "lost"  # Somebody else has the task.


class Run:
    """`execute` returns the tasks that waited for this one and may begin now.

    `wait` is None unless the task was put off: then it may be taken up again in so many seconds. `is_over` tells that
    it has ended, `fell` that the database did not answer: the task is still held, and nobody works on it.
    """

    def __init__(self, journal: Journal, publisher: Publisher) -> None:
        self.journal = journal
        self.task_id: UUID = journal.task_id
        self.wait: float | None = None
        self.fell = False
        self.is_over = False
        self._stream = publisher.open(journal.task_id, journal.fence, lambda: self.interrupt(Interruption.LOST))
        self._interruption: Interruption | None = None
        self._asking = False
        self._llm: BaseLlm | None = None  # Who is asked.
        self._kept: Kept | None = None  # The response that is being written, if its provider keeps it.
        self._closing = False
        self._steered = False  # The person may want to say something before the next question.
        self._begun = False  # The next question is on record already.
        self._seq = 0
        self._running = 0  # Calls that began and have no result yet.
        self._asked = False  # Something waits for a person.
        self._question_size = 0
        self._scales = Scales()
        self._writing = asyncio.Lock()  # Calls run side by side; what is written down of them does not.
        self._asked_at = 0.0
        self._first_token_ms: int | None = None
        self._saved_at = 0.0
        self._coroutine: asyncio.Task[list[UUID]] | None = None

    def interrupt(self, why: Interruption) -> None:
        """Called on the loop. A stop or a loss takes effect at once, a hand-over at the next boundary between steps;
        an answer that is being written is such a boundary, because it can be asked for again. What is already about
        to end, ends undisturbed."""
        if self._closing or self._interruption in (Interruption.STOP, Interruption.LOST, why):
            return
        self._interruption = why
        if self._coroutine is not None and (why is not Interruption.HAND_OVER or self._asking):
            self._coroutine.cancel()

    def steer(self) -> None:
        """Called on the loop: the person wants to say something to the task before it asks its model again."""
        self._steered = True

    async def execute(self) -> list[UUID]:
        self._coroutine = asyncio.current_task()
        journal = self.journal
        if journal.task.status == Status.STOPPING:
            self._interruption = Interruption.STOP
        try:
            try:
                if self._interruption:
                    raise asyncio.CancelledError
                return await self._work()
            except asyncio.CancelledError:
                if self._coroutine is not None:
                    self._coroutine.uncancel()
                return await self._interrupted()
        except LeaseLost:
            logger.warning("Task %s is somebody else's now", self.task_id)
        except DatabaseError as error:
            # Whatever was committed stands. The task is taken up again, here or elsewhere.
            self.fell = True
            logger.error("Task %s lost the database: %s", self.task_id, error)
        return []

    async def _work(self) -> list[UUID]:
        journal, limits = self.journal, self.journal.limits
        try:
            if journal.task.attempts > 1:
                doubtful = await in_database(journal.recover)
                self._stream.rows_changed()
                if doubtful and journal.config.on_unknown == OnUnknown.FAIL:
                    raise Doubtful(doubtful)
                self._steered = True  # Of what came while nobody worked on it, nobody was told.
            if journal.task.stalled_attempts > MAX_STALLED_ATTEMPTS:
                raise Stalled(
                    f"It was begun {MAX_STALLED_ATTEMPTS} times; each time its worker ended before a step was done.",
                    hint="Look at the worker's log for the reason, then try again.",
                )
            if reached := journal.task.allowed.get(SUMMARISE):
                return await self._summarise(reached)
            try:
                async with asyncio.timeout(journal.seconds_left) as clock:
                    while True:
                        self._asked = False
                        await self._solve()
                        if not self._asked:
                            break
                        if await self._wait_for_person():
                            return []
            except TimeoutError:
                if not clock.expired():
                    raise
                used = limits.seconds
                said = f"It reached its time limit of {used:g} s."
                raise LimitReached("seconds", said, used=used, allowed=used) from None
            return await self._end(Status.DONE)
        except GoingInCircles as error:
            return await self._end(Status.STOPPED, error=error, stop_reason=error.limit)
        except LimitReached as error:
            return await self._wait_at_limit(error)
        except Stalled as error:
            return await self._end(Status.NEEDS_ATTENTION, error=error)
        except LLMError as error:
            return await self._put_off(error)
        except TaskExecutionError as error:
            return await self._end(Status.FAILED, error=error)
        except (LeaseLost, OperationalError, InterfaceError):
            raise
        except Exception as error:
            logger.exception("Task %s failed unexpectedly", self.task_id)
            internal = TaskExecutionError(
                f"Something went wrong inside AgentSite ({type(error).__name__}).",
                hint="The worker's log has the details. Trying again may help.",
            )
            internal.kind = "internal"
            return await self._end(Status.FAILED, error=internal)

    async def _solve(self) -> None:
        """With the agent's own model or, when its provider does not answer, with that of the agent's fallback, which
        goes on where the transcript stands and stays until the task ends or is taken up anew."""
        journal = self.journal
        try:
            await self._solve_with(journal.source)
        except (LLMError, KeyMissing) as error:
            fallback = await in_database(_fallback, journal, error)
            if fallback is None:
                raise
            logger.warning("Task %s: %s takes over (%s)", self.task_id, fallback.name, error.kind)
            if isinstance(error, KeyMissing):  # Nothing was asked, so nothing is on record.
                await in_database(journal.fail_model, journal.begin_model(later=True), error, "")
                self._stream.rows_changed()
            try:
                await self._solve_with(Source(fallback, took_over=True))
            except (LLMError, KeyMissing) as second:
                raise _neither(error, second, fallback.title) from second

    async def _solve_with(self, source: Source) -> None:
        journal = self.journal
        await _load(journal.config)
        journal.source = source
        agreements, told, llm, self._used = await in_database(_what_stands, journal, source)
        toolset = self._toolset(journal.config, agreements)
        self._asks(source, llm)
        try:
            if SUMMARISE in journal.task.allowed:
                messages = budget_for(source.config, told, ()).squeeze(told.messages(journal.config.instructions))
                await self._follow(summarise(llm, messages, await self._taken_up(llm)), journal.spent, toolset)
            elif isinstance(journal, DeclaredJournal):
                await self._work_through(journal, Worker(llm, toolset, journal.config.instructions), agreements)
            else:
                await self._converse(TaskSolver(llm, toolset, limits=journal.limits), told, toolset)
        except BaseException as error:
            await in_database(journal.commit)  # What was only noted has happened, whatever came after it.
            if isinstance(error, LLMError):
                advise(error, journal.source.config, self._used)
            if isinstance(error, LLMError) and error.kind == "auth":
                await in_database(refused, self._used, journal.source.config, error)
            raise
        if self._used.api_key and self._used.api_key.check_problem:
            await in_database(accepted, self._used)

    def _asks(self, source: Source, llm: BaseLlm) -> None:
        """Whose model is asked from now on."""
        self._llm, key = llm, self._used.api_key
        self.journal.source = replace(source, api_key_id=key.pk if key else None)

    def _toolset(self, config: AgentConfig, agreements: Agreements) -> Toolset:
        journal = self.journal
        return Toolset(config, journal.task.user_id, self.task_id, agreements, self._transact, journal.make_sure)

    async def _converse(self, solver: TaskSolver, told: Told, toolset: Toolset) -> None:
        """The agent loop over what was said so far, and anew over what the person says meanwhile, or over a summary of
        what was said first."""
        journal, config = self.journal, self.journal.config
        hopeless, too_long_at, kept = False, -1, await self._taken_up(solver.llm)
        while True:
            spent = journal.spent
            budget = budget_for(journal.source.config, told, toolset.specs, self._scales)
            fit = budget.squeeze if hopeless else budget.fit
            try:
                if told.is_long and not (hopeless or kept):
                    raise ContextFull
                messages = told.messages(config.instructions)
                solving = solver.run(messages, spent, config.response_schema, kept, fit)
                return await self._follow(solving, spent, toolset)
            except Steered:
                pass  # What was said is in the rows.
            except ContextFull:
                hopeless = not await self._compact(solver.llm, budget.room)
            except LLMError as error:
                # Nobody knew how much it reads. It is told less, once for each question.
                is_new, too_long_at = too_long_at < spent.iterations, spent.iterations
                less = int(self._question_size * SMALLER)
                if error.kind != "context_too_long" or not is_new or not await self._compact(solver.llm, less):
                    raise
            kept, told = "", await in_database(what_is_told, journal.task)

    async def _compact(self, llm: BaseLlm, room: int) -> bool:
        self._boundary()
        self._asking = True
        try:
            return await compact(llm, self.journal, room, self._stream.rows_changed)
        finally:
            self._asking = False

    async def _follow(self, solving: AsyncGenerator[LoopEvent, None], spent: Spent, toolset: Toolset) -> None:
        async with aclosing(solving) as events:
            async for event in events:
                await self._record(event, spent, toolset)

    async def _work_through(self, journal: DeclaredJournal, own: Worker, agreements: Agreements) -> None:
        """The steps of a declared task that are not finished, and what it says in the end."""
        spent, toolset, source, used = journal.spent, own.tools, journal.source, self._used

        async def hire(step: TaskStep) -> Worker:
            nonlocal toolset
            journal.source, self._used, self._llm = source, used, own.llm
            who = await self._hired(step, own, agreements)
            toolset = who.tools
            return who

        async def note(event: LoopEvent) -> None:
            assert isinstance(toolset, Toolset)
            await self._record(event, spent, toolset)

        record = RowRecord(journal, spent, note, self._taken_up, self._boundary, self._close_step)
        assert journal.task.declared is not None
        declared = await asyncio.to_thread(class_for, journal.task.declared)
        executor = declared(own.llm, own.tools, limits=journal.limits, record=record, hire=hire)
        executor.spent = spent
        try:
            await record.load()
            result = await executor.execute(journal.task.data or {})
        except Suspended:
            self._asked = True
            return
        except RecordLost as lost:
            raise lost.__cause__ or lost from None
        if result.error:
            raise result.error
        await in_database(journal.say, executor.answer(result.output))

    async def _hired(self, step: TaskStep, own: Worker, agreements: Agreements) -> Worker:
        """The agent that a step names, unless another has taken over, with the functions that it names."""
        journal, source, llm = self.journal, self.journal.source, own.llm
        if step.agent and not source.took_over:
            source = Source(await in_database(_named, journal, step.agent))
            llm, self._used = await in_database(_llm, journal, source)
            self._asks(source, llm)
        config = replace(source.config, functions=step.functions) if step.functions else source.config
        return Worker(llm, self._toolset(config, agreements), source.config.instructions)

    def _boundary(self) -> None:
        """Between two pieces of work of a declared task: another worker may go on with it here."""
        if self._interruption is Interruption.HAND_OVER:
            raise asyncio.CancelledError

    async def _record(self, event: LoopEvent, spent: Spent, toolset: Toolset) -> None:
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
            case Started(response_id, is_kept=True) if self._kept is None and self._llm is not None:
                self._kept = Kept(self._llm, response_id)
                await in_database(self.journal.accept, self._seq, response_id)
            case ModelAsked(question):
                if self._interruption is Interruption.HAND_OVER:
                    raise asyncio.CancelledError
                self._asking = True  # From here on a hand-over need not wait.
                self._question_size = self._scales(question, toolset.specs)
                is_last = SUMMARISE in self.journal.task.allowed  # What is said now is for the task after it.
                takes_in = self._steered and not is_last and not isinstance(self.journal, DeclaredJournal)
                if not self._begun:
                    self._let_go()
                    if takes_in and await self._take_in():
                        raise Steered
                    if not self.journal.is_new:
                        await in_database(check_budget, self.journal.task)
                    await self._begin_step()
                self._begun = False
            case ModelRetried(error, _, delay, begun, usage):
                if begun:  # It stays on record; written with the beginning of the step that replaces it.
                    self._let_go()
                    said = self._stream.text, self._stream.reasoning
                    self.journal.fail_model(self._seq, error, *said, usage, begun=True, later=True)
                    await self._begin_step()
                self._stream.note(f"{error.message} Trying again in {delay:.0f} s." if delay >= 1 else error.message)
            case Finished():
                self._asking, self._kept = False, None
                # Written with the beginning of its calls, or with the end.
                self.journal.finish_model(self._seq, event, spent, toolset.functions, self._first_token_ms, later=True)
                spent.cost = self.journal.spent.cost
            case Failed(error, _, usage):
                self._asking = False
                self._let_go()
                said = self._stream.text, self._stream.reasoning
                await in_database(self.journal.fail_model, self._seq, error, *said, usage, begun=error.partial)
                self._close_step()
            case PersonAsked(calls):
                self._asked = True
                await self._ask(calls, toolset)
                self._close_step()
                await notify(self.journal.task.user_id, self.task_id)
            case ToolsStarted(calls):
                self._running = len(calls)
                await in_database(self.journal.start_tools, calls, toolset.decided)
                if time.monotonic() > self.journal.held_until:  # Frozen meanwhile, so it may be up to somebody else.
                    await in_database(self.journal.make_sure)
                self._close_step()
            case ToolFinished():
                self._running -= 1
                self._asked |= event.is_open
                if self._running or self._asked:
                    async with self._writing:
                        await in_database(self.journal.finish_tool, event, spent)
                    self._stream.rows_changed()
                else:  # Written with the next question.
                    self.journal.finish_tool(event, spent, later=True)
                if event.error_kind in ("timeout", "unclear") and self.journal.config.on_unknown == OnUnknown.FAIL:
                    function = toolset.functions.get(event.call.name)
                    if may_have_run(function, event.error_kind):
                        raise Doubtful([event.call.name])

    async def _taken_up(self, llm: BaseLlm) -> str:
        """The response to the question that was left behind, if `llm` can fetch it: its step is open then."""
        self._begun = False
        if not self.journal.kept or (kept := await in_database(self.journal.take_up_model)) is None:
            return ""
        self._begun, self._kept = True, Kept(llm, kept.response_id)
        self._open_step(kept.seq)
        return kept.response_id

    def _let_go(self) -> None:
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
            await in_database(self.journal.give, wanted)
        if kinds:
            await in_database(self.journal.ask, kinds)

    async def _begin_step(self) -> None:
        self._stream.close_step()
        self._open_step(await in_database(self.journal.begin_model, self._question_size))

    async def _take_in(self) -> bool:
        """Whether there was something to take in: then the next question is on record with it."""
        self._steered = False
        seq = await in_database(self.journal.take_in, self._question_size)
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

    async def _transact(self, call: ToolCall, work: Callable[[], Outcome]) -> Outcome:
        async with self._writing:
            return await in_database(self.journal.transact, call, work)

    async def _wait_for_person(self) -> bool:
        """Hold no worker until somebody has decided. False if everything was decided meanwhile."""
        self._closing = True
        if await in_database(self.journal.wait):
            self._stream.close_step()
            self._stream.rows_changed()
            return True
        self._closing = False
        await in_database(self.journal.task.refresh_from_db, fields=["status"])
        if self.journal.task.status == Status.STOPPING:
            self._interruption = Interruption.STOP
            raise asyncio.CancelledError
        return False

    async def _wait_at_limit(self, error: LimitReached) -> list[UUID]:
        """Hold no worker until the person has said whether it may use more."""
        self._closing = True
        self._let_go()
        is_aside, doubtful = await in_database(self.journal.wait_at_limit, error, self._stream.text)
        if is_aside:
            self._close_step()
            return []
        if doubtful and self.journal.config.on_unknown == OnUnknown.FAIL:
            return await self._end(Status.FAILED, error=Doubtful(doubtful))
        return await self._end(Status.STOPPED)

    async def _summarise(self, reached: dict[str, Any]) -> list[UUID]:
        """Its person wants it to end at the limit that was `reached`, with a summary: an answer behind the last step of
        then. It ends in any case."""
        try:
            if not await in_database(_has_answered, self.task_id, reached["after"]):
                async with asyncio.timeout(SUMMARY_WITHIN):
                    await self._solve()
        except (TaskExecutionError, TimeoutError) as error:
            logger.warning("Task %s ends without a summary: %s", self.task_id, error)
        limit = LimitReached(reached["limit"], reached["sentence"])
        return await self._end(Status.STOPPED, error=limit, stop_reason=limit.limit)

    def _mark_first_token(self) -> None:
        if self._first_token_ms is None:
            self._first_token_ms = round((time.monotonic() - self._asked_at) * 1000)

    async def _save_partial(self) -> None:
        if time.monotonic() - self._saved_at >= PARTIAL_EVERY:
            await in_database(self.journal.save_partial, self._seq, self._stream.text, self._stream.reasoning)
            self._saved_at = time.monotonic()

    def _close_step(self) -> None:
        self._stream.close_step()
        self._stream.rows_changed()

    async def _interrupted(self) -> list[UUID]:
        match self._interruption:
            case Interruption.STOP:
                return await self._end(Status.STOPPED, partial=self._stream.text)
            case Interruption.LOST:
                raise LeaseLost
            case _:
                self._closing = True
                await in_database(self.journal.release)
                if self.journal.kept is None:  # Nobody will fetch it.
                    self._let_go()
                self._stream.close_step()
                self._stream.rows_changed()
                return [self.task_id]

    async def _put_off(self, error: LLMError) -> list[UUID]:
        """Let nobody wait for the provider, or give up."""
        before = self.journal.postponements
        wait = postponement(error, before)
        if wait is None:
            if error.kind in POSTPONED and before >= MAX_POSTPONEMENTS:
                error.message += f" It was put off {before} times."
            return await self._end(Status.FAILED, error=error)
        self._closing = True
        if not await in_database(self.journal.postpone, error, wait):
            return await self._end(Status.STOPPED)
        self.wait = wait
        self._close_step()
        return []

    async def _end(
        self,
        status: Status,
        *,
        error: TaskExecutionError | None = None,
        stop_reason: str = "",
        partial: str = "",
    ) -> list[UUID]:
        self._closing = True
        self._let_go()
        waiting = await in_database(
            self.journal.end, status, error=error, stop_reason=stop_reason, partial=partial or self._stream.text
        )
        self.is_over = True
        self._stream.close_step()
        self._stream.end()
        return waiting


class Steered(Exception):
    """The person said something to the task: it goes on from the transcript as it is now."""


class Stalled(TaskExecutionError):
    """The task was acquired again and again without getting anywhere."""

    kind = "stalled"


class Doubtful(TaskExecutionError):
    """A call may have run, and the agent's setting is to end its task then."""

    kind = "doubtful"

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(
            f"It was interrupted in {', '.join(names)}, which may have run or not.",
            hint="Find out whether it did. Try again then: the model is told that its outcome is unknown.",
        )


def _what_stands(journal: Journal, source: Source) -> tuple[Agreements, Told, BaseLlm, Credentials]:
    """What was agreed to, what was said so far, and who is asked."""
    refresh(within=1.0)
    agreements = Agreements.of(journal.task, journal.config, is_new=journal.is_new)
    return agreements, what_is_told(journal.task), *_llm(journal, source)


def _llm(journal: Journal, source: Source) -> tuple[BaseLlm, Credentials]:
    """The model of `source`, with the key that it is asked with."""
    config = source.config
    try:
        found = credentials(config, journal.task.user)
        llm = create_llm(config.provider, found.endpoint, **config.parameters)
    except (ValueError, TypeError) as error:
        raise TaskExecutionError(str(error), hint="An administrator can correct the agent's settings.") from error
    return llm, found


def _named(journal: Journal, name: str) -> AgentConfig:
    agent = Agent.objects.usable_by(journal.task.user).filter(name=name).select_related("fallback").first()
    if agent is None:
        raise TaskExecutionError(
            f"There is no agent “{name}” to work on this step.", hint="An administrator can correct the task."
        )
    return agent.config()


def _fallback(journal: Journal, error: TaskExecutionError) -> AgentConfig | None:
    """The agent whose model takes over; None if there is none, or no other model would answer better."""
    config = journal.config
    if not config.fallback or error.kind not in FALLS_BACK:
        return None
    named = Q(pk=config.fallback_id) if config.fallback_id else Q(name=config.fallback)
    agent = Agent.objects.usable_by(journal.task.user).filter(named).select_related("fallback").first()
    return agent.config() if agent and agent.pk != journal.task.agent_version.agent_id else None


def _neither(first: TaskExecutionError, second: TaskExecutionError, title: str) -> TaskExecutionError:
    """The failure of both models: the one that passes by itself, if there is one."""
    error = second if second.kind in POSTPONED and first.kind not in POSTPONED else first
    error.message = f"{first.message} {title}, which takes over then, did not answer either: {second.message}"
    return error


def _has_answered(task_id: UUID, after: int) -> bool:
    answers = Step.objects.filter(task=task_id, kind=Step.Kind.MODEL, status=Step.Status.DONE)
    return answers.filter(seq__gt=after).exists()


async def _load(config: AgentConfig) -> None:
    """Import what takes its time beside the event loop, on which other answers are being read."""
    if not _loaded:
        await asyncio.to_thread(prices.load)
        _loaded.add("prices")
    if config.response_schema and "jsonschema" not in _loaded:
        await asyncio.to_thread(import_module, "jsonschema")
        _loaded.add("jsonschema")


_loaded: set[str] = set()
