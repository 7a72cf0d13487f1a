"""The short form of `make chaos`: tasks of every kind on a site that is killed meanwhile."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.agentsite.conftest import ROOT

pytestmark = pytest.mark.chaos

SEED = 20261120


def test_nothing_is_lost_or_done_twice_while_everything_is_killed() -> None:
    command = [sys.executable, "-m", "chaos", "--kills", "25", "--minutes", "0.5", "--seed", str(SEED)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=400, check=False)
    print(done.stdout)  # noqa: T201  (shown by `pytest -rP`, and on failure)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = dict(re.findall(r"^\| ([^|]+) \| ([^|]*) \|$", done.stdout, re.MULTILINE))
    assert int(re.findall(r"told (\d+)", rows["tasks that were given to other agents"])[0]) > 0
    assert int(re.findall(r"done (\d+)", rows["summaries"])[0]) > 0
