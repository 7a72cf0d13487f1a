"""The functions of this installation, and where an administrator sees them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.core.management import call_command
from django.test import Client
from django.urls import reverse

from tools.checks import check_functions, check_hosts
from tools.core.context import Context, NewFile
from tools.registry import get_registry, get_toolbox
from tools.resources import store

Dropped = Callable[..., Any]

GOOD = 'def greet(name: str) -> str:\n    """Greet <b>politely</b>."""\n    return f"Hello {name}"\n'
TAKEN = 'def calculate(expression: str) -> str:\n    """Guess."""\n    return "42"\n'

pytestmark = pytest.mark.usefixtures("static_root")

FIRST_FUNCTIONS = {
    "add_days",
    "calculate",
    "convert_unit",
    "current_time",
    "days_between",
    "draw_chart",
    "fetch_page",
    "text_statistics",
}


def test_the_first_functions_are_there_and_without_problems() -> None:
    registry = get_registry()
    assert set(registry.functions) >= FIRST_FUNCTIONS
    assert [problem for problem in registry.problems if problem.module.startswith("tools.")] == []
    assert get_registry() is registry


@pytest.mark.parametrize("name", sorted(FIRST_FUNCTIONS))
def test_a_function_of_ours_tells_the_model_what_every_parameter_means(name: str) -> None:
    function = get_registry().functions[name]
    for parameter, schema in function.parameters["properties"].items():
        assert schema.get("description"), parameter
    assert function.effect == "read"


def test_a_dropped_module_joins_them_and_cannot_replace_one(dropped: Dropped) -> None:
    registry = dropped(greetings=GOOD, mine=TAKEN)
    assert registry.functions["greet"].module == "dropped_functions.greetings"
    assert registry.functions["calculate"].module == "tools.functions.calculator"
    assert [problem.kind for problem in registry.problems] == ["duplicate"]


async def test_results_are_cut_at_the_limit_of_the_settings(
    dropped: Dropped, settings: Any, call_context: Context
) -> None:
    dropped(greetings=GOOD)
    settings.TOOL_RESULT_LIMIT = 10
    toolbox = get_toolbox(["greet", "there_is_no_such"])
    assert list(toolbox.functions) == ["greet"]
    outcome = await toolbox.call("greet", {"name": "everybody"}, "", call_context)
    assert outcome.content.startswith("Hello ever\n[Cut: the first 10 of 15 bytes")


def test_check_warns_of_what_is_broken(dropped: Dropped) -> None:
    assert [message for message in check_functions() if "tools." in str(message.msg)] == []
    dropped(broken="def (", mine=TAKEN, greetings="def silent(): ...\n")
    assert [(message.id, message.level) for message in check_functions()] == [
        ("tools.W001", 30),
        ("tools.W003", 30),
        ("tools.W002", 30),
    ]


def test_check_warns_of_an_allowed_host_that_is_none(settings: Any) -> None:
    settings.FETCH_ALLOWED_HOSTS = ["intranet", "[::1]:8080"]
    assert check_hosts() == []
    settings.FETCH_ALLOWED_HOSTS = ["http://intranet"]
    assert [message.id for message in check_hosts()] == ["tools.W004"]
    assert "FETCH_ALLOWED_HOSTS: “http://intranet” is no host." in str(check_hosts()[0].msg)


@pytest.mark.django_db
def test_the_command_lists_functions_with_schema_and_problems(
    dropped: Dropped, capsys: pytest.CaptureFixture[str]
) -> None:
    dropped(greetings=GOOD, broken="def (")
    call_command("functions")
    text = capsys.readouterr().out
    assert "greet\n    Greet <b>politely</b>.\n    effect: unsafe, asks first, at most 60 s\n" in text
    assert "dropped_functions.broken: It is not valid Python" in text


@pytest.mark.django_db
def test_the_command_can_speak_json(dropped: Dropped, capsys: pytest.CaptureFixture[str]) -> None:
    dropped(greetings=GOOD, broken="def (")
    call_command("functions", "--json")
    listed = json.loads(capsys.readouterr().out)
    [greet] = [function for function in listed["functions"] if function["name"] == "greet"]
    assert greet["parameters"]["required"] == ["name"]
    assert (greet["effect"], greet["module"]) == ("unsafe", "dropped_functions.greetings")
    assert [problem["module"] for problem in listed["problems"]] == ["dropped_functions.broken"]


@pytest.mark.django_db
def test_admin_shows_functions_and_problems(dropped: Dropped, admin_client: Client) -> None:
    dropped(greetings=GOOD, broken="def (")
    page = admin_client.get(reverse("admin:tools_functionoverview_changelist")).content.decode()
    assert "Greet &lt;b&gt;politely&lt;/b&gt;." in page
    assert "Effect: unsafe" in page
    assert "dropped_functions.broken: It is not valid Python" in page
    assert "style=" not in page.split('id="content-main"')[1]


AWAY = """
from tools.core.function import function

@function(effect="read", unavailable=lambda: "The lift is <broken>.")
def ride() -> str:
    "Ride the lift."
    return "up"

@function(effect="read", unavailable=lambda: 1 / 0)
def row() -> str:
    "Row."
    return "there"

@function(effect="read", unavailable=lambda: "")
def walk() -> str:
    "Walk."
    return "there"
"""


@pytest.mark.django_db
async def test_what_cannot_be_called_here_is_not_offered_and_says_why(dropped: Dropped, call_context: Context) -> None:
    dropped(ways=AWAY)
    toolbox = get_toolbox(["ride", "row", "walk"])
    assert [spec.name for spec in toolbox.specs] == ["walk"]
    outcome = await toolbox.call("ride", {}, "", call_context)
    assert (outcome.is_error, outcome.content) == (True, "ride cannot be called now. The lift is <broken>.")
    assert "could not be found out" in (await toolbox.call("row", {}, "", call_context)).content
    assert (await toolbox.call("walk", {}, "", call_context)).content == "there"


@pytest.mark.django_db
def test_admin_shows_why_a_function_is_not_offered(dropped: Dropped, admin_client: Client, settings: Any) -> None:
    settings.SANDBOX_BACKEND = "no.such.Backend"
    dropped(ways=AWAY)
    page = admin_client.get(reverse("admin:tools_functionoverview_changelist")).content.decode()
    assert "The lift is &lt;broken&gt;." in page
    assert "The sandbox of this server is not set up." in page
    assert page.count("No model is offered it") == 3


@pytest.mark.django_db
def test_who_is_not_staff_does_not_see_the_page_of_functions(client: Client, alice: Any) -> None:
    client.force_login(alice)
    assert client.get(reverse("admin:tools_functionoverview_changelist")).status_code == 302
    alice.is_staff = True
    alice.save(update_fields=["is_staff"])
    assert client.get(reverse("admin:tools_functionoverview_changelist")).status_code == 403


@pytest.mark.django_db
def test_admin_shows_of_a_resource_what_it_is_and_not_what_is_in_it(
    admin_client: Client, alice: Any, settings: Any, tmp_path: Path
) -> None:
    settings.MEDIA_ROOT = tmp_path
    [resource] = store(alice.pk, uuid4(), "call-1", [NewFile("diary.txt", b"dear diary", "text/plain")])
    assert "diary.txt" in admin_client.get(reverse("admin:tools_resource_changelist")).content.decode()
    page = admin_client.get(reverse("admin:tools_resource_change", args=[resource.pk]))
    assert "diary.txt" in page.content.decode()
    assert str(resource.file.name) not in page.content.decode()
    assert admin_client.post(reverse("admin:tools_resource_delete", args=[resource.pk])).status_code == 403
