"""What `up` does before it starts any process: schema, cache table, static files, first agents, tasks."""

import hashlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from django.apps import apps
from django.conf import settings
from django.contrib.staticfiles.finders import get_finders
from django.core.files.storage import FileSystemStorage
from django.core.management import call_command, get_commands
from django.core.management.base import CommandError
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor

from executor.declared import synchronise

MIGRATION_LOCK = 0x616773  # Any number that nobody else on this database server takes; ours spells "ags".


class Refusal(Exception):
    """`up` cannot do what it was asked to. The text is a sentence for the operator; `code` becomes the exit code."""

    def __init__(self, sentence: str, code: int) -> None:
        super().__init__(sentence)
        self.code = code


FAILED, ALREADY_RUNNING, NO_ADDRESS, NO_DATABASE, NO_REDIS = 1, 2, 3, 4, 5  # 6 is running.GAVE_UP


def database() -> list[str]:
    """Bring the database to the schema of this code; return a line for each thing done.

    Raises:
        Refusal: It does not answer, or newer code has already changed it.
    """
    try:
        with _one_at_a_time():
            return _migrate()
    except DatabaseError as error:
        raise Refusal(
            f"The database cannot be used: {first_line(error)}. "
            "Check DATABASE_URL; for SQLite, that its folder exists and can be written to.",
            NO_DATABASE,
        ) from error
    finally:
        connection.close()


def _migrate() -> list[str]:
    executor = MigrationExecutor(connection)
    unknown = unknown_migrations(executor)
    if unknown:
        raise Refusal(
            f"The database is newer than this code: it has {', '.join(unknown)}, which this version does not know. "
            "Update the code, or restore the backup that was made before the update.",
            NO_DATABASE,
        )
    done = []
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if plan:
        call_command("migrate", interactive=False, verbosity=0)
        done.append(f"Database: {len(plan)} migration{'s' if len(plan) > 1 else ''} applied.")
    call_command("createcachetable", verbosity=0)
    return done


def unknown_migrations(executor: MigrationExecutor) -> list[str]:
    """Migrations that were applied to the database but are not in this code, as "app.name"."""
    installed = {config.label for config in apps.get_app_configs()}
    known = executor.loader.disk_migrations
    replaced = {old for migration in known.values() for old in migration.replaces}
    applied = executor.loader.applied_migrations
    return sorted(
        f"{app}.{name}"
        for app, name in applied
        if app in installed and (app, name) not in known and (app, name) not in replaced
    )


def first_line(error: Exception) -> str:
    """What went wrong, without the rest of the story and the full stop."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Let several machines that start on one Postgres migrate one after the other. SQLite is ours alone anyway."""
    if connection.vendor != "postgresql":
        connection.ensure_connection()
        yield
        return
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", [MIGRATION_LOCK])
        yield
        cursor.execute("SELECT pg_advisory_unlock(%s)", [MIGRATION_LOCK])


def static_files() -> list[str]:
    """Collect, hash and compress the static files, unless nothing about them has changed since the last time."""
    stamp = Path(settings.STATIC_ROOT) / ".stamp"
    now = _fingerprint()
    if stamp.exists() and stamp.read_text() == now:
        return []
    call_command("collectstatic", interactive=False, verbosity=0)
    stamp.write_text(now)
    return ["Static files: collected."]


def _fingerprint() -> str:
    """A digest of the name, size and time of every static file, and of what processes them."""
    digest = hashlib.sha256(f"{settings.STORAGES['staticfiles']} {sys.version}".encode())
    for finder in get_finders():
        for path, storage in finder.list([]):
            assert isinstance(storage, FileSystemStorage)
            stat = Path(storage.path(path)).stat()
            digest.update(f"{path} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def counts() -> list[str]:
    """Begin to count anew: the files of processes that ended long ago would only become more."""
    for file in Path(settings.METRICS_DIR).glob("*.db"):
        file.unlink(missing_ok=True)
    return []


def first_agents() -> list[str]:
    """Load agents.yaml when there is no agent yet. Later the administrator owns them, and this changes nothing.

    Raises:
        Refusal: The file has a mistake; the text says which.
    """
    if apps.get_model("executor", "Agent").objects.exists() or "load_agents" not in get_commands():
        return []
    try:
        call_command("load_agents", verbosity=0)
    except CommandError as error:
        raise Refusal(str(error), FAILED) from error
    return [f"Agents: loaded from {settings.AGENTS_FILE.name}."]


def declared_tasks() -> list[str]:
    """Bring the rows of tasks up to what their files declare. A file with mistakes keeps nobody from starting."""
    changed = [f"{name} {outcome}" for name, outcome in synchronise()]
    return [f"Tasks: {', '.join(changed)}."] if changed else []
