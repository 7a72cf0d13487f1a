"""Declared tasks in Django admin."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from bs4 import BeautifulSoup
from django.test import Client
from django.urls import reverse

from executor.actions import start_declared
from executor.declared import synchronise
from executor.models import Agent, DeclaredTask
from tests.executor.conftest import Put
from users.models import User

LIST, RELOAD = "admin:executor_declaredtask_changelist", "admin:executor_declaredtask_reload"
TIDES = """\
title: Tides
description: What the sea does.
inputs:
  - {name: place, label: Which place}
  - {name: tone, kind: choice, choices: [dry, warm], default: dry}
steps:
  - {id: facts, name: Find facts, instruction: Find <facts>., functions: [calculate], timeout: 60,
     output: {type: object}}
  - {id: text, instruction: Write it., required_info: [facts]}
"""


@pytest.fixture
def as_dora(dora: User) -> Client:
    client = Client()
    client.force_login(dora)
    return client


@pytest.fixture
def tides(db: None, put: Put) -> DeclaredTask:
    put("tides.yaml", TIDES)
    synchronise()
    return DeclaredTask.objects.get(name="tides")


def text(client: Client, name: str, *args: Any) -> str:
    """The words of a page."""
    response = client.get(reverse(name, args=args))
    assert response.status_code == 200
    main = BeautifulSoup(response.content.decode(), "html.parser").select_one("#content")
    assert main
    return " ".join(main.get_text(" ").split())


def change(client: Client, row: DeclaredTask, **fields: str) -> int:
    counts = {f"versions-{name}_FORMS": "0" for name in ("TOTAL", "INITIAL")}
    url = reverse("admin:executor_declaredtask_change", args=[row.pk])
    return client.post(url, {**counts, **fields}).status_code


def test_the_list_tells_what_there_is(as_dora: Client, tides: DeclaredTask, alice: User, demo: Agent) -> None:
    start_declared(alice, tides, {"place": "Brest"}, demo)
    row = BeautifulSoup(as_dora.get(reverse(LIST)).content.decode(), "html.parser").find("a", string="Tides")
    assert row
    told = " ".join(row.find_parent("tr").get_text(" ").split())  # type: ignore[union-attr]
    assert told == "Tides /tides Find facts → Text the person’s choice 1 1 In order"


def test_the_page_shows_what_it_asks_for_and_its_steps(as_dora: Client, tides: DeclaredTask) -> None:
    told = text(as_dora, "admin:executor_declaredtask_change", tides.pk)
    for part in (
        "place Which place text required",
        "tone Tone choice: dry, warm “dry”",
        "Find facts facts May call: calculate · Time limit: 60 s Find <facts>.",
        "Form of its output",
        "Text text Needs: facts",
        "What the last step wrote.",
        "tides.yaml",
    ):
        assert part in told, part


def test_who_works_on_it_and_whether_it_is_offered_can_be_set_and_nothing_else(
    as_dora: Client, tides: DeclaredTask, demo: Agent
) -> None:
    assert change(as_dora, tides, agent=str(demo.pk), title="Other", name="other") == 302
    tides.refresh_from_db()
    assert (tides.agent, tides.enabled, tides.title, tides.name) == (demo, False, "Tides", "tides")
    assert tides.versions.count() == 1
    assert as_dora.get(reverse("admin:executor_declaredtask_add")).status_code == 403
    assert as_dora.post(reverse("admin:executor_declaredtask_delete", args=[tides.pk])).status_code == 403


def test_nobodys_own_agent_can_be_chosen(as_dora: Client, tides: DeclaredTask, alice: User) -> None:
    hers = Agent.objects.create(name="hers", title="Hers", provider="demo", owner=alice)
    assert change(as_dora, tides, agent=str(hers.pk), enabled="on") == 200
    tides.refresh_from_db()
    assert tides.agent is None


def test_reload_reads_the_files_again_and_tells_what_is_wrong(
    as_dora: Client, tides: DeclaredTask, tmp_path: Path
) -> None:
    (tmp_path / "tides.yaml").write_text(TIDES.replace("title: Tides", "title: Ebb"))
    (tmp_path / "broken.yaml").write_text("steps: []")
    page = as_dora.post(reverse(RELOAD), follow=True).content.decode()
    assert "The files were read: tides changed (version 2)." in page
    assert "1 mistake is listed below." in page
    assert "broken.yaml, line 1, steps: must not be empty." in page
    tides.refresh_from_db()
    assert (tides.title, tides.versions.count()) == ("Ebb", 2)
    (tmp_path / "tides.yaml").write_text("steps: [")
    assert "Its file has mistakes. The last good version is used." in (
        as_dora.post(reverse(RELOAD), follow=True).content.decode()
    )
    (tmp_path / "tides.yaml").unlink()
    assert "Nothing declares it any more." in as_dora.post(reverse(RELOAD), follow=True).content.decode()


def test_a_look_does_not_reload_and_neither_does_who_may_only_look(tides: DeclaredTask, dora: User) -> None:
    client = Client()
    client.force_login(dora)
    assert client.get(reverse(RELOAD)).status_code == 405
    User.objects.filter(pk=dora.pk).update(is_superuser=False)
    assert client.post(reverse(RELOAD)).status_code == 403


def test_the_tasks_that_were_started_are_one_click_away(
    as_dora: Client, tides: DeclaredTask, alice: User, demo: Agent
) -> None:
    start_declared(alice, tides, {"place": "Brest"}, demo)
    url = f"{reverse('admin:executor_task_changelist')}?declared__task__id__exact={tides.pk}"
    assert url.replace("&", "&amp;") in as_dora.get(reverse(LIST)).content.decode()
    assert as_dora.get(url).context["cl"].result_count == 1


def test_a_version_can_be_read(as_dora: Client, tides: DeclaredTask) -> None:
    told = text(as_dora, "admin:executor_declaredtaskversion_change", tides.current_version().pk)
    assert "Find facts" in told
    assert '"instruction": "Write it."' in told


def test_agents_that_it_names_and_that_are_not_there_are_told(as_dora: Client, put: Put, demo: Agent) -> None:
    put("tides.yaml", TIDES + "agent: demo\n", "ebb.yaml", "steps: [{id: a, instruction: Go., agent: nobody}]")
    synchronise()
    assert "agents that there are not: nobody." in text(as_dora, LIST)
    tides = DeclaredTask.objects.get(name="tides")
    assert "In order" in text(as_dora, "admin:executor_declaredtask_change", tides.pk)
