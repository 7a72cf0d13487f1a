"""A PostgreSQL server goes away while the site works, and comes back."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
import urllib.error
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg.rows import dict_row

from tests.agentsite.conftest import PATIENCE, ROOT, eventually
from tests.chaos.site import Row, Site, Visitor

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.skipif(not shutil.which("initdb"), reason="there is no PostgreSQL server"),
]
#: Seconds within which whoever watches over the site learns that it does not work.
SOON = 5.0
#: Who runs the server: PostgreSQL refuses to run as root.
AS_USER = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"] if os.getuid() == 0 else []


class Postgres:
    """A server of its own, as scripts/with-postgres gives one, which can be stopped and started."""

    def __init__(self) -> None:
        command = ["scripts/with-postgres", "sh", "-c", 'echo "$DATABASE_URL"; exec cat']
        self.process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout
        self.url = self.process.stdout.readline().strip()
        assert self.url, "The server did not start."
        self.folder = Path(self.url.partition("@/")[2]).parent

    def control(self, *arguments: str) -> None:
        command = [*AS_USER, "pg_ctl", "-D", str(self.folder / "data"), "-w", *arguments]
        subprocess.run(command, cwd="/", check=True, stdout=subprocess.DEVNULL, timeout=PATIENCE)

    def stop(self, mode: str) -> None:
        """`mode` is "fast" (connections are closed) or "immediate" (as when it crashes)."""
        self.control("stop", "-m", mode)

    def start(self) -> None:
        options = (self.folder / "data" / "postmaster.opts").read_text().partition(" ")[2].replace('"', "'")
        self.control("start", "-l", str(self.folder / "server.log"), "-o", options.strip())

    def close(self) -> None:
        self.process.communicate(timeout=PATIENCE)


class PostgresSite(Site):
    def __init__(self, data: Path, server: Postgres) -> None:
        super().__init__(data, DATABASE_URL=server.url)
        self.server = server

    def rows(self, sql: str, *parameters: Any) -> list[Row]:
        place = {"host": str(self.server.folder), "user": "agentsite", "dbname": "agentsite"}
        with psycopg.connect(**place, row_factory=dict_row) as connection:  # type: ignore[arg-type]
            return connection.execute(sql.replace("?", "%s"), parameters).fetchall()


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
