"""A declared task as a developer writes it. `DONE` says what its parts really did; `HELD` stops it in one of them."""

from __future__ import annotations

import asyncio
from typing import Any

from executor.core.executor import TaskExecutor
from executor.core.steps import TaskStep

DONE: list[str] = []
#: The part in which everything stops, as long as it says one.
HELD: set[str] = set()
#: Attempts of the step “check” that are still to fail.
FAILING: list[str] = []


async def fetch(what: str) -> str:
    if what in HELD:
        DONE.append(f"{what}…")
        await asyncio.Event().wait()
    DONE.append(what)
    return f"all about {what}"


class Survey(TaskExecutor):
    """Five steps; the third does three things once."""

    pause = 0
    task_steps = (
        TaskStep("plan", "Plan", "Make a plan.", required_info=("topic",)),
        TaskStep("ask", "Ask", "Find out.", functions=("look", "order", "keep")),
        TaskStep("gather", "Gather"),
        TaskStep("check", "Check", retries=0),
        TaskStep("report", "Report", "Write the report."),
    )

    async def handle_gather(self, step_input: dict[str, Any]) -> dict[str, Any]:
        found = [await self.once("fetch", fetch, what, effect="unsafe") for what in ("moon", "sun", "wind")]
        return {"found": found}

    async def handle_check(self, step_input: dict[str, Any]) -> dict[str, Any]:
        verdict = await self.llm_call("Is it right?", {"found": step_input["found"]})
        if FAILING:
            raise RuntimeError(FAILING.pop())
        return {"verdict": verdict}
