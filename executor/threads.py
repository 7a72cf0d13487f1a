"""Where plain functions run: each in a thread, so many side by side, so that they cannot stall the loop.

A thread cannot be ended from outside. One for which nobody waits any more (a stop, a time limit) is given up: it goes
on by itself and makes room for another, so functions that never return cannot use up all there is. So many may be given
up; beyond that, calls wait until one returns.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from django.db import connections

logger = logging.getLogger(__name__)

T = TypeVar("T")

THREADS = 16
GIVEN_UP_AT_MOST = 64


class Threads:
    """Lives on one event loop. The threads die with the process, whatever they are doing."""

    def __init__(self, size: int = THREADS, given_up_at_most: int = GIVEN_UP_AT_MOST) -> None:
        self._loop = asyncio.get_running_loop()
        self._room = asyncio.Semaphore(size)
        self._given_up_at_most = given_up_at_most
        self.given_up = 0

    async def run(self, call: Callable[[], T]) -> T:
        """What `call` returns or raises. Whoever is cancelled does not wait for it."""
        await self._room.acquire()
        running = _Running(self._loop.create_future())
        threading.Thread(target=self._work, args=(call, running), name="function", daemon=True).start()
        try:
            result: T = await running.future
            return result
        except asyncio.CancelledError:
            if running.future.cancelled():
                self._give_up(running)
            raise

    def _work(self, call: Callable[[], Any], running: _Running) -> None:
        try:
            result, error = call(), None
        except BaseException as raised:
            result, error = None, raised
        finally:
            connections.close_all()
        with suppress(RuntimeError):  # The loop is gone, and with it everybody who waits.
            self._loop.call_soon_threadsafe(self._returned, running, result, error)

    def _returned(self, running: _Running, result: Any, error: BaseException | None) -> None:
        if running.is_given_up:
            self.given_up -= 1
        if not running.made_room:
            self._room.release()
        if running.future.done():
            return
        if error is None:
            running.future.set_result(result)
        else:  # A future cannot carry StopIteration.
            running.future.set_exception(RuntimeError(str(error)) if isinstance(error, StopIteration) else error)

    def _give_up(self, running: _Running) -> None:
        running.is_given_up = True
        running.made_room = self.given_up < self._given_up_at_most
        self.given_up += 1
        if running.made_room:
            self._room.release()
            logger.warning("A function was given up and still runs; %d do by now", self.given_up)
        else:
            logger.error("%d functions were given up and still run; others wait until one returns", self.given_up)


class _Running:
    """A call in its thread."""

    def __init__(self, future: asyncio.Future[Any]) -> None:
        self.future = future
        self.is_given_up = False
        self.made_room = False


_threads: WeakKeyDictionary[asyncio.AbstractEventLoop, Threads] = WeakKeyDictionary()


async def run_in_thread(call: Callable[[], T], /) -> T:
    """`call` in a thread of the running loop's."""
    loop = asyncio.get_running_loop()
    if loop not in _threads:
        _threads[loop] = Threads()
    return await _threads[loop].run(call)
