"""What a task is doing right now, in words that are true: the same on a page, in admin and in `ask`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from django.db.models.functions import Now
from django.utils import timezone

from executor.models import HELD, Status, Task, Worker
from executor.queue import line_before, task_before

#: A worker whose heart did not beat for so long is taken for dead.
WORKER_GONE = timedelta(seconds=20)
#: Who waits longer than this for a worker is told so.
SOON = timedelta(seconds=5)
#: A task that nobody works on although somebody did is taken up by another worker in a moment.
RESUMING = "Resuming"
NO_WORKER = "no worker is running"


@dataclass(frozen=True, slots=True)
class State:
    """`place` counts the tasks that are to end before this one begins; `is_still` tells that nobody works on it."""

    label: str
    place: int = 0
    is_still: bool = False


def state_of(task: Task) -> State:
    """Asks the database for more than the row of the task only while nobody works on it."""
    if task.status == Status.QUEUED and not task.attempts:
        return _in_line(task)
    if task.status == Status.QUEUED or lost_its_worker(task):
        return State(RESUMING if _somebody_works() else f"{RESUMING} · {NO_WORKER}", is_still=True)
    return State(str(task.get_status_display()), is_still=task.status in (Status.WAITING, Status.AWAITING))


def lost_its_worker(task: Task) -> bool:
    return bool(task.status in HELD and task.lease_until and task.lease_until < timezone.now())


def _in_line(task: Task) -> State:
    line = line_before(task)
    place = len(line)
    if not line:
        return State(_why_queued(task), is_still=True)
    waits_for_person = line[0].status == Status.WAITING
    if task.steers:
        label = "Goes in when you have answered above" if waits_for_person else "Goes in at the next step"
    elif waits_for_person and place == 1:
        label = "Waits for your answer above"
    else:
        label = f"Queued · {ordinal(place)} in line"
    return State(label, place, is_still=True)


def _why_queued(task: Task) -> str:
    since = task.created_at
    before = task_before(task)
    if before is not None and before.ended_at:
        since = max(since, before.ended_at)
    if timezone.now() - since < SOON:
        return "Queued"
    return f"Queued · {'no worker is free' if _somebody_works() else NO_WORKER}"


def _somebody_works() -> bool:
    return Worker.objects.filter(beat_at__gt=Now() - WORKER_GONE).exists()


def ordinal(number: int) -> str:
    """1st, 2nd, 3rd, 4th …"""
    ending = "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"
