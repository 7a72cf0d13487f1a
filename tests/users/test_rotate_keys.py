"""`manage.py rotate_keys`: all keys under the current ring key, none lost, whatever happens meanwhile."""

import io
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection

from tests.agentsite.conftest import manage
from users import keyring, vault
from users.api_keys import add, live, reveal, revoke
from users.management.commands import rotate_keys
from users.models import ApiKey, KeyState, User

CANARY = "sk-canary-0123456789-abcdefghij"
OTHER = "sk-another-0123456789-abcdefwxyz"
OLD, NEW = keyring.new_entry(), keyring.new_entry()
NEW_NAME = NEW.partition(":")[0]

pytestmark = pytest.mark.django_db


def rotate(*options: str, stdout: io.StringIO | None = None) -> str:
    """Run the command; return its last line."""
    out = stdout or io.StringIO()
    call_command("rotate_keys", *options, stdout=out)
    assert CANARY not in out.getvalue()
    return out.getvalue().splitlines()[-1]


@pytest.fixture
def keys(alice: User, settings: Any) -> list[ApiKey]:
    """Seven live keys of Alice and of the site and a revoked one, under a ring key that is not current any more."""
    settings.KEYRING = OLD
    revoke(add(alice, "revoked", CANARY))
    stored = [add(owner, f"p{number}", f"{CANARY}{number}") for number in range(3) for owner in (alice, None)]
    stored.append(add(alice, "gpt", CANARY, "http://127.0.0.1:11434/v1"))
    settings.KEYRING = f"{NEW},{OLD}"
    return stored


def secrets() -> dict[int, str]:
    """Live keys by id, decrypted."""
    return {key.pk: reveal(key) for key in live()}


def ring_keys() -> set[str]:
    return {vault.key_id(key.secret) for key in live()}


class TestRotation:
    @pytest.mark.parametrize("batch", ["1", "2", "7", "500"])
    def test_puts_every_key_under_the_current_ring_key(self, keys: list[ApiKey], settings: Any, batch: str) -> None:
        before = secrets()
        assert rotate("--batch", batch) == (
            f"7 rotated, 0 already current, 0 need re-entry. The current key is {NEW_NAME}."
        )
        settings.KEYRING = NEW
        assert secrets() == before
        assert ApiKey.objects.filter(secret="").count() == 1

    def test_does_nothing_a_second_time(self, keys: list[ApiKey]) -> None:
        rotate()
        before = list(live().order_by("pk").values())
        assert rotate().startswith("0 rotated, 7 already current, 0 need re-entry.")
        assert list(live().order_by("pk").values()) == before

    def test_says_how_far_it_is(self, keys: list[ApiKey]) -> None:
        out = io.StringIO()
        rotate("--batch", "3", stdout=out)
        assert out.getvalue().splitlines()[:-1] == ["3 of 7 keys", "6 of 7 keys", "7 of 7 keys"]

    def test_of_no_keys_is_no_failure(self, settings: Any) -> None:
        settings.KEYRING = NEW
        assert rotate().startswith("0 rotated, 0 already current, 0 need re-entry.")

    def test_leaves_what_it_cannot_decrypt_and_does_all_others(self, keys: list[ApiKey], bob_key: ApiKey) -> None:
        with pytest.raises(CommandError, match="put the older keys of KEYRING back") as incomplete:
            rotate()
        assert incomplete.value.returncode == rotate_keys.NEEDS_REENTRY
        bob_key.refresh_from_db()
        assert bob_key.state == KeyState.NEEDS_REENTRY
        assert live().filter(secret__startswith=vault.prefix(NEW_NAME)).count() == 7

    @pytest.fixture
    def bob_key(self, keys: list[ApiKey]) -> ApiKey:
        """Bob's row, with a secret of Alice's."""
        key = add(User.objects.create_user("bob"), "gpt", OTHER)
        ApiKey.objects.filter(pk=key.pk).update(secret=keys[0].secret)
        return key


class TestADryRun:
    def test_decrypts_every_key_and_changes_none(self, keys: list[ApiKey]) -> None:
        before = list(ApiKey.objects.order_by("pk").values())
        assert rotate("--dry-run").startswith("7 would be rotated, 0 already current, 0 need re-entry.")
        assert list(ApiKey.objects.order_by("pk").values()) == before

    def test_finds_what_cannot_be_decrypted_even_under_the_current_ring_key(self, keys: list[ApiKey]) -> None:
        rotate()
        ApiKey.objects.filter(pk=keys[0].pk).update(secret=live().get(pk=keys[2].pk).secret)
        out = io.StringIO()
        with pytest.raises(CommandError) as incomplete:
            rotate("--dry-run", stdout=out)
        assert incomplete.value.returncode == rotate_keys.NEEDS_REENTRY
        assert "0 would be rotated, 6 already current, 1 needs re-entry." in out.getvalue()
        assert not ApiKey.objects.get(pk=keys[0].pk).broken


