"""`manage.py ask`: what can be wrong about the question, and a whole site that answers it."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from conversations.actions import send
from conversations.management.commands.ask import _CtrlC
from conversations.models import Turn
from conversations.words import clock
from executor.models import Agent
from tests.agentsite.conftest import PATIENCE, ROOT, environment, eventually, manage
from tests.chaos.site import Site
from tests.fakes.model_server import ModelServer
from tests.fakes.script import Call
from tests.fakes.script import Turn as Answer
from users.models import User

ANALYSE = "Analyse the text 'the quick brown fox jumps over the lazy dog' and draw its statistics"


def ask(text: str, **options: Any) -> str:
    """Run the command in this process, where no worker is. Returns what it wrote to stdout."""
    out = StringIO()
    call_command("ask", text, **{"stdout": out, "stderr": StringIO(), "timeout": 0.0, **options})
    return out.getvalue()


def refusal(text: str, **options: Any) -> CommandError:
    with pytest.raises(CommandError) as raised:
        ask(text, **options)
    return raised.value


class TestAQuestionThatCannotBeAsked:
    @pytest.mark.parametrize(
        ("text", "options", "sentence"),
        [
            ("  ", {}, "Write something first."),
            ("x" * 200_001, {}, "A message has at most 200,000 characters."),
            ("a\0b", {}, "It contains characters that are not text."),
            ("x", {"user": "nobody"}, "There is nobody with the user name 'nobody'."),
            ("x", {"user": "carol"}, "carol is suspended."),
            ("x", {"agent": "nobody"}, "There is no agent 'nobody'. There are: demo."),
            ("x", {"conversation": "12"}, "dora has no conversation '12'."),
            ("x", {"conversation": str(uuid4())}, "dora has no conversation "),
        ],
    )
    def test_is_refused_with_a_sentence_and_2(
        self, dora: User, carol: User, demo: Agent, text: str, options: dict[str, Any], sentence: str
    ) -> None:
        error = refusal(text, **options)
        assert str(error).startswith(sentence)
        assert error.returncode == 2
        assert not Turn.objects.exists()

    def test_is_refused_in_a_conversation_of_somebody_else(self, dora: User, bob: User, demo: Agent) -> None:
        theirs = send(bob, demo, "Mine").conversation
        assert "dora has no conversation" in str(refusal("x", conversation=str(theirs.pk)))

    def test_needs_to_know_who_asks(self, demo: Agent, alice: User) -> None:
        assert str(refusal("x")) == "There is no administrator yet. Say who asks with --user NAME."
        for name in ("root", "toor"):
            User.objects.create_superuser(name, f"{name}@example.org")
        assert str(refusal("x")) == "There is more than one administrator. Say who asks with --user NAME."

    def test_needs_an_agent(self, dora: User) -> None:
        assert "There is no agent yet. Run `manage.py load_agents`" in str(refusal("x"))


@pytest.mark.parametrize(("wait", "form"), [(100, r"\d\d:\d\d:\d\d UTC"), (200, r"\d\d:\d\d UTC")])
def test_a_time_has_seconds_where_it_is_near(wait: int, form: str) -> None:
    assert re.fullmatch(form, clock(timezone.now() + timedelta(seconds=wait)))


class TestWithoutAWorker:
    def test_the_task_stays_queued_and_one_is_told_why(self, dora: User, demo: Agent) -> None:
        error = refusal("Hello")
        assert str(error).startswith("It is not over yet (queued) and will go on by itself. No worker is running.")
        assert error.returncode == 1
        assert Turn.objects.get().text == "Hello"

    def test_a_message_that_waits_for_the_one_before_it_says_so(self, dora: User, demo: Agent) -> None:
        conversation = send(dora, demo, "First").conversation
        assert "It waits for the message before it" in str(refusal("Second", conversation=str(conversation.pk)))

    def test_json_is_one_document_all_the_same(self, dora: User, demo: Agent) -> None:
        out = StringIO()
        refusal("Hello", json=True, stdout=out)
        document = json.loads(out.getvalue())
        assert (document["status"], document["steps"], document["answer"]) == ("queued", [], "")

    def test_a_conversation_goes_on_with_its_own_agent(self, dora: User, demo: Agent) -> None:
        other = Agent.objects.create(name="other", title="Other", provider="demo", position=5)
        conversation = send(dora, other, "First").conversation
        refusal("Second", conversation=str(conversation.pk))
        assert Turn.objects.get(position=2).task.agent_version.agent == other


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One for all tests here, with the agents that are shipped and an administrator."""
    with ExitStack() as running:
        site = Site(tmp_path_factory.mktemp("ask") / "data")
        running.enter_context(site)
        assert site.address
        site.add_user("dora", is_superuser=True)
        site.add_user("alice")
        yield site


