"""docs/adding-a-task.md tells the truth: what is printed is pasted into an empty folder and run as printed."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from executor.core.declaration import InputEntry, StepEntry, TaskEntry
from executor.core.events import Finished, LoopEvent
from executor.core.llms.base import BaseLlm
from executor.core.messages import Usage, assistant
from executor.tasks_file import read_task
from tests.agentsite.conftest import ROOT
from tests.executor.conftest import MakeScript, Put
from tests.executor.scripted import say

PAGE = (ROOT / "docs" / "adding-a-task.md").read_text()
README = (ROOT / "README.md").read_text()
(YAML,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
CODE, PLAN, TEST = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def run(folder: Path, line: str) -> subprocess.CompletedProcess[str]:
    """A command of the page, in `folder`, with nothing but what it needs."""
    words = shlex.split(line.replace("/where/agentsite/lies", str(ROOT)))
    more = dict(word.split("=", 1) for word in words if word.startswith("PYTHONPATH="))
    words = [word for word in words if not word.startswith("PYTHONPATH=")]
    assert words.pop(0) == "python"
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "AGENTSITE_DATA": str(folder / "data"), **more},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def command(ending: str) -> str:
    """The one that both pages print."""
    (line,) = set(re.findall(rf"^(.*python .*{re.escape(ending)}.*)$", PAGE + README, re.MULTILINE))
    return str(line)


def test_both_are_as_short_as_promised() -> None:
    assert len(YAML.splitlines()) == 20
    assert len([line for line in CODE.splitlines() if line]) <= 20


def test_the_yaml_runs_as_printed_in_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "packing_list.yaml").write_text(YAML)
    done = run(tmp_path, command("try_task packing_list.yaml"))
    assert done.returncode == 0, done.stderr
    assert "A language model would do this now: Write a packing list" in done.stdout
    assert "✓ Think of the weather" in done.stderr


async def test_the_yaml_does_what_it_says_with_a_model(tmp_path: Path, scripted: MakeScript) -> None:
    (tmp_path / "packing_list.yaml").write_text(YAML)
    script = scripted(say("It rains."), say("- An umbrella"))
    cls = read_task(tmp_path / "packing_list.yaml", {})
    task = cls(script.llm())
    result = await task.execute({"place": "Bergen"})
    assert (cls.name, task.answer(result.output)) == ("packing-list", "*It rains.*\n- An umbrella")
    assert '{"place": "Bergen", "days": 3, "weather": "It rains."}' in script.asked[1][-1].text


def test_the_python_runs_as_printed_in_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "haiku.py").write_text(CODE)
    done = run(tmp_path, command("haiku.py"))
    assert done.returncode == 0, done.stderr
    assert "A language model would do this now: Write a haiku." in done.stdout
    assert done.stdout.rstrip().endswith("lines)")


def test_the_same_files_are_found_in_the_folder_for_tasks(put: Put) -> None:
    declared = put("packing_list.yaml", YAML, "haiku.py", CODE)
    assert declared.problems == ()
    assert declared.tasks["haiku"].cls.description == "Writes a haiku and counts its lines."
    assert declared.tasks["packing-list"].cls.title == "Packing list"


def test_the_test_on_the_page_passes() -> None:
    given = {"BaseLlm": BaseLlm, "Finished": Finished, "assistant": assistant, "Usage": Usage}
    names: dict[str, Any] = {**given, "__name__": "haiku"}
    exec(CODE + TEST, names)
    names["test_a_haiku_has_its_lines_counted"]()


def test_a_listener_hears_what_a_task_does(scripted: MakeScript) -> None:
    names: dict[str, Any] = {"__name__": "haiku"}
    exec(CODE, names)
    tokens: list[int] = []

    async def listen(event: LoopEvent) -> None:
        if isinstance(event, Finished):
            tokens.append(event.usage.total_tokens)

    asyncio.run(names["Haiku"](scripted(say("One")).llm(), on_event=listen).execute({"topic": "tides"}))
    assert tokens == [12]


def test_every_field_is_explained() -> None:
    fields = set(TaskEntry.model_fields)
    fields |= {f"inputs.{name}" for name in InputEntry.model_fields} | {
        f"steps.{name}" for name in StepEntry.model_fields
    }
    table = PAGE.partition("| Field |")[2].partition("\n\n")[0]
    assert set(re.findall(r"^\| `([\w.]+)` \|", table, re.MULTILINE)) == fields


def test_the_readme_shows_the_same() -> None:
    for example in (YAML, CODE):
        assert example in README


@pytest.mark.parametrize(
    ("name", "text", "arguments", "sentence"),
    [
        ("a.yaml", "steps: []", "", "a.yaml, line 1, steps: must not be empty."),
        ("a.py", "1 / 0", "", "a.py: ZeroDivisionError: division by zero"),
        ("a.py", "x = 1", "", "a.py: there is no subclass of TaskExecutor with task_steps in it."),
        ("packing_list.yaml", YAML, "", "“Where to?” is missing."),
        ("packing_list.yaml", YAML, "place", "Write what the task asks for as NAME=VALUE, not 'place'."),
        ("packing_list.yaml", YAML, "town=Bergen", "“Packing list” does not ask for town. It asks for: place, days."),
        ("gone.yaml", None, "", "gone.yaml cannot be read: No such file or directory."),
    ],
)
def test_a_trial_says_what_is_wrong(tmp_path: Path, name: str, text: str | None, arguments: str, sentence: str) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(CommandError) as raised:
        call_command("try_task", str(tmp_path / name), *arguments.split())
    assert str(raised.value) == sentence


def test_a_trial_reads_values_from_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes.txt").write_text("The moon pulls the water towards it. The sun has its part in that as well.")
    outline = f"outline=@{tmp_path / 'notes.txt'}"
    call_command("try_task", str(ROOT / "tasks" / "document.yaml"), outline)
    assert "The moon pulls the water towards it." in capsys.readouterr().out
    with pytest.raises(CommandError, match="cannot be read"):
        call_command("try_task", str(ROOT / "tasks" / "document.yaml"), "outline=@gone.txt")
