"""Tasks from folders: what files declare, what is wrong with them, and the rows that are kept of them."""

from __future__ import annotations

import asyncio
from io import StringIO
from pathlib import Path
from textwrap import dedent

import pytest
from django.core.management import CommandError, call_command

from agentsite import doctor
from executor.checks import check_tasks
from executor.core.errors import TaskExecutionError
from executor.declared import class_for, offered_to, synchronise
from executor.models import Agent, DeclaredTask
from executor.tasks_file import DeclaredTasks, get_declared, read_task, reload_declared
from executor.yaml_file import FileError
from tests.executor.conftest import MakeScript, Put
from users.models import User

ONE = """\
title: Tides
description: What the sea does.
agent: helper
steps:
  - id: text
    instruction: Explain the tides of ${SEA:-the North Sea}.
    functions: [calculate]
"""
CODE = """\
from executor.core.executor import TaskExecutor
from executor.core.steps import TaskStep


class Base(TaskExecutor):
    pass


class MoonPhase(Base):
    '''Where the moon is.'''

    task_steps = (TaskStep("look", "Look up"),)

    async def handle_look(self, step_input):
        return {"look": "There."}
"""


def own(declared: DeclaredTasks, folder: Path) -> list[str]:
    return [name for name, one in declared.tasks.items() if one.source.startswith(str(folder))]


def mistakes(path: Path, text: str, **environment: str) -> list[str]:
    path.write_text(dedent(text))
    with pytest.raises(FileError) as raised:
        read_task(path, environment)
    return raised.value.mistakes


class TestReading:
    def test_a_file_is_named_after_itself_and_knows_its_environment(self, tmp_path: Path) -> None:
        (tmp_path / "tide_report.yaml").write_text(ONE)
        cls = read_task(tmp_path / "tide_report.yaml", {"SEA": "the Baltic"})
        assert (cls.name, cls.title, cls.agent) == ("tide-report", "Tides", "helper")
        assert cls.task_steps[0].instruction == "Explain the tides of the Baltic."

    def test_all_mistakes_of_a_file_are_told_at_once_with_line_and_field(self, tmp_path: Path) -> None:
        assert mistakes(
            tmp_path / "t.yaml",
            """\
            titel: Tides
            inputs:
              - name: place
                kind: colour
            steps:
              - id: Text
                instruction: ${SEA}
            """,
        ) == [
            (
                "t.yaml, line 1, titel: there is no such field. "
                "Use: name, title, description, agent, inputs, steps, answer."
            ),
            't.yaml, line 4, inputs[0].kind: must be one of: text, long_text, number, choice, boolean, not "colour".',
            (
                "t.yaml, line 6, steps[0].id: must be a word of small letters, digits and underscores, "
                'such as first_draft, not "Text".'
            ),
            (
                "t.yaml, line 7, steps[0].instruction: the environment variable SEA is not set. "
                "Set it, or write ${SEA:-a default}."
            ),
        ]

    def test_what_does_not_fit_together_is_told_too(self, tmp_path: Path) -> None:
        text = ONE + "    required_info: [place]\ninputs: []\nanswer: |\n  {txt}\n"
        assert mistakes(tmp_path / "t.yaml", text) == [
            (
                't.yaml, line 8, steps[0].required_info[0]: no input and no earlier step is called "place". '
                "There is: nothing yet."
            ),
            "t.yaml, line 10, answer: there is no step {txt}. Use {text}, or write {{txt}} for these very words.",
        ]

    @pytest.mark.parametrize(
        "name", ["OPENAI_API_KEY", "GIT_TOKEN", "MAIL_PASSWORD", "CLIENT_SECRET", "KEYRING", "DATABASE_URL"]
    )
    def test_what_is_secret_is_refused_and_not_repeated(self, tmp_path: Path, name: str) -> None:
        (told,) = mistakes(tmp_path / "t.yaml", ONE.replace("${SEA:-the North Sea}", f"${{{name}}}"), **{name: "hush"})
        assert told.startswith(f"t.yaml, line 6, steps[0].instruction: {name} holds a secret, and what stands here is")
        assert "hush" not in told

    @pytest.mark.parametrize("text", ["", "[]", "just words", "- a: 1"])
    def test_a_file_that_is_no_declaration_is_told_so(self, tmp_path: Path, text: str) -> None:
        assert mistakes(tmp_path / "t.yaml", text)