class TestASite:
    def ask(self, data: Path, *arguments: str, code: int = 0) -> Any:
        """The JSON document."""
        done = manage(data, "ask", "--json", *arguments)
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        return json.loads(done.stdout)

    def test_answers_with_several_functions_and_a_chart_that_a_follow_up_changes(self, site: Site) -> None:
        first = self.ask(site.data, ANALYSE)
        assert (first["status"], first["agent"], first["error"]) == ("done", "demo", None)
        calls = [step for step in first["steps"] if step["kind"] == "tool"]
        assert [step["name"] for step in calls] == ["text_statistics", "draw_chart"]
        assert calls[0]["arguments"] == {"text": "the quick brown fox jumps over the lazy dog"}
        assert json.loads(calls[0]["result"])["words"] == 9
        (file,) = first["files"]
        assert calls[1]["files"] == [file["id"]]
        assert file["media_type"] == "image/png"
        assert len(Path(file["path"]).read_bytes()) == file["size"]
        assert "9 words" in first["answer"]
        assert first["usage"]["tool_calls"] == 2

        second = self.ask(site.data, "Make it more colourful", "--conversation", first["conversation"])
        assert second["conversation"] == first["conversation"]
        (again,) = [step for step in second["steps"] if step["kind"] == "tool"]
        assert again["arguments"]["palette"] == "colourful"
        assert again["arguments"]["values"] == calls[1]["arguments"]["values"]
        assert site.rows("SELECT count(*) AS turns FROM conversations_turn t WHERE conversation_id = ?",
                         UUID(first["conversation"])) == [{"turns": 2}]  # fmt: skip

    def test_says_until_when_a_task_is_put_off_and_why(self, site: Site, model_server: ModelServer) -> None:
        site.add_agent(
            "busy", provider="openai_compatible", model="m", base_url=model_server.base_url, parameters={}, position=9
        )
        model_server.script([Answer(fault="429", retry_after="300")])
        done = manage(site.data, "ask", "Hello", "--agent", "busy", "--timeout", "4")
        assert done.returncode == 1
        assert "The provider answered 429" in done.stderr
        assert " Retrying at " in done.stderr
        assert "It is not over yet (retrying) and will go on by itself." in done.stderr

    @pytest.fixture
    def asking(self, site: Site, model_server: ModelServer) -> ModelServer:
        """The agent "asking", which says what is written down and always asks first."""
        site.python(f"""
from executor.models import Agent
Agent.objects.get_or_create(name="asking", defaults=dict(title="Asking", provider="openai_compatible", model="m",
    base_url={model_server.base_url!r}, position=9, approvals={{"calculate": "always"}}))
""")
        return model_server

    @pytest.mark.parametrize(("said", "status"), [("--yes", "done"), ("--no", "denied")])
    def test_agrees_or_not_to_what_it_is_asked(self, site: Site, asking: ModelServer, said: str, status: str) -> None:
        question = Call("ask_user", {"question": "Which?"})
        asking.script([Answer(calls=(Call("calculate", {"expression": "6*7"}), question)), Answer("There you are.")])
        found = self.ask(site.data, "Work it out", "--agent", "asking", said)
        assert found["answer"] == "There you are."
        assert [step["status"] for step in found["steps"] if step["kind"] == "tool"] == [status, "denied"]
        assert [(each["kind"], each["status"]) for each in found["decisions"]] == [
            ("approval", "decided"),
            ("question", "decided"),
        ]

    def test_tells_what_other_agents_do_and_ask(self, site: Site, asking: ModelServer) -> None:
        asking.script(
            [
                Answer(calls=(Call("delegate", {"agent": "asking", "task": "Work it out."}),)),
                Answer(calls=(Call("calculate", {"expression": "6*7"}),)),
                Answer("It is 42."),
                Answer("They say 42."),
            ]
        )
        done = manage(site.data, "ask", "Work it out", "--agent", "asking", "--yes")
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == "They say 42."
        told = [line.strip() for line in done.stderr.splitlines()]
        began, ended = told.index("Asking · began"), told.index("Asking · done")
        assert began < told.index("Asking: May “Calculate” run?") < ended

    def test_lets_who_sits_at_the_terminal_decide(self, site: Site, asking: ModelServer) -> None:
        question = Call("ask_user", {"question": "Which?", "choices": ["red", "blue"]})
        asking.script([Answer(calls=(Call("calculate", {"expression": "6*7"}), question)), Answer("There you are.")])
        hand, keyboard = pty.openpty()
        os.write(hand, b"perhaps\ny\n2\n")
        done = subprocess.run(
            [sys.executable, "manage.py", "ask", "Work it out", "--agent", "asking"],
            cwd=ROOT,
            env=environment(site.data),
            stdin=keyboard,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == "There you are."
        assert done.stderr.count("Allow it? [y]es, [a]lways in this conversation, [n]o, and why: ") == 2
        (task,) = site.rows("SELECT id FROM executor_task ORDER BY created_at DESC LIMIT 1")
        results = [step["result"] for step in site.steps(UUID(task["id"])) if step["kind"] == "tool"]
        assert "42" in results[0]
        assert results[1] == "blue"

    def test_says_where_one_can_decide_when_nobody_can_type(self, site: Site, asking: ModelServer) -> None:
        asking.script([Answer(calls=(Call("calculate", {"expression": "6*7"}),))])
        done = manage(site.data, "ask", "Work it out", "--agent", "asking", "--timeout", "4")
        assert done.returncode == 1
        assert "May “Calculate” run?" in done.stderr
        assert re.search(r"It waits for you at /d/\d+/ in the browser\.", done.stderr)
        assert "it waits for you and goes on when you have decided" in done.stderr

    def test_answers_every_suggestion_that_is_shipped(self, site: Site) -> None:
        (row,) = site.rows("SELECT suggestions FROM executor_agent WHERE name = 'demo'")
        suggestions = json.loads(row["suggestions"])
        assert len(suggestions) == 7
        for suggestion in suggestions:
            document = self.ask(site.data, suggestion["prompt"])
            assert document["status"] == "done"
            assert any(step["kind"] == "tool" and step["status"] == "done" for step in document["steps"]), suggestion
            assert "beyond me" not in document["answer"]

    def test_prints_steps_to_stderr_and_only_the_answer_to_stdout(self, site: Site) -> None:
        done = manage(site.data, "ask", ANALYSE)
        assert done.returncode == 0
        assert "9 words" in done.stdout
        assert "Draw chart" not in done.stdout
        assert "  2. Text statistics" in done.stderr
        assert "  4. Draw chart" in done.stderr

    def test_reads_the_text_from_standard_input(self, site: Site) -> None:
        done = subprocess.run(
            [sys.executable, "manage.py", "ask", "-", "--json", "--user", "alice"],
            cwd=ROOT,
            env=environment(site.data),
            input="What is 15 % of 80?",
            text=True,
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )
        document = json.loads(done.stdout)
        assert "12" in document["answer"]
        assert site.rows(
            "SELECT username FROM users_user u JOIN executor_task t ON t.user_id = u.id WHERE t.id = ?",
            UUID(document["task"]),
        ) == [{"username": "alice"}]

    def test_stops_the_task_on_ctrl_c_and_keeps_what_was_done(self, site: Site) -> None:
        site.add_agent("slow", parameters={"pause": 0.5}, position=9)
        process = subprocess.Popen(
            [sys.executable, "manage.py", "ask", ANALYSE, "--agent", "slow"],
            cwd=ROOT,
            env=environment(site.data),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        asked = "SELECT t.id, t.status FROM executor_task t JOIN executor_agentversion v ON v.id = t.agent_version_id "
        asked += "JOIN executor_agent a ON a.id = v.agent_id WHERE a.name = 'slow'"
        eventually(lambda: [row["status"] for row in site.rows(asked)] == ["running"], "the task runs")
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=PATIENCE)
        assert process.returncode == 130
        assert "Stopping." in told
        assert "CommandError: Stopped." in told
        assert "Traceback" not in told
        assert [row["status"] for row in site.rows(asked)] == ["stopped"]

    def test_that_fails_says_why_and_ends_with_1(self, site: Site) -> None:
        server = {"provider": "openai_compatible", "base_url": "http://127.0.0.1:9/v1", "model": "m"}
        site.add_agent("away", **server, parameters={}, position=9)
        document = self.ask(site.data, "Hello", "--agent", "away", code=1)
        assert document["status"] == "failed"
        assert document["error"]["kind"] == "connection"
        assert document["error"]["message"]


def test_ctrl_c_is_heard_also_where_python_swallows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class Cleaned:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGINT)
            for _ in range(1_000):
                pass

    lost: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lost.append)
    with _CtrlC() as ctrl_c:
        ctrl_c.look()
        Cleaned()
        assert len(lost) == 1
        with pytest.raises(KeyboardInterrupt):
            ctrl_c.look()
        ctrl_c.heard = ctrl_c.pressed
        ctrl_c.look()
