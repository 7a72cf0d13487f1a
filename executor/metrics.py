"""What a site owner watches, as Prometheus asks for it.

What happens is counted by the process in which it happens, with prometheus_client, whose multi-process mode keeps the
counts of each process in a small file under METRICS_DIR: the web process adds up all of them, also of workers that are
gone. What is so right now is counted in rows, when somebody asks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from django.conf import settings
from django.db.models import Count, Min, Sum
from django.db.models.functions import Now
from django.utils import timezone
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from executor.core.task_events import FunctionCalled, ModelAsked, TaskBegun, TaskEnded, TaskEvent
from executor.lease import claimable, turn_came
from executor.models import ACTIVE, Decision, Status, Task, Worker
from executor.states import WORKER_GONE
from tools.registry import get_registry

#: Names that people or models make up would be a series each.
PERSONAL, OTHER = "personal", "other"

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

TASKS = Counter("agentsite_tasks_ended", "Tasks that ended, by how; one that is tried again ends again.", ["status"])
WAITED = Histogram("agentsite_task_wait_seconds", "From a task's turn until a worker took it up.", buckets=_SECONDS)
MODEL = ["provider", "model"]
ASKED = Counter(
    "agentsite_model_calls", "Questions to models that are over, by what came of them.", [*MODEL, "outcome"]
)
TOKENS = Counter("agentsite_model_tokens", "Tokens that models read and wrote.", [*MODEL, "direction"])
COST = Counter("agentsite_model_cost_dollars", "US dollars, as far as prices are known.", MODEL)
UNPRICED = Counter("agentsite_model_calls_unpriced", "Questions whose price nobody knows.", MODEL)
FIRST = Histogram("agentsite_first_token_seconds", "Until the first word came.", ["provider"], buckets=_SECONDS)
CALLED = Counter("agentsite_function_calls", "Calls of functions, by what came of them.", ["function", "outcome"])


def count(event: TaskEvent) -> None:
    """The first of all handlers of events."""
    match event:
        case TaskBegun():
            WAITED.observe(event.waited)
        case ModelAsked():
            _count_answer(event)
        case FunctionCalled():
            name = event.name if event.name in get_registry().functions else OTHER
            CALLED.labels(name, event.outcome).inc()
        case TaskEnded():
            TASKS.labels(event.status).inc()


def _count_answer(event: ModelAsked) -> None:
    which = (event.provider, PERSONAL if event.is_personal else event.model)
    ASKED.labels(*which, event.outcome).inc()
    TOKENS.labels(*which, "input").inc(event.input_tokens)
    TOKENS.labels(*which, "output").inc(event.output_tokens)
    if event.cost is None:
        UNPRICED.labels(*which).inc()
    else:
        COST.labels(*which).inc(float(event.cost))
    if event.first_token is not None:
        FIRST.labels(event.provider).observe(event.first_token)


class Counts(MultiProcessCollector):
    """Of all processes. Of one that was killed as it began, the file may still be empty."""

    def __init__(self) -> None:
        self._folder = Path(settings.METRICS_DIR)

    def collect(self) -> Iterable[Metric]:
        files = [str(file) for file in self._folder.glob("*.db") if file.stat().st_size]
        found: Iterable[Metric] = self.merge(files, accumulate=True)  # type: ignore[no-untyped-call]
        return found


class Rows(Collector):
    """What is so right now: the same from whichever process is asked."""

    def collect(self) -> Iterator[Metric]:
        tasks = GaugeMetricFamily("agentsite_tasks", "Tasks that are not over, by state.", labels=["status"])
        active = Task.objects.filter(status__in=ACTIVE).order_by().values_list("status")
        counts = dict(active.annotate(Count("pk")))
        for status in ACTIVE:
            tasks.add_metric([str(status)], counts.get(status, 0))
        yield tasks
        queued = Task.objects.filter(claimable(), status=Status.QUEUED)
        queue = queued.aggregate(length=Count("pk"), since=Min(turn_came()))
        age = (timezone.now() - queue["since"]).total_seconds() if queue["since"] else 0.0
        yield _gauge(
            "agentsite_queue_length", "Tasks whose turn it is, and that no worker has taken up.", queue["length"]
        )
        yield _gauge("agentsite_queue_age_seconds", "How long the one at its head has waited.", max(0.0, age))
        workers = Worker.objects.filter(beat_at__gt=Now() - WORKER_GONE).aggregate(
            count=Count("pk"), busy=Sum("running")
        )
        yield _gauge("agentsite_workers", "Workers that are alive.", workers["count"])
        yield _gauge("agentsite_worker_tasks", "Tasks that they have at work.", workers["busy"] or 0)
        pending = Decision.objects.filter(status=Decision.Status.PENDING).count()
        yield _gauge("agentsite_decisions_pending", "Questions that wait for a person.", pending)


def _gauge(name: str, meaning: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, meaning, value=value)


def written() -> bytes:
    """Everything, in Prometheus' text format: also metrics of the owner's own code."""
    registry = CollectorRegistry()
    registry.register(Counts())
    registry.register(Rows())
    return generate_latest(registry)
