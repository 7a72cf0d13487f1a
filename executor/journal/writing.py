"""The transactions of a journal: what is noted, and when it is written."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import UUID

from django.db import transaction

from executor.core.config import AgentConfig
from executor.core.errors import TaskExecutionError
from executor.core.limits import Spent
from executor.lease import LEASE, LeaseLost, extend
from executor.meter import Meter
from executor.models import Step, Task
from executor.prepared import Statement
from executor.statements import (
    CHECKPOINT,
    HOLD,
)
from executor.stored import clean
from executor.task_events import E, event_of


@dataclass(frozen=True, slots=True)
class Source:
    """Whose model is asked, with the key of which row (None: none, or one from the environment). `took_over`: it is not
    the agent's own, which did not answer."""

    config: AgentConfig
    api_key_id: int | None = None
    took_over: bool = False

    @property
    def name(self) -> str:
        """That of its steps."""
        return clean(self.config.title)[:64] if self.took_over else ""


class Writing:
    """What one acquisition of a task has at hand, and its transactions. `elapsed` and `shares`: see `Journal`."""

    def __init__(self, task: Task, elapsed: float = 0.0, *, shares: bool = False) -> None:
        self.task = task
        self.elapsed = elapsed
        #: What the task at the top has left of its time, for one that was given.
        self.shared_seconds: float | None = None
        #: Until then it is certainly ours, by the clock of this process; the heart puts it off.
        self.held_until = time.monotonic() + LEASE.total_seconds()
        self.task_id: UUID = task.pk
        self.fence = task.fence
        self.config: AgentConfig = task.agent_version.agent_config()
        #: The agent's, and what the person allowed beyond them.
        self.limits = self.config.limits.raised(task.allowed)
        #: Who is asked from now on.
        self.source = Source(self.config)
        self._meter = Meter(task, self.limits, shares=shares)
        #: The step to which the next questions belong: that of a declared task which asks them.
        self.within: int | None = None
        self._noted: list[Callable[[], object]] = []
        self._calls: dict[str, tuple[int, str]] = {}  # Seq and effect of the calls at hand.
        self._transacted: set[str] = set()  # Calls of which the result is on record already.
        #: The question that an earlier acquisition left behind, whose answer its provider keeps.
        self.kept: Step | None = None

    @property
    def spent(self) -> Spent:
        """By the counts in its row, with what failed attempts took."""
        return self._meter.spent

    @property
    def longest_answer(self) -> int | None:
        """In tokens, of an answer to the question that has begun; None: as its agent allows."""
        return allowance.tokens if (allowance := self._meter.allowance) else None

    @property
    def cut(self) -> TaskExecutionError | None:
        """What it means if that answer is as long as it may be, and not at its end."""
        return allowance.cut if (allowance := self._meter.allowance) else None

    @property
    def is_new(self) -> bool:
        """Nothing was done so far."""
        return not self._meter.counts["head_seq"]

    @property
    def postponements(self) -> int:
        """How often in a row it was put off."""
        return int(self._meter.counts["postponements"])

    # --- a transaction -----------------------------------------------------------------------------------------------

    def make_sure(self) -> None:
        """Raise LeaseLost if the task is not ours any more. Asks the database only where our clock says that the lease
        is over, and begins the lease anew then. Writes nothing else, so any thread may call it."""
        if time.monotonic() <= self.held_until:
            return
        began = time.monotonic()
        if not extend(self.task_id, self.fence):
            raise LeaseLost(str(self.task_id))
        self.held_until = began + LEASE.total_seconds()

    def commit(self) -> None:
        """Write down what was noted."""
        if self._noted:
            with self._transaction():
                pass

    @contextmanager
    def _transaction(self, hold: Statement = HOLD, **changes: Any) -> Iterator[None]:
        """Make sure that the task is still ours, or raise LeaseLost; then write what was noted, and what the caller
        does inside. All of it or nothing.

        It begins with an UPDATE in any case: that locks the row, so nobody can take the task before it ends.
        """
        noted, self._noted = self._noted, []
        try:
            with transaction.atomic():
                if hold.execute(task=self.task_id, fence=self.fence, **self._meter.counts, **changes) != 1:
                    raise LeaseLost(str(self.task_id))
                for write in noted:
                    write()
                yield
        except BaseException:
            self._meter.rolled_back()
            raise
        self._meter.committed()

    def _write_noted(self) -> None:
        """Within a transaction that has begun."""
        noted, self._noted = self._noted, []
        for write in noted:
            write()

    def _note(self, statement: Statement, **values: Any) -> None:
        self._noted.append(partial(statement.execute, task=self.task_id, **values))

    def _event(self, kind: type[E], **values: Any) -> E:
        return event_of(kind, self.task, self.config, **values)

    def _checkpoint(self, seq: int, spent: Spent) -> None:
        self._note(CHECKPOINT, seq=seq, counters=spent.to_json())
