"""All rows of tasks that can be reviewed: what their time lines and documents are made of."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from conversations.sub_tasks import Given
from executor.history import folded, inherited
from executor.models import Checkpoint, Decision, Step, Task
from tools.models import Resource


@dataclass(frozen=True, slots=True)
class Record:
    """Of one task. `shared` are the steps of a fork before it changed any; `decisions` are by the step that they are
    about, and `asked` are those about the task as a whole."""

    task: Task
    shared: Mapping[int, Step]
    steps: Sequence[Step]
    checkpoints: Mapping[tuple[UUID, int], Checkpoint]
    decisions: Mapping[int | None, Sequence[Decision]]
    asked: Sequence[Decision]
    files: Mapping[tuple[UUID | None, str], Sequence[Resource]]
    given: Given

    @classmethod
    def of(cls, task: Task) -> Record:
        return cls.many([task])[task.pk]

    @classmethod
    def many(cls, tasks: Sequence[Task]) -> dict[UUID, Record]:
        """By task, in ten queries at most, however many there are."""
        shared = inherited(tasks, Step.objects.defer("native"))
        own: dict[UUID, list[Step]] = defaultdict(list)
        for step in Step.objects.defer("native").filter(task__in=tasks).order_by("task", "seq"):
            own[step.task_id].append(step)
        steps = {task.pk: folded(shared.get(task.pk, ()), own[task.pk]) for task in tasks}
        makers = steps.keys() | {step.task_id for several in steps.values() for step in several}
        decisions: dict[int | None, list[Decision]] = defaultdict(list)
        asked: dict[UUID, list[Decision]] = defaultdict(list)
        for decision in Decision.objects.filter(task__in=makers).select_related("decided_by"):
            if decision.step_id:
                decisions[decision.step_id].append(decision)
            else:
                asked[decision.task_id].append(decision)
        files: dict[tuple[UUID | None, str], list[Resource]] = defaultdict(list)
        for file in Resource.objects.filter(task_id__in=makers).defer("told").order_by("created_at", "id"):
            files[file.task_id, file.call_id].append(file)
        checkpoints = {(mark.task_id, mark.seq): mark for mark in Checkpoint.objects.filter(task__in=makers)}
        given = Given.by(steps, steps, (step for several in steps.values() for step in several))
        return {
            task.pk: cls(
                task,
                {step.seq: step for step in shared.get(task.pk, ())},
                steps[task.pk],
                checkpoints,
                decisions,
                asked[task.pk],
                files,
                given,
            )
            for task in tasks
        }

    def files_of(self, step: Step) -> Sequence[Resource]:
        return self.files.get((step.task_id, step.call_id), ()) if step.call_id else ()