class TestMeanwhile:
    @pytest.mark.parametrize("change", [revoke, lambda key: add(key.owner, key.provider, OTHER, key.base_url)])
    def test_a_key_that_is_replaced_or_revoked_stays_as_it_was_left(
        self, keys: list[ApiKey], change: Callable[[ApiKey], object]
    ) -> None:
        read = list(live().order_by("pk"))
        change(keys[0])
        left = ApiKey.objects.filter(provider=keys[0].provider, owner=keys[0].owner).order_by("pk").values_list()
        before = list(left)
        assert rotate_keys.rotate(read) == Counter(rotated=6, meanwhile=1)
        assert list(left) == before

    def test_keys_that_are_added_are_rotated_too(self, keys: list[ApiKey], settings: Any) -> None:
        class AddsWhenWrittenTo(io.StringIO):
            added = False

            def write(self, text: str) -> int:
                if not self.added:
                    self.added = True
                    settings.KEYRING = OLD  # As a process has it that was not restarted.
                    add(None, "late", OTHER)
                    settings.KEYRING = f"{NEW},{OLD}"
                return super().write(text)

        assert rotate("--batch", "3", stdout=AddsWhenWrittenTo()).startswith("8 rotated, 0 already current,")
        assert ring_keys() == {NEW_NAME}

    @pytest.mark.django_db(transaction=True)
    def test_writers_that_go_on_lose_nothing(self, keys: list[ApiKey]) -> None:
        stop = threading.Event()
        written = {key.pk: f"{CANARY}{key.provider[1:]}" if key.provider != "gpt" else CANARY for key in keys}

        def write(key: ApiKey) -> str:
            last, number = written[key.pk], 0
            try:
                while not stop.is_set():
                    number += 1
                    last = f"{OTHER}{number}"
                    add(key.owner, key.provider, last, key.base_url)
            finally:
                connection.close()
            return last

        with ThreadPoolExecutor(2) as pool:
            writing = [pool.submit(write, key) for key in keys[:2]]
            try:
                for _ in range(5):
                    rotate("--batch", "2")
            finally:
                stop.set()
            lasts = [done.result() for done in writing]
        rotate()
        expected = sorted([*lasts, *(written[key.pk] for key in keys[2:])])
        assert sorted(secrets().values()) == expected
        assert ring_keys() == {NEW_NAME}


class TestWhatIsWrong:
    @pytest.mark.parametrize("ring", ["garbled", "a:AAAA", f"{NEW},{NEW}"])
    @pytest.mark.parametrize("option", [[], ["--dry-run"]])
    def test_with_the_keyring_is_said_and_changes_nothing(
        self, keys: list[ApiKey], settings: Any, ring: str, option: list[str]
    ) -> None:
        before = list(ApiKey.objects.order_by("pk").values())
        settings.KEYRING = ring
        with pytest.raises(CommandError, match=r"^Entry \d of KEYRING .*\.$") as refused:
            rotate(*option)
        assert refused.value.returncode == 1
        assert NEW[-20:] not in str(refused.value)
        assert list(ApiKey.objects.order_by("pk").values()) == before

    def test_is_a_keyring_of_another_site(self, keys: list[ApiKey], settings: Any) -> None:
        settings.KEYRING = keyring.new_entry()
        before = list(ApiKey.objects.order_by("pk").values())
        with pytest.raises(CommandError, match="put the older keys of KEYRING back") as refused:
            rotate()
        assert refused.value.returncode == rotate_keys.NEEDS_REENTRY
        assert list(ApiKey.objects.order_by("pk").values()) == before

    @pytest.mark.parametrize("batch", ["0", "-1", "many", "100000"])
    def test_with_the_size_of_a_batch_is_said(self, batch: str) -> None:
        with pytest.raises(CommandError, match="give a number from 1 to 10000"):
            rotate("--batch", batch)


class TestFromTheCommandLine:
    def test_a_new_ring_key_is_added_and_used(self, tmp_path: Path) -> None:
        file = tmp_path / "secrets.env"
        assert manage(tmp_path, "migrate", "--verbosity", "0").returncode == 0
        old = keyring.read(file)
        assert "would be put in front" in manage(tmp_path, "rotate_keys", "--new-key", "--dry-run").stdout
        assert keyring.read(file) == old
        added = manage(tmp_path, "rotate_keys", "--new-key")
        assert added.returncode == 0
        ring = keyring.parse(keyring.read(file))
        assert keyring.read(file).endswith(f",{old}")
        assert f"Key {ring.current} is now in front of KEYRING" in added.stdout
        assert keyring.read(file)[len(ring.current) + 1 :][:20] not in added.stdout + added.stderr
        assert f"The current key is {ring.current}." in manage(tmp_path, "rotate_keys").stdout

    def test_what_is_wrong_is_a_sentence_and_a_code(self, tmp_path: Path) -> None:
        (tmp_path / "db.sqlite3").touch()
        environment = manage(tmp_path, "rotate_keys", "--new-key", KEYRING=NEW)
        assert (environment.returncode, "set in the environment" in environment.stderr) == (1, True)
        without_tables = manage(tmp_path, "rotate_keys")
        assert (without_tables.returncode, "The database does not answer" in without_tables.stderr) == (1, True)
        for text in ("KEYRING=\n", "KEYRING=garbled\n"):
            (tmp_path / "secrets.env").write_text(f"SECRET_KEY={'x' * 50}\n{text}")
            wrong = manage(tmp_path, "rotate_keys")
            assert (wrong.returncode, wrong.stderr.startswith("A setting is wrong: ")) == (1, True)
            assert len(wrong.stderr.splitlines()) == 1
        assert "Traceback" not in environment.stderr + without_tables.stderr
