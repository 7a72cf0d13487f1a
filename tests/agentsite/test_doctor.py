"""Each check of `doctor` where it is well and where it is not. The whole, green, is in test_up.py."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder

from agentsite import data as data_folder
from agentsite import doctor
from executor.models import Agent
from tests.agentsite.conftest import manage
from users import api_keys, keyring


def test_the_report_names_every_check_and_fails_where_nothing_runs(data: Path) -> None:
    data.mkdir()
    (data / "db.sqlite3").touch()
    examined = manage(data, "doctor")
    assert examined.returncode == 1
    assert [line for line in examined.stdout.splitlines() if line.startswith("✗ redis")]
    assert f"No site runs on {data}. Start AgentSite with `make run`" in examined.stdout
    assert "--data FOLDER or AGENTSITE_DATA" in examined.stdout
    assert "? worker     It is reached through Redis" in examined.stdout
    assert "migrations are not applied" in examined.stdout
    assert "✓ sandbox    Holds: bubblewrap" in examined.stdout
    assert "Traceback" not in examined.stderr


@pytest.mark.django_db
def test_schema() -> None:
    assert doctor.schema() == "Up to date."
    recorder = MigrationRecorder(connection)
    recorder.record_applied("users", "9999_later")
    with pytest.raises(doctor.Ill, match=r"users\.9999_later, which this code does not know"):
        doctor.schema()
    recorder.record_unapplied("users", "9999_later")
    recorder.record_unapplied(*MigrationLoader(connection).graph.leaf_nodes("users")[0])
    with pytest.raises(doctor.Ill, match="migrations are not applied"):
        doctor.schema()


def test_redis_that_is_somebody_elses(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    monkeypatch.setenv("REDIS_URL", settings.REDIS_URL)
    with pytest.raises(doctor.Ill) as ill:
        doctor.redis_server()
    assert ill.value.advice == "Check REDIS_URL."


def test_keys(settings: Any, tmp_path: Path) -> None:
    settings.DATA_DIR = tmp_path
    settings.SECRET_KEY = "x" * 50
    file = data_folder.ensure(tmp_path)
    assert doctor.keys() == "SECRET_KEY is set and private."
    file.chmod(0o644)
    with pytest.raises(doctor.Ill) as ill:
        doctor.keys()
    assert ill.value.advice == f"Run `chmod 600 {file}`."
    settings.SECRET_KEY = "short"
    with pytest.raises(doctor.Ill, match="only 5 characters"):
        doctor.keys()


@pytest.mark.django_db
def test_keyring(settings: Any) -> None:
    old, new = keyring.new_entry(), keyring.new_entry()
    settings.KEYRING = old
    key = api_keys.add(None, "gpt", "sk-of-nobody")
    assert doctor.keyring() == "1 API keys, encrypted."
    settings.KEYRING = f"{new},{old}"
    assert doctor.keyring() == "1 API keys, encrypted, 1 of them under an older key: run `manage.py rotate_keys`."
    settings.KEYRING = new
    with pytest.raises(doctor.Ill, match="1 of 1 API keys cannot be decrypted and need re-entry"):
        doctor.keyring()
    settings.KEYRING = "garbled"
    with pytest.raises(doctor.Ill) as ill:
        doctor.keyring()
    assert "Entry 1 of KEYRING" in ill.value.advice
    settings.KEYRING = new
    api_keys.revoke(key)
    assert doctor.keyring() == "0 API keys, encrypted."


@pytest.mark.django_db
def test_clock_and_database_of_a_sound_machine() -> None:
    assert doctor.clock() == "Database and machine agree within 2 seconds."


def test_disk(settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.DATA_DIR = tmp_path
    assert "GB free" in doctor.disk()
    monkeypatch.setattr(doctor, "DISK_BYTES", shutil.disk_usage(tmp_path).total + 1)
    with pytest.raises(doctor.Ill, match="MB are free"):
        doctor.disk()


@pytest.mark.django_db
def test_agents() -> None:
    Agent.objects.update(enabled=False)
    with pytest.raises(doctor.Ill, match="No agent is enabled"):
        doctor.agents()
    Agent.objects.create(name="helper", title="Helper", provider="demo")
    assert doctor.agents() == "Enabled: helper."


@pytest.mark.django_db
def test_agents_whose_keys_are_not_set_here_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HELPER_KEY", "set")
    Agent.objects.update(enabled=False)
    for position, variable in enumerate(("HELPER_KEY", "OTHER_KEY")):
        name = variable.partition("_")[0].lower()
        Agent.objects.create(name=name, title=name, provider="gpt", api_key_variable=variable, position=position)
    assert doctor.agents() == "Enabled: helper, other. Not set in this environment: OTHER_KEY (other’s key)."


def test_a_sandbox_that_is_switched_off_is_no_failure(settings: Any) -> None:
    settings.SANDBOX_BACKEND = ""
    with pytest.raises(doctor.Off, match="SANDBOX_BACKEND is empty"):
        doctor.sandbox()


def test_a_sandbox_that_cannot_be_had_says_what_to_do(settings: Any, tmp_path: Path) -> None:
    settings.SANDBOX_OPTIONS = {"site": str(tmp_path)}
    with pytest.raises(doctor.Ill, match="The packages for running code are not installed") as ill:
        doctor.sandbox()
    assert "scripts/setup run" in ill.value.advice
