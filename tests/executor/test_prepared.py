"""Statements that are compiled once: they do what Django's own would do, on every database."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection
from django.db.models import Count, Model
from django.db.models.functions import Now
from django.utils import timezone

from executor import statements
from executor.models import Step, Task
from executor.prepared import Param, Select, Statement, insert, update
from tests.executor.conftest import MakeTask

pytestmark = pytest.mark.django_db(transaction=True)

ADD = insert(
    Step, task_id=Param("task"), seq=Param("seq"), kind="tool", status="done", fence=1, arguments=Param("arguments")
)
RENAME = update(lambda: Step.objects.filter(task=Param("task"), seq=Param("seq")), name=Param("name"), fence=2)

STEPS = Select(lambda: Step.objects.filter(task=Param("task"), seq__gt=Param("since")).defer("native").order_by("seq"))
TASK = Select(
    lambda: (
        Task.objects.filter(pk=Param("task"), created_at__lte=Param("now"))
        .select_related("agent_version", "previous")
        .annotate(count=Count("steps"))
    )
)


def fields_of(model: Model | None) -> dict[str, object]:
    """What was read of it, and of what was read with it."""
    assert model is not None
    related = {name: other and fields_of(other) for name, other in model._state.fields_cache.items()}
    return {**{name: value for name, value in vars(model).items() if name != "_state"}, **related}


def test_what_is_read_is_what_django_reads(make_task: MakeTask) -> None:
    first = make_task()
    task = make_task(previous=first)
    for seq in (1, 2, 3):
        ADD.execute(task=task.pk, seq=seq, arguments={"n": [seq, "%s"]})
    Step.objects.filter(seq=3).update(started_at=Now())
    ours, theirs = (
        STEPS.all(task=task.pk, since=1),
        Step.objects.filter(task=task, seq__gt=1).defer("native").order_by("seq"),
    )
    assert [fields_of(step) for step in ours] == [fields_of(step) for step in theirs]
    assert [step.arguments for step in ours] == [{"n": [2, "%s"]}, {"n": [3, "%s"]}]
    now = timezone.now()
    by_django = Task.objects.select_related("agent_version", "previous").annotate(count=Count("steps"))
    for pk in (task.pk, first.pk):
        assert fields_of(TASK.first(task=pk, now=now)) == fields_of(by_django.get(pk=pk))
    assert TASK.first(task=task.pk, now=now - timedelta(days=1)) is None
    with pytest.raises(TypeError, match="The statement takes"):
        TASK.first(task=task.pk)


def test_what_was_not_read_is_read_when_it_is_asked_for(make_task: MakeTask) -> None:
    task = make_task()
    Step.objects.create(task=task, seq=1, kind="model", status="done", fence=1, native={"a": 1})
    (step,) = STEPS.all(task=task.pk, since=0)
    assert "native" not in vars(step)
    assert step.native == {"a": 1}


def test_values_differ_from_one_time_to_the_next_and_other_rows_are_left_alone(make_task: MakeTask) -> None:
    task = make_task()
    odd = {"100%": ["%s", None, "🌊", 1.5]}
    for seq, arguments in enumerate((odd, {}, None), start=1):
        ADD.execute(task=task.pk, seq=seq, arguments=arguments)
    assert RENAME.execute(task=task.pk, seq=2, name="50 %s") == 1
    assert RENAME.execute(task=task.pk, seq=9, name="nobody") == 0
    assert list(task.steps.values_list("seq", "name", "arguments", "fence")) == [
        (1, "", odd, 1),
        (2, "50 %s", {}, 2),
        (3, "", None, 1),
    ]


def test_what_is_not_given_has_the_default_that_the_model_says(make_task: MakeTask) -> None:
    task = make_task()
    ADD.execute(task=task.pk, seq=1, arguments=None)
    by_django = Step.objects.create(task=task, seq=2, kind="tool", status="done", fence=1)
    ours, theirs = (
        {field.attname: getattr(step, field.attname) for field in Step._meta.concrete_fields}
        for step in (task.steps.get(seq=1), Step.objects.get(pk=by_django.pk))
    )
    assert {name for name in ours if ours[name] != theirs[name]} == {"id", "seq"}


@pytest.mark.parametrize("values", [{"task": 1, "seq": 1}, {"task": 1, "seq": 1, "name": "", "fence": 2}])
def test_a_value_that_is_missing_or_one_too_many_is_a_mistake(values: dict[str, object]) -> None:
    with pytest.raises(TypeError, match="The statement takes"):
        RENAME.execute(**values)


def test_the_database_looks_for_the_task_and_its_steps_by_an_index(make_task: MakeTask) -> None:
    if connection.vendor != "sqlite":
        pytest.skip("PostgreSQL reads small tables as a whole.")
    make_task()
    updates = [what for what in vars(statements).values() if isinstance(what, Statement)]
    assert len(updates) > 5
    for statement in updates:
        sql, params = statement._build()
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN QUERY PLAN {sql}", [None if isinstance(p, Param) else p for p in params])
            assert not [row for row in cursor.fetchall() if "SCAN" in row[3]], sql
    assert Task.objects.count() == 1
