"""docs/watching.md tells the truth: what it prints is put where it says, on a real site whose workers come and go."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agentsite.conftest import ROOT, eventually, manage
from tests.chaos.site import Site
from tests.executor.test_metrics import values
from tests.fakes.model_server import ModelServer
from tests.fakes.script import Call, Turn

PAGE = (ROOT / "docs" / "watching.md").read_text()
LETTERS, WATCH, LOG = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
SETTINGS = dict(line.split("=", 1) for line in re.findall(r"^```\n([A-Z_]+=\S+)\n```$", PAGE, re.MULTILINE))


@pytest.fixture
def site(tmp_path: Path, _model_server: ModelServer) -> Iterator[Site]:
    data, own = tmp_path / "data", tmp_path / "own"
    (data / "functions").mkdir(parents=True, mode=0o700)
    own.mkdir()
    (data / "functions" / "letters.py").write_text(LETTERS)
    (own / "mywatch.py").write_text(WATCH)
    (own / "mylog.py").write_text(LOG)
    more = {"PYTHONPATH": str(own), "MY_LOG": str(own / "log"), "METRICS_TOKEN": "a-secret", **SETTINGS}
    with Site(data, **more) as site:
        assert site.address
        model = {"provider": "openai_compatible", "base_url": _model_server.base_url, "model": "m", "parameters": {}}
        site.add_agent("writer", **model)
        site.add_user("alice")
        yield site


def counts(site: Site) -> dict[tuple[str, ...], float]:
    request = urllib.request.Request(f"{site.address}/metrics", headers={"Authorization": "Bearer a-secret"})
    with urllib.request.urlopen(request, timeout=30) as response:
        return values(response.read().decode())


def test_what_the_page_prints_works_and_no_count_is_lost_with_its_process(
    site: Site, model_server: ModelServer, tmp_path: Path
) -> None:
    assert set(SETTINGS) == {"EVENT_HANDLERS", "LOG_HANDLERS"}
    alice = site.log_in("alice")

    def write(language: str) -> None:
        calls = (Call("write_letter", {"name": "Ada", "language": language}),)
        model_server.script([Turn(calls=calls), Turn("Written.")])
        assert site.wait_until_over(alice.ask("Write.", agent="writer"))["status"] == "done"

    def expect(done: int, french: int) -> None:
        wanted = {
            ("agentsite_tasks_ended_total", "done"): done,
            ("agentsite_function_calls_total", "write_letter", "done"): done,
            ("agentsite_model_calls_total", "m", "done", "openai_compatible"): 2 * done,
            ("agentsite_task_wait_seconds_count",): done,
            ("letters_written_total", "French"): french,
            ("letters_written_total", "English"): done - french,
        }
        eventually(lambda: {key: counts(site).get(key) for key in wanted} == wanted, f"{wanted} in {counts(site)}")

    write("French")
    write("English")
    expect(2, 1)
    site.wait_for_another("worker", than=site.kill("worker"))
    expect(2, 1)
    write("French")
    expect(3, 2)
    site.wait_for_another("web", than=site.kill("web"))
    eventually(site.is_healthy, "the page is served again")
    expect(3, 2)

    model_server.script([Turn(fault="400")])
    task = alice.ask("Write.", agent="writer")
    assert site.wait_until_over(task)["status"] == "failed"
    eventually(lambda: counts(site).get(("my_trouble_total", "writer")) == 1, "the handler counted it")
    lines = [json.loads(line) for line in (tmp_path / "own" / "log").read_text().splitlines()]
    (said,) = [json.loads(line["message"]) for line in lines if line["logger"] == "mywatch"]
    assert said["task"] == str(task)
    assert any(line["logger"] == "tools.core.toolbox" for line in lines)


def test_a_log_handler_that_cannot_be_imported_is_said_in_a_sentence(tmp_path: Path) -> None:
    done = manage(tmp_path / "data", "check", LOG_HANDLERS="nowhere.Handler")
    assert done.returncode != 0
    assert "LOG_HANDLERS: nowhere.Handler cannot be imported: No module named 'nowhere'" in done.stderr
