"""Metrics: what is counted as it happens, what is so right now, and that the page about them tells the truth."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.conf import settings
from django.db import connection
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext
from prometheus_client import Counter, Histogram
from prometheus_client.parser import text_string_to_metric_families

from executor import metrics
from executor.core.task_events import FunctionCalled, ModelAsked, TaskBegun, TaskEnded
from executor.models import Decision, Status, Task, Worker
from executor.task_events import wait_until_told
from tests.executor.conftest import MakeTask, claimed

pytestmark = pytest.mark.django_db(transaction=True)

WHO: dict[str, Any] = {"task_id": uuid4(), "user_id": 1, "agent": "helper"}
ASKED: dict[str, Any] = {"provider": "claude", "outcome": "done", "input_tokens": 100, "output_tokens": 20}


def values(text: str) -> dict[tuple[str, ...], float]:
    """By the name of a sample and the values of its labels in the order of their names."""
    return {
        (sample.name, *(sample.labels[name] for name in sorted(sample.labels))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def now() -> dict[tuple[str, ...], float]:
    return values(metrics.written().decode())


def test_what_happens_is_counted_by_what_came_of_it() -> None:
    assert wait_until_told(30), "What other tests did is counted by now."
    before = now()
    metrics.count(TaskBegun(**WHO, waited=0.3))
    metrics.count(ModelAsked(**WHO, **ASKED, model="opus", cost=Decimal("0.25"), first_token=0.7))
    metrics.count(ModelAsked(**WHO, **ASKED | {"outcome": "timeout"}, model="opus", cost=None))
    metrics.count(FunctionCalled(**WHO, name="calculate", outcome="done"))
    metrics.count(FunctionCalled(**WHO, name="calculate", outcome="failed"))
    metrics.count(TaskEnded(**WHO, status="failed", reason="server"))
    after = now()
    counted: dict[tuple[str, ...], Any] = {
        key: value - before.get(key, 0) for key, value in after.items() if value != before.get(key, 0)
    }
    expected: dict[tuple[str, ...], Any] = {
        **{("agentsite_task_wait_seconds_bucket", le): 1 for le in ("0.5", "1.0", "2.5", "5.0", "10.0", "30.0")},
        **{("agentsite_task_wait_seconds_bucket", le): 1 for le in ("60.0", "+Inf")},
        ("agentsite_task_wait_seconds_sum",): pytest.approx(0.3),
        ("agentsite_task_wait_seconds_count",): 1,
        ("agentsite_model_calls_total", "opus", "done", "claude"): 1,
        ("agentsite_model_calls_total", "opus", "timeout", "claude"): 1,
        ("agentsite_model_tokens_total", "input", "opus", "claude"): 200,
        ("agentsite_model_tokens_total", "output", "opus", "claude"): 40,
        ("agentsite_model_cost_dollars_total", "opus", "claude"): 0.25,
        ("agentsite_model_calls_unpriced_total", "opus", "claude"): 1,
        **{
            ("agentsite_first_token_seconds_bucket", le, "claude"): 1
            for le in ("1.0", "2.5", "5.0", "10.0", "30.0", "60.0", "+Inf")
        },
        ("agentsite_first_token_seconds_sum", "claude"): pytest.approx(0.7),
        ("agentsite_first_token_seconds_count", "claude"): 1,
        ("agentsite_function_calls_total", "calculate", "done"): 1,
        ("agentsite_function_calls_total", "calculate", "failed"): 1,
        ("agentsite_tasks_ended_total", "failed"): 1,
    }
    assert counted == expected


def test_nobody_can_make_up_series() -> None:
    before = set(now())
    for number in range(3):
        metrics.count(ModelAsked(**WHO, is_personal=True, **ASKED, model=f"made-up-{number}", cost=Decimal(0)))
        metrics.count(FunctionCalled(**WHO, name=f"made_up_{number}", outcome="failed"))
    text = metrics.written().decode()
    assert not re.search("made.up", text)
    new = {key[1] for key in set(values(text)) - before if key[0] == "agentsite_model_calls_total"}
    assert new <= {"personal"}
    assert values(text)["agentsite_function_calls_total", "other", "failed"] >= 3


def test_a_process_that_was_killed_as_it_began_spoils_nothing() -> None:
    (Path(settings.METRICS_DIR) / "counter_999999.db").touch()
    try:
        assert ("agentsite_queue_length",) in now()
    finally:
        (Path(settings.METRICS_DIR) / "counter_999999.db").unlink()


def test_what_is_so_right_now_is_counted_in_rows(make_task: MakeTask) -> None:
    first, running, waiting = make_task(), make_task(), make_task()
    Task.objects.create(user=first.user, agent_version=first.agent_version, previous=running, input=first.input)
    claimed(running)
    Task.objects.filter(pk=first.pk).update(created_at="2026-01-01T00:00:00Z")
    Task.objects.filter(pk=waiting.pk).update(status=Status.WAITING)
    Decision.objects.create(task=waiting, kind=Decision.Kind.QUESTION)
    Worker.objects.create(owner="w", host="h", pid=1, beat_at=Now(), running=3)
    found = now()
    states = {key[1]: value for key, value in found.items() if key[0] == "agentsite_tasks" and value}
    assert states == {"queued": 2, "running": 1, "waiting": 1}
    assert found["agentsite_queue_length",] == 1, "The other one waits for the one at work."
    assert found["agentsite_queue_age_seconds",] > 3600
    assert (found["agentsite_workers",], found["agentsite_worker_tasks",]) == (1, 3)
    assert found["agentsite_decisions_pending",] == 1


def test_asking_takes_four_queries_and_reads_no_task_that_is_over(make_task: MakeTask) -> None:
    with CaptureQueriesContext(connection) as captured:
        metrics.written()
    assert len(captured) == 4
    assert "SCAN executor_task\n" not in "".join(_plan(query["sql"]) for query in captured.captured_queries)


def _plan(sql: str) -> str:
    if connection.vendor != "sqlite":
        return ""
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN QUERY PLAN {sql}")
        return "".join(f"{row[3]}\n" for row in cursor.fetchall())


def test_every_metric_is_explained() -> None:
    page = (Path(__file__).parents[2] / "docs" / "watching.md").read_text()
    named = set(re.findall(r"^\| `(agentsite_\w+)` \|", page, re.MULTILINE))
    counted = {
        f"{family.name}_total" if family.type == "counter" else family.name
        for metric in vars(metrics).values()
        if isinstance(metric, Counter | Histogram)
        for family in metric.collect()
    }
    assert named == counted | {family.name for family in metrics.Rows().collect()}
