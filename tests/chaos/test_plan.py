"""A plan of tasks for several agents, on two workers: in order, side by side, one failure alone, one stop for all."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest

from tests.agentsite.conftest import eventually
from tests.chaos.site import Row, Site, Visitor
from tests.fakes.model_server import ModelServer
from tests.fakes.script import Call, Turn

pytestmark = pytest.mark.chaos

#: What each task of the plan needs: four side by side, one of which fails, and two ways on from these.
PLAN: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("a", "b", "c", "bad"), ()),
    "d": ("a", "b"),
    "e": ("b", "c"),
    "f": ("d",),
    "g": ("e",),
    "h": ("f", "g"),
    "i": ("h",),
    "never": ("bad", "a"),
    "nor": ("never",),
}
AGENTS = ("reader", "writer", "checker")


def entries(answer: Turn) -> list[dict[str, Any]]:
    """The tasks of the plan, each with what its model says."""
    found: list[dict[str, Any]] = []
    for number, (name, after) in enumerate(PLAN.items()):
        turns = [{"fault": "400"}] if name == "bad" else [{"text": answer.text, "rate": answer.rate}]
        task = f"Do {name}.\n@turns {json.dumps(turns)}"
        found.append({"id": name, "agent": AGENTS[number % 3], "task": task, "after": list(after)})
    return found


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, _model_server: ModelServer) -> Iterator[Site]:
    """With two workers, each with room for two tasks: three at once need both."""
    data = tmp_path_factory.mktemp("plan") / "data"
    with Site(data, WORKER_CONCURRENCY="2") as site:
        assert site.address
        model = {"provider": "openai_compatible", "base_url": _model_server.base_url, "model": "m", "parameters": {}}
        for name in ("main", *AGENTS):
            site.add_agent(name, **model)
        site.add_user("alice")
        with site.second_worker() as second:
            eventually(lambda: len(site.rows("SELECT 1 FROM executor_worker")) == 2, "two workers beat")
            try:
                yield site
            finally:
                second.terminate()


def begun(site: Site, model_server: ModelServer, answer: Turn) -> tuple[Visitor, UUID]:
    """The conversation in which the plan is at work."""
    model_server.script([Turn(calls=(Call("run_plan", {"tasks": entries(answer)}),)), Turn("All is done.")])
    alice = site.log_in("alice")
    return alice, alice.ask("Go.", agent="main")


def plan(site: Site, task: UUID) -> dict[str, Row]:
    return {row["name"]: row for row in site.rows("SELECT * FROM executor_task WHERE parent_id = ?", task)}


def test_a_plan_keeps_its_order_works_side_by_side_and_one_failure_takes_only_what_needs_it(
    site: Site, model_server: ModelServer
) -> None:
    owners: set[str] = set()
    _, task = begun(site, model_server, Turn("word " * 32, rate=8))

    def is_over() -> bool:
        owners.update(row["owner"] for row in plan(site, task).values() if row["status"] == "running")
        return site.task(task)["status"] in ("done", "failed", "stopped")

    eventually(is_over, "the plan is worked through")
    assert site.task(task)["status"] == "done"
    rows = plan(site, task)
    lost = {"bad": "failed", "never": "stopped", "nor": "stopped"}
    assert {name: row["status"] for name, row in rows.items()} == {name: lost.get(name, "done") for name in PLAN}
    for name in PLAN.keys() - lost.keys():
        for before in PLAN[name]:
            assert rows[before]["ended_at"] <= rows[name]["started_at"], (before, name)
    first = [rows[name] for name in ("a", "b", "c")]
    assert max(row["started_at"] for row in first) < min(row["ended_at"] for row in first)
    assert not any(rows[name]["started_at"] for name in ("never", "nor"))
    assert len(owners) == 2, "Both workers took part."
    (call,) = (step for step in site.steps(task) if step["name"] == "run_plan")
    assert json.loads(call["result"])["i"].startswith("word")


def test_one_stop_ends_every_task_of_a_plan_in_two_seconds(site: Site, model_server: ModelServer) -> None:
    alice, task = begun(site, model_server, Turn("word " * 2000, rate=8))
    at_work = ("a", "b", "c")

    def are_begun() -> bool:
        rows = plan(site, task)
        works = all(rows[name]["status"] == "running" for name in at_work if name in rows)
        return bool(rows) and works and rows["bad"]["status"] == "failed"

    eventually(are_begun, "three are at work, and one has failed")
    assert len({plan(site, task)[name]["owner"] for name in at_work}) == 2
    alice.post(f"/t/{task}/stop/")
    eventually(lambda: not site.rows("SELECT 1 FROM executor_task WHERE ended_at IS NULL"), "all are over")
    rows = plan(site, task)
    assert {name: row["status"] for name, row in rows.items()} == {
        name: "failed" if name == "bad" else "stopped" for name in PLAN
    }
    (took,) = site.rows(
        "SELECT (julianday(max(ended_at)) - julianday(max(stop_requested_at))) * 86400 AS seconds "
        "FROM executor_task WHERE parent_id = ? OR id = ?",
        task,
        task,
    )
    assert took["seconds"] < 2
