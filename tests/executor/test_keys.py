"""Which environment variables an agent may take its key from: the same rule in the form, in the file and in the run."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from django.conf import settings

from executor.agent_form import AgentForm
from executor.agents_file import FileError, read
from executor.keys import key_variable
from executor.live import Publisher
from executor.models import Agent
from executor.run import Run
from tests.executor.conftest import MakeScript, MakeTask, claimed
from tests.executor.test_admin import agent_form

ALLOWED = ("", "OPENAI_API_KEY", "MISTRAL_KEY", "HF_TOKEN", "my_api_key")
REFUSED = ("SECRET_KEY", "secret_key", "DATABASE_URL", "REDIS_URL", "EMAIL_URL", "PATH", "KEY")


@pytest.mark.parametrize("name", ALLOWED)
def test_a_variable_that_is_a_key_may_be_named(name: str) -> None:
    assert key_variable(name) == name


@pytest.mark.parametrize("name", REFUSED)
def test_any_other_variable_is_refused_with_a_sentence(name: str) -> None:
    with pytest.raises(ValueError, match="It must be the name of an environment variable that ends in _KEY or _TOKEN"):
        key_variable(name)


@pytest.mark.django_db
@pytest.mark.parametrize("name", ["SOME_KEY", "SECRET_KEY", "DATABASE_URL"])
def test_the_form_and_the_file_have_the_same_rule(name: str, tmp_path: Path) -> None:
    file = tmp_path / "agents.yaml"
    file.write_text(f"agents:\n  - {{name: a, title: A, provider: demo, api_key_variable: {name}}}\n")
    form = AgentForm(agent_form(api_key_variable=name))
    if name == "SOME_KEY":
        assert form.is_valid(), form.errors
        assert read(file, {})[0].api_key_variable == name
    else:
        assert "ends in _KEY or _TOKEN" in form.errors["api_key_variable"][0]
        with pytest.raises(FileError, match="ends in _KEY or _TOKEN"):
            read(file, {})


@pytest.mark.django_db
def test_an_agent_from_before_the_rule_can_still_be_moved_in_the_list() -> None:
    agent = Agent.objects.create(name="old", title="Old", provider="demo", api_key_variable="SECRET_KEY")
    agent.full_clean(exclude={"api_key_variable"})


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("redis_server")
def test_a_task_of_an_agent_from_before_the_rule_sends_nothing(
    make_task: MakeTask, scripted: MakeScript, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_KEY", "hunter2")
    task = make_task("Go.", scripted(), api_key_variable="SECRET_KEY")

    async def run() -> None:
        publisher = Publisher(settings.REDIS_URL)
        await Run(claimed_journal, publisher).execute()
        await publisher.aclose()

    claimed_journal = claimed(task)
    asyncio.run(run())
    task.refresh_from_db()
    assert task.status == "failed"
    assert "names a variable that may not be its key" in task.error
    assert "hunter2" not in task.error
