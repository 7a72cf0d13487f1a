"""A whole site as its users have it: `manage.py up` with its processes, seen from outside by HTTP and in its database.

with Site(tmp_path / "data") as site:
    site.add_agent("slow", parameters={"pause": 0.1})
    alice = site.log_in(site.add_user("alice"))
    task = alice.ask("count to 10", agent="slow")
    site.kill("worker")
    assert site.wait_until_over(task)["status"] == "done"
"""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import urllib.parse
import urllib.request
from contextlib import closing
from http.cookiejar import CookieJar
from typing import Any, Self
from uuid import UUID, uuid4

from tests.agentsite.conftest import PATIENCE, ROOT, Up, environment, eventually, manage

PASSWORD = "correct-horse-9"
OVER = {"done", "failed", "stopped", "needs_attention"}

Row = dict[str, Any]


class Site(Up):
    """A running site on a SQLite database in the folder `data` and a free port. `more` goes into its environment."""

    def __enter__(self) -> Self:
        return self

    # --- what is set up ----------------------------------------------------------------------------------------------

    def python(self, code: str) -> str:
        """Run `code` in a process of the site's own, with Django set up. Returns what it printed."""
        done = manage(self.data, "shell", "--verbosity", "0", "--command", code, **self.more)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def add_user(self, name: str, **fields: Any) -> str:
        """A person with the password PASSWORD. Returns the name."""
        fields = {"email": f"{name}@example.org", "password": PASSWORD, **fields}
        self.python(f"from users.models import User; User.objects.create_user({name!r}, **{fields!r})")
        return name

    def add_agent(self, name: str, **fields: Any) -> str:
        """An agent: the demonstration, without a pause, unless `fields` say otherwise. Returns the name."""
        fields = {"title": name.capitalize(), "provider": "demo", "max_iterations": 210, **fields}
        fields.setdefault("parameters", {"pause": 0})
        self.python(f"from executor.models import Agent; Agent.objects.create(name={name!r}, **{fields!r})")
        return name

    def log_in(self, name: str) -> Visitor:
        """A person's browser, logged in."""
        visitor = Visitor(self)
        visitor.post("/accounts/login/", login=name, password=PASSWORD)
        assert "sessionid" in visitor.cookies(), "The log-in was refused."
        return visitor

    # --- what stands in the database ---------------------------------------------------------------------------------

    def rows(self, sql: str, *parameters: Any) -> list[Row]:
        """What the database answers, read only. Ids in `parameters` may be UUIDs."""
        with closing(sqlite3.connect(f"file:{self.data / 'db.sqlite3'}?mode=ro", uri=True, timeout=20)) as connection:
            connection.row_factory = sqlite3.Row
            found = connection.execute(sql, [item.hex if isinstance(item, UUID) else item for item in parameters])
            return [dict(row) for row in found]

    def task(self, task: UUID) -> Row:
        return self.rows("SELECT * FROM executor_task WHERE id = ?", task)[0]

    def steps(self, task: UUID) -> list[Row]:
        """In order. JSON columns are text."""
        return self.rows("SELECT * FROM executor_step WHERE task_id = ? ORDER BY seq", task)

    def checkpoints(self, task: UUID) -> list[Row]:
        return self.rows("SELECT * FROM executor_checkpoint WHERE task_id = ? ORDER BY seq", task)

    def finished_calls(self, task: UUID) -> int:
        return sum(step["kind"] == "tool" and step["status"] == "done" for step in self.steps(task))

    def wait_for_calls(self, task: UUID, number: int) -> None:
        """Return as soon as so many function calls of the task are done."""
        eventually(lambda: self.finished_calls(task) >= number, f"{number} calls are done; {self.task(task)}")

    def wait_until_over(self, task: UUID) -> Row:
        eventually(lambda: self.task(task)["status"] in OVER, "the task is over")
        return self.task(task)

    # --- what is done to it ------------------------------------------------------------------------------------------

    def send(self, name: str, number: signal.Signals) -> int:
        """Send a signal to the process "web", "worker" or "redis". Returns its id."""
        pid = self.children()[name]
        os.kill(pid, number)
        return pid

    def kill(self, name: str) -> int:
        """`kill -9`. Returns the id that the process had."""
        return self.send(name, signal.SIGKILL)

    def second_worker(self) -> subprocess.Popen[bytes]:
        """Another worker process of this site, which nobody supervises: use it in a `with`, and end it."""
        command = [sys.executable, "-m", "celery", "-A", "agentsite", "--quiet", "--skip-checks", "worker"]
        command += ["--without-gossip", "--without-mingle", "--hostname", "second@%h"]
        return subprocess.Popen(command, cwd=ROOT, env=environment(self.data, **self.more), stderr=subprocess.DEVNULL)

    def wait_for_another(self, name: str, than: int) -> None:
        """Return as soon as `up` has started the process anew."""
        eventually(lambda: self.children().get(name, than) != than, f"{name} runs again")


class Visitor:
    """A browser without a page: keeps cookies, follows redirects, knows about CSRF."""

    def __init__(self, site: Site) -> None:
        self.conversation = ""  # The address of the last one that something was said in.
        self._site = site
        self._jar = CookieJar()
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self._jar))

    def cookies(self) -> dict[str, str]:
        return {cookie.name: cookie.value or "" for cookie in self._jar}

    def get(self, path: str) -> str:
        """The text of a page. Raises urllib.error.HTTPError for 400 and above."""
        with self._opener.open(self._site.address + path, timeout=PATIENCE) as response:
            return str(response.read().decode())

    def post(self, path: str, **fields: str) -> str:
        """Send a form and return the address it led to, without scheme and host."""
        if "csrftoken" not in self.cookies():
            self.get("/accounts/login/")
        data = urllib.parse.urlencode({**fields, "csrfmiddlewaretoken": self.cookies()["csrftoken"]}).encode()
        with self._opener.open(self._site.address + path, data, timeout=PATIENCE) as response:
            return str(urllib.parse.urlsplit(response.url).path)

    def ask(self, text: str, agent: str = "demo", conversation: str = "/") -> UUID:
        """Say something, in a new conversation or in the one at the address `conversation`. Returns the task's id."""
        key = uuid4().hex
        self.conversation = self.post(f"{conversation}send/", text=text, agent=agent, key=key)
        (found,) = self._site.rows("SELECT id FROM executor_task WHERE idempotency_key = ?", key)
        return UUID(str(found["id"]))
