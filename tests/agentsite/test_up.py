"""`manage.py up` with real processes: what it promises to those who start, watch and stop it."""

import json
import os
import signal
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.agentsite.conftest import Up, eventually, is_alive, manage

pytestmark = pytest.mark.chaos
Start = Callable[..., Up]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """One that is up; the tests that share it leave it as they found it."""
    with Up(tmp_path_factory.mktemp("up") / "data") as up:
        assert up.address
        yield up


def test_up_serves_a_healthy_site_once_it_says_so(running: Up) -> None:
    assert running.get("/")[0] == 200
    words = {"status": "ok", "database": "ok", "redis": "ok", "worker": "ok"}
    assert json.loads(running.get("/healthz")[1]) == words
    link = running.says(r"makes you the administrator, once: http://[^/]+(/\S+)")[1]
    assert running.get(link)[0] == 200


def test_other_host_names_are_refused_but_not_to_a_load_balancer(running: Up) -> None:
    assert running.get("/", host="evil.example")[0] == 400
    assert running.get("/healthz", host="10.1.2.3")[0] == 200


def test_doctor_finds_nothing_wrong(running: Up) -> None:
    examined = manage(running.data, "doctor", "--json")
    report = json.loads(examined.stdout)
    ill = [check for check in report["checks"] if check["status"] not in ("ok", "off")]
    assert (examined.returncode, report["healthy"], ill) == (0, True, [])


def test_a_second_one_on_the_same_data_is_refused_and_does_not_disturb_the_first(running: Up) -> None:
    second = manage(running.data, "up", "--port", "0")
    assert second.returncode == 2
    assert second.stderr.startswith("AgentSite already runs on the data folder")
    assert f"(process {running.process.pid})" in second.stderr
    assert running.is_healthy()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_asked_to_stop_it_leaves_no_process_and_exits_with_0(start_up: Start, number: signal.Signals) -> None:
    up = start_up()
    assert up.address
    children = up.children()
    assert set(children) == {"web", "worker", "redis"}
    up.process.send_signal(number)
    assert up.ends() == 0
    assert [name for name, pid in children.items() if is_alive(pid)] == []
    assert up.lines[-1] == "Stopped."
    assert not [line for line in up.lines if "Traceback" in line]


def test_its_children_end_with_it_even_when_it_is_killed_and_the_next_one_starts(start_up: Start) -> None:
    up = start_up()
    assert up.address
    children = up.children()
    up.process.kill()
    up.ends()
    eventually(lambda: not any(is_alive(pid) for pid in children.values()), "all children end")
    assert start_up().is_healthy()


def test_a_killed_child_comes_back_and_nobody_is_refused_meanwhile(running: Up) -> None:
    for name in ("web", "redis", "worker"):
        old = running.children()[name]
        os.kill(old, signal.SIGKILL)
        assert running.get("/")[0] == 200
        running.says(f"The {name} process ended with signal SIGKILL; starting it again")
        eventually(lambda name=name, old=old: running.children().get(name, old) != old, f"{name} runs again")  # type: ignore[misc]
    eventually(running.is_healthy, "all is well again")


def test_doctor_notices_a_worker_that_takes_no_messages(running: Up) -> None:
    eventually(running.is_healthy, "all is well")
    worker = running.children()["worker"]
    os.kill(worker, signal.SIGSTOP)
    try:
        report = json.loads(manage(running.data, "doctor", "--json").stdout)
        check = next(check for check in report["checks"] if check["name"] == "worker")
        assert (report["healthy"], check["status"]) == (False, "failed")
        assert "Start AgentSite" in check["advice"]
    finally:
        os.kill(worker, signal.SIGCONT)


def test_an_unknown_migration_is_recognised_as_a_newer_database(data: Path) -> None:
    assert manage(data, "migrate", "--verbosity", "0").returncode == 0
    database = sqlite3.connect(data / "db.sqlite3")
    with database:
        database.execute(
            "INSERT INTO django_migrations (app, name, applied) VALUES ('users', '9999_later', '2030-01-01')"
        )
    database.close()
    refused = manage(data, "up", "--port", "0")
    assert refused.returncode == 4
    assert refused.stderr.startswith("The database is newer than this code: it has users.9999_later")
