"""MODEL_CLASSES: agent types of one's own, and what is said of those that cannot be."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from bs4 import BeautifulSoup
from django.test import Client
from django.urls import reverse

from executor.agents_file import FileError, read
from executor.checks import check_model_classes
from executor.core.llms.base import Endpoint
from executor.core.llms.factory import LLMS, create_llm
from executor.core.messages import user as user_message
from executor.model_classes import register_all
from executor.models import Agent, provider_choices
from executor.registry import AgentRegistry
from tests.agentsite.conftest import manage
from tests.executor.core.acme import Acme
from tests.executor.test_admin import agent_form, sent_by_a_browser
from tests.fakes.model_server import ModelServer
from tests.fakes.script import Turn
from users.models import User

PATH = "tests.executor.core.acme.Acme"


@pytest.fixture
def acme() -> Iterator[None]:
    assert register_all([f"acme={PATH}"]) == []
    yield
    del LLMS["acme"]


@pytest.mark.usefixtures("acme")
class TestAClassOfOnesOwn:
    def test_is_known_by_its_agent_type_beside_the_others(self) -> None:
        assert AgentRegistry().types()["acme"] is Acme
        assert list(AgentRegistry().types())[:-1] == ["claude", "demo", "gpt", "gemini", "openai_compatible"]
        assert ("acme", "Acme") in provider_choices()

    async def test_is_asked(self, model_server: ModelServer) -> None:
        model_server.script([Turn(text="Hello from Acme.")])
        llm = create_llm("acme", Endpoint("acme-small", model_server.base_url, "key"), reasoning_effort="high")
        assert (await llm.generate_content_async([user_message("Hi")])).message.text == "Hello from Acme."
        assert model_server.asked[0].body["reasoning_effort"] == "high"
        await llm.aclose()

    def test_is_chosen_in_admin_with_its_settings(self, dora: User) -> None:
        client = Client()
        client.force_login(dora)
        add = reverse("admin:executor_agent_add")
        page = BeautifulSoup(client.get(add).content.decode(), "html.parser")
        assert [option.text for option in page.select("#id_provider [value=acme]")] == ["Acme"]
        assert len(page.select("fieldset.provider-acme #id_parameter-acme-reasoning_effort")) == 1
        form = agent_form(provider="acme", model="acme-small")
        assert client.post(add, {**form, "parameter-acme-reasoning_effort": "rude"}).status_code == 200
        assert client.post(add, {**form, "parameter-acme-reasoning_effort": "high"}).status_code == 302
        assert Agent.objects.get().parameters == {"reasoning_effort": "high"}

    def test_is_named_in_the_file(self, tmp_path: Path) -> None:
        file = tmp_path / "agents.yaml"
        agent = {
            "name": "a",
            "title": "A",
            "provider": "acme",
            "model": "m",
            "parameters": {"reasoning_effort": "high"},
        }
        file.write_text(json.dumps({"agents": [agent]}))
        assert read(file, {})[0].provider == "acme"
        file.write_text(json.dumps({"agents": [{**agent, "parameters": {"reasoning_effort": "rude"}}]}))
        with pytest.raises(FileError, match="reasoning_effort must be one of low, high, not 'rude'"):
            read(file, {})
        file.write_text(json.dumps({"agents": [{**agent, "provider": "nobody"}]}))
        with pytest.raises(FileError, match=r"must be one of: .*, acme, not"):
            read(file, {})

    def test_may_be_said_twice_but_not_of_two(self) -> None:
        assert register_all([f"acme={PATH}"]) == []
        (problem,) = register_all(["acme=executor.core.llms.gpt.Gpt"])
        assert "There is an agent type 'acme' already. Choose another name." in problem
        assert LLMS["acme"] == PATH


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ("acme", "Write it as name=package.module.Class."),
        ("=x.Y", "'' is no agent type. Use up to 40 small letters, digits and underscores."),
        ("Acme AI=x.Y", "'Acme AI' is no agent type."),
        ("gpt=tests.executor.core.acme.Acme", "There is an agent type 'gpt' already. Choose another name."),
        ("acme=", " is no language model. Name a class that derives from executor.core.llms.base.BaseLlm."),
        ("acme=Acme", "Acme is no language model."),
        ("acme=no_such.Acme", "no_such.Acme cannot be imported (ModuleNotFoundError: No module named 'no_such')."),
        ("acme=tests.executor.core.acme.Other", "cannot be imported (AttributeError: module"),
        ("acme=broken_model.Acme", "broken_model.Acme cannot be imported (ZeroDivisionError: division by zero)."),
        ("acme=pathlib.Path", "pathlib.Path is no language model."),
        ("acme=tests.executor.core.acme.turns", "tests.executor.core.acme.turns is no language model."),
        ("acme=executor.core.llms.base.BaseLlm", "executor.core.llms.base.BaseLlm lacks stream."),
        ("acme=executor.core.llms._wire.WireLlm", "lacks _new_answer, _post, _refusal, request_body."),
    ],
)
def test_what_cannot_be_one_is_told_and_left_out(
    entry: str, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_model.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    before = dict(LLMS)
    (told,) = register_all([entry, " "])
    assert told.startswith(f"MODEL_CLASSES, {entry}: ")
    assert problem in told
    assert before == LLMS


def test_check_warns_of_it(settings: object) -> None:
    assert check_model_classes() == []
    settings.MODEL_CLASSES = ["acme=no_such.Acme"]  # type: ignore[attr-defined]
    (warning,) = check_model_classes()
    assert warning.msg.startswith("MODEL_CLASSES, acme=no_such.Acme: ")


def test_the_start_tells_of_it_without_a_traceback_and_goes_on_with_the_others(tmp_path: Path) -> None:
    done = manage(tmp_path / "data", "check", MODEL_CLASSES=f"other=no_such.Other,acme={PATH}")
    assert done.returncode == 0
    assert "MODEL_CLASSES, other=no_such.Other: no_such.Other cannot be imported" in done.stderr
    assert "Traceback" not in done.stderr
    code = "from executor.registry import AgentRegistry; print(AgentRegistry().types()['acme'].label)"
    done = manage(tmp_path / "data", "shell", "-v", "0", "-c", code, MODEL_CLASSES=f"other=no_such.Other,acme={PATH}")
    assert done.stdout == "Acme\n", done.stderr


def test_an_agent_whose_type_is_gone_can_be_opened_and_given_another(dora: User) -> None:
    agent = Agent.objects.create(name="gone", title="Gone", provider="acme", model="m", parameters={"tone": "high"})
    client = Client()
    client.force_login(dora)
    assert client.get("/", {"agent": "gone"}).status_code == 200
    url = reverse("admin:executor_agent_change", args=[agent.pk])
    opened = client.get(url)
    assert "Its provider is “acme”, of which there is no class now." in opened.content.decode()
    form = sent_by_a_browser(opened)
    assert client.post(url, {**form, "title": "T"}).context["adminform"].form.errors.keys() == {"provider"}
    assert client.post(url, {**form, "provider": "demo"}).status_code == 302
    agent.refresh_from_db()
    assert (agent.provider, agent.parameters) == ("demo", {})
