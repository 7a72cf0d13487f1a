"""Fixtures of MCP servers: `mcp_http` starts real ones, `mcp_command` allows one as a command."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
StartServer = Callable[..., str]


@pytest.fixture
def mcp_http(tmp_path: Path) -> Iterator[StartServer]:
    """Start a server that speaks HTTP: `mcp_http("--key", "secret")` gives its address. It notes in tmp_path/ledger."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> str:
        command = [sys.executable, "-m", "tests.fakes.mcp_server", "--port", "0", "--ledger", str(tmp_path / "ledger")]
        process = subprocess.Popen([*command, *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        return f"http://127.0.0.1:{process.stdout.readline().strip()}/mcp"

    yield start
    for process in started:
        process.kill()
        process.communicate(timeout=10)


@pytest.fixture
def mcp_command(tmp_path: Path, settings: Any) -> str:
    """The name of a command in MCP_COMMANDS. It notes in tmp_path/ledger."""
    start = tmp_path / "server.py"
    start.write_text(
        f"import runpy, sys\nsys.path.insert(0, {str(ROOT)!r})\n"
        "runpy.run_module('tests.fakes.mcp_server', run_name='__main__')\n"
    )
    settings.MCP_COMMANDS = f"fake={sys.executable} {start} --ledger {tmp_path / 'ledger'}"
    return "fake"


@pytest.fixture
def forget_servers() -> Iterator[None]:
    """What this process knows of servers does not outlive their rows."""
    from tools import registry

    yield
    registry._served, registry._served_as_of, registry._looked_at = ([], []), None, 0.0
    registry.reload_registry()
