"""One acquisition of a task, from claim to end: what it comes to, and what interrupts it."""

from __future__ import annotations

import asyncio
import enum
import logging
from typing import Any
from uuid import UUID

from django.db import Error as DatabaseError
from django.db import InterfaceError, OperationalError, connections

from executor.allowance import BudgetHeld
from executor.at_limit import SUMMARISE
from executor.core.errors import GoingInCircles, LimitReached, LLMError, TaskExecutionError
from executor.core.retry import MAX_POSTPONEMENTS, POSTPONED, postponement
from executor.database import in_database
from executor.journal import MAX_STALLED_ATTEMPTS, Journal
from executor.lease import LeaseLost
from executor.live import Publisher
from executor.models import OnUnknown, Status, Step
from executor.recorder import Doubtful, Recorder
from executor.shelf import TaskShelf
from executor.solving import Solving
from tools.workspace import Workspace

logger = logging.getLogger(__name__)

#: Seconds for a summary at a limit, of whatever kind it is.
SUMMARY_WITHIN = 120.0
#: … and at the most until a task that shares a limit looks again whether others still hold what is left.
LONGEST_HELD = 5.0


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
        self._closing = False
        self._recorder = Recorder(journal, self._stream, self._boundary)
        self._workspace = Workspace(f"task {journal.task_id}", TaskShelf(journal.task))
        self._solving = Solving(journal, self._recorder, self._workspace)
        self._coroutine: asyncio.Task[list[UUID]] | None = None

    def interrupt(self, why: Interruption) -> None:
        """Called on the loop. A stop or a loss takes effect at once, a hand-over at the next boundary between steps;
        an answer that is being written is such a boundary, because it can be asked for again. What is already about
        to end, ends undisturbed."""
        if self._closing or self._interruption in (Interruption.STOP, Interruption.LOST, why):
            return
        self._interruption = why
        if self._coroutine is not None and (why is not Interruption.HAND_OVER or self._recorder.asking):
            self._coroutine.cancel()

    def steer(self) -> None:
        """Called on the loop: the person wants to say something to the task before it asks its model again."""
        self._recorder.steered = True

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
        finally:
            if self._workspace.is_open:
                await asyncio.to_thread(_close, self._workspace)
        return []

    async def _work(self) -> list[UUID]:
        journal = self.journal
        try:
            if journal.task.attempts > 1:
                doubtful = await in_database(journal.recover)
                self._stream.rows_changed()
                if doubtful and journal.config.on_unknown == OnUnknown.FAIL:
                    raise Doubtful(doubtful)
                self._recorder.steered = True  # Of what came while nobody worked on it, nobody was told.
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
                        self._recorder.asked = False
                        await self._solving.solve()
                        if not self._recorder.asked:
                            break
                        if await self._wait_for_person():
                            return []
            except TimeoutError:
                if not clock.expired():
                    raise
                raise journal.out_of_time from None
            return await self._end(Status.DONE)
        except GoingInCircles as error:
            return await self._end(Status.STOPPED, error=error, stop_reason=error.limit)
        except BudgetHeld as error:
            return await self._wait_for_others(error)
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

    def _boundary(self) -> None:
        """Between two pieces of work: another worker may go on with it here."""
        if self._interruption is Interruption.HAND_OVER:
            raise asyncio.CancelledError

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
        self._recorder.let_go()
        is_aside, doubtful = await in_database(self.journal.wait_at_limit, error, self._stream.text)
        if is_aside:
            self._recorder.close_step()
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
                    await self._solving.solve()
        except (TaskExecutionError, TimeoutError) as error:
            logger.warning("Task %s ends without a summary: %s", self.task_id, error)
        limit = LimitReached(reached["limit"], reached["sentence"])
        return await self._end(Status.STOPPED, error=limit, stop_reason=limit.limit)

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
                    self._recorder.let_go()
                self._stream.close_step()
                self._stream.rows_changed()
                return [self.task_id]

    async def _wait_for_others(self, error: BudgetHeld) -> list[UUID]:
        """Until they have used what they hold, or given it back."""
        return await self._postpone(error, min(1.0 + self.journal.postponements, LONGEST_HELD))

    async def _put_off(self, error: LLMError) -> list[UUID]:
        """Let nobody wait for the provider, or give up."""
        before = self.journal.postponements
        wait = postponement(error, before)
        if wait is None:
            if error.kind in POSTPONED and before >= MAX_POSTPONEMENTS:
                error.message += f" It was put off {before} times."
            return await self._end(Status.FAILED, error=error)
        return await self._postpone(error, wait)

    async def _postpone(self, error: TaskExecutionError, wait: float) -> list[UUID]:
        self._closing = True
        if not await in_database(self.journal.postpone, error, wait):
            return await self._end(Status.STOPPED)
        self.wait = wait
        self._recorder.close_step()
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
        self._recorder.let_go()
        waiting = await in_database(
            self.journal.end, status, error=error, stop_reason=stop_reason, partial=partial or self._stream.text
        )
        self.is_over = True
        self._stream.close_step()
        self._stream.end()
        return waiting


def _close(workspace: Workspace) -> None:
    """In a thread of its own, which keeps no connection to the database."""
    try:
        workspace.close()
    finally:
        connections.close_all()


class Stalled(TaskExecutionError):
    """The task was acquired again and again without getting anywhere."""

    kind = "stalled"


def _has_answered(task_id: UUID, after: int) -> bool:
    answers = Step.objects.filter(task=task_id, kind=Step.Kind.MODEL, status=Step.Status.DONE)
    return answers.filter(seq__gt=after).exists()
