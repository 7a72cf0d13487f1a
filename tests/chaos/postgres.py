"""A PostgreSQL server that can be stopped and started, and a site on it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import dict_row

from tests.agentsite.conftest import PATIENCE, ROOT
from tests.chaos.site import Row, Site

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
    def __init__(self, data: Path, server: Postgres, **more: str) -> None:
        super().__init__(data, **more, DATABASE_URL=server.url)
        self.server = server

    def rows(self, sql: str, *parameters: Any) -> list[Row]:
        place = {"host": str(self.server.folder), "user": "agentsite", "dbname": "agentsite"}
        with psycopg.connect(**place, row_factory=dict_row) as connection:  # type: ignore[arg-type]
            return connection.execute(sql.replace("?", "%s"), parameters).fetchall()
