"""What `make chaos` prints and tests hold: who wins a task, and how many bytes a step takes in the database."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from uuid import UUID

from django.db import connection

from executor.claim import claim
from executor.core.events import Finished, ToolFinished
from executor.core.limits import Spent
from executor.core.messages import ToolCall, ToolResult, Usage, assistant
from executor.journal import Journal
from executor.lease import LeaseLost
from executor.models import Status, Step, Task
from tests.executor.conftest import claimed, in_threads, taken_over

CLAIMERS = 16
#: Steps of a task, and how many such tasks make as many steps together.
SIZES = {10: 100, 100: 10, 1_000: 1}


def contest(task_ids: Sequence[UUID]) -> list[list[UUID]]:
    """All want all of them at once. Returns who got which."""

    def want_all(index: int) -> list[UUID]:
        start = index * len(task_ids) // CLAIMERS
        order = [*task_ids[start:], *task_ids[:start]]
        return [journal.task_id for pk in order if (journal := claim(pk, f"worker {index}"))]

    return in_threads(CLAIMERS, want_all)


def refused(task_ids: Sequence[UUID]) -> int:
    """How many of those who lost a task cannot write any more."""
    count = 0
    for pk in task_ids:
        Task.objects.filter(pk=pk).update(status=Status.QUEUED)
        zombie = claimed(Task.objects.get(pk=pk), "zombie")
        taken_over(zombie.task)
        try:
            zombie.begin_model()
        except LeaseLost:
            count += not Step.objects.filter(task=pk).exists()
    return count


def bytes_per_step(make_task: Callable[[], Task]) -> dict[int, float]:
    """By the number of steps of a task. `make_task` gives one that nobody works on."""
    found = {}
    warm_up = claim(make_task().pk, "somebody")  # The first page of an index is no row's.
    assert warm_up
    _work(warm_up, 20)
    for steps, count in SIZES.items():
        journals = [claim(make_task().pk, "somebody") for _ in range(count)]
        before = _database_bytes()
        for journal in journals:
            assert journal
            _work(journal, steps)
        found[steps] = (_database_bytes() - before) / (steps * count)
    return found


def _work(journal: Journal, steps: int) -> None:
    """Questions and calls by turns, all of the same size, until there are so many steps."""
    for number in range(1, steps // 2 + 1):
        one = ToolCall(f"call-{journal.task_id}-{number:06}", "look", {"topic": "t" * 40})
        spent = Spent(number, number * 100, number)
        finished = Finished(assistant("w" * 200, one), "tool_calls", Usage(90, 10))
        journal.finish_model(journal.begin_model(), finished, spent, {}, 7, later=True)
        journal.start_tools([one])
        journal.finish_tool(ToolFinished(one, ToolResult(one.id, "look", "r" * 400)), spent)


def _database_bytes() -> int:
    """Tidied up: else it depends on when the database last did that."""
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute("VACUUM")
            cursor.execute("PRAGMA page_count")
            pages = int(cursor.fetchone()[0])
            cursor.execute("PRAGMA page_size")
            return pages * int(cursor.fetchone()[0])
        tables = ("executor_task", "executor_step", "executor_checkpoint")
        for table in tables:
            cursor.execute(f"VACUUM FULL {table}")
        cursor.execute("SELECT SUM(pg_total_relation_size(name)) FROM unnest(%s::text[]) AS name", [list(tables)])
        return int(cursor.fetchone()[0])
