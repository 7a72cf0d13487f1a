"""What becomes of the tools of a server, without asking it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from mcp_types import Tool, ToolAnnotations

from tools.checks import check_mcp_commands
from tools.core.context import Context
from tools.mcp.commands import commands
from tools.mcp.functions import Server, functions_of
from tools.mcp.listing import LARGEST_SCHEMA, MOST_TOOLS, kept
from tools.models import McpServer
from tools.registry import find_function, fresh_registry, get_registry, get_toolbox, refresh

SCHEMA = {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}


def tool(name: str = "read", **hints: Any) -> dict[str, Any]:
    annotations = ToolAnnotations(**{f"{hint}_hint": value for hint, value in hints.items()})
    [[described], _] = kept([Tool(name=name, description="Do it.", input_schema=SCHEMA, annotations=annotations)])
    return described


def row(*tools: dict[str, Any], **fields: Any) -> McpServer:
    return McpServer(pk=7, **{"name": "files", "url": "http://files.example/mcp", "tools": list(tools), **fields})


async def never(*_: Any) -> str:
    raise AssertionError


def agreement(hints: dict[str, Any], *, trusted: bool) -> tuple[str, bool]:
    [[function], _] = functions_of(row(tool(**hints), trusted=trusted), never)
    assert isinstance(function.approval, bool)
    return function.effect, function.approval


@pytest.mark.parametrize(
    ("hints", "effect"),
    [
        ({}, "unsafe"),
        ({"read_only": True}, "read"),
        ({"read_only": False}, "unsafe"),
        ({"idempotent": True, "destructive": False}, "unsafe"),
        ({"open_world": False}, "unsafe"),
    ],
)
def test_hints_are_believed_where_that_does_no_harm(hints: dict[str, Any], effect: str) -> None:
    assert agreement(hints, trusted=False) == (effect, True)
    assert agreement(hints, trusted=True) == (effect, effect != "read")


async def test_a_function_has_the_servers_name_before_its_own_and_passes_on_what_it_is_given(
    call_context: Context,
) -> None:
    asked: list[tuple[str, str, dict[str, Any], Context]] = []

    async def call(server: Server, name: str, arguments: dict[str, Any], context: Context) -> str:
        asked.append((server.name, name, arguments, context))
        return "done"

    [[function], problems] = functions_of(row(tool("read.file"), timeout=5), call)
    assert problems == []
    assert (function.name, function.module, function.timeout) == ("files_read_file", "mcp:files", 5)
    assert function.parameters == SCHEMA
    assert function.description.startswith("Do it.\n\nIt is a function of the server “files”.")
    given = {"path": "a", "model_config": 1, "self": 2, "context": 3}
    assert (
        await function.call(**function.arguments.model_validate(given).given(), **{"agentsite context": call_context})
        == "done"
    )
    assert asked == [("files", "read.file", given, call_context)]


def test_names_that_cannot_be_are_left_out_and_said() -> None:
    found, problems = functions_of(row(tool("a.b"), tool("a_b"), tool("x" * 60)), never)
    assert [function.name for function in found] == ["files_a_b"]
    assert len(problems) == 2


def test_a_list_of_tools_is_bounded_and_clean() -> None:
    huge = {"type": "object", "properties": {"a": {"description": "x" * LARGEST_SCHEMA}}}
    tools = [Tool(name="huge", input_schema=huge)]
    tools += [Tool(name=f"t{index}", input_schema={"type": "object"}) for index in range(MOST_TOOLS + 5)]
    found, note = kept(tools)
    assert len(found) == MOST_TOOLS - 1
    assert note.startswith("7 of its 106 tools are left out")
    assert found[0]["schema"] == {"type": "object", "properties": {}}
    [[nasty], _] = kept(
        [Tool(name="a", description="x" * 9000 + "\u202e", title="A\nB", input_schema={"type": "object"})]
    )
    assert (len(nasty["description"]), nasty["title"]) == (2000, "A B")


@pytest.mark.django_db
@pytest.mark.usefixtures("forget_servers")
def test_the_registry_has_what_the_rows_say(dropped: Callable[..., Any]) -> None:
    server = row(tool("read", read_only=True), tool("write"))
    server.save(force_insert=True)
    assert "files_read" not in get_registry().functions
    assert set(fresh_registry().functions) >= {"files_read", "files_write", "calculate"}
    assert "files_write" in get_toolbox(["*"]).functions
    assert "files_write" not in get_toolbox(["*"], harmless=True).functions
    server.trusted = True
    server.save()
    refresh(within=60)  # It was looked at a moment ago.
    assert get_registry().functions["files_read"].approval
    refresh()
    assert not get_registry().functions["files_read"].approval
    dropped(mine='def files_write() -> str:\n    """Mine."""\n    return ""\n')
    assert get_registry().functions["files_write"].module == "dropped_functions.mine"
    assert [problem.sentence for problem in get_registry().problems] == [
        "The name is taken by dropped_functions.mine. Rename the server."
    ]
    server.enabled = False
    server.save()
    assert "files_read" not in fresh_registry().functions


@pytest.mark.django_db
@pytest.mark.usefixtures("forget_servers")
def test_a_page_that_meets_an_unknown_function_looks_again(django_assert_num_queries: Any) -> None:
    assert find_function("files_read") is None
    row(tool("read")).save(force_insert=True)
    assert find_function("files_read") is not None
    with django_assert_num_queries(0):
        assert find_function("files_read") is not None


def test_commands_are_those_of_the_setting(settings: Any) -> None:
    settings.MCP_COMMANDS = " files = /usr/bin/files '/srv/a b' ; git=mcp-git;"
    assert commands() == {"files": ["/usr/bin/files", "/srv/a b"], "git": ["mcp-git"]}
    assert check_mcp_commands() == []
    settings.MCP_COMMANDS = "/usr/bin/files; a='; good=x; b="
    assert commands() == {"good": ["x"]}
    assert [message.id for message in check_mcp_commands()] == ["tools.W005"] * 3
    assert "MCP_COMMANDS: “/usr/bin/files” is no command." in str(check_mcp_commands()[0].msg)
