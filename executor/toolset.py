"""The functions of one agent, bound to the task that calls them: what the loop gets as its `tools`."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar
from uuid import UUID

from executor.approvals import Agreements, with_changes
from executor.core.config import AgentConfig
from executor.core.events import ToolFinished
from executor.core.messages import ToolCall, ToolResult
from executor.database import in_database
from executor.models import Decision, OnUnknown
from executor.telling import Telling
from executor.threads import run_in_thread
from tools.cache import StoredCache
from tools.core.context import Context, Workspace
from tools.core.function import REPEATABLE, Function, ToolSpec
from tools.core.toolbox import Outcome
from tools.registry import get_toolbox

T = TypeVar("T")
#: Runs a transactional call in the transaction that writes its outcome down.
Transact = Callable[[ToolCall, Callable[[], Outcome]], Awaitable[Outcome]]
#: Writes down what a call has said so far.
SaveOutput = Callable[[ToolCall, str], Awaitable[None]]


class Toolset:
    def __init__(
        self,
        config: AgentConfig,
        user_id: int,
        task_id: UUID,
        agreements: Agreements | None = None,
        transact: Transact | None = None,
        make_sure: Callable[[], None] = lambda: None,
        save_output: SaveOutput | None = None,
        workspace: Workspace | None = None,
    ) -> None:
        """`make_sure` raises if the task is somebody else's by now. It is called in the thread of a function, right
        before that: on the way there a whole process may be frozen for longer than its lease."""

        def sure(call: Callable[[], T]) -> T:
            make_sure()
            return call()

        def run_sync(call: Callable[[], T], /) -> Awaitable[T]:
            return run_in_thread(functools.partial(sure, call))

        # People agree to calls, but not for the administrator: what may do harm is not for agents of their own.
        self._toolbox = get_toolbox(
            config.functions, run_sync, harmless=config.is_personal, cache=StoredCache(in_database)
        )
        self._functions = self._toolbox.functions
        self._asks = config.on_unknown == OnUnknown.ASK
        self._user_id = user_id
        self._task_id = task_id
        self._agreements = agreements or Agreements()
        self._transact = transact
        self._save_output = save_output
        self._workspace = workspace

    @property
    def specs(self) -> list[ToolSpec]:
        return self._toolbox.specs

    @property
    def functions(self) -> dict[str, Function]:
        return self._toolbox.functions

    @property
    def decided(self) -> Mapping[str, Decision]:
        """What was agreed to, by call; used up when the call begins."""
        return self._agreements.decided

    def must_wait(self, call: ToolCall) -> bool:
        function = self._functions.get(call.name)
        given = self._toolbox.given(call.name, call.arguments) if function else None
        if function is None or given is None:
            return False  # It cannot be run at all, which is for the model to be told.
        return self._agreements.must_wait(call.id, function, given)

    def tasks_of(self, call: ToolCall) -> list[dict[str, Any]] | None:
        """The tasks for other agents that answer a call which must wait; None if a person answers it. Raises ValueError
        with a sentence for the model."""
        function = self._functions[call.name]
        if function.answered_by != "tasks":
            return None
        given = self._toolbox.given(call.name, call.arguments) or {}
        return list(function.call(**given))

    def question(self, call: ToolCall) -> Decision.Kind:
        """What a person is asked about a call that must wait."""
        match self._functions[call.name].answered_by:
            case "person":
                return Decision.Kind.QUESTION
            case "plan":
                return Decision.Kind.PLAN
            case _:
                return Decision.Kind.APPROVAL

    async def run(self, call: ToolCall) -> ToolFinished:
        context = Context(
            user_id=self._user_id,
            task_id=str(self._task_id),
            call_id=call.id,
            workspace=self._workspace,
            idempotency_key=hashlib.sha256(f"{self._task_id}:{call.id}".encode()).hexdigest()[:32],
        )
        telling = Telling(functools.partial(self._tell, call, context))
        context.on_write = telling.said
        try:
            return await self._run(call, context)
        finally:
            await telling.close()

    async def _tell(self, call: ToolCall, context: Context) -> None:
        if self._save_output is not None:
            await self._save_output(call, context.output)

    async def _run(self, call: ToolCall, context: Context) -> ToolFinished:
        decision = self.decided.get(call.id)
        again = decision is not None and decision.choice == Decision.Choice.AGAIN
        edited = decision.arguments if decision else None
        outcome = await self._toolbox.call(
            call.name,
            call.arguments if edited is None else edited,
            call.raw_arguments,
            context,
            verify=call.id in self._agreements.begun and not again,
            transact=functools.partial(self._transact, call) if self._transact else None,
        )
        result = ToolResult(call.id, call.name, with_changes(edited, outcome.content), outcome.is_error)
        is_open = self._asks and may_have_run(self._functions.get(call.name), outcome.error_kind)
        return ToolFinished(
            call,
            result,
            outcome.files,
            outcome.error_kind,
            is_open,
            outcome.made_at,
            context.output,
            tuple(context.notes),
        )


def may_have_run(function: Function | None, error_kind: str) -> bool:
    """Whether a call that ended like this may have had an effect that must not be had twice."""
    return function is not None and error_kind in ("timeout", "unclear") and function.effect not in REPEATABLE
