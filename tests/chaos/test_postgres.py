"""A PostgreSQL server goes away while the site works, and comes back."""

from __future__ import annotations

import shutil
import time
import urllib.error
from collections.abc import Iterator
from uuid import UUID

import pytest

from tests.agentsite.conftest import eventually
from tests.chaos.postgres import Postgres, PostgresSite
from tests.chaos.site import Visitor

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.skipif(not shutil.which("initdb"), reason="there is no PostgreSQL server"),
]
#: Seconds within which whoever watches over the site learns that it does not work.
SOON = 5.0


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    server = Postgres()
    yield server
    server.close()


@pytest.fixture(scope="module")
def site(server: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresSite]:
    with PostgresSite(tmp_path_factory.mktemp("site") / "data", server) as site:
        assert site.address
        site.add_agent("slow", parameters={"pause": 0.08})
        site.add_user("alice")
        yield site


@pytest.fixture
def alice(site: PostgresSite) -> Visitor:
    return site.log_in("alice")


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_restarted_database_keeps_no_task_from_being_done_and_no_page_from_being_served(
    site: PostgresSite, server: Postgres, alice: Visitor, mode: str
) -> None:
    task = alice.ask("count to 10", agent="slow")
    site.wait_for_calls(task, 3)
    server.stop(mode)
    try:
        began = time.monotonic()
        code, health = site.get("/healthz")
        assert (code, '"database": "down"' in health) == (503, True)
        assert time.monotonic() - began < SOON
        assert status(alice, alice.conversation) >= 500  # So late that the task has given up waiting, too.
    finally:
        server.start()
    pages = ["/", alice.conversation, f"/t/{task}/", "/search/?q=count"] * 10
    assert [status(alice, page) for page in pages] == [200] * 40
    assert_counted_to_ten(site, task)
    other = alice.ask("count to 1", agent="slow")
    assert site.wait_until_over(other)["status"] == "done"
    eventually(site.is_healthy, "all is well again")


def status(visitor: Visitor, path: str) -> int:
    try:
        visitor.get(path)
    except urllib.error.HTTPError as error:
        return error.code
    return 200


def assert_counted_to_ten(site: PostgresSite, task: UUID) -> None:
    row = site.wait_until_over(task)
    assert (row["status"], row["error"]) == ("done", "")
    calls = [step for step in site.steps(task) if step["kind"] == "tool"]
    assert [call["arguments"]["expression"] for call in calls] == [f"{number} + 1" for number in range(10)]
    assert {call["status"] for call in calls} == {"done"}
