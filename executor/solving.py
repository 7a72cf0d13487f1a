"""To work on a task: its agent's model is asked, or that of another agent, with the functions and the transcript of the
moment, until it has an answer or has to wait. What happens goes to the recorder."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from functools import partial
from importlib import import_module

from django.db.models import Q

from executor import files
from executor.advice import advise
from executor.approvals import Agreements
from executor.at_limit import SUMMARISE
from executor.compaction import Compacting, Plan, budget_for
from executor.core import prices
from executor.core.budget import ContextFull
from executor.core.compaction import Shortening
from executor.core.config import AgentConfig
from executor.core.errors import LLMError, TaskExecutionError
from executor.core.events import (
    LoopEvent,
)
from executor.core.executor import TaskSolver, Worker
from executor.core.llms.base import BaseLlm
from executor.core.llms.factory import create_llm
from executor.core.record import Suspended
from executor.core.retry import FALLS_BACK, POSTPONED
from executor.core.steps import TaskStep
from executor.core.summary import summarise
from executor.credentials import Credentials, KeyMissing, accepted, credentials, refused
from executor.database import in_database
from executor.declared import class_for
from executor.declared_journal import DeclaredJournal
from executor.declared_run import RecordedTools, RecordLost, RowRecord
from executor.journal import Journal, Source
from executor.models import Agent
from executor.recorder import Recorder, Steered
from executor.told import Told, what_is_told
from executor.toolset import Toolset
from tools.registry import refresh
from tools.workspace import Workspace

logger = logging.getLogger(__name__)


class Solving:
    _used: Credentials

    def __init__(self, journal: Journal, recorder: Recorder, workspace: Workspace) -> None:
        self._journal = journal
        self._recorder = recorder
        self._workspace = workspace

    async def solve(self) -> None:
        """With the agent's own model or, when its provider does not answer, with that of the agent's fallback, which
        goes on where the transcript stands and stays until the task ends or is taken up anew."""
        journal = self._journal
        try:
            await self._solve_with(journal.source)
        except (LLMError, KeyMissing) as error:
            fallback = await in_database(_fallback, journal, error)
            if fallback is None:
                raise
            logger.warning("Task %s: %s takes over (%s)", self._journal.task_id, fallback.name, error.kind)
            if isinstance(error, KeyMissing):  # Nothing was asked, so nothing is on record.
                await in_database(journal.fail_model, journal.begin_model(later=True), error, "")
                self._recorder.changed()
            try:
                await self._solve_with(Source(fallback, took_over=True))
            except (LLMError, KeyMissing) as second:
                raise _neither(error, second, fallback.title) from second

    async def _solve_with(self, source: Source) -> None:
        journal = self._journal
        await _load(journal.config)
        journal.source = source
        agreements, told, llm, self._used = await in_database(_what_stands, journal, source)
        if told.unread:
            await files.read(told.unread)
            told = await in_database(what_is_told, journal.task)
        toolset = self._toolset(journal.config, agreements)
        self._asks(source, llm)
        try:
            if SUMMARISE in journal.task.allowed:
                messages = budget_for(source.config, (), told.ratio(source.config.provider)).squeeze(
                    await files.with_pictures(told.messages(journal.config.instructions), llm)
                )
                kept = await self._recorder.take_up(llm)
                await self._recorder.follow(summarise(llm, messages, kept), journal.spent, toolset)
            elif isinstance(journal, DeclaredJournal):
                own = self._worker(llm, toolset, source.config, journal.config.instructions)
                await self._work_through(journal, own, agreements)
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
        self._recorder.llm, key = llm, self._used.api_key
        self._journal.source = replace(source, api_key_id=key.pk if key else None)

    def _toolset(self, config: AgentConfig, agreements: Agreements) -> Toolset:
        journal = self._journal
        return Toolset(
            config,
            journal.task.user_id,
            self._journal.task_id,
            agreements,
            self._recorder.transact,
            journal.make_sure,
            self._recorder.save_output,
            self._workspace,
        )

    async def _converse(self, solver: TaskSolver, told: Told, toolset: Toolset) -> None:
        """The agent loop over what was said so far, and anew over what the person says meanwhile, or over a summary of
        what was said first."""
        journal, config = self._journal, self._journal.config
        compacting = Compacting(solver.llm, journal, self._recorder, in_database, self._planned)
        shortening = Shortening(compacting.compact)
        kept = await self._recorder.take_up(solver.llm)
        if await compacting.resume():
            told = await in_database(what_is_told, journal.task)
        while True:
            spent, asked = journal.spent, journal.source.config
            budget = budget_for(asked, toolset.specs, told.ratio(asked.provider))
            fit = shortening.fit(replace(budget, scales=self._recorder.scales))
            try:
                if told.is_long and not (shortening.is_hopeless or kept):
                    raise ContextFull
                messages = await files.with_pictures(told.messages(config.instructions), solver.llm)
                solving = solver.run(messages, spent, config.response_schema, kept, fit)
                return await self._recorder.follow(solving, spent, toolset)
            except Steered:
                pass  # What was said is in the rows.
            except (ContextFull, LLMError) as error:
                if not await shortening.helps(error, budget.room, self._recorder.question_size, spent.iterations):
                    raise
            kept, told = "", await in_database(what_is_told, journal.task)

    def _planned(self, room: int) -> Plan | None:
        journal = self._journal
        return Plan.of(journal.task_id, what_is_told(journal.task), journal.config.instructions, room)

    async def _work_through(self, journal: DeclaredJournal, own: Worker, agreements: Agreements) -> None:
        """The steps of a declared task that are not finished, and what it says in the end."""
        spent, tools, source, used = journal.spent, own.tools, journal.source, self._used

        async def hire(step: TaskStep) -> Worker:
            nonlocal tools
            journal.source, self._used, self._recorder.llm = source, used, own.llm
            who = await self._hired(step, own, agreements)
            tools = who.tools
            return who

        async def note(event: LoopEvent) -> None:
            assert isinstance(tools, RecordedTools)
            await self._recorder.record(event, spent, tools.toolset)

        record = RowRecord(journal, spent, self._recorder, note)
        assert journal.task.declared is not None
        declared = await asyncio.to_thread(class_for, journal.task.declared)
        executor = declared(own.llm, own.tools, limits=journal.limits, record=record, hire=hire)
        executor.spent = spent
        try:
            await record.load()
            result = await executor.execute(journal.task.data or {})
        except Suspended:
            self._recorder.asked = True
            return
        except RecordLost as lost:
            raise lost.__cause__ or lost from None
        if result.error:
            raise result.error
        await in_database(journal.say, executor.answer(result.output))

    async def _hired(self, step: TaskStep, own: Worker, agreements: Agreements) -> Worker:
        """The agent that a step names, unless another has taken over, with the functions that it names."""
        journal, source, llm = self._journal, self._journal.source, own.llm
        if step.agent and not source.took_over:
            source = Source(await in_database(_named, journal, step.agent))
            llm, self._used = await in_database(_llm, journal, source)
            self._asks(source, llm)
        config = replace(source.config, functions=step.functions) if step.functions else source.config
        return self._worker(llm, self._toolset(config, agreements), source.config, source.config.instructions)

    def _worker(self, llm: BaseLlm, toolset: Toolset, config: AgentConfig, instructions: str) -> Worker:
        return Worker(llm, RecordedTools(toolset), instructions, partial(budget_for, config))


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


async def _load(config: AgentConfig) -> None:
    """Import what takes its time beside the event loop, on which other answers are being read."""
    if not _loaded:
        await asyncio.to_thread(prices.load)
        _loaded.add("prices")
    if config.response_schema and "jsonschema" not in _loaded:
        await asyncio.to_thread(import_module, "jsonschema")
        _loaded.add("jsonschema")


_loaded: set[str] = set()
