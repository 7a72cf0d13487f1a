"""Work for several agents, from Python: a plan of tasks that need each other's results, run by the site's workers.

    plan = [AgentTask("sun", "What does the sun do to the tides?", agent="writer"),
            AgentTask("text", "Write a page about the tides.", agent="editor", after=("sun",))]
    result = await ProjectOrchestrator(user, plan).execute_task("text")

Each task is a row in the same queue as everything else, so it survives what they survive; only who waits here does not
outlive this process.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from uuid import UUID, uuid4

from django.db import transaction

from executor import actions, sub_tasks
from executor.core.errors import TaskExecutionError
from executor.core.executor import AgentTask, ExecutionResult, ExecutionStatus
from executor.database import in_database
from executor.models import ACTIVE, Status, Task
from users.models import User

#: Seconds between two looks at the rows.
LOOK_EVERY = 0.2


class ProjectOrchestrator:
    """The tasks of one plan, for one person. Each is begun once, by whoever asks for it or for what needs it."""

    def __init__(self, user: User, tasks: Iterable[AgentTask]) -> None:
        """Raises ValueError, with a sentence, for a plan that cannot work."""
        self._user = user
        self._plan: dict[str, AgentTask] = {}
        for task in tasks:
            if task.task_id in self._plan:
                raise ValueError(f"Two tasks have the id {task.task_id!r}.")
            self._plan[task.task_id] = task
        if problem := sub_tasks.order_problem({name: set(task.after) for name, task in self._plan.items()}):
            raise ValueError(problem)
        self._id = f"plan:{uuid4()}"
        self._rows: dict[str, UUID] = {}
        self._beginning = asyncio.Lock()

    async def execute_task(self, task_id: str, agent: str | None = None) -> ExecutionResult:
        """What comes of this task, by `agent` instead of its own if one is named. What it needs is done before.

        Never raises an error of the task: that is in the result. Raises LookupError for a task or an agent that is not
        there, and ValueError if the task was begun by another agent before.
        """
        if task_id not in self._plan:
            raise LookupError(f"There is no task {task_id!r}. There are: {', '.join(self._plan)}.")
        if agent is not None and agent != self._plan[task_id].agent:
            self._give_to(task_id, agent)
        async with self._beginning:
            await in_database(self._begin, task_id)
        return await self._result(self._rows[task_id])

    async def execute_all(self) -> dict[str, ExecutionResult]:
        """All tasks, side by side as far as they do not need each other."""
        results = await asyncio.gather(*(self.execute_task(name) for name in self._plan))
        return dict(zip(self._plan, results, strict=True))

    async def stop(self) -> None:
        """End what was begun and is not over."""
        await in_database(self._stop)

    def _give_to(self, task_id: str, agent: str) -> None:
        if task_id in self._rows:
            raise ValueError(f"The task {task_id!r} was begun by another agent.")
        task = self._plan[task_id]
        self._plan[task_id] = AgentTask(task_id, task.instruction, agent, task.context, task.after)

    def _begin(self, task_id: str) -> None:
        """The rows of a task and of all that it needs, as far as they are not there."""
        wanted = [self._plan[name] for name in self._needed(task_id) if name not in self._rows]
        try:
            with transaction.atomic():
                made = sub_tasks.make(self._user, self._id, [_entry(task) for task in wanted], self._rows)
        except sub_tasks.CannotGive as refusal:
            raise LookupError(str(refusal)) from refusal
        self._rows |= {name: task.pk for name, task in made.items()}

    def _needed(self, task_id: str) -> list[str]:
        found: dict[str, None] = {}
        for name in self._plan[task_id].after:
            found |= dict.fromkeys(self._needed(name))
        return [*found, task_id]

    def _stop(self) -> None:
        for task in Task.objects.filter(pk__in=self._rows.values(), status__in=ACTIVE):
            actions.stop(task)

    async def _result(self, pk: UUID) -> ExecutionResult:
        while (task := await in_database(Task.objects.get, pk=pk)).is_active:  # noqa: ASYNC110
            await asyncio.sleep(LOOK_EVERY)
        return await in_database(_result_of, task)


def _entry(task: AgentTask) -> dict[str, object]:
    told = f"\n\n{json.dumps(dict(task.context), ensure_ascii=False, default=str)}" if task.context else ""
    return {"id": task.task_id, "agent": task.agent, "task": task.instruction + told, "after": list(task.after)}


def _result_of(task: Task) -> ExecutionResult:
    took = (task.ended_at - task.started_at).total_seconds() if task.ended_at and task.started_at else 0.0
    said = sub_tasks.last_words(task)
    output = {"answer": said} if said else {}
    if task.status == Status.DONE:
        return ExecutionResult(ExecutionStatus.DONE, output, None, took)
    error = TaskExecutionError(task.error or "It was stopped.", hint=task.error_hint)
    error.kind = task.error_kind or task.stop_reason or error.kind
    status = ExecutionStatus.STOPPED if task.status == Status.STOPPED else ExecutionStatus.FAILED
    return ExecutionResult(status, output, error, took)
