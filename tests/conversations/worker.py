"""A worker whose every word is in the test's hand: real rows, a real stream, no model."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, ParamSpec, TypeVar

from channels.db import database_sync_to_async
from django.conf import settings
from django.db import connection

from executor.claim import claim
from executor.core.errors import LLMError, TaskExecutionError
from executor.core.events import Finished, ToolFinished
from executor.core.limits import Spent
from executor.core.messages import Message, Part, Reasoning, Text, ToolCall, ToolResult, Usage
from executor.hints import notify
from executor.journal import Journal
from executor.live import Publisher
from executor.models import Decision, Status, Task
from tools.core.context import NewFile

P = ParamSpec("P")
T = TypeVar("T")


async def db(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run `call`, which uses the ORM, in a thread."""
    result: T = await database_sync_to_async(call, thread_sensitive=False)(*args, **kwargs)
    return result


@asynccontextmanager
async def away(table: str) -> AsyncIterator[None]:
    """The database refuses everything that asks for `table`."""
    await db(_rename, table, f"{table}_away")
    try:
        yield
    finally:
        await db(_rename, f"{table}_away", table)


def _rename(table: str, name: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {table} RENAME TO {name}")


def message(text: str = "", *calls: ToolCall, reasoning: str = "") -> Message:
    parts: list[Part] = [Reasoning(reasoning)] if reasoning else []
    return Message("assistant", (*parts, *([Text(text)] if text else []), *calls))


def hold(task: Task) -> Journal:
    journal = claim(task.pk, "a worker")
    assert journal is not None, "Somebody else has this task."
    return journal


def answer(task: Task, text: str) -> None:
    """Let `task` be answered with `text`, all at once."""
    journal = hold(task)
    seq = journal.begin_model()
    journal.finish_model(seq, Finished(message(text), "stop", Usage(10, 5)), Spent(1, 15), {}, 1)
    journal.end(Status.DONE)


def fail(task: Task, sentence: str) -> None:
    hold(task).end(Status.FAILED, error=TaskExecutionError(sentence, hint="Try again."))


class Work:
    """One acquisition of a task. Each method does what the worker (executor/recorder.py) does at that point."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.lost = False
        self.publisher = Publisher(settings.REDIS_URL)
        self.stream = self.publisher.open(journal.task_id, journal.fence, self._superseded)
        self.seq = 0

    @classmethod
    async def begin(cls, task: Task) -> Work:
        work = cls(await db(hold, task))
        if work.journal.task.attempts > 1:
            await db(work.journal.recover)
            work.stream.rows_changed()
        await notify(task.user_id, task.pk)
        return work

    def _superseded(self) -> None:
        self.lost = True

    async def ask(self) -> None:
        """The model is asked."""
        self.seq = await db(self.journal.begin_model)
        self.stream.open_step(self.seq)

    async def is_kept(self) -> None:
        """The provider goes on with the answer, whatever becomes of the worker."""
        await db(self.journal.accept, self.seq, "resp_1")

    async def fetch(self) -> None:
        """What an earlier worker left is told again from its first word."""
        step = await db(self.journal.take_up_model)
        assert step is not None, "Nothing is kept."
        self.seq = step.seq
        self.stream.open_step(self.seq)

    def think(self, text: str) -> None:
        self.stream.add_reasoning(text)

    def say(self, text: str) -> None:
        self.stream.add_text(text)

    async def save(self) -> None:
        """What was said so far goes into the rows, as it does every two seconds."""
        if self.seq:
            await db(self.journal.save_partial, self.seq, self.stream.text, self.stream.reasoning)

    async def finish(self, *calls: ToolCall) -> None:
        """The model has said everything, and wants `calls`."""
        said = message(self.stream.text, *calls, reasoning=self.stream.reasoning)
        event = Finished(said, "tool_calls" if calls else "stop", Usage(100, 20))
        await db(self.journal.finish_model, self.seq, event, Spent(1, 120), {}, 5)
        self._close()

    async def fail(self, error: LLMError) -> None:
        await db(self.journal.fail_model, self.seq, error, self.stream.text)
        self._close()

    async def replace(self, error: LLMError) -> None:
        """The answer broke off; the model is asked again."""
        said = self.stream.text, self.stream.reasoning
        self.journal.fail_model(self.seq, error, *said, begun=True, later=True)
        self.stream.close_step()
        await self.ask()
        self.stream.note(error.message)

    async def put_off(self, error: LLMError, seconds: float) -> None:
        """Nobody works on it until then."""
        assert await db(self.journal.postpone, error, seconds)
        self._close()
        await notify(self.journal.task.user_id, self.journal.task_id)
        await self.leave()

    def _close(self) -> None:
        self.seq = 0
        self.stream.close_step()
        self.stream.rows_changed()

    async def start(self, *calls: ToolCall) -> None:
        await db(self.journal.start_tools, calls)
        self.stream.rows_changed()

    async def result(self, call: ToolCall, content: str, *files: NewFile, is_error: bool = False) -> None:
        result = ToolResult(call.id, call.name, content, is_error)
        event = ToolFinished(call, result, files, "failed" if is_error else "")
        await db(self.journal.finish_tool, event, Spent(1, 120, 1))
        self.stream.rows_changed()

    async def ask_person(self, kind: Decision.Kind, *calls: ToolCall) -> None:
        await db(self.journal.ask, dict.fromkeys((call.id for call in calls), kind))
        self.stream.rows_changed()
        await notify(self.journal.task.user_id, self.journal.task_id)

    async def give(self, call: ToolCall, *wanted: dict[str, Any]) -> None:
        """Other agents answer the call, and nobody works on it until they have."""
        await db(self.journal.give, {call.id: wanted})
        self.stream.rows_changed()
        await self.wait()

    async def wait(self) -> None:
        """Nobody works on it until somebody has decided."""
        assert await db(self.journal.wait)
        self._close()
        await notify(self.journal.task.user_id, self.journal.task_id)
        await self.leave()

    async def hand_over(self) -> None:
        await db(self.journal.release)
        self._close()
        await notify(self.journal.task.user_id, self.journal.task_id)
        await self.leave()

    async def end(self, status: Status = Status.DONE, **why: Any) -> None:
        await db(self.journal.end, status, partial=self.stream.text, **why)
        self.seq = 0
        self.stream.close_step()
        self.stream.end()
        await notify(self.journal.task.user_id, self.journal.task_id)
        await self.leave()

    async def leave(self) -> None:
        """Nothing more is said. (Without `end` this is a worker that died.)"""
        await self.publisher.aclose()
        await asyncio.sleep(0)
