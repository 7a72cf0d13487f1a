"""A declared task of the suite, dropped into the site's folder: parts of every effect, a question, the agent loop."""

import json
import time
from typing import Any

from chaos.ledger import note
from executor.core.executor import TaskExecutor
from executor.core.steps import TaskInput, TaskStep


async def look_at(n: int) -> str:
    """Nothing happens twice here, however often it is done."""
    return _do(n, 0)


def put(n: int) -> str:
    return _do(n, 0.02)


def send(n: int) -> str:
    return _do(n, 0.1)


def _do(n: int, seconds: float) -> str:
    who = {"name": "part", "n": n, "task": "", "call": f"part {n}", "key": f"part {n}"}
    note("start", **who)
    time.sleep(seconds)
    note("end", **who)
    return f"did {n}"


class Chain(TaskExecutor):
    """Four steps."""

    name = "chain"
    pause = 0.05
    inputs = (TaskInput("n", kind="number"), TaskInput("turns", kind="long_text"))
    task_steps = (
        TaskStep("begin", "Begin"),
        TaskStep("ask", "Ask"),
        TaskStep("work", "Work"),
        TaskStep("end", "End"),
    )

    async def handle_begin(self, step_input: dict[str, Any]) -> dict[str, Any]:
        n = step_input["n"]
        return {
            "put": await self.once("put", put, n + 80, effect="idempotent"),
            "sent": await self.once("send", send, n + 81),
        }

    async def handle_ask(self, step_input: dict[str, Any]) -> dict[str, Any]:
        return {"said": await self.llm_call(f"Say it.\n@turns {json.dumps([{'text': 'So be it.', 'rate': 50}])}")}

    async def handle_work(self, step_input: dict[str, Any]) -> dict[str, Any]:
        return {"worked": await self.solve(f"Work.\n@turns {step_input['turns']}")}

    async def handle_end(self, step_input: dict[str, Any]) -> dict[str, Any]:
        n = step_input["n"]
        looked = [await self.once("look_at", look_at, n + 82, effect="read"), await self.once("send", send, n + 83)]
        return {"answer": f"The chain of {n} is done: {looked}"}
