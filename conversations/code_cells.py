"""Calls of code as the cells of a notebook: the code, what it printed, and how to run it again, edited or all of it."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import indent
from typing import Any

from django.urls import reverse
from django.utils.safestring import SafeString

from conversations.again import Typed
from conversations.markdown import code_html
from executor.decisions import WrongAnswer
from executor.models import Step, Task

#: The function whose calls are cells.
RUNS_CODE = "run_python"
#: Where an error begins in what a cell printed, with the line that is drawn above it.
_ERROR = re.compile(
    r"^(?:-{40,}\n)?(?=(?:[\w.]+ +)?Traceback \(most recent call last\)| *Cell In\[\d+\], line \d+\n)", re.M
)


@dataclass(frozen=True, slots=True)
class EditView:
    """The form that runs a cell again. `before`: how many cells of its task could run first."""

    url: str
    code: str
    before: int
    with_before: bool
    problem: str
    is_open: bool


@dataclass(frozen=True, slots=True)
class CellView:
    """`printed` comes before the `traceback` of a cell that failed. `edit` is None where it cannot be run again."""

    code: SafeString
    printed: str
    traceback: str
    is_open: bool = False
    edit: EditView | None = None


def cell_view(step: Step) -> CellView | None:
    """None for what is no cell."""
    code = _code(step)
    if code is None:
        return None
    error = _ERROR.search(step.output) if step.status == Step.Status.FAILED else None
    printed, traceback = (step.output, "") if error is None else _split(step.output, error)
    return CellView(code_html(code, "python"), printed, traceback)


def edit_view(task: Task, step: Step, steps: Sequence[Step], typed: Typed | None = None) -> EditView | None:
    """For a `task` that is over, of which `steps` are all."""
    code = _code(step)
    if code is None or task.declared_id or task.parent_id:
        return None
    mine = typed if typed and (typed.seq, typed.what) == (step.seq, "code") else None
    place = f"#cell-edit-{step.task_id}-{step.seq}"  # Where it is told why a form was refused.
    return EditView(
        url=reverse("fork", args=[task.pk, step.seq]) + place,
        code=mine.data.get("code", "") if mine else code,
        before=sum(_can_be_repeated(other) for other in steps if other.seq < step.seq),
        with_before="before" in mine.data if mine else True,
        problem=mine.problem if mine else "",
        is_open=mine is not None,
    )


def run_all_url(task: Task, steps: Sequence[Step]) -> str:
    """Where the cells of a task run again from the first; "" where there is not more than one, or it is not over."""
    cells = [step for step in steps if step.kind == Step.Kind.TOOL and step.name == RUNS_CODE]
    if len(cells) < 2 or task.is_active or task.declared_id or task.parent_id:
        return ""
    return reverse("fork", args=[task.pk, cells[0].seq])


def edited(step: Step, steps: Sequence[Step], data: Mapping[str, str]) -> dict[str, Any]:
    """The arguments of a cell as its form has them, with the code of the cells before it if that is wanted. Raises
    WrongAnswer."""
    code = data.get("code", "").replace("\r\n", "\n")
    if not code.strip():
        raise WrongAnswer("There is no code to run.")
    before = [other for other in steps if other.seq < step.seq] if "before" in data else []
    return (step.arguments or {}) | {"code": _together(before, code)}


def all_again(step: Step, steps: Sequence[Step]) -> dict[str, Any]:
    """The arguments of `step` with the code of all cells from it on. Raises WrongAnswer."""
    code = _together([other for other in steps if other.seq >= step.seq])
    if _code(step) is None or not code:
        raise WrongAnswer("There is no code to run.")
    return (step.arguments or {}) | {"code": code}


def _split(output: str, error: re.Match[str]) -> tuple[str, str]:
    return output[: error.start()], output[error.end() :].rstrip("\n")


def _code(step: Step) -> str | None:
    if step.kind != Step.Kind.TOOL or step.name != RUNS_CODE or not step.arguments:
        return None
    code = step.arguments.get("code")
    return code if isinstance(code, str) else None


def _can_be_repeated(step: Step) -> bool:
    """What did not come to its end might not come to one again."""
    return _code(step) is not None and step.status in (Step.Status.DONE, Step.Status.FAILED)


def _together(steps: Sequence[Step], last: str = "") -> str:
    """One cell that does what the cells of `steps` did, one after the other, and then what `last` says."""
    cells = [_again(step) for step in steps if _can_be_repeated(step)]
    if not cells:
        return last
    cells += [last] if last else []
    return "\n\n".join(f"# cell {number}\n{code}" for number, code in enumerate(cells, 1))


def _again(step: Step) -> str:
    """What failed may fail again, after it did what later cells rely on; then those run all the same."""
    code = (_code(step) or "").strip("\n")
    if step.status == Step.Status.DONE:
        return code
    try:
        ast.parse(code)
    except (SyntaxError, ValueError):
        return "# It could not be read, so it is left out."
    caught = 'except Exception as error:\n    print(f"{type(error).__name__}: {error}")'
    return f"try:\n{indent(code, '    ')}\n{caught}"
