"""What everybody used, in Django admin: for staff who may, and without a word of what was said."""

from __future__ import annotations

import csv

import pytest
from bs4 import BeautifulSoup
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from executor.models import Agent
from tests.conftest import make_user
from tests.usage_rows import answered, asked, make_agent, make_key
from users.models import User

PAGE, CSV = "admin:executor_usageoverview_changelist", "admin:executor_usageoverview_csv"
SECRET = "the word that nobody else may read"


def staff(*permissions: str) -> Client:
    member = make_user("helper", is_staff=True)
    member.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(member)
    return client


@pytest.fixture
def agent(db: None) -> Agent:
    return make_agent()


@pytest.fixture
def used(alice: User, bob: User, agent: Agent) -> None:
    """Alice and Bob asked something secret; Bob's key paid for both of his answers, one of unknown price."""
    answered(asked(alice, agent, SECRET, timezone.now()), "0.25", text=SECRET)
    turn = asked(bob, agent, SECRET, timezone.now())
    key = make_key(bob)
    answered(turn, "0.50", 1, text=SECRET, api_key=key)
    answered(turn, None, 2, text=SECRET, api_key=key)


def rows(page: BeautifulSoup, label: str) -> list[str]:
    return [" ".join(row.get_text(" ").split()) for row in page.select(f"[aria-label='{label}'] tbody tr")]


@pytest.mark.usefixtures("used")
def test_staff_who_may_see_what_each_person_model_agent_and_key_used() -> None:
    client = staff("view_usageoverview")
    assert reverse(PAGE) in client.get(reverse("admin:index")).content.decode()
    response = client.get(reverse(PAGE))
    page = BeautifulSoup(response.content.decode(), "html.parser")
    assert rows(page, "People") == ["bob 2 2,000 800 200 $0.50 + unknown", "alice 1 1,000 400 100 $0.25"]
    assert rows(page, "Models") == ["gpt-x gpt 3 3,000 1,200 300 $0.75 + unknown"]
    assert rows(page, "Agents") == ["Helper 3 3,000 1,200 300 $0.75 + unknown"]
    assert rows(page, "Keys")[0] == "gpt …wxyz bob 2 2,000 800 200 $0.50 + unknown"
    assert len(rows(page, "Use by day")) == 1
    assert len(page.select(".chart svg")) == 2
    assert page.select("[style]") == []


@pytest.mark.usefixtures("used")
@pytest.mark.parametrize("name", [PAGE, CSV])
def test_no_word_of_what_was_said_is_in_it(name: str) -> None:
    response = staff("view_usageoverview").get(reverse(name))
    assert response.status_code == 200
    assert SECRET not in response.content.decode()


@pytest.mark.usefixtures("used")
@pytest.mark.parametrize("name", [PAGE, CSV])
def test_staff_who_may_not_are_refused(name: str) -> None:
    client = staff("view_task", "view_step", "view_conversation")
    assert client.get(reverse(name)).status_code == 403
    assert reverse(PAGE) not in client.get(reverse("admin:index")).content.decode()


@pytest.mark.usefixtures("used")
def test_the_csv_has_a_line_for_each_day_person_agent_model_and_key() -> None:
    response = staff("view_usageoverview").get(reverse(CSV))
    lines = list(csv.DictReader(response.content.decode().splitlines()))
    assert {(line["person"], line["key"], line["cost_usd"], line["answers_without_price"]) for line in lines} == {
        ("alice", "", "0.25000000", "0"),
        ("bob", "gpt …wxyz", "0.50000000", "1"),
    }


@pytest.mark.usefixtures("used")
def test_lists_of_tasks_and_steps_tell_the_cost(dora: User) -> None:
    client = Client()
    client.force_login(dora)
    tasks = client.get(reverse("admin:executor_task_changelist")).content.decode()
    assert "$0.50 + unknown" in tasks
    assert "$0.25" in tasks
    steps = client.get(reverse("admin:executor_step_changelist")).content.decode()
    assert "price unknown" in steps
    assert "$0.50" in steps


def test_there_is_nothing_to_add_change_or_delete(dora: User) -> None:
    client = Client()
    client.force_login(dora)
    for path in (f"{reverse(PAGE)}add/", f"{reverse(PAGE)}1/change/", f"{reverse(PAGE)}1/delete/"):
        assert client.get(path).status_code == 404, path