class TestFolders:
    def test_one_bad_file_takes_no_other_along(self, put: Put, tmp_path: Path) -> None:
        declared = put(
            *("tides.yaml", ONE, "moon.py", CODE, "broken.yaml", "steps: [", "fails.py", "import nothing_there"),
            *("exits.py", "raise SystemExit(3)", "_helper.py", "raise RuntimeError", "notes.txt", "Hello."),
        )
        assert own(declared, tmp_path) == ["moon-phase", "tides"]
        told = sorted(str(problem).removeprefix(f"{tmp_path}/") for problem in declared.problems)
        assert told[0].startswith("broken.yaml, line 1: it is not valid YAML (")
        assert told[1:] == [
            "exits.py: it cannot be imported (SystemExit: 3). Correct it; its tasks are not available.",
            (
                "fails.py: it cannot be imported (ModuleNotFoundError: No module named 'nothing_there'). "
                "Correct it; its tasks are not available."
            ),
        ]

    def test_a_class_is_held_to_the_same_rules(self, put: Put, tmp_path: Path) -> None:
        wrong = CODE.replace('TaskStep("look", "Look up"),', 'TaskStep("look", "", retries=-1),')
        declared = put("moon.py", wrong)
        assert own(declared, tmp_path) == []
        (problem,) = declared.problems
        assert str(problem).endswith(
            "moon.py, MoonPhase, steps[0].retries: must be a whole number from 0 to 10, not -1."
        )

    def test_a_name_is_given_once(self, put: Put, tmp_path: Path) -> None:
        declared = put("a.yaml", f"name: same\n{ONE}", "b.yaml", f"name: same\n{ONE}")
        assert declared.tasks["same"].source == f"{tmp_path}/a.yaml"
        (problem,) = declared.problems
        assert str(problem) == f'{tmp_path}/b.yaml: the name "same" is taken by {tmp_path}/a.yaml. Choose another one.'

    def test_problems_are_told_by_check_and_doctor(self, put: Put) -> None:
        put("tides.yaml", ONE)
        assert check_tasks() == []
        assert doctor.tasks() == f"{len(get_declared().tasks)} tasks, no problems."
        put("broken.yaml", "steps: []")
        (warning,) = check_tasks()
        assert (warning.id, "broken.yaml, line 1, steps: must not be empty." in warning.msg) == ("executor.W004", True)
        with pytest.raises(doctor.Ill, match="must not be empty"):
            doctor.tasks()


@pytest.mark.django_db
class TestRows:
    def test_a_changed_declaration_is_a_new_version_and_an_old_one_runs_as_it_was(self, put: Put) -> None:
        put("tides.yaml", ONE)
        synchronise()
        row = DeclaredTask.objects.get(name="tides")
        first = row.current_version()
        assert ("tides", "added") not in synchronise()
        put("tides.yaml", ONE.replace("Explain", "Draw"))
        assert synchronise() == [("tides", "changed (version 2)")]
        assert class_for(first).task_steps[0].instruction.startswith("Explain")
        assert class_for(row.current_version()).task_steps[0].instruction.startswith("Draw")

    def test_an_administrators_choice_of_agent_stays(self, put: Put, demo: Agent) -> None:
        helper = Agent.objects.create(name="helper", title="Helper", provider="demo")
        put("tides.yaml", ONE)
        synchronise()
        row = DeclaredTask.objects.get(name="tides")
        assert row.agent == helper
        DeclaredTask.objects.update(agent=demo)
        put("tides.yaml", ONE.replace("title: Tides", "title: Ebb"))
        synchronise()
        row.refresh_from_db()
        assert (row.title, row.agent) == ("Ebb", demo)

    def test_a_file_that_breaks_leaves_its_task_as_it_was(self, put: Put, alice: User, demo: Agent) -> None:
        put("tides.yaml", ONE)
        synchronise()
        put("tides.yaml", "steps: [")
        assert synchronise() == []
        row = DeclaredTask.objects.get(name="tides")
        assert row in offered_to(alice, demo)
        assert class_for(row.current_version()).title == "Tides"

    def test_what_is_gone_is_not_offered_and_comes_back(
        self, put: Put, tmp_path: Path, alice: User, demo: Agent
    ) -> None:
        put("tides.yaml", ONE, "moon.py", CODE)
        synchronise()
        (tmp_path / "tides.yaml").unlink()
        (tmp_path / "moon.py").write_text("raise ValueError")
        reload_declared()
        assert synchronise() == [("moon-phase", "missing"), ("tides", "missing")]
        assert not {"tides", "moon-phase"} & {row.name for row in offered_to(alice, demo)}
        with pytest.raises(TaskExecutionError, match=r"The code of “Moon phase” cannot be used \(dropped_tasks\.moon"):
            class_for(DeclaredTask.objects.get(name="moon-phase").current_version())
        put("tides.yaml", ONE, "moon.py", CODE)
        assert synchronise() == [("moon-phase", "there again"), ("tides", "there again")]
        assert {"tides", "moon-phase"} <= {row.name for row in offered_to(alice, demo)}

    def test_a_class_of_ones_own_runs(self, put: Put, scripted: MakeScript) -> None:
        put("moon.py", CODE)
        synchronise()
        cls = class_for(DeclaredTask.objects.get(name="moon-phase").current_version())
        assert asyncio.run(cls(scripted().llm()).execute({})).output == {"look": "There."}

    def test_only_what_somebody_may_use_is_offered(self, put: Put, alice: User, bob: User, demo: Agent) -> None:
        put("tides.yaml", ONE)
        synchronise()
        row = DeclaredTask.objects.get(name="tides")
        assert row in offered_to(alice, demo)
        without = Agent.objects.create(name="without", title="Without", provider="demo", functions=["draw_chart"])
        assert row not in offered_to(alice, without)
        DeclaredTask.objects.update(agent=Agent.objects.create(name="hers", title="Hers", provider="demo", owner=alice))
        assert row in offered_to(alice, demo)
        assert row not in offered_to(bob, demo)
        DeclaredTask.objects.update(agent=None, enabled=False)
        assert row not in offered_to(alice, demo)

    def test_the_command_loads_what_is_right_and_tells_what_is_wrong(self, put: Put) -> None:
        put("tides.yaml", ONE, "broken.yaml", "steps: []")
        out, err = StringIO(), StringIO()
        with pytest.raises(CommandError, match="Nothing was changed"):
            call_command("load_tasks", check=True, stdout=out, stderr=err)
        assert not DeclaredTask.objects.exists()
        call_command("load_tasks", stdout=out, stderr=err)
        assert "tides: added" in out.getvalue()
        assert "broken.yaml, line 1, steps: must not be empty." in err.getvalue()
