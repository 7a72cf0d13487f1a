"""The functions of one agent, bound to the task that calls them: what the loop gets as its `tools`."""

from __future__ import annotations

import asyncio
import functools
import hashlib
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar
from uuid import UUID

from django.db import connections

from executor.core.events import ToolFinished
from executor.core.messages import ToolCall, ToolResult
from tools.core.context import Context
from tools.core.function import Function, ToolSpec
from tools.registry import get_toolbox

T = TypeVar("T")

THREADS = 16


class Toolset:
    def __init__(self, names: tuple[str, ...], user_id: int, task_id: UUID) -> None:
        self._toolbox = get_toolbox(names, run_in_thread)
        self._user_id = user_id
        self._task_id = task_id

    @property
    def specs(self) -> list[ToolSpec]:
        return self._toolbox.specs

    @property
    def functions(self) -> dict[str, Function]:
        return self._toolbox.functions

    async def run(self, call: ToolCall) -> ToolFinished:
        context = Context(
            user_id=self._user_id,
            task_id=str(self._task_id),
            call_id=call.id,
            idempotency_key=hashlib.sha256(f"{self._task_id}:{call.id}".encode()).hexdigest()[:32],
        )
        outcome = await self._toolbox.call(call.name, call.arguments, call.raw_arguments, context)
        result = ToolResult(call.id, call.name, outcome.content, outcome.is_error)
        return ToolFinished(call, result, outcome.files, outcome.error_kind)


@functools.cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(THREADS, thread_name_prefix="function")


def run_in_thread(call: Callable[[], T], /) -> Awaitable[T]:
    """Where sync functions run: a bounded pool, so that they cannot stall the loop or exhaust the machine."""
    return asyncio.get_running_loop().run_in_executor(_threads(), _closing_connections, call)


def _closing_connections(call: Callable[[], Any]) -> Any:
    try:
        return call()
    finally:
        connections.close_all()
