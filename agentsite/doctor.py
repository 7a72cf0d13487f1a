"""What `manage.py doctor` examines. Each check looks at one part and says what to do where it is not well.

A check returns a sentence about what it found, or raises `Ill`, `Off` or `Unknown`. A new one is one more in `CHECKS`.
"""

import asyncio
import os
import secrets
import shutil
import stat
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import redis
from django.conf import settings
from django.db import DatabaseError, connection, transaction
from django.db.migrations.executor import MigrationExecutor
from django.db.models import Q
from kombu.exceptions import OperationalError

from agentsite import health, prepare
from executor.models import Agent
from executor.tasks_file import get_declared
from tools.registry import get_registry
from tools.sandbox import availability
from users import api_keys, vault

WORKER_SECONDS = 5.0
CLOCK_SECONDS = 2.0  # Leases last 30 seconds and more; clocks that differ by this much are not synchronised at all.
DISK_BYTES = 1024**3
KEY_CHARACTERS = 40


@dataclass
class Result:
    """What one check found. `status` is "ok", "failed", "off" (not there, and need not be) or "unknown"."""

    name: str
    status: str
    detail: str
    advice: str = ""


class Ill(Exception):
    """Something is wrong: what, and what to do about it."""

    def __init__(self, detail: str, advice: str) -> None:
        super().__init__(detail)
        self.advice = advice


class Off(Exception):
    """The part is not there, and nothing else needs it."""


class Unknown(Exception):
    """It cannot be told, because of another failure."""


def examine() -> Iterator[Result]:
    """Run every check, one after the other; each result is there as soon as it is known."""
    for name, check in CHECKS.items():
        try:
            yield Result(name, "ok", check())
        except Ill as ill:
            yield Result(name, "failed", str(ill), ill.advice)
        except Off as off:
            yield Result(name, "off", str(off))
        except Unknown as unknown:
            yield Result(name, "unknown", str(unknown))
        except DatabaseError as error:  # Said in full by the first check.
            yield Result(name, "unknown", f"The database does not answer ({type(error).__name__}).")


def database() -> str:
    """The database answers, can be written to, and (SQLite) lets readers and writers work side by side."""
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(f"CREATE TABLE doctor_{secrets.token_hex(4)} (x integer)")
            transaction.set_rollback(True)
    except DatabaseError as error:
        raise Ill(
            f"It cannot be written to: {prepare.first_line(error)}.",
            "Check DATABASE_URL, its server, the rights of its user, and (SQLite) of the file and its folder.",
        ) from error
    if connection.vendor != "sqlite":
        return f"{connection.display_name} {_version()}, writable."
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA journal_mode")
        mode = cursor.fetchone()[0]
    if mode != "wal":
        raise Ill(
            f"SQLite uses the journal mode {mode!r} instead of WAL, so readers and writers block each other.",
            "Keep the data folder on a local disk, not on a network share.",
        )
    return f"SQLite {_version()}, writable, WAL."


def _version() -> str:
    return ".".join(str(part) for part in connection.get_database_version())


def schema() -> str:
    """Every migration of this code has been applied, and none of newer code."""
    executor = MigrationExecutor(connection)
    if unknown := prepare.unknown_migrations(executor):
        raise Ill(
            f"The database has {', '.join(unknown)}, which this code does not know.",
            "Update the code, or restore the backup that was made before the update.",
        )
    missing = [f"{m.app_label}.{m.name}" for m, _ in executor.migration_plan(executor.loader.graph.leaf_nodes())]
    if missing:
        raise Ill(
            f"{len(missing)} migrations are not applied, first {missing[0]}.",
            "Run `manage.py up`, or `manage.py migrate`.",
        )
    return "Up to date."


def redis_server() -> str:
    """Redis answers and keeps what it is given."""
    key, value = f"doctor:{secrets.token_hex(8)}", secrets.token_hex(8)
    began = time.perf_counter()
    try:
        with redis.Redis.from_url(
            settings.REDIS_URL,
            socket_connect_timeout=health.REDIS_SECONDS,
            socket_timeout=health.REDIS_SECONDS,
            decode_responses=True,
        ) as client:
            client.set(key, value, ex=10)
            kept = client.get(key) == value
            version = client.info("server")["redis_version"]
    except (*health.REDIS_ERRORS, ValueError) as error:
        advice = (
            "Check REDIS_URL."
            if "REDIS_URL" in os.environ
            else f"No site runs on {settings.DATA_DIR}. Start AgentSite with `make run`: its Redis runs with it. "
            "If it runs on another folder, name that with --data FOLDER or AGENTSITE_DATA."
        )
        raise Ill(f"It does not answer: {prepare.first_line(error)}.", advice) from error
    if not kept:
        raise Ill("It lost a value at once.", "Look at its memory limit (maxmemory) and whether others use it.")
    return f"Redis {version}, a round trip in {(time.perf_counter() - began) * 1000:.1f} ms."


def worker() -> str:
    """A worker takes a message from the broker and answers it."""
    began = time.perf_counter()
    try:
        answered = asyncio.run(health.worker_answers(WORKER_SECONDS))
    except (*health.REDIS_ERRORS, OperationalError) as error:
        raise Unknown("It is reached through Redis, which does not answer.") from error
    if not answered:
        raise Ill(
            f"No worker answered a message within {WORKER_SECONDS:.0f} seconds.",
            "Start AgentSite with `make run`; if it runs, read the worker's lines, or give it more room with "
            "WORKER_CONCURRENCY.",
        )
    return f"A worker answered within {(time.perf_counter() - began) * 1000:.0f} ms."


