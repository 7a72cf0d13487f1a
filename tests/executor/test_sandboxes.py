"""Whether code can be run: what a worker finds out and writes down, and what a page makes of it."""

from __future__ import annotations

from contextlib import closing
from datetime import timedelta
from typing import Any

import pytest
from django.db.models.functions import Now
from django.test import Client

from executor.models import Worker
from executor.sandboxes import code_off
from executor.worker import WorkerProcess
from tests.executor.test_worker import eventually
from tools import sandbox
from tools.registry import get_toolbox
from tools.sandbox import availability
from tools.sandbox.base import Availability
from users.models import User

REFUSED = {"ok": False, "mode": "", "reason": "It is forbidden here.", "hint": "Allow it."}
HOLDS = {"ok": True, "mode": "root", "reason": "", "hint": ""}


class Refusing:
    """A back end on a machine that forbids sandboxes."""

    isolation = "namespaces"

    def check(self) -> Availability:
        return Availability(ok=False, reason="It is forbidden here.", hint="Allow it.")


@pytest.fixture
def refusing(settings: Any) -> None:
    settings.SANDBOX_BACKEND = f"{__name__}.Refusing"
    settings.SANDBOX_OPTIONS = {}
    sandbox._found.clear()


def add_worker(found: dict[str, Any] | None, age: int = 0, beat: int = 0) -> Worker:
    owner = f"worker-{Worker.objects.count()}"
    made = Worker.objects.create(
        owner=owner, host="here", pid=1, beat_at=Now() - timedelta(seconds=beat), sandbox=found
    )
    Worker.objects.filter(pk=owner).update(started_at=Now() - timedelta(seconds=age))
    return made


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("redis_server", "_database_threads", "refusing")
def test_a_worker_writes_down_why_it_cannot_run_code() -> None:
    with closing(WorkerProcess(1)) as worker:
        eventually(lambda: Worker.objects.filter(owner=worker.owner, sandbox__isnull=False).exists())
        assert Worker.objects.get(owner=worker.owner).sandbox == REFUSED
        off = code_off()
        assert off is not None
        assert (off.reason, off.hint) == ("It is forbidden here.", "Allow it.")


def test_code_is_not_offered_where_the_sandbox_was_tried_and_refused(refusing: None, settings: Any) -> None:
    assert "run_python" in get_toolbox(["run_python"]).functions  # Nobody has tried.
    assert not availability().ok
    assert "run_python" not in get_toolbox(["run_python"]).functions
    settings.SANDBOX_BACKEND = "another.Backend"
    assert "run_python" in get_toolbox(["run_python"]).functions


@pytest.mark.django_db
def test_code_is_off_only_where_every_worker_that_is_there_says_so() -> None:
    assert code_off() is None
    add_worker(REFUSED, age=10)
    assert code_off() is not None
    trying = add_worker(None, age=5)
    assert code_off() is None
    Worker.objects.filter(pk=trying.pk).update(sandbox=REFUSED | {"reason": "Newer."})
    assert (off := code_off()) is not None
    assert off.reason == "Newer."
    holding = add_worker(HOLDS)
    assert code_off() is None
    Worker.objects.filter(pk=holding.pk).update(beat_at=Now() - timedelta(minutes=5))
    assert code_off() is not None


@pytest.mark.django_db
def test_administration_lists_which_workers_can_run_code(client: Client) -> None:
    client.force_login(User.objects.create_superuser("root", "root@example.org", "x"))
    add_worker(REFUSED)
    add_worker(HOLDS)
    add_worker(None)
    page = client.get("/admin/executor/worker/").content.decode()
    assert "No. It is forbidden here. Allow it." in page
    assert "Yes (root)" in page
