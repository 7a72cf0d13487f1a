"""Asking MCP servers for their tools: a page or the clock asks, a worker answers into the row."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

from django.db import transaction
from django.db.models.functions import Now
from django.utils import timezone

from executor.core.errors import TaskExecutionError
from executor.database import in_database
from executor.hints import ask_worker
from tools.mcp import connection
from tools.mcp.functions import Server
from tools.mcp.listing import kept
from tools.models import McpServer
from users import api_keys
from users.models import ApiKey
from users.vault import KeyringError, NeedsReentry

logger = logging.getLogger(__name__)

#: As keys of the site name them.
PROVIDER = "mcp"
ANSWER_WITHIN = 25.0
#: When nobody has answered after so long, there is no worker.
WORKER_WITHIN = timedelta(seconds=ANSWER_WITHIN + 5)


# --- asking ----------------------------------------------------------------------------------------------------------


def ask(server: McpServer) -> None:
    """Have the list of its tools brought up to date."""
    with transaction.atomic():
        McpServer.objects.filter(pk=server.pk).update(asked_at=Now())
        transaction.on_commit(partial(ask_worker, "executor.list_mcp_tools", server.pk))
    server.refresh_from_db(fields=["asked_at"])


def ask_all() -> None:
    """Once an hour."""
    for server in McpServer.objects.filter(enabled=True):
        ask(server)


def is_unanswered(server: McpServer) -> bool:
    return server.asked_at is not None and (server.checked_at is None or server.checked_at < server.asked_at)


def is_awaited(server: McpServer) -> bool:
    """Whether an answer may still come."""
    return is_unanswered(server) and timezone.now() - (server.asked_at or timezone.now()) < WORKER_WITHIN


def site_key(url: str) -> ApiKey | None:
    return api_keys.live().filter(owner=None, provider=PROVIDER, base_url=api_keys.address(url)).first()


# --- answering, on a worker's loop -----------------------------------------------------------------------------------


async def answer(server_id: int) -> None:
    """Ask the server for its tools. The list that is there stays if it does not answer."""
    row = await in_database(McpServer.objects.filter(pk=server_id).first)
    if row is None:
        return
    found: dict[str, Any] = {"problem": ""}
    try:
        async with asyncio.timeout(ANSWER_WITHIN):
            tools = await connection.list_tools(Server.of(row))
        found["tools"], found["note"] = kept(tools)
    except connection.ServerAway as error:
        found["problem"] = str(error)
    except TimeoutError:
        found["problem"] = f"There was no answer within {ANSWER_WITHIN:g} seconds."
    except Exception:
        logger.exception("The tools of %s could not be listed", row)
        found["problem"] = "Something went wrong inside AgentSite. The worker's log has the details."
    await in_database(_record, row, found)


def _record(row: McpServer, found: dict[str, Any]) -> None:
    is_new = any(getattr(row, name) != found[name] for name in ("tools",) if name in found)
    if is_new:  # Only then do all processes have to look again.
        found["changed_at"] = timezone.now()
    McpServer.objects.filter(pk=row.pk).update(**found, checked_at=Now())


async def test_key(key: ApiKey) -> str:
    """What there is to say of a key with which its server lists its tools. Raises TaskExecutionError, NeedsReentry and
    KeyringError."""
    row = await in_database(McpServer.objects.filter(url=key.base_url).first)
    if row is None:
        raise TaskExecutionError("There is no MCP server with this address to test it with.")
    secret = await in_database(api_keys.reveal, key)
    try:
        await connection.list_tools(replace(Server.of(row), key=secret))
    except connection.ServerAway as error:
        raise TaskExecutionError(str(error).replace(secret, "…")) from error
    return ""


def ask_at(url: str) -> None:
    """Have the lists of the servers at this address brought up to date."""
    for server in McpServer.objects.filter(url=url, enabled=True):
        ask(server)


async def key_for(url: str) -> str:
    """What connection.KEYS wants. Raises ServerAway where the key cannot be read."""
    return await in_database(_reveal, url) if url else ""


def _reveal(url: str) -> str:
    key = site_key(url)
    if key is None:
        return ""
    try:
        secret = api_keys.reveal(key)
    except (NeedsReentry, KeyringError) as error:
        raise connection.ServerAway(f"Its key cannot be read: {error}") from error
    api_keys.touch(key)
    return secret
