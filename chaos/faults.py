"""Death at a commit: a worker of the suite kills or freezes itself right before or after a transaction of a journal.

Nothing of this is in the product. The nursery (nursery.py) puts itself around `Journal._transaction` and `claim` in
processes that it forks.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

#: Where a process can die: the method of the journal that writes. "decided" are calls that begin because a person
#: agreed, whose decision is used up by that; "report" is an end that others wait for, "answer" what lets the task go on
#: that gave the work.
POINTS = (
    *("claim", "recover", "begin_model", "save_partial", "finish_model", "fail_model", "ask", "wait"),
    *("start_tools", "decided", "transact", "finish_tool", "commit", "end", "postpone", "release", "take_in"),
    *("accept", "take_up_model", "finish_compaction", "leave_out", "give", "report", "answer"),
)
#: Seconds after which a call that began is in the middle of what it does.
IN_CALL = 0.03
#: Points that are not reached by every task; where one waits for them, it waits for the first.
RARE = (
    "recover",
    "save_partial",
    "finish_model",
    "fail_model",
    "postpone",
    "release",
    "ask",
    "wait",
    "decided",
    "take_in",
    "accept",
    "take_up_model",
    "finish_compaction",
    "leave_out",
    "give",
    "report",
    "answer",
)


def arm(point: str, when: str, count: int, how: str, report: Path) -> None:
    """End `when` ("before" or "after") the commit of `point` comes for the `count`th time; say so in `report` first.
    With the point "call", "during": while functions run.

    `how` is the signal: SIGKILL, or SIGSTOP for one that wakes up after its tasks were taken from it.
    """
    from executor import claim as claims
    from executor import journal, sub_tasks, worker

    left = [count]

    def reached(here: str, at: str) -> None:
        in_call = point == "call" and here in ("start_tools", "decided") and at == "after"
        if (here, at) != (point, when) and not in_call:
            return
        left[0] -= 1
        if left[0]:
            return
        if in_call:
            threading.Timer(IN_CALL, _die, (point, when, how, report)).start()
        else:
            _die(here, at, how, report)

    original = journal.Journal._transaction

    def transaction(self: Any, *args: Any, **changes: Any) -> AbstractContextManager[None]:
        here = _point(self)

        @contextmanager
        def around() -> Iterator[None]:
            this.answers = False
            with original(self, *args, **changes):
                yield
                names = [here, *_of_sub_tasks(self, here, answers=this.answers)]
                for name in names:
                    reached(name, "before")
            for name in names:
                reached(name, "after")

        return around()

    def claim(*args: Any) -> Any:
        reached("claim", "before")
        claimed = claim_as_it_is(*args)
        if claimed is not None:
            reached("claim", "after")
        return claimed

    def let_go_on(parent: Any) -> None:
        this.answers = True
        let_go_on_as_it_is(parent)

    this = threading.local()  # What the transaction of this thread does.
    claim_as_it_is, let_go_on_as_it_is = claims.claim, sub_tasks._let_go_on
    sub_tasks._let_go_on = let_go_on
    journal.Journal._transaction = transaction  # type: ignore[method-assign,assignment]
    worker.claim = claim  # type: ignore[assignment,attr-defined]


def _point(journal: Any) -> str:
    """The public method of the journal that opens a transaction."""
    frame, name = sys._getframe(2), ""
    while frame is not None and frame.f_locals.get("self") is journal:
        if frame.f_code.co_name[0] != "_":
            name = frame.f_code.co_name
            if name == "start_tools" and frame.f_locals.get("decided"):
                name = "decided"
        frame = frame.f_back  # type: ignore[assignment]
    return name


def _of_sub_tasks(journal: Any, here: str, *, answers: bool) -> list[str]:
    """What a transaction does to other tasks."""
    return ["report"] * bool(here == "end" and journal.task.parent_call) + ["answer"] * answers


def _die(point: str, when: str, how: str, report: Path) -> None:
    from executor import tasks

    process = tasks._process
    held = {} if process is None else {str(pk): run.journal.fence for pk, run in dict(process._runs).items()}
    _say(report, {"pid": os.getpid(), "point": point, "when": when, "how": how, "held": held})
    os.kill(os.getpid(), signal.Signals[how])


def tell_releases(report: Path) -> None:
    """Say in `report` when a task is given back, which is when it came to its boundary."""
    from executor import journal

    release = journal.Journal.release

    def told(given_back: Any) -> None:
        release(given_back)
        _say(report, {"task": str(given_back.task_id), "fence": given_back.fence})

    journal.Journal.release = told  # type: ignore[method-assign,assignment]


def _say(report: Path, what: dict[str, Any]) -> None:
    file = os.open(report, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(file, f"{json.dumps({'at': time.time(), **what})}\n".encode())
    os.close(file)
