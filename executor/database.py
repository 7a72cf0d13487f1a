"""Database calls from an event loop: the worker's, and that of the sockets.

Each transition is a short sync function that runs on a database thread which keeps its connection. SQLite has one
writer, so one thread; other databases get a few. (Django's own async ORM uses one thread for all and reconnects.)
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from django.db import Error, connection

P = ParamSpec("P")
T = TypeVar("T")

THREADS = 4


@functools.cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1 if connection.vendor == "sqlite" else THREADS, thread_name_prefix="database")


async def in_database(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run `call`, which may use the ORM, on a database thread.

    Once begun it is always finished: a cancelled caller never leaves a write behind of which it cannot say whether it
    happened.
    """
    future = asyncio.get_running_loop().run_in_executor(_threads(), functools.partial(_guarded, call, *args, **kwargs))
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        await asyncio.wait([future])
        raise


def _guarded(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    try:
        return call(*args, **kwargs)
    except Error:
        if not connection.in_atomic_block:
            connection.close()  # It may be broken. The next call opens a new one.
        raise
