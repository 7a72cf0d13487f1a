"""Starting declared tasks: who may, with what, and what becomes of that."""

from __future__ import annotations

from typing import Any

import pytest

from executor.actions import start_declared
from executor.core.declaration import declaration_of, executor_class
from executor.core.errors import StepValidationError, TaskExecutionError
from executor.declared import MOST_CHARACTERS, SHOWN_CHARACTERS
from executor.models import Agent, DeclaredTask, Status, Task
from users.models import User

pytestmark = pytest.mark.django_db
REPORT: dict[str, Any] = {
    "name": "tide-report",
    "title": "Tide report",
    "inputs": [
        {"name": "place", "label": "Which place"},
        {"name": "notes", "kind": "long_text", "required": False},
        {"name": "days", "kind": "number", "default": 3},
        {"name": "moon", "kind": "boolean", "label": "With the moon"},
    ],
    "steps": [{"id": "text", "instruction": "Write it.", "functions": ["calculate"]}],
}


@pytest.fixture
def report() -> DeclaredTask:
    cls = executor_class(REPORT)
    return DeclaredTask.objects.create(name=cls.name, title=cls.title, declaration=declaration_of(cls))


def test_it_is_queued_with_its_version_its_data_and_a_message_in_words(
    report: DeclaredTask, alice: User, demo: Agent
) -> None:
    data = {"place": "Brest", "notes": "One.\nTwo.", "days": "7", "moon": "on"}
    task, created = start_declared(alice, report, data, demo)
    task.refresh_from_db()
    assert (created, task.status, task.declared) == (True, Status.QUEUED, report.current_version())
    assert task.data == {"place": "Brest", "notes": "One.\nTwo.", "days": 7, "moon": True}
    assert task.text == "/tide-report\nWhich place: Brest\nNotes:\nOne.\nTwo.\nDays: 7\nWith the moon: yes"
    assert task.agent_version == demo.current_version()


def test_what_is_left_out_is_as_declared(report: DeclaredTask, alice: User, demo: Agent) -> None:
    task, _ = start_declared(alice, report, {"place": "Brest", "notes": ""}, demo)
    assert task.data == {"place": "Brest", "days": 3, "moon": False}


def test_a_second_click_is_the_same_task(report: DeclaredTask, alice: User, demo: Agent) -> None:
    first, _ = start_declared(alice, report, {"place": "Brest"}, demo, idempotency_key="k")
    again, created = start_declared(alice, report, {"place": "Brest"}, demo, idempotency_key="k")
    assert (again, created) == (first, False)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ({}, "“Which place” is missing."),
        ({"place": "Brest", "days": "few"}, "“Days” must be a number."),
        (
            {"place": "Brest", "town": "x"},
            "“Tide report” does not ask for town. It asks for: place, notes, days, moon.",
        ),
        ({"place": "x" * (MOST_CHARACTERS + 1)}, "That is 1,000,001 characters, more than 1,000,000."),
    ],
)
def test_what_does_not_fit_is_told_and_nothing_is_queued(
    report: DeclaredTask, alice: User, demo: Agent, data: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(StepValidationError) as raised:
        start_declared(alice, report, data, demo)
    assert raised.value.message.startswith(sentence)
    assert not Task.objects.exists()


def test_a_long_text_is_told_in_short_and_kept_whole(report: DeclaredTask, alice: User, demo: Agent) -> None:
    text = "x" * (SHOWN_CHARACTERS + 1)
    task, _ = start_declared(alice, report, {"place": "Brest", "notes": text}, demo)
    assert task.data == {"place": "Brest", "notes": text, "days": 3, "moon": False}
    assert f"{text[:-1]}…\n(2,001 characters)" in task.text


def test_what_is_not_offered_cannot_be_started(report: DeclaredTask, alice: User, demo: Agent) -> None:
    hers = Agent.objects.create(name="hers", title="Hers", provider="demo", owner=alice)
    without = Agent.objects.create(name="without", title="Without", provider="demo", functions=[])
    with pytest.raises(TaskExecutionError, match="needs functions that Without may not call: calculate"):
        start_declared(alice, report, {"place": "Brest"}, without)
    DeclaredTask.objects.update(agent=hers)
    bob = User.objects.create_user("bob")
    report.refresh_from_db()
    with pytest.raises(TaskExecutionError, match="“Tide report” is not offered any more"):
        start_declared(bob, report, {"place": "Brest"}, demo)
    task, _ = start_declared(alice, report, {"place": "Brest"}, demo)
    assert task.agent_version == hers.current_version()
    DeclaredTask.objects.update(is_missing=True)
    with pytest.raises(TaskExecutionError, match="not offered any more"):
        start_declared(alice, report, {"place": "Brest"}, demo)
