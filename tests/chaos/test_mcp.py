"""An MCP server that is a command, on a whole site: registered on a page, asked by a worker, gone with it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.agentsite.conftest import ROOT, eventually
from tests.chaos.site import Site

pytestmark = pytest.mark.chaos


def processes(ledger: Path) -> set[int]:
    """Those that were started with this ledger."""
    found = set()
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = command.read_bytes().split(b"\0")
        except OSError:  # It ended meanwhile.
            continue
        if str(ledger).encode() in words:
            found.add(int(command.parent.name))
    return found


def test_a_command_is_asked_by_a_worker_dies_with_it_and_is_started_by_the_next(tmp_path: Path) -> None:
    ledger, start = tmp_path / "ledger", tmp_path / "server.py"
    start.write_text(
        f"import runpy, sys\nsys.path.insert(0, {str(ROOT)!r})\n"
        "runpy.run_module('tests.fakes.mcp_server', run_name='__main__')\n"
    )
    command = f"fake={sys.executable} {start} --ledger {ledger}"
    with Site(tmp_path / "data", MCP_COMMANDS=command) as site:
        assert site.address
        dora = site.log_in(site.add_user("dora", is_staff=True, is_superuser=True))
        add = {"name": "fake", "url": "", "command": "fake", "key": "", "key_header": "", "timeout": "60"}
        dora.post("/admin/tools/mcpserver/add/", enabled="on", **add)

        def answered() -> bool:
            [row] = site.rows("SELECT checked_at >= asked_at AND problem = '' AS fine FROM tools_mcpserver")
            return bool(row["fine"])

        eventually(answered, "a worker has listed the tools")
        [row] = site.rows("SELECT id, tools FROM tools_mcpserver")
        assert "add" in {tool["name"] for tool in json.loads(row["tools"])}
        page = dora.get(f"/admin/tools/mcpserver/{row['id']}/change/")
        assert "fake_add" in page
        assert "asks first" in page
        [first] = processes(ledger)

        worker = site.kill("worker")
        eventually(lambda: not processes(ledger), "the command is gone with its worker")
        site.wait_for_another("worker", worker)
        dora.post(f"/admin/tools/mcpserver/{row['id']}/test/")
        eventually(lambda: answered() and bool(processes(ledger)), "the next worker has started its own")
        assert first not in processes(ledger)
    eventually(lambda: not processes(ledger), "the command is gone with the site")
