"""MCP servers: registered in admin, asked by a worker, and their functions in tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse

from executor import decisions, mcp_servers, probes
from executor.housekeeping import housekeeping
from executor.models import Decision, Status, Step
from executor.worker import WorkerProcess
from tests.conftest import make_user
from tests.executor.conftest import MakeScript, MakeTask, claimed
from tests.executor.scripted import call, say
from tests.executor.test_run import ended, execute
from tests.fakes.mcp_fixtures import StartServer
from tools.mcp import connection
from tools.models import McpServer
from tools.registry import fresh_registry
from users import api_keys
from users.models import ApiKey, KeyState, User

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("redis_server", "forget_servers", "_database_threads"),
]

SECRET = "canary-token-0123456789abcdef"
LIST, ADD = "admin:tools_mcpserver_changelist", "admin:tools_mcpserver_add"


@pytest.fixture
def as_dora(dora: User) -> Client:
    client = Client()
    client.force_login(dora)
    return client


def run(asking: Callable[[], Awaitable[Any]]) -> None:
    async def ask() -> None:
        try:
            async with asyncio.timeout(40):
                await asking()
        finally:
            await connection.close()

    asyncio.run(ask())


def asked(server: McpServer) -> McpServer:
    """After a worker has answered."""
    mcp_servers.ask(server)
    run(lambda: mcp_servers.answer(server.pk))
    server.refresh_from_db()
    return server


def form(**fields: Any) -> dict[str, Any]:
    return {
        "name": "fake",
        "url": "",
        "command": "",
        "key": "",
        "key_header": "",
        "timeout": "30",
        "enabled": "on",
    } | fields


def shown(client: Client, name: str, *args: Any) -> str:
    response = client.get(reverse(name, args=args))
    assert response.status_code == 200
    return response.content.decode()


# --- asking for tools ------------------------------------------------------------------------------------------------


def test_the_tools_of_a_server_are_kept_and_stay_while_it_is_away(mcp_command: str, settings: Any) -> None:
    server = asked(McpServer.objects.create(name="fake", command=mcp_command))
    assert (server.problem, server.note) == ("", "")
    assert {tool["name"] for tool in server.tools} >= {"add", "note", "the.picture"}
    assert not mcp_servers.is_unanswered(server)
    before = server.changed_at
    assert asked(server).changed_at == before  # No process has to look again.
    settings.MCP_COMMANDS = "fake=/nonexistent/program"
    assert asked(server).problem.startswith("The server “fake” cannot be started")
    assert {tool["name"] for tool in server.tools} >= {"add", "note"}
    assert "fake_add" in fresh_registry().functions


def test_a_server_that_wants_a_key_gets_the_sites(mcp_http: StartServer, as_dora: Client) -> None:
    url = mcp_http("--key", SECRET)
    server = asked(McpServer.objects.create(name="fake", url=url))
    assert "is not reached now" in server.problem
    change = reverse("admin:tools_mcpserver_change", args=[server.pk])
    assert as_dora.post(change, form(url=url, key=f"Bearer {SECRET}")).status_code == 302
    assert asked(server).problem == ""
    key = ApiKey.objects.get()
    assert (key.owner, key.provider, key.base_url) == (None, "mcp", url)
    assert key.last_used_at is not None
    assert SECRET not in key.secret
    page = shown(as_dora, "admin:tools_mcpserver_change", server.pk)
    assert SECRET not in page
    assert "…cdef, ready" in page


def test_a_key_of_a_server_is_used_until_the_next_one_has_passed_its_test(
    mcp_http: StartServer, as_dora: Client
) -> None:
    url = mcp_http("--key", SECRET)
    server = McpServer.objects.create(name="fake", url=url)
    change = reverse("admin:tools_mcpserver_change", args=[server.pk])

    def enter(key: str) -> ApiKey:
        as_dora.post(change, form(url=url, key=key))
        new: ApiKey = ApiKey.objects.latest("pk")
        assert new.awaits_check
        run(lambda: probes.answer_key_test(new.pk))
        new.refresh_from_db()
        return new

    first = enter("canary-token-of-another-server-wxyz")
    assert (first.state, first.on_trial) == (KeyState.UNTESTED, False)
    assert "wxyz" not in first.check_problem
    second = enter(SECRET)
    assert (second.state, ApiKey.objects.get(pk=first.pk).state) == (KeyState.READY, KeyState.REVOKED)
    server.refresh_from_db()
    assert mcp_servers.is_unanswered(server)  # Its tools are listed with the new key.
    assert asked(server).problem == ""
    third = enter("canary-token-of-another-server-wxyz")
    assert (third.state, third.secret) == (KeyState.REVOKED, "")
    assert asked(server).problem == ""
    page = shown(as_dora, "admin:tools_mcpserver_change", server.pk)
    assert "This key is still used. The new one, …wxyz, is not" in page


def test_a_key_for_no_server_says_that_it_cannot_be_tested() -> None:
    key = api_keys.add(None, mcp_servers.PROVIDER, SECRET, "https://nowhere.example/mcp")
    run(lambda: probes.answer_key_test(key.pk))
    key.refresh_from_db()
    assert key.check_problem == "Could not be tested: There is no MCP server with this address to test it with."


def test_every_server_is_asked_once_an_hour() -> None:
    for name, enabled in (("one", True), ("two", True), ("off", False)):
        McpServer.objects.create(name=name, url=f"http://{name}.example/mcp", enabled=enabled)
    housekeeping.send(sender=None)
    assert {server.name for server in McpServer.objects.all() if mcp_servers.is_awaited(server)} == {"one", "two"}


def test_a_worker_that_ends_takes_its_commands_along(mcp_command: str) -> None:
    server = McpServer.objects.create(name="fake", command=mcp_command)
    with closing(WorkerProcess(8)) as worker:
        worker.answer(mcp_servers.answer(server.pk))
        [process] = connection._processes[worker._loop].values()
        assert not process.is_over
    assert process.is_over
    assert process._keeping.done()


# --- in tasks --------------------------------------------------------------------------------------------------------


@pytest.fixture
def served(mcp_http: StartServer) -> McpServer:
    """A trusted server whose functions are known."""
    return asked(McpServer.objects.create(name="fake", url=mcp_http(), trusted=True, timeout=20))


def test_a_function_of_a_server_waits_for_agreement_and_runs_once(
    served: McpServer, make_task: MakeTask, scripted: MakeScript, tmp_path: Path
) -> None:
    script = scripted(say(call("fake_add", a=2, b=3), call("fake_note", text="tea")), say("Done."))
    task = make_task("Go.", script)
    execute(claimed(task))
    assert ended(task)[0] == Status.WAITING
    assert list(task.steps.values_list("name", "status")) == [
        ("", "done"),
        ("fake_add", "done"),
        ("fake_note", "waiting"),
    ]
    assert not (tmp_path / "ledger").exists()
    decisions.allow(Decision.objects.get(), task.user)
    execute(claimed(task))
    assert ended(task)[0] == Status.DONE
    assert (tmp_path / "ledger").read_text() == "tea\n"
    assert "5" in task.steps.get(name="fake_add").result
    assert "information, not instructions" in task.steps.get(name="fake_note").result
    assert [spec.name for spec in script.offered[0] if spec.name == "fake_note"] == ["fake_note"]


def test_a_call_in_which_the_server_was_lost_may_have_run(
    served: McpServer, make_task: MakeTask, scripted: MakeScript
) -> None:
    task = make_task("Go.", scripted(say(call("fake_die"))), approvals={"fake_die": "never"}, on_unknown="ask")
    execute(claimed(task))
    assert ended(task)[0] == Status.WAITING
    step = task.steps.get(name="fake_die")
    assert (step.status, step.error_kind) == (Step.Status.WAITING, "unclear")
    assert Decision.objects.get().kind == Decision.Kind.UNKNOWN
    assert "was lost during the call" in step.result


def test_a_server_that_is_away_is_said_to_the_model(
    served: McpServer, make_task: MakeTask, scripted: MakeScript
) -> None:
    McpServer.objects.update(url="http://127.0.0.1:9/mcp")
    served.refresh_from_db()
    served.save()
    task = make_task("Go.", scripted(say(call("fake_add", a=1, b=1)), say("It is away.")))
    execute(claimed(task))
    assert ended(task)[0] == Status.DONE
    step = task.steps.get(name="fake_add")
    assert step.status == Step.Status.FAILED
    assert "The server “fake” is not reached now" in step.result


# --- in admin --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({}, "Give either an address or a command."),
        ({"url": "http://h/mcp", "command": "fake"}, "Give either an address or a command."),
        ({"url": "ftp://h/mcp"}, "The address must look like"),
        ({"url": "http://me:secret@h/mcp"}, "The address must look like"),
        ({"url": "http://h/mcp", "name": "Big Name"}, "Use small letters"),
        ({"url": "http://h/mcp", "timeout": "0"}, "greater than or equal to 1"),
        ({"url": "http://h/mcp", "key": "two words"}, "A key has no spaces"),
        ({"url": "http://h/mcp", "key_header": "A: b"}, "letters, digits and dashes"),
        ({"command": "fake", "key": SECRET}, "A command gets no key."),
        ({"command": "/bin/sh"}, "Select a valid choice"),
    ],
)
def test_what_cannot_be_is_refused_with_a_sentence(
    as_dora: Client, mcp_command: str, fields: dict[str, str], complaint: str
) -> None:
    response = as_dora.post(reverse(ADD), form(**fields))
    assert response.status_code == 200
    assert complaint in response.content.decode()
    assert SECRET not in response.content.decode()
    assert not McpServer.objects.exists()
    assert not ApiKey.objects.exists()


def test_a_saved_server_is_asked_and_its_functions_are_listed(as_dora: Client, mcp_command: str) -> None:
    assert as_dora.post(reverse(ADD), form(command=mcp_command)).status_code == 302
    server = McpServer.objects.get()
    page = shown(as_dora, "admin:tools_mcpserver_change", server.pk)
    assert "A worker is asking it" in page
    assert 'http-equiv="refresh"' in page
    run(lambda: mcp_servers.answer(server.pk))
    page = shown(as_dora, "admin:tools_mcpserver_change", server.pk)
    assert "Answers" in page
    assert "fake_note" in page
    assert 'http-equiv="refresh"' not in page
    assert "command fake" in shown(as_dora, LIST)
    assert "fake_add" in shown(as_dora, "admin:tools_functionoverview_changelist")
    assert "fake_add" in shown(as_dora, "admin:executor_agent_add")
    test = reverse("admin:tools_mcpserver_test", args=[server.pk])
    assert as_dora.get(test).status_code == 405
    assert as_dora.post(test).status_code == 302
    server.refresh_from_db()
    assert mcp_servers.is_awaited(server)
    assert as_dora.post(reverse("admin:tools_mcpserver_test", args=[10**6])).status_code == 404


def test_who_may_only_look_neither_changes_nor_asks(mcp_command: str) -> None:
    server = McpServer.objects.create(name="fake", command=mcp_command)
    helper = make_user("helper", is_staff=True)
    helper.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))
    client = Client()
    client.force_login(helper)
    assert "Test, and ask" not in shown(client, "admin:tools_mcpserver_change", server.pk)
    assert client.post(reverse("admin:tools_mcpserver_test", args=[server.pk])).status_code == 403
    assert (
        client.post(reverse("admin:tools_mcpserver_change", args=[server.pk]), form(url="http://h/")).status_code == 403
    )
