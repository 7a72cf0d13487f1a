"""A declared task on trial: run here and now, without a site, a worker or a database."""

from __future__ import annotations

import asyncio
import os
import runpy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from executor.core.errors import TaskExecutionError
from executor.core.events import ToolFinished
from executor.core.executor import ExecutionResult, TaskExecutor
from executor.core.llms.base import BaseLlm
from executor.core.messages import ToolCall, ToolResult, ToolSpec
from executor.core.record import MemoryRecord
from executor.core.steps import TaskStep
from executor.declared import read_given
from executor.tasks_file import read_task
from executor.yaml_file import FileError
from tools.core.context import Context
from tools.registry import get_toolbox

Say = Callable[[str], object]


def read(path: Path) -> type[TaskExecutor]:
    """The task that a file declares. Raises FileError with everything that is wrong."""
    if path.suffix != ".py":
        return read_task(path, os.environ)
    try:
        names = runpy.run_path(str(path), run_name="on_trial")
    except Exception as error:
        raise FileError([f"{path.name}: {type(error).__name__}: {error}"]) from error
    found = [one for one in names.values() if isinstance(one, type) and issubclass(one, TaskExecutor)]
    if not (steps := [one for one in found if one.task_steps and one.__module__ == "on_trial"]):
        raise FileError([f"{path.name}: there is no subclass of TaskExecutor with task_steps in it."])
    return steps[-1]


async def run(cls: type[TaskExecutor], data: dict[str, Any], llm: BaseLlm, say: Say) -> tuple[ExecutionResult, str]:
    """The result, and the answer in words. Files that functions make are written to the current folder.

    Raises StepValidationError if `data` is not what the task asks for.
    """
    names = dict.fromkeys(name for step in cls.task_steps for name in step.functions)
    task = cls(llm, _Tools(tuple(names), say), record=_Told(say))
    result = await task.execute(read_given(cls, data))
    return result, "" if result.error else task.answer(result.output)


class _Told(MemoryRecord):
    def __init__(self, say: Say) -> None:
        super().__init__()
        self._say = say

    async def begin_step(self, step: TaskStep) -> int:
        self._say(f"… {step.name}")
        return await super().begin_step(step)

    async def finish_step(self, step: TaskStep, output: dict[str, Any]) -> None:
        self._say(f"✓ {step.name}")
        await super().finish_step(step, output)

    async def fail_step(self, step: TaskStep, error: TaskExecutionError) -> None:
        self._say(f"✗ {step.name}: {error.message}")
        await super().fail_step(step, error)


class _Tools:
    """Functions that ask nobody: there is nobody to agree."""

    def __init__(self, names: tuple[str, ...], say: Say) -> None:
        self._toolbox = get_toolbox(names, harmless=True)
        self._say = say

    @property
    def specs(self) -> Sequence[ToolSpec]:
        return self._toolbox.specs

    def must_wait(self, call: ToolCall) -> bool:
        return False

    async def run(self, call: ToolCall) -> ToolFinished:
        context = Context(user_id=None, task_id="trial", call_id=call.id, idempotency_key=call.id)
        outcome = await self._toolbox.call(call.name, call.arguments, call.raw_arguments, context)
        self._say(f"  {call.name}{': ' + outcome.content if outcome.is_error else ''}")
        for file in outcome.files:
            await asyncio.to_thread(Path(file.name).write_bytes, file.data)
            self._say(f"  {file.name} written")
        return ToolFinished(call, ToolResult(call.id, call.name, outcome.content, outcome.is_error), outcome.files)
