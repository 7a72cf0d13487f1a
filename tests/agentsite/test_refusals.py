"""What `manage.py up` and the settings refuse: a sentence that says what to do, a code, and never a traceback."""

import socket
from pathlib import Path

import pytest

from tests.agentsite.conftest import manage


def test_a_port_in_use_is_said(data: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = manage(data, "up", "--port", str(port))
    assert refused.returncode == 3
    assert refused.stderr == (
        f"Port {port} on 127.0.0.1 is in use by another program. Stop it, or choose another with --port.\n"
    )


@pytest.mark.parametrize("command", [["ask", "Hello"], ["doctor"], ["load_agents"], ["rotate_keys", "--new-key"]])
def test_a_command_for_a_site_names_the_folder_without_one_and_makes_nothing_there(
    data: Path, tmp_path: Path, command: list[str]
) -> None:
    other = tmp_path / "other"
    for folder, arguments in ((data, command), (other, [*command, "--data", str(other)])):
        refused = manage(data, *arguments)
        assert refused.returncode == 1
        assert refused.stderr.startswith(f"There is no database in the data folder {folder}. ")
        assert "--data FOLDER or AGENTSITE_DATA" in refused.stderr
        assert not folder.exists()


def test_a_command_for_a_site_is_obeyed_where_there_is_one(data: Path) -> None:
    assert manage(data, "migrate", "--verbosity", "0").returncode == 0
    assert "There is no database" not in manage(data, "doctor").stderr


@pytest.mark.parametrize(
    ("arguments", "settings", "code", "sentence"),
    [
        (["--host", "192.0.2.1"], {}, 3, "192.0.2.1 is not an address of this machine"),
        (["--port", "http"], {}, 2, "'http' is not a port"),
        ([], {"DATABASE_URL": "nonsense"}, 1, "A setting is wrong: DATABASE_URL must look like"),
        ([], {"DATABASE_URL": "postgres://u:pass%word@127.0.0.1:x/n"}, 1, "A setting is wrong: "),
        ([], {"DATABASE_URL": "postgres://u:sesame@127.0.0.1:1/n"}, 4, "The database cannot be used: "),
        ([], {"DATABASE_URL": "sqlite:////dev/null/db.sqlite3"}, 4, "The database cannot be used: "),
        ([], {"REDIS_URL": "redis://:sesame@127.0.0.1:1/0"}, 5, "Redis cannot be used at 127.0.0.1"),
        ([], {"REDIS_URL": "nonsense"}, 5, "Redis cannot be used at nonsense"),
        ([], {"WORKER_CONCURRENCY": "many"}, 1, "A setting is wrong: "),
        ([], {"KEYRING": "k1:sesame"}, 1, "A setting is wrong: Entry 1 of KEYRING is not id:key"),
        (["--data", "/dev/null/data"], {}, 1, "The data folder cannot be used: "),
    ],
)
def test_what_cannot_work_is_refused_in_a_sentence(
    data: Path, arguments: list[str], settings: dict[str, str], code: int, sentence: str
) -> None:
    refused = manage(data, "up", *(arguments if "--port" in arguments else ["--port", "0", *arguments]), **settings)
    assert (refused.returncode, sentence in refused.stderr) == (code, True), refused.stderr
    assert "Traceback" not in refused.stderr
    assert "sesame" not in refused.stderr + refused.stdout
