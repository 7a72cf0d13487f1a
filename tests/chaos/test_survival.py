"""A task survives everything: real processes, killed in the middle of ten steps."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

import pytest

from executor.lease import LEASE
from tests.agentsite.conftest import eventually
from tests.chaos.site import Site, Visitor

pytestmark = pytest.mark.chaos


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One for all tests; each leaves it running."""
    with Site(tmp_path_factory.mktemp("site") / "data") as site:
        assert site.address
        site.add_agent("slow", parameters={"pause": 0.08})
        site.add_user("alice")
        yield site


@pytest.fixture
def alice(site: Site) -> Visitor:
    eventually(site.is_healthy, "the site is well")
    return site.log_in("alice")


def begun(site: Site, alice: Visitor) -> UUID:
    """A task in the middle of counting to ten."""
    task = alice.ask("count to 10", agent="slow")
    site.wait_for_calls(task, 3)
    assert site.task(task)["status"] == "running"
    return task


@contextmanager
def measured(what: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    print(f"\n{what}: {time.monotonic() - began:.1f} s")  # noqa: T201  (shown by `pytest -rP`)


def assert_counted_to_ten(site: Site, alice: Visitor, task: UUID) -> None:
    """It is done, each step exactly once, and every finished step has its checkpoint."""
    row = site.wait_until_over(task)
    assert (row["status"], row["error"]) == ("done", "")
    steps = site.steps(task)
    calls = [step for step in steps if step["kind"] == "tool"]
    assert [json.loads(call["arguments"])["expression"] for call in calls] == [f"{number} + 1" for number in range(10)]
    assert {call["status"] for call in calls} == {"done"}
    said = [step["text"] for step in steps if step["kind"] == "model" and step["status"] == "done"]
    assert said[:10] == [f"Step {number} of 10." for number in range(1, 11)]
    assert len(said) == 11
    assert "The last result is **10**" in said[10]
    assert [step["seq"] for step in steps] == list(range(1, row["head_seq"] + 1))
    assert {step["status"] for step in steps} <= {"done", "failed"}
    done = [step["seq"] for step in steps if step["status"] == "done"]
    assert [checkpoint["seq"] for checkpoint in site.checkpoints(task)] == done
    counters = {"iterations": 11, "tokens": 0, "tool_calls": 10, "cost": "0.00000000"}
    assert json.loads(site.checkpoints(task)[-1]["counters"]) == counters
    assert "10 steps" in alice.get(alice.conversation)


def test_a_killed_worker_does_not_keep_its_task_from_being_done(site: Site, alice: Visitor) -> None:
    task = begun(site, alice)
    pid = site.kill("worker")
    site.wait_for_another("worker", than=pid)
    done = site.finished_calls(task)
    with measured("kill -9 of the worker, until the next step is done"):
        site.wait_for_calls(task, done + 1)
    assert_counted_to_ten(site, alice, task)
    assert site.task(task)["fence"] == 2


def test_a_killed_redis_does_not_disturb_a_task(site: Site, alice: Visitor) -> None:
    task = begun(site, alice)
    pid = site.kill("redis")
    done = site.finished_calls(task)
    with measured("kill -9 of Redis, until the next step is done"):
        site.wait_for_calls(task, done + 1)
    site.wait_for_another("redis", than=pid)
    assert_counted_to_ten(site, alice, task)
    assert site.task(task)["fence"] == 1
    with measured("kill -9 of Redis, until a new task is done"):
        assert site.wait_until_over(alice.ask("count to 1", agent="slow"))["status"] == "done"


def test_a_killed_web_process_does_not_disturb_a_task_and_pages_are_served_again(site: Site, alice: Visitor) -> None:
    task = begun(site, alice)
    site.kill("web")
    with measured("kill -9 of the web process, until the page is served"):
        alice.get(alice.conversation)
    assert_counted_to_ten(site, alice, task)
    assert site.task(task)["fence"] == 1


def test_a_worker_that_is_asked_to_end_hands_its_task_over(site: Site, alice: Visitor) -> None:
    task = begun(site, alice)
    pid = site.send("worker", signal.SIGTERM)
    eventually(lambda: site.task(task)["fence"] == 1 and site.task(task)["status"] == "queued", "it is handed over")
    done = site.finished_calls(task)
    with measured("SIGTERM of the worker, from the hand-over until the next step is done"):
        site.wait_for_another("worker", than=pid)
        site.wait_for_calls(task, done + 1)
    assert_counted_to_ten(site, alice, task)
    assert site.task(task)["fence"] == 2


def test_a_frozen_worker_loses_its_task_to_another_and_cannot_write_when_it_wakes_up(
    site: Site, alice: Visitor
) -> None:
    task = begun(site, alice)
    frozen = site.send("worker", signal.SIGSTOP)
    try:
        with site.second_worker() as second:
            try:
                with measured(f"SIGSTOP of the worker (lease {LEASE.seconds} s), until another one has its task"):
                    eventually(lambda: site.task(task)["fence"] == 2, "another worker takes it up")
                os.kill(frozen, signal.SIGCONT)
                site.says(rf"Task {task} is somebody else's now")
                assert_counted_to_ten(site, alice, task)
                steps = site.steps(task)
                assert [step["fence"] for step in steps] == sorted(step["fence"] for step in steps)
            finally:
                second.terminate()
    finally:
        os.kill(frozen, signal.SIGCONT)
    assert site.task(task)["fence"] == 2
