"""Functions for solving with code where there is no site: in a script, a test, a notebook (docs/solving.md).

with SandboxTools({"data.csv": data}) as tools:
    result = await TaskSolver(llm, tools, limits=Limits(iterations=12)).solve("…")
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from executor.core.events import ToolFinished
from executor.core.messages import ToolCall, ToolResult, ToolSpec
from tools.core.context import Context
from tools.core.function import describe
from tools.core.toolbox import Toolbox
from tools.functions.code import run_python
from tools.memory_shelf import MemoryShelf
from tools.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Cell:
    """Code that was run, and what the model read of it."""

    code: str
    result: str
    ok: bool


class SandboxTools:
    """`run_python` in a sandbox of its own, and more functions if they are given. Close it, or use it with `with`.

    `files` are those that the code finds and, afterwards, those that it made. `cells` is what was run, in order.
    """

    def __init__(self, files: Mapping[str, bytes] | None = None, functions: Sequence[Callable[..., Any]] = ()) -> None:
        self.files = dict(files or {})
        self.cells: list[Cell] = []
        self._id = str(uuid.uuid4())
        self._workspace = Workspace(self._id, MemoryShelf(self.files))
        self._toolbox = Toolbox(describe(one) for one in (run_python, *functions))

    @property
    def last(self) -> Cell | None:
        """The last code that ran to its end."""
        return next((cell for cell in reversed(self.cells) if cell.ok), None)

    @property
    def specs(self) -> Sequence[ToolSpec]:
        return self._toolbox.specs

    def must_wait(self, call: ToolCall) -> bool:
        return False

    async def run(self, call: ToolCall) -> ToolFinished:
        context = Context(None, self._id, call.id, f"{self._id}:{call.id}", workspace=self._workspace)
        outcome = await self._toolbox.call(call.name, call.arguments, call.raw_arguments, context)
        self.files |= {file.name: file.data for file in outcome.files}
        if call.name == run_python.__name__:
            code = str((call.arguments or {}).get("code", ""))
            self.cells.append(Cell(code, outcome.content, not outcome.is_error))
        result = ToolResult(call.id, call.name, outcome.content, outcome.is_error)
        return ToolFinished(call, result, outcome.files, outcome.error_kind, output=context.output)

    def close(self) -> None:
        """End the sandbox. A call at work is interrupted."""
        self._workspace.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
