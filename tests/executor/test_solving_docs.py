"""docs/solving.md tells the truth: its script runs as printed, from another folder, in a real sandbox."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.agentsite.conftest import ROOT
from tests.executor.test_adding_a_task import run

PAGE = (ROOT / "docs" / "solving.md").read_text()
(CODE,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
(LINE,) = re.findall(r"^PYTHONPATH=.*$", PAGE, re.MULTILINE)


@pytest.mark.sandbox
def test_the_script_solves_its_problem_after_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "solve.py").write_text(CODE)
    done = run(tmp_path, LINE)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("done **There are 168 primes below 1,000; the largest is 997.**")
    assert "failed AssertionError: [2, 3, 5, 7, 9]\nran There are 168 primes" in done.stdout
