"""Who gets in where: every address of the site is declared here, and tried by everybody who should not get in.

An address that nobody declared fails `test_every_address_is_declared`, so a new page starts with a decision.
"""

from __future__ import annotations

from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from uuid import uuid4

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.http import HttpResponse
from django.http.response import HttpResponseBase
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver, reverse

from conversations import actions
from conversations.memory import remember
from conversations.models import Turn
from executor.models import Agent, Decision, DeclaredTask, Probe
from executor.registry import AgentRegistry
from tests.conversations.declared_work import TIDES, declare
from tests.conversations.worker import hold
from tools.core.context import NewFile
from tools.models import Resource
from tools.resources import store
from users import api_keys
from users.models import User

#: Somebody's own thing: nobody else can even find out that it exists. Name → HTTP method.
OWNED = {
    "conversation": "get",
    "send": "post",
    "rename": "post",
    "delete": "post",
    "restore": "post",
    "pin": "post",
    "older": "get",
    "conversation_usage": "get",
    "conversation_json": "get",
    "conversation_markdown": "get",
    "ask_again": "post",
    "task": "get",
    "task_steps": "get",
    "answer": "get",
    "stop": "post",
    "retry": "post",
    "regenerate": "post",
    "edit": "get",
    "choose": "post",
    "fork": "post",
    "task_json": "get",
    "decide": "get",
    "send_now": "post",
    "take_back": "post",
    "file": "get",
    "delete_file": "post",
    "upload": "post",
    "files": "get",
    "files_zip": "get",
    "key_state": "get",
    "test_key": "post",
    "replace_key": "post",
    "revoke_key": "post",
    "key_models": "post",
    "server": "get",
    "try_model": "post",
    "use_model": "post",
    "edit_agent": "get",
    "delete_agent": "post",
    "forget": "post",
    "start_task": "get",
}
#: For everybody who is logged in; what it shows is their own.
PERSONAL = {
    "home": "get",
    "send_new": "post",
    "upload_new": "post",
    "search": "get",
    "keys": "get",
    "add_key": "post",
    "servers": "get",
    "connect_server": "post",
    "account_settings": "get",
    "usage": "get",
    "usage_csv": "get",
    "remembered": "get",
    "declared_tasks": "get",
    "switch_memory": "post",
    "forget_all": "post",
    "account_change_password": "get",
    "account_set_password": "get",
}
#: For administrators, and for programs with a token.
STAFF = {"metrics"}
#: For everybody. None of them shows or changes anything of a person without a secret that only that person has.
OPEN = {
    "healthz",
    "account_login",
    "account_logout",
    "account_inactive",
    "account_signup",
    "account_reset_password",
    "account_reset_password_done",
    "account_reset_password_from_key",
    "account_reset_password_from_key_done",
    "first_admin",
}
#: Where a person who is not logged in may post to, behind a token against forgery.
OPEN_FORMS = ["account_login", "account_signup", "account_reset_password"]


def addresses(patterns: list[URLPattern | URLResolver], namespace: str = "") -> Iterator[tuple[str, str]]:
    """Namespace and name of every address."""
    for pattern in patterns:
        if isinstance(pattern, URLResolver):
            yield from addresses(pattern.url_patterns, pattern.namespace or namespace)
        else:
            yield namespace, pattern.name or ""


def admin_paths() -> list[str]:
    """Every page of the administration, with ids that exist for nobody."""
    paths = []
    for namespace, name in addresses(get_resolver().url_patterns):
        if namespace != "admin" or not name:
            continue
        for arguments in ([], ["1"], [str(uuid4())], [1, 1], ["users"]):
            try:
                paths.append(reverse(f"admin:{name}", args=arguments))
                break
            except Exception:  # another shape of arguments
                continue
        else:
            raise AssertionError(f"No arguments were found for admin:{name}")
    return paths


@pytest.fixture(autouse=True)
def static_root() -> None:
    """WhiteNoise warns when pages are served before the static files were collected."""
    Path(settings.STATIC_ROOT).mkdir(parents=True, exist_ok=True)


@pytest.fixture
def turn(alice: User, demo: Agent) -> Turn:
    return actions.send(alice, demo, "Alice's secret")


@pytest.fixture
def resource(turn: Turn) -> Resource:
    hold(turn.task)
    return store(turn.task.user_id, turn.task_id, "call-1", [NewFile("a.png", b"\x89PNG", "image/png")])[0]


@pytest.fixture
def own_agent(alice: User) -> Agent:
    return Agent.objects.create(name="alices", title="Alice's secret", provider="demo", owner=alice, position=1)


