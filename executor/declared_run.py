"""A declared task in the worker: its executor, with a record in rows."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, ParamSpec, TypeVar

from django.db import Error as DatabaseError

from executor.compaction import Compacting, Plan
from executor.core.errors import TaskExecutionError
from executor.core.events import Finished, LoopEvent, ToolFinished
from executor.core.limits import Spent
from executor.core.llms.base import BaseLlm
from executor.core.messages import ToolCall, ToolResult
from executor.core.record import Opened, Part, Question, Suspended
from executor.core.steps import TaskStep
from executor.database import in_database
from executor.declared_journal import DeclaredJournal
from executor.lease import LeaseLost
from executor.models import Decision, Step
from executor.recorder import Recorder
from executor.threads import run_in_thread
from executor.toolset import Toolset
from tools.core.function import ToolSpec

P = ParamSpec("P")
T = TypeVar("T")


class RecordLost(BaseException):
    """Nothing can be written down any more; `__cause__` says why. No error of the task: handlers let it through."""


class RecordedTools:
    """The functions of a step. That what they did cannot be written down is no failure of the step, which would begin
    it anew."""

    def __init__(self, toolset: Toolset) -> None:
        self.toolset = toolset

    @property
    def specs(self) -> list[ToolSpec]:
        return self.toolset.specs

    def must_wait(self, call: ToolCall) -> bool:
        return self.toolset.must_wait(call)

    async def run(self, call: ToolCall) -> ToolFinished:
        try:
            return await self.toolset.run(call)
        except (LeaseLost, DatabaseError) as error:
            raise RecordLost from error


class RowRecord:
    """Keeps what a declared task does in its journal.

    `note` writes down an event of the loop.
    """

    def __init__(
        self,
        journal: DeclaredJournal,
        spent: Spent,
        recorder: Recorder,
        note: Callable[[LoopEvent], Awaitable[None]],
    ) -> None:
        self.outputs: dict[str, dict[str, Any]] = {}
        self._journal = journal
        self._spent = spent
        self._recorder = recorder
        self._note = note
        self._question: Question | None = None  # The one that was opened last.
        self._writing = asyncio.Lock()  # Parts and questions may be done side by side; they are written one by one.

    async def load(self) -> None:
        self.outputs = await self._write(self._journal.outputs)

    async def begin_step(self, step: TaskStep) -> int:
        self._recorder.boundary()
        attempt = await self._write(self._journal.begin_step, step)
        self._recorder.close_step()
        return attempt

    async def finish_step(self, step: TaskStep, output: dict[str, Any]) -> None:
        await self._write(self._journal.finish_step, output, self._spent)
        self.outputs[step.id] = output
        self._recorder.close_step()

    async def fail_step(self, step: TaskStep, error: TaskExecutionError) -> None:
        is_open = await self._write(self._journal.fail_step, error)
        self._recorder.close_step()
        if is_open:
            raise Suspended

    async def open(self, question: Question, llm: BaseLlm) -> Opened:
        self._question = question
        opened = await self._write(self._journal.open, question)
        if await self._compacting(llm).resume():
            opened = await self._write(self._journal.open, question)
        try:
            async with self._writing:
                return replace(opened, kept=await self._recorder.take_up(llm))
        except (LeaseLost, DatabaseError) as error:
            raise RecordLost from error

    async def compact(self, llm: BaseLlm, room: int, spent: Spent) -> bool:
        try:
            return await self._compacting(llm).compact(room)
        finally:
            now = self._journal.spent
            spent.tokens, spent.cost = now.tokens, now.cost

    def _compacting(self, llm: BaseLlm) -> Compacting:
        journal = self._journal
        assert self._question is not None

        def planned(room: int) -> Plan | None:
            return Plan.of(journal.task_id, journal.told(), "", room)

        return Compacting(llm, journal, self._recorder, self._write, planned, self._question.opening)

    async def note(self, event: LoopEvent) -> None:
        try:
            async with self._writing:
                await self._note(event)
                if isinstance(event, Finished) and not event.message.tool_calls:
                    await in_database(self._journal.commit)  # Before the handler does anything with it.
        except (LeaseLost, DatabaseError) as error:
            raise RecordLost from error

    async def once(self, part: Part, work: Callable[..., Any]) -> Any:
        self._recorder.boundary()
        call, row = await self._write(self._journal.find, part)
        match row.status:
            case Step.Status.DONE:
                return _read(row.result)
            case Step.Status.SKIPPED:
                return None
            case Step.Status.PENDING:
                return await self._do(call, row, part, work)
        raise Suspended  # It may have been done: a person says.

    async def _write(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            async with self._writing:
                return await in_database(call, *args, **kwargs)
        except (LeaseLost, DatabaseError) as error:
            raise RecordLost from error

    async def _do(self, call: ToolCall, row: Step, part: Part, work: Callable[..., Any]) -> Any:
        agreed = await self._write(_agreed, row)
        await self._write(self._journal.start_tools, [call], {call.id: agreed} if agreed else {})
        self._recorder.close_step()
        try:
            result = json.dumps(await self._run(part, work))
        except Exception as error:
            await self._finish(call, f"{type(error).__name__}: {error}", failed=True)
            raise
        await self._finish(call, result)
        return json.loads(result)

    async def _run(self, part: Part, work: Callable[..., Any]) -> Any:
        if inspect.iscoroutinefunction(work):
            return await work(*part.arguments)

        def sure() -> Any:
            self._journal.make_sure()
            return work(*part.arguments)

        try:
            return await run_in_thread(sure)
        except LeaseLost as error:
            raise RecordLost from error

    async def _finish(self, call: ToolCall, result: str, *, failed: bool = False) -> None:
        event = ToolFinished(
            call, ToolResult(call.id, call.name, result, failed), error_kind="exception" if failed else ""
        )
        await self._write(self._journal.finish_tool, event, self._spent)
        self._recorder.close_step()


def _agreed(row: Step) -> Decision | None:
    """That the part is run again."""
    return row.decisions.filter(status=Decision.Status.DECIDED, choice=Decision.Choice.AGAIN, consumed_at=None).last()


def _read(result: str) -> Any:
    """A result of before. None where a person said that it was done, which says nothing of what came of it."""
    try:
        return json.loads(result)
    except ValueError:
        return None
