"""Files and variables that code finds, and leaves behind."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.utils import timezone

from executor.lease import LeaseLost
from executor.models import KeptVariables, Step, Task
from executor.shelf import TaskShelf, forget_old, found
from tests.executor.conftest import MakeTask, claimed, taken_over
from tools.core.context import NewFile
from tools.resources import store

LOST = {"con": "sqlite3.Connection"}
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def chat(make_task: MakeTask) -> Any:
    """A task of one conversation, with the variables that its step 2 left behind, if any."""
    thread = uuid4()

    def make(state: bytes | None = None, **fields: Any) -> Task:
        task = make_task("Go.")
        Task.objects.filter(pk=task.pk).update(thread=thread, **fields)
        task = Task.objects.get(pk=task.pk)
        if state is not None:
            leave(task, state)
        return task

    return make


def leave(task: Task, state: bytes, seq: int = 2) -> None:
    Step.objects.create(
        task=task, fence=1, seq=seq, kind=Step.Kind.TOOL, status=Step.Status.DONE, call_id=f"call-{seq}"
    )
    TaskShelf(task).keep(state, LOST, f"call-{seq}")


def test_the_next_message_finds_the_variables_of_the_one_before(chat: Any) -> None:
    first = chat(b"one")
    second = chat(previous=first)
    third = chat(previous=second)
    assert TaskShelf(third).state() == (b"one", LOST)
    leave(second, b"two")
    assert TaskShelf(third).state() == (b"two", LOST)
    assert TaskShelf(first).state() == (b"one", LOST)


def test_a_message_that_was_edited_finds_those_of_before_and_not_of_the_other(chat: Any) -> None:
    first = chat(b"one")
    chat(b"other", previous=first)
    assert TaskShelf(chat(previous=first)).state() == (b"one", LOST)
    assert TaskShelf(chat()).state() is None


@pytest.mark.parametrize(("base_seq", "state"), [(1, b"before"), (2, b"base"), (5, b"base")])
def test_a_fork_finds_those_of_its_base_from_before_it_was_forked(chat: Any, base_seq: int, state: bytes) -> None:
    first = chat(b"before")
    base = chat(b"base", previous=first)
    assert TaskShelf(chat(base=base, base_seq=base_seq, previous=first)).state() == (state, LOST)


def test_of_a_fork_of_a_fork_counts_the_nearer_of_the_two(chat: Any) -> None:
    base = chat()
    leave(base, b"base", seq=4)
    fork = chat(base=base, base_seq=6)
    assert TaskShelf(chat(base=fork, base_seq=3)).state() is None
    assert TaskShelf(chat(base=fork, base_seq=5)).state() == (b"base", LOST)


def test_variables_that_were_lost_are_lost_for_the_next_too(chat: Any) -> None:
    first = chat(b"one")
    second = chat(previous=first)
    leave(second, b"")
    assert TaskShelf(chat(previous=second)).state() is None


def test_who_lost_the_task_keeps_nothing(make_task: MakeTask) -> None:
    task = make_task()
    zombie = claimed(task)
    Step.objects.create(task=task, fence=1, seq=1, kind=Step.Kind.TOOL, status=Step.Status.STARTED, call_id="call-1")
    shelf = TaskShelf(zombie.task)
    shelf.keep(b"mine", {}, "call-1")
    taken_over(task)
    with pytest.raises(LeaseLost):
        shelf.keep(b"late", {}, "call-1")
    assert found(task) is None  # It is run again.
    Step.objects.update(status=Step.Status.DONE)
    kept = found(task)
    assert kept is not None
    with kept.file.open() as file:
        assert file.read() == b"mine"


def test_what_is_kept_of_a_task_is_one_file_and_goes_with_it(chat: Any, settings: Any) -> None:
    task = chat(b"one")
    storage, first = KeptVariables.objects.get().file.storage, str(KeptVariables.objects.get().file.name)
    TaskShelf(task).keep(b"two", {}, "call-2")
    second = str(KeptVariables.objects.get().file.name)
    assert (storage.exists(first), storage.exists(second)) == (False, True)
    task.delete()
    assert not storage.exists(second)


def test_of_a_conversation_only_the_last_are_kept_and_none_for_ever(chat: Any, settings: Any) -> None:
    tasks = [chat(b"x") for _ in range(5)]
    assert set(KeptVariables.objects.values_list("task", flat=True)) == {task.pk for task in tasks[2:]}
    KeptVariables.objects.filter(task=tasks[2].pk).update(
        kept_at=timezone.now() - timedelta(days=settings.RESOURCE_DAYS + 1)
    )
    assert forget_old() == 1
    assert KeptVariables.objects.count() == 2


def test_files_are_those_of_the_conversation_the_newest_of_each_name(chat: Any, make_task: MakeTask) -> None:
    first, second = chat(), chat()
    other = make_task("Elsewhere.")
    for task, name, data in [
        (first, "data.csv", b"old"),
        (second, "data.csv", b"new"),
        (first, "notes.txt", b"notes"),
        (other, "secret.txt", b"no"),
    ]:
        store(task.user_id, task.pk, "call", [NewFile(name, data, "text/plain")])
    assert dict(TaskShelf(chat()).files()) == {"data.csv": b"new", "notes.txt": b"notes"}
