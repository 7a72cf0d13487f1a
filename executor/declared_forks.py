"""What a fork of a declared task has of its own: a step that gave something else, a part that is done again, and the
step to which that belongs, which goes on from there.

Everything else follows from the rows, as it does after a crash (declared_journal.py): steps that are done have given
what their rows say, and a handler that is begun again finds what it asked and did before.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from django.db.models.functions import Now

from executor.core.errors import TaskExecutionError
from executor.decisions import WrongAnswer
from executor.declared import class_for
from executor.models import Step, Task
from executor.stored import clean_json

_NOT_ITS_ARGUMENTS = "The code of the step says what this is done with, so only its result can be changed."


def give(fork: Task, step: Step, output: dict[str, Any]) -> None:
    """Let `step` have given `output`. Raises WrongAnswer if that is nothing that it can give."""
    kept = clean_json(output)
    if problem := _problem(fork, step, kept):
        raise WrongAnswer(f"This does not fit. {problem}")
    step.replaced_in(fork, status=Step.Status.DONE, result=json.dumps(kept, ensure_ascii=False), ended_at=Now())


def _problem(fork: Task, step: Step, output: Any) -> str:
    assert fork.declared is not None
    try:
        cls = class_for(fork.declared)
    except TaskExecutionError as error:
        raise WrongAnswer(error.message) from error
    declared = next((one for one in cls.task_steps if one.id == step.name), None)
    return cls.output_problem(declared, output) if declared else ""


def go_on_in(fork: Task, steps: Sequence[Step], owner: int, seq: int) -> None:
    """Let the step `owner` go on from its row `seq`, in the attempt to which that belongs."""
    asked = [row.attempt for row in steps if row.kind == Step.Kind.QUESTION and owner < row.seq < seq]
    begun = next(row for row in steps if row.seq == owner)
    begun.replaced_in(fork, attempt=max(asked, default=1))


def do_again(fork: Task, part: Step, arguments: dict[str, Any] | None, result: str | None) -> None:
    """Let the code of a step do this part again, or have got the `result` from it, which is JSON."""
    if arguments is not None:
        raise WrongAnswer(_NOT_ITS_ARGUMENTS)
    if result is None:
        part.replaced_in(fork)
        return
    try:
        kept = json.dumps(clean_json(json.loads(result)))
    except (ValueError, RecursionError) as error:
        raise WrongAnswer(f"This is not JSON: {error}.") from error
    part.replaced_in(fork, status=Step.Status.DONE, result=kept, ended_at=Now())
