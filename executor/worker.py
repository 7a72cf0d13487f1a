"""The worker process: one event loop for all its tasks, and a heart that beats beside it.

The loop hears of new tasks by the bell (hints.py); where it did not, Celery's threads deliver a message, each waiting
for its task, which runs on the shared loop. The heart is a thread with a database connection of its own, so that
nothing a task does can stop it. It extends the leases, finds out whom to stop, and takes up tasks that lost their
worker or that nobody was told of. It beats only while the loop is alive. Chores may take minutes, so they have a thread
of their own.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import socket
import threading
import time
from collections.abc import Coroutine
from concurrent.futures import CancelledError, Future, wait
from contextlib import suppress
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import Error as DatabaseError
from django.db import close_old_connections, connection, transaction
from django.db.models import Q
from django.db.models.functions import Now
from redis import asyncio as redis
from redis.exceptions import RedisError

from executor.claim import claim
from executor.core import prices
from executor.database import in_database
from executor.decisions import expire
from executor.hints import BELL, notify, wake
from executor.housekeeping import EVERY, keep_house
from executor.lease import LEASE, claimable, give_up, heartbeat
from executor.live import Publisher
from executor.models import HELD, Status, Task, Worker
from executor.owner import is_dead, owner_name
from executor.prepared import Select
from executor.run import Interruption, Run
from executor.sub_tasks import find_forgotten
from executor.task_events import handlers
from tools.mcp import connection as mcp
from tools.sandbox import availability
from tools.sandbox.base import Availability

logger = logging.getLogger(__name__)

TICK = 0.5
HEARTBEAT_EVERY = 5.0
REAP_EVERY = 1.0
#: A new task that nobody took up for this long lost its message. (One that was given back is looked for at once.)
MESSAGE_LOST_AFTER = timedelta(seconds=3)
#: Of many tasks that come at once, the first begin while others are still to be claimed. One whose row is locked must
#: not keep the others waiting.
CLAIMS_AT_ONCE = 3
#: So many of them are taken up in one beat.
AT_A_TIME = 100
#: Seconds until a worker that lost Redis listens again.
LISTEN_AGAIN_AFTER = 1.0
#: A loop that did not turn for this long is dead, and its tasks are better off elsewhere.
LOOP_DEAD_AFTER = 15.0
#: How long a worker that ends waits for its tasks to come to a boundary, in seconds.
HAND_OVER_WITHIN = 5.0


_GIVEN_BACK = Q(status__in=(*HELD, Status.RETRYING)) | Q(attempts__gt=0)
_ABANDONED = Select(
    lambda: (
        Task.objects.filter(claimable(), _GIVEN_BACK | Q(created_at__lt=Now() - MESSAGE_LOST_AFTER))
        .order_by("created_at")
        .only("pk")[:AT_A_TIME]
    )
)


class WorkerProcess:
    """`execute` may be called from any thread."""

    def __init__(self, capacity: int) -> None:
        self.owner = owner_name()
        self._capacity = capacity
        self._loop = asyncio.new_event_loop()
        self._runs: dict[UUID, Run] = {}
        self._taken: set[UUID] = set()
        self._fallen: set[UUID] = set()  # Held by us, and nobody works on them.
        self._draining = False
        self._turned_at = time.monotonic()
        self._publisher: Publisher | None = None
        self._ready = threading.Event()
        self._begun: set[Future[None]] = set()
        self._telling: set[asyncio.Task[None]] = set()
        self._answering: set[Future[None]] = set()
        self._claiming = asyncio.Semaphore(CLAIMS_AT_ONCE)
        self._sandbox: dict[str, Any] | None = None  # What the trial of it found.
        self._closing = threading.Event()
        self._closed = asyncio.Event()
        self._turning = threading.Thread(target=self._run_loop, name="loop", daemon=True)
        self._turning.start()
        self._ready.wait()
        self._heart = threading.Thread(target=self._beat_forever, name="heart", daemon=True)
        self._heart.start()
        threading.Thread(target=self._keep_house_forever, name="chores", daemon=True).start()
        threading.Thread(target=self._try_sandbox, name="sandbox", daemon=True).start()

    def execute(self, task_id: UUID) -> None:
        """Run the task to its end, if it can be had. Blocks."""
        if self._draining:
            return
        with suppress(CancelledError):
            self._begin(task_id).result()

    def answer(self, question: Coroutine[Any, Any, None]) -> None:
        """Run `question`, which is short and no task, on the loop. Blocks. Nobody takes it over from one who leaves."""
        answering = asyncio.run_coroutine_threadsafe(question, self._loop)
        self._answering.add(answering)
        if self._draining:
            answering.cancel()
        with suppress(CancelledError):
            answering.result()
        self._answering.discard(answering)

    def drain(self) -> None:
        """Hand every task over. Returns at once; the tasks end by themselves."""
        self._draining = True
        for answering in list(self._answering):
            answering.cancel()
        self._loop.call_soon_threadsafe(self._listener.cancel)
        self._loop.call_soon_threadsafe(self._interrupt_all, Interruption.HAND_OVER)

    def close(self) -> None:
        """Hand every task over, also those that no thread of Celery waits for, and end."""
        if self._closing.is_set():
            return
        self.drain()
        wait(list(self._begun), HAND_OVER_WITHIN)
        self._closing.set()
        self._heart.join(HAND_OVER_WITHIN)
        self._loop.call_soon_threadsafe(self._closed.set)
        self._turning.join(HAND_OVER_WITHIN)
        Worker.objects.filter(pk=self.owner).delete()

    # --- on the loop -------------------------------------------------------------------------------------------------

    def _run_loop(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._turn())
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()

    async def _turn(self) -> None:
        self._publisher = Publisher(settings.REDIS_URL)
        self._listener = asyncio.create_task(self._listen_forever(), name="bell")
        self._ready.set()
        while not self._closed.is_set():
            self._turned_at = time.monotonic()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._closed.wait(), 1)
        self._listener.cancel()
        await mcp.close()
        await self._publisher.aclose()

    async def _listen_forever(self) -> None:
        """Take up the tasks that the bell tells of. A worker that is going away does not listen."""
        while not self._draining:
            try:
                async with redis.from_url(settings.REDIS_URL) as client, client.pubsub() as bell:
                    await bell.subscribe(BELL)
                    async for heard in bell.listen():
                        if heard["type"] == "message":
                            self._begin(UUID(heard["data"].decode())).add_done_callback(_log_failure)
            except (RedisError, OSError) as error:
                logger.warning("New tasks are not heard of at once while Redis is away: %s", error)
            except Exception:
                logger.exception("The bell stumbled")
            await asyncio.sleep(LISTEN_AGAIN_AFTER)

    def _begin(self, task_id: UUID) -> Future[None]:
        future = asyncio.run_coroutine_threadsafe(self._execute(task_id), self._loop)
        self._begun.add(future)
        future.add_done_callback(self._begun.discard)
        return future

    async def _execute(self, task_id: UUID) -> None:
        if task_id in self._taken or self._publisher is None:
            return
        if len(self._taken) >= self._capacity:
            return
        self._taken.add(task_id)
        try:
            async with self._claiming:
                journal = await in_database(claim, task_id, self.owner)
            if journal is None:
                return
            run = self._runs[task_id] = Run(journal, self._publisher)
            # That it was begun: the model need not wait for pages.
            telling = asyncio.create_task(notify(journal.task.user_id, task_id))
            self._telling.add(telling)
            telling.add_done_callback(self._telling.discard)
            if self._draining:  # Since the message came.
                run.interrupt(Interruption.HAND_OVER)
            waiting = await run.execute()
            if run.fell:
                self._fallen.add(task_id)
            if run.wait is not None:
                self._loop.call_later(run.wait, wake, task_id)
        finally:
            self._taken.discard(task_id)
            self._runs.pop(task_id, None)
        for follower in waiting:
            wake(follower)
        await notify(journal.task.user_id, task_id, over=run.is_over)

    def _interrupt_all(self, why: Interruption) -> None:
        for run in list(self._runs.values()):
            run.interrupt(why)

    def _interrupt(self, task_id: UUID, why: Interruption) -> None:
        if run := self._runs.get(task_id):
            run.interrupt(why)

    def _steer(self, task_id: UUID) -> None:
        if run := self._runs.get(task_id):
            run.steer()

    # --- the heart ---------------------------------------------------------------------------------------------------

    def _beat_forever(self) -> None:
        next_beat = next_reap = 0.0
        while not self._closing.wait(TICK):
            now = time.monotonic()
            try:
                self._tell_what_people_want()
                if now >= next_beat:
                    self._beat()
                    next_beat = now + HEARTBEAT_EVERY
                if now >= next_reap:
                    self._reap()
                    next_reap = now + REAP_EVERY * random.uniform(0.75, 1.25)
                self._take_up_abandoned()
            except DatabaseError as error:
                logger.error("The database does not answer: %s", error)
                close_old_connections()
            except Exception:
                logger.exception("The heart stumbled")
        connection.close()

    def _beat(self) -> None:
        if time.monotonic() - self._turned_at > LOOP_DEAD_AFTER:
            logger.error("The event loop has not turned for %d s; its tasks are given up.", LOOP_DEAD_AFTER)
            return
        runs, until = dict(self._runs), time.monotonic() + LEASE.total_seconds()
        lost = heartbeat(self.owner, runs)
        for task_id, run in runs.items():
            if task_id in lost:
                self._loop.call_soon_threadsafe(self._interrupt, task_id, Interruption.LOST)
            else:
                run.journal.held_until = until
        report = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "beat_at": Now(),
            "running": len(self._runs),
            "sandbox": self._sandbox,
        }
        with transaction.atomic():
            Worker.objects.update_or_create(owner=self.owner, defaults=report)
            Worker.objects.filter(beat_at__lt=Now() - timedelta(days=1)).delete()

    def _tell_what_people_want(self) -> None:
        """That a task of ours ends, or takes in what they said meanwhile."""
        if not (running := list(self._runs)):
            return
        stopped = Q(pk__in=running, status=Status.STOPPING)
        steering = Q(previous__in=running, status=Status.QUEUED, steers=True)
        wanted = Task.objects.filter(stopped | steering).order_by().values_list("pk", "previous", "status")
        for pk, previous, status in wanted:
            if status == Status.STOPPING:
                self._loop.call_soon_threadsafe(self._interrupt, pk, Interruption.STOP)
            elif previous is not None:
                self._loop.call_soon_threadsafe(self._steer, previous)

    def _reap(self) -> None:
        """Let go of what we or dead workers still hold, and of what has waited for too long."""
        if fallen := self._fallen - self._taken:
            give_up(self.owner, fallen)
            self._fallen -= fallen
        expire()
        find_forgotten()
        for owner in Task.objects.filter(status__in=HELD).order_by().values_list("owner", flat=True).distinct():
            if is_dead(owner):
                give_up(owner)

    def _take_up_abandoned(self) -> None:
        """What lost its worker, what was put off until now, and what nobody was told of."""
        room = self._capacity - len(self._taken)
        if room <= 0 or self._draining:
            return
        for task in _ABANDONED.all()[:room]:
            if task.pk not in self._taken:
                self._begin(task.pk).add_done_callback(_log_failure)

    # --- chores ------------------------------------------------------------------------------------------------------

    def _try_sandbox(self) -> None:
        """Whether code can be run here; pages and administration read it from the next beat on."""
        try:
            found = availability()
        except Exception:
            logger.exception("The sandbox could not be tried")
            found = Availability(ok=False, reason="The sandbox could not be tried.", hint="Look at the worker's log.")
        self._sandbox = {"ok": found.ok, "mode": found.mode, "reason": found.reason, "hint": found.hint}
        if not found.ok:
            logger.warning("Code cannot be run here. %s", " ".join(filter(None, (found.reason, found.hint))))

    def _keep_house_forever(self) -> None:
        prices.load()  # The first answer finds them loaded,
        handlers()  # and so does the first event.
        pause = EVERY * random.uniform(0.1, 1.0)  # Workers that were started together do not do it together.
        while not self._closing.wait(pause):
            try:
                keep_house()
            except Exception:
                logger.exception("Housekeeping stumbled")
            finally:
                connection.close()
            pause = EVERY


def _log_failure(future: Future[None]) -> None:
    """Nobody waits for what the heart took up."""
    if not future.cancelled() and (error := future.exception()):
        logger.error("A task that was taken up could not be run", exc_info=error)
