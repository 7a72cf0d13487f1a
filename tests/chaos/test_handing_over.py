"""Workers that are replaced, that do without their broker, and one task that takes each of them with it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest

from executor.journal import MAX_STALLED_ATTEMPTS
from executor.lease import LEASE
from tests.agentsite.conftest import eventually
from tests.chaos.site import Row, Site
from tests.executor.conftest import start_redis
from tests.fakes.model_server import ModelServer

pytestmark = pytest.mark.chaos

TASKS = 50
#: Seconds within which nineteen of twenty tasks go on elsewhere, also while other work slows the machine down. The aim
#: is one, which `make chaos` measures; a task that nobody was handed would wait for its lease.
SOON = LEASE.seconds / 2

DIE = '''
import os, signal
from tools.core.function import function

@function(effect="read")
def die() -> str:
    """Take the worker along."""
    os.kill(os.getpid(), signal.SIGKILL)
    return ""
'''


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with Site(tmp_path / "data") as site:
        assert site.address
        site.add_user("alice")
        yield site


def calls(site: Site, task: UUID) -> list[Row]:
    return [step for step in site.steps(task) if step["kind"] == "tool"]


def held_by(site: Site, pid: int) -> dict[UUID, int]:
    """The tasks that this worker has, with their fences."""
    found = site.rows("SELECT id, fence FROM executor_task WHERE status = 'running' AND owner LIKE ?", f"%:{pid}:%")
    return {UUID(row["id"]): row["fence"] for row in found}


def began_again(site: Site, task: UUID, fence: int) -> list[float]:
    """When somebody else than the one with this fence began steps of the task, in seconds of the clock."""
    return [
        datetime.fromisoformat(step["started_at"]).replace(tzinfo=UTC).timestamp()
        for step in site.steps(task)
        if step["started_at"] and step["fence"] > fence
    ]


def replaced(site: Site, pid: int, replace: Callable[[], object]) -> list[float]:
    """End a worker that is at work. Returns the seconds after which each of its tasks went on elsewhere."""
    eventually(lambda: len(held_by(site, pid)) > 3, "it is at work")
    held, moment = held_by(site, pid), time.time()
    os.kill(pid, signal.SIGTERM)
    replace()
    eventually(lambda: not held_by(site, pid), "all are handed over")
    waits = []
    for task, fence in held.items():
        began: list[float] = []

        def goes_on(task: UUID = task, fence: int = fence, began: list[float] = began) -> bool:
            began += began_again(site, task, fence)
            return bool(began) or site.task(task)["status"] == "done"

        eventually(goes_on, "it goes on")
        waits += [min(began) - moment] if began else []
    return waits


def test_a_deploy_under_load_loses_nothing_and_keeps_nobody_waiting(site: Site) -> None:
    """Both workers are replaced one after the other while fifty tasks run."""
    site.add_agent("slow", parameters={"pause": 0.15})
    alice = site.log_in("alice")
    with ExitStack() as stack:

        def another() -> subprocess.Popen[bytes]:
            worker = stack.enter_context(site.second_worker())
            stack.callback(worker.terminate)
            return worker

        second = another()
        eventually(lambda: len(site.rows("SELECT 1 FROM executor_worker")) == 2, "two workers are there")
        tasks = [alice.ask("count to 10", agent="slow") for _ in range(TASKS)]
        waits = replaced(site, second.pid, another)
        own = site.children()["worker"]
        waits += replaced(site, own, lambda: site.wait_for_another("worker", than=own))
        for task in tasks:
            row = site.wait_until_over(task)
            assert (row["status"], row["error"]) == ("done", "")
            done = calls(site, task)
            wanted = [f"{number} + 1" for number in range(10)]
            assert [json.loads(call["arguments"])["expression"] for call in done] == wanted
            assert {(call["status"], call["attempt"]) for call in done} == {("done", 1)}
    waits.sort()
    slowest = waits[round(0.95 * (len(waits) - 1))]
    print(f"\n{len(waits)} tasks went on elsewhere, 19 of 20 within {slowest:.2f} s")  # noqa: T201  (`pytest -rP`)
    assert len(waits) > 5
    assert slowest < SOON


def test_tasks_are_taken_up_and_done_while_the_broker_is_down_also_by_a_new_worker(tmp_path: Path) -> None:
    broker = start_redis(tmp_path / "redis.sock")
    try:
        with Site(tmp_path / "data", REDIS_URL=f"unix://{tmp_path / 'redis.sock'}") as site:
            assert site.address
            site.add_agent("slow", parameters={"pause": 0.05})
            site.add_user("alice")
            alice = site.log_in("alice")
            running = alice.ask("count to 10", agent="slow")
            site.wait_for_calls(running, 2)
            broker.terminate()
            broker.wait()
            asked = alice.ask("count to 3", agent="slow")
            for task, number in ((running, 10), (asked, 3)):
                assert site.wait_until_over(task)["status"] == "done"
                assert len(calls(site, task)) == number
            pid = site.kill("worker")
            site.wait_for_another("worker", than=pid)
            later = alice.ask("count to 2", agent="slow")
            assert site.wait_until_over(later)["status"] == "done"
            assert len(calls(site, later)) == 2
            broker = start_redis(tmp_path / "redis.sock")
            eventually(site.is_healthy, "all is well again")
    finally:
        broker.terminate()
        broker.wait()


def test_a_task_that_crashes_its_worker_again_and_again_needs_attention_and_the_site_goes_on(
    tmp_path: Path, model_server: ModelServer
) -> None:
    folder = tmp_path / "functions"
    folder.mkdir()
    (folder / "deadly.py").write_text(DIE)
    with Site(tmp_path / "data", FUNCTIONS_DIR=str(folder)) as site:
        assert site.address
        fields = {"provider": "openai_compatible", "base_url": model_server.base_url, "model": "echo", "parameters": {}}
        site.add_agent("deadly", functions=["die"], **fields)
        site.add_agent("slow", parameters={"pause": 0.05})
        site.add_user("alice")
        alice = site.log_in("alice")
        turns = [{"text": "Let me see.", "calls": [{"name": "die"}]}, {"text": "Still alive?"}]
        task = alice.ask(f"Go.\n@turns {json.dumps(turns)}", agent="deadly")
        row = site.wait_until_over(task)
        assert (row["status"], row["error_kind"]) == ("needs_attention", "stalled")
        assert f"begun {MAX_STALLED_ATTEMPTS} times" in row["error"]
        assert f"begun {MAX_STALLED_ATTEMPTS} times" in alice.get(alice.conversation)
        (call,) = calls(site, task)
        assert call["status"] == "cancelled"
        assert site.process.poll() is None
        other = alice.ask("count to 2", agent="slow")
        assert site.wait_until_over(other)["status"] == "done"
