"""The data folder: private, complete, and made only once however many start together."""

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from agentsite import data
from users import keyring


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_only_its_owner_can_enter_it_and_read_the_secrets(tmp_path: Path) -> None:
    secrets = data.ensure(tmp_path / "deep" / "data")
    assert mode(secrets.parent) == 0o700
    assert mode(secrets) == 0o600
    assert len(secrets.read_text().split("SECRET_KEY=")[1].strip()) >= 50


def test_many_who_make_it_at_once_get_one_secret_and_leave_no_drafts(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        texts = set(pool.map(lambda _: data.ensure(tmp_path / "data").read_text(), range(64)))
    assert len(texts) == 1
    assert not [path for path in (tmp_path / "data").iterdir() if path.name.startswith(".")]


def test_a_secret_that_is_there_is_kept(tmp_path: Path) -> None:
    secrets = data.ensure(tmp_path)
    secrets.write_text("SECRET_KEY=mine\nKEYRING=mine too\n")
    assert data.ensure(tmp_path).read_text() == "SECRET_KEY=mine\nKEYRING=mine too\n"


def test_an_older_installation_gets_a_keyring_and_only_one_however_many_start_at_once(tmp_path: Path) -> None:
    (tmp_path / "secrets.env").write_text("SECRET_KEY=mine\nDEBUG=true")
    with ThreadPoolExecutor(16) as pool:
        texts = set(pool.map(lambda _: data.ensure(tmp_path).read_text(), range(64)))
    (text,) = texts
    assert text.startswith("SECRET_KEY=mine\nDEBUG=true\n")
    assert len(keyring.parse(keyring.read(tmp_path / "secrets.env")).keys) == 1
    assert mode(tmp_path / "secrets.env") == 0o600
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_where_the_environment_gives_the_keyring_the_file_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEYRING", keyring.new_entry())
    assert "KEYRING" not in data.ensure(tmp_path).read_text()


def test_the_redis_socket_moves_where_the_path_would_be_too_long(tmp_path: Path) -> None:
    short = Path("/tmp/data")
    assert data.redis_socket(short) == short / "run" / "redis.sock"
    long = tmp_path / ("x" * 200)
    assert len(str(data.redis_socket(long))) < data.SOCKET_PATH_LIMIT
    assert data.redis_socket(long) != data.redis_socket(tmp_path / ("y" * 200))