@pytest.fixture
def owned(alice: User, turn: Turn, resource: Resource, own_agent: Agent) -> dict[str, str]:
    """The address of each of Alice's things."""
    key = api_keys.add(alice, "openai_compatible", "sk-secret-of-alice-0123456789", "https://models.example/v1")
    probe = Probe.objects.create(user=alice, provider=key.provider, base_url=key.base_url, found=["a model"])
    decision = Decision.objects.create(task=turn.task, kind=Decision.Kind.QUESTION)
    ids = (turn.conversation_id, turn.pk, turn.task_id, resource.pk, key.pk, probe.pk, own_agent.pk, decision.pk)
    fact = remember(alice, "Alice's secret")
    declared = declare({**TIDES, "name": "alices"})
    DeclaredTask.objects.update(agent=own_agent)
    return {name: path_of(name, *ids, fact.pk, declared.name) for name in OWNED}


def absent(name: str) -> str:
    """The address of what nobody has."""
    return path_of(name, uuid4(), uuid4(), uuid4(), uuid4(), 10**6, uuid4(), 10**6, 10**6, 10**6, "nobodys")


def path_of(
    name: str,
    conversation: object,
    turn: object,
    task: object,
    resource: object,
    key: object,
    probe: object,
    agent: object,
    decision: object,
    memory: object,
    declared: object,
) -> str:
    match name:
        case "older":
            return reverse(name, args=[conversation, turn])
        case "regenerate" | "edit" | "choose" | "task_json":
            return reverse(name, args=[task])
        case "task" | "task_steps" | "answer" | "stop" | "retry" | "send_now" | "take_back":
            return reverse(name, args=[task])
        case "fork":
            return reverse(name, args=[task, 1])
        case "file" | "delete_file":
            return reverse(name, args=[resource])
        case "key_state" | "test_key" | "replace_key" | "revoke_key" | "key_models":
            return reverse(name, args=[key])
        case "server" | "try_model" | "use_model":
            return reverse(name, args=[probe])
        case "edit_agent" | "delete_agent":
            return reverse(name, args=[agent])
        case "forget":
            return reverse(name, args=[memory])
        case "start_task":
            return reverse(name, args=[declared])
        case "decide":
            return reverse(name, args=[decision])
        case _:
            return reverse(name, args=[conversation])


def ask(client: Client, method: str, path: str) -> HttpResponse:
    given = {"text": "Let me in", "title": "Mine now", "secret": "sk-0123456789", "model": "a model"}
    data = given if method == "post" else None
    response: HttpResponse = getattr(client, method)(path, data)
    return response


def logged_in(user: User, *, enforce_csrf_checks: bool = False) -> Client:
    client = Client(enforce_csrf_checks=enforce_csrf_checks)
    client.force_login(user)
    return client


def is_sent_to_login(response: HttpResponseBase) -> bool:
    return response.status_code == 302 and "/login/" in response.headers["Location"]


def test_every_address_is_declared() -> None:
    declared = {*OWNED, *PERSONAL, *STAFF, *OPEN}
    assert {name for namespace, name in addresses(get_resolver().url_patterns) if namespace != "admin"} == declared


@pytest.mark.parametrize("name", OWNED)
def test_the_owner_gets_what_others_do_not(alice: User, owned: dict[str, str], name: str) -> None:
    assert ask(logged_in(alice), OWNED[name], owned[name]).status_code in (200, 302)


@pytest.mark.parametrize("name", OWNED)
def test_to_an_outsider_what_is_foreign_and_what_is_absent_are_alike(
    bob: User, owned: dict[str, str], name: str
) -> None:
    client = logged_in(bob)
    foreign, nothing = ask(client, OWNED[name], owned[name]), ask(client, OWNED[name], absent(name))
    assert foreign.status_code == nothing.status_code == 404
    assert foreign.content == nothing.content
    assert b"secret" not in foreign.content


@pytest.mark.parametrize("htmx", [False, True])
@pytest.mark.parametrize("name", OWNED)
def test_an_administrator_is_an_outsider_too(dora: User, owned: dict[str, str], name: str, htmx: bool) -> None:
    client = logged_in(dora)
    client.defaults.update({"HTTP_HX_REQUEST": "true"} if htmx else {})
    assert ask(client, OWNED[name], owned[name]).status_code == 404


def test_an_outsider_finds_nothing_of_others(bob: User, owned: dict[str, str]) -> None:
    client = logged_in(bob)
    for path in (
        reverse("home"),
        reverse("search") + "?q=secret",
        reverse("keys"),
        reverse("servers"),
        reverse("remembered"),
    ):
        response = client.get(path)
        assert response.status_code == 200
        assert "Alice&#x27;s secret" not in response.content.decode()
        assert "models.example" not in response.content.decode()


