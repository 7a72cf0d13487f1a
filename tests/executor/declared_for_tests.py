"""A declared task as a developer writes it. `DONE` says what its parts really did; `HELD` stops it in one of them."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from executor.core.executor import TaskExecutor
from executor.core.steps import TaskStep

DONE: list[str] = []
#: The part in which everything stops, as long as it says one.
HELD: set[str] = set()
#: Attempts of the step “check” that are still to fail.
FAILING: list[str] = []


def begin_counting() -> list[str]:
    for counted in (DONE, FAILING):
        counted.clear()
    HELD.clear()
    return DONE


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


def changed(step_id: str, **changes: Any) -> tuple[TaskStep, ...]:
    """The steps of a survey, with changes of one."""
    return tuple(replace(step, **changes) if step.id == step_id else step for step in Survey.task_steps)
