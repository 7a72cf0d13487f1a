"""docs/adding-a-model.md tells the truth: its code is that of the files here, and what it says to run, runs."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
PAGE = (ROOT / "docs" / "adding-a-model.md").read_text()
EXAMPLE, TEST = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def test_the_code_on_the_page_is_that_of_the_files() -> None:
    assert (HERE / "acme.py").read_text() == EXAMPLE
    assert (HERE / "test_acme.py").read_text().replace("tests.executor.core.acme", "acme") == TEST


def test_somebody_elses_class_runs_the_contract_with_the_command_on_the_page(tmp_path: Path) -> None:
    (tmp_path / "acme.py").write_text(EXAMPLE)
    (tmp_path / "test_acme.py").write_text(TEST)
    (line,) = re.findall(r"^PYTHONPATH=\S+ \.venv/bin/python (.*)$", PAGE, re.MULTILINE)
    arguments = [word.replace("/where/it/lies", str(tmp_path)) for word in shlex.split(line)]
    some = ["-q", "-p", "no:cacheprovider", "-k", "replayed or redirect or dialect"]
    done = subprocess.run(
        [sys.executable, *arguments, *some],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "10 passed" in done.stdout, done.stdout


def test_a_broken_promise_is_told(tmp_path: Path) -> None:
    (tmp_path / "acme.py").write_text(EXAMPLE.replace('"tool_call_id": each.call.id', '"tool_call_id": "x"'))
    (tmp_path / "test_acme.py").write_text(TEST)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "tests.fakes.fixtures", "-p", "no:cacheprovider"),
            *("-c", "pyproject.toml", "-k", "replayed", str(tmp_path / "test_acme.py")),
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "1 failed" in done.stdout