def test_an_agent_of_somebodys_own_is_absent_for_all_others(
    alice: User, bob: User, dora: User, demo: Agent, own_agent: Agent
) -> None:
    assert ask(logged_in(alice), "get", f"{reverse('home')}?agent=alices").content.count(b'value="alices"') == 1
    for other in (bob, dora):
        client = logged_in(other)
        conversation = actions.send(other, demo, "Hello").conversation
        for path in (reverse("send_new"), reverse("send", args=[conversation.pk])):
            foreign, nothing = (client.post(path, {"text": "Hi", "agent": name}) for name in ("alices", "nobodys"))
            assert foreign.status_code == nothing.status_code == 422
            sentence = "This agent is not available any more. Choose another one."
            assert sentence in foreign.content.decode()
            assert sentence in nothing.content.decode()
            assert "Alice&#x27;s secret" not in foreign.content.decode()
        with pytest.raises(LookupError, match=r"There is no agent 'alices'\. There are: demo\."):
            AgentRegistry(other).agent("alices")
        with pytest.raises(CommandError, match=r"There is no agent 'alices'\. There are: demo\."):
            call_command("ask", "Hello", user=other.username, agent="alices", stdout=StringIO())
    assert AgentRegistry(alice).agent("alices") == own_agent


def test_nobody_changes_the_agent_of_somebody_else(bob: User, dora: User, own_agent: Agent) -> None:
    for other in (bob, dora):
        response = logged_in(other).post(reverse("edit_agent", args=[own_agent.pk]), {"title": "Mine now"})
        assert response.status_code == 404
    own_agent.refresh_from_db()
    assert own_agent.title == "Alice's secret"


@pytest.mark.parametrize("name", OWNED)
def test_a_visitor_is_sent_to_log_in_from_what_is_somebodys(owned: dict[str, str], name: str) -> None:
    assert is_sent_to_login(ask(Client(), OWNED[name], owned[name]))


@pytest.mark.django_db
@pytest.mark.parametrize("name", PERSONAL)
def test_a_visitor_is_sent_to_log_in_from_every_personal_page(name: str) -> None:
    assert is_sent_to_login(ask(Client(), PERSONAL[name], reverse(name)))


@pytest.mark.parametrize("name", [*OWNED, *PERSONAL])
def test_who_is_suspended_is_a_visitor_at_once(alice: User, owned: dict[str, str], name: str) -> None:
    client = logged_in(alice)
    alice.is_active = False
    alice.save(update_fields=["is_active"])
    path = owned.get(name) or reverse(name)
    assert is_sent_to_login(ask(client, (OWNED | PERSONAL)[name], path))


@pytest.mark.parametrize("name", [name for name, method in (OWNED | PERSONAL).items() if method == "post"])
def test_every_write_needs_a_token_against_forgery(alice: User, owned: dict[str, str], name: str) -> None:
    client = logged_in(alice, enforce_csrf_checks=True)
    path = owned.get(name) or reverse(name)
    assert ask(client, "post", path).status_code == 403


@pytest.mark.django_db
@pytest.mark.parametrize("name", OPEN_FORMS)
def test_open_forms_need_a_token_against_forgery_too(name: str) -> None:
    assert ask(Client(enforce_csrf_checks=True), "post", reverse(name)).status_code == 403


@pytest.mark.parametrize("name", [name for name, method in (OWNED | PERSONAL).items() if method == "post"])
def test_reading_never_writes(alice: User, owned: dict[str, str], name: str) -> None:
    response = logged_in(alice).get(owned.get(name) or reverse(name))
    if name == "send_new":  # A refused first message leaves this address in the browser; there it leads home.
        assert (response.status_code, response.headers["Location"]) == (302, reverse("home"))
    else:
        assert response.status_code == 405


@pytest.mark.django_db
def test_nobody_but_staff_gets_into_the_administration(alice: User) -> None:
    person, visitor = logged_in(alice), Client()
    for path in admin_paths():
        if path in (reverse("admin:login"), reverse("admin:logout"), reverse("admin:jsi18n")):
            continue
        for client in (person, visitor):
            for response in (client.get(path), client.post(path)):
                assert is_sent_to_login(response) or response.status_code in (403, 404), (path, response.status_code)


def test_writes_in_the_administration_need_a_token_against_forgery(dora: User) -> None:
    client = logged_in(dora, enforce_csrf_checks=True)
    assert {client.post(path).status_code for path in admin_paths()} == {403}