def sandbox() -> str:
    """A live sandbox keeps code from doing what it must not. Without one no code is run, and all else works."""
    if not settings.SANDBOX_BACKEND:
        raise Off("Agents cannot run code: SANDBOX_BACKEND is empty.")
    found = availability()
    if not found.ok:
        raise Ill(f"Agents cannot run code. {found.reason}", found.hint or "See docs/sandbox.md.")
    return f"Holds: {', '.join(f'{name} {value}' for name, value in found.details.items())}."


def keys() -> str:
    """The secret key is there, long, and readable by its owner only."""
    if len(settings.SECRET_KEY) < KEY_CHARACTERS:
        raise Ill(
            f"SECRET_KEY has only {len(settings.SECRET_KEY)} characters.",
            f"Set a random one of {KEY_CHARACTERS} or more. Everybody will have to log in again.",
        )
    file = settings.DATA_DIR / "secrets.env"
    mode = stat.S_IMODE(file.stat().st_mode)
    if mode & 0o077:
        raise Ill(f"Others on this machine can read {file} (mode {mode:04o}).", f"Run `chmod 600 {file}`.")
    return "SECRET_KEY is set and private."


def keyring() -> str:
    """The keyring can be read, and every API key is under one of its keys."""
    try:
        ring = vault.keyring()
    except vault.KeyringError as error:
        raise Ill("API keys can neither be stored nor used.", f"{error}.") from error
    total = api_keys.live().count()
    known = Q(*(("secret__startswith", vault.prefix(name)) for name in ring.keys), _connector=Q.OR)
    lost = api_keys.live().filter(~known | Q(broken=True)).count()
    if lost:
        raise Ill(
            f"{lost} of {total} API keys cannot be decrypted and need re-entry.",
            "Put the older keys of KEYRING back if you have them; otherwise their owners enter them again on their "
            "settings page, or you revoke them in admin under API keys.",
        )
    older = api_keys.live().exclude(secret__startswith=vault.prefix(ring.current)).count()
    rest = f", {older} of them under an older key: run `manage.py rotate_keys`" if older else ""
    return f"{total} API keys, encrypted{rest}."


def clock() -> str:
    """The database and this machine agree on the time."""
    question = {
        "sqlite": "SELECT (julianday('now') - 2440587.5) * 86400.0",
        "postgresql": "SELECT extract(epoch FROM clock_timestamp())",
    }.get(connection.vendor)
    if not question:
        raise Unknown(f"Not known for {connection.display_name}.")
    with connection.cursor() as cursor:
        cursor.execute(question)
        difference = abs(float(cursor.fetchone()[0]) - time.time())
    if difference > CLOCK_SECONDS:
        raise Ill(
            f"The database's clock differs from this machine's by {difference:.0f} seconds.",
            "Synchronise both clocks (timedatectl set-ntp true).",
        )
    return f"Database and machine agree within {CLOCK_SECONDS:.0f} seconds."


def disk() -> str:
    """There is room to write."""
    free = shutil.disk_usage(settings.DATA_DIR).free
    if free < DISK_BYTES:
        raise Ill(
            f"Only {free / 1e6:.0f} MB are free in {settings.DATA_DIR}.",
            "Make room on that disk, or move the data folder to a larger one (AGENTSITE_DATA).",
        )
    return f"{free / 1e9:.0f} GB free in {settings.DATA_DIR}."


def functions() -> str:
    """Every module of functions could be read."""
    registry = get_registry()
    if registry.problems:
        raise Ill("; ".join(str(problem) for problem in registry.problems), "See docs/adding-a-function.md.")
    return f"{len(registry.functions)} functions, no problems."


def tasks() -> str:
    """Every file that declares a task could be read."""
    declared = get_declared()
    if declared.problems:
        raise Ill("; ".join(str(problem) for problem in declared.problems), "See docs/adding-a-task.md.")
    return f"{len(declared.tasks)} tasks, no problems."


def agents() -> str:
    """People have somebody to talk to."""
    variables = dict(Agent.objects.usable_by(None).values_list("name", "api_key_variable"))
    if not variables:
        raise Ill("No agent is enabled.", "Run `manage.py load_agents`, or enable one in admin under Agents.")
    # The processes of the site may have another environment than this command, so it is a warning.
    needed = [(variable, name) for name, variable in variables.items() if variable]
    missing = [f"{variable} ({name}’s key)" for variable, name in needed if not os.environ.get(variable)]
    warning = f" Not set in this environment: {', '.join(missing)}." if missing else ""
    return f"Enabled: {', '.join(variables)}.{warning}"


def python() -> str:
    """For the report: what this runs on."""
    return f"Python {sys.version.split()[0]}."


CHECKS: dict[str, Callable[[], str]] = {
    "python": python,
    "database": database,
    "schema": schema,
    "redis": redis_server,
    "worker": worker,
    "sandbox": sandbox,
    "keys": keys,
    "keyring": keyring,
    "clock": clock,
    "disk": disk,
    "functions": functions,
    "tasks": tasks,
    "agents": agents,
}
