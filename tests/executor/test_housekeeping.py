"""Chores take as long as they take, and the worker's heart beats on."""

from __future__ import annotations

import threading
from contextlib import closing
from typing import Any

import pytest

from executor import worker
from executor.housekeeping import housekeeping
from executor.models import Status
from tests.executor.conftest import MakeScript, MakeTask
from tests.executor.scripted import say
from tests.executor.test_worker import eventually, is_, message_is_lost

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_server")]


def test_the_heart_beats_while_chores_are_done(
    make_task: MakeTask, scripted: MakeScript, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, may_end, ended = threading.Event(), threading.Event(), threading.Event()

    def long_chore(**_: Any) -> None:
        begun.set()
        may_end.wait(30)
        ended.set()

    task = make_task("Hi.", scripted(say("Hello.")))
    monkeypatch.setattr(worker, "EVERY", 0.01)
    housekeeping.connect(long_chore)
    try:
        with closing(worker.WorkerProcess(8)):
            assert begun.wait(15)
            monkeypatch.setattr(worker, "EVERY", 3600.0)
            message_is_lost(task)
            eventually(is_(task, Status.DONE))  # The heart took it up, and it alone extends the leases.
            assert not ended.is_set()
            may_end.set()
            assert ended.wait(15)
    finally:
        may_end.set()
        housekeeping.disconnect(long_chore)
