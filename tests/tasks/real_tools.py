"""The real functions for a task that runs without a worker, and the files that they made."""

from __future__ import annotations

from collections.abc import Sequence

from executor.core.events import ToolFinished
from executor.core.messages import ToolCall, ToolResult, ToolSpec
from tools.core.context import Context, NewFile
from tools.registry import get_toolbox


class RealTools:
    def __init__(self, *names: str) -> None:
        self._toolbox = get_toolbox(names)
        self.files: list[NewFile] = []
        self.ran: list[ToolCall] = []

    @property
    def specs(self) -> Sequence[ToolSpec]:
        return self._toolbox.specs

    def must_wait(self, call: ToolCall) -> bool:
        return False

    async def run(self, call: ToolCall) -> ToolFinished:
        context = Context(user_id=1, task_id="task", call_id=call.id, idempotency_key="key")
        outcome = await self._toolbox.call(call.name, call.arguments, call.raw_arguments, context)
        self.files += outcome.files
        self.ran.append(call)
        return ToolFinished(call, ToolResult(call.id, call.name, outcome.content, outcome.is_error), outcome.files)
