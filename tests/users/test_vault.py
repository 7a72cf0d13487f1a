"""The keyring and the vault: what one owner stored in one place is read there, and nowhere else."""

import base64
import os
import stat
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from users import keyring, vault
from users.keyring import KeyringError
from users.vault import NeedsReentry, decrypt, encrypt

CANARY = "sk-canary-0123456789-abcdefghij"
OLD, NEW = keyring.new_entry(), keyring.new_entry()
GOOD_KEY = base64.b64encode(bytes(range(32))).decode()


@pytest.fixture(autouse=True)
def ring(settings: Any) -> None:
    settings.KEYRING = OLD


@pytest.fixture
def secrets_file(settings: Any, tmp_path: Path) -> Path:
    """The keyring is in a file, as it is where the environment gives none."""
    settings.KEYRING = ""
    settings.SECRETS_FILE = tmp_path / "secrets.env"
    settings.SECRETS_FILE.write_text(f"SECRET_KEY=mine\nKEYRING={OLD}\nDEBUG=true\n")
    return tmp_path / "secrets.env"


class TestASecret:
    @pytest.mark.parametrize("plaintext", [CANARY, "", "x" * 5000, "schlüssel", "lone \ud800 surrogate"])
    def test_is_read_by_its_owner_where_it_was_stored(self, plaintext: str) -> None:
        assert decrypt(7, encrypt(7, plaintext, "gpt "), "gpt ") == plaintext

    @pytest.mark.parametrize(("owner", "place"), [(8, "gpt "), (None, "gpt "), (7, "claude "), (7, "gpt http://evil")])
    def test_is_not_read_by_another_owner_or_in_another_place(self, owner: int | None, place: str) -> None:
        with pytest.raises(NeedsReentry):
            decrypt(owner, encrypt(7, CANARY, "gpt "), place)

    def test_of_the_site_is_not_a_persons(self) -> None:
        stored = encrypt(None, CANARY)
        assert decrypt(None, stored) == CANARY
        with pytest.raises(NeedsReentry):
            decrypt(1, stored)

    def test_does_not_decrypt_when_anything_about_it_was_changed(self) -> None:
        stored = encrypt(7, CANARY)
        version, name, body = stored.split(":")
        raw = base64.urlsafe_b64decode(body)
        for place in range(len(raw)):
            changed = bytearray(raw)
            changed[place] ^= 1
            with pytest.raises(NeedsReentry):
                decrypt(7, f"{version}:{name}:{base64.urlsafe_b64encode(changed).decode()}")
        for text in (
            "",
            "v1",
            ":::",
            f"v2:{name}:{body}",
            f"{version}::{body}",
            f"{version}:{name}:",
            stored[:-4],
            "ü",
        ):
            with pytest.raises(NeedsReentry):
                decrypt(7, text)

    def test_is_bound_to_the_name_of_its_ring_key(self, settings: Any) -> None:
        settings.KEYRING = f"a:{GOOD_KEY},b:{GOOD_KEY}"
        stored = encrypt(7, CANARY)
        assert decrypt(7, stored) == CANARY
        with pytest.raises(NeedsReentry):
            decrypt(7, stored.replace("v1:a:", "v1:b:"))

    @pytest.mark.parametrize(
        ("owner", "stored"),
        [
            (7, "AAECAwQFBgcICQoLgDzRtFaJYKBoqsph5wBKEI9e5wVRtse6QojrIGMjiN0bRykQKyvZ6jmKq1LPDxM="),
            (None, "AAECAwQFBgcICQoLRTF9hH4jlwTCJzUc_2lo3_Pgb24NTo337I-Y9eFl6tIbRQAgVtyLarnmmA_yN00="),
        ],
    )
    def test_that_was_stored_by_the_first_version_is_read_by_every_later_one(
        self, settings: Any, owner: int | None, stored: str
    ) -> None:
        # Made without our code: HKDF-SHA256 of the ring key with the info "agentsite api keys, person 7", AES-256-GCM.
        settings.KEYRING = f"a:{GOOD_KEY}"
        assert decrypt(owner, f"v1:a:{stored}", "gpt ") == CANARY

    def test_looks_different_each_time_and_like_nothing_of_its_text(self) -> None:
        one, other = encrypt(7, CANARY), encrypt(7, CANARY)
        assert one.rpartition(":")[2][:16] != other.rpartition(":")[2][:16]
        assert CANARY.encode()[:8] not in base64.urlsafe_b64decode(one.rpartition(":")[2])

    def test_is_read_as_long_as_its_ring_key_is_there(self, settings: Any) -> None:
        stored = encrypt(7, CANARY)
        settings.KEYRING = f"{NEW},{OLD}"
        assert decrypt(7, stored) == CANARY
        assert vault.knows(stored)
        assert vault.key_id(encrypt(7, CANARY)) == NEW.partition(":")[0]
        settings.KEYRING = NEW
        assert not vault.knows(stored)
        with pytest.raises(NeedsReentry, match="Enter it again"):
            decrypt(7, stored)

    def test_and_the_ring_are_in_no_text_of_an_error(self, settings: Any) -> None:
        stored = encrypt(7, CANARY)
        settings.KEYRING = OLD.replace(":", ":A")
        for call, text in ((encrypt, CANARY), (decrypt, stored)):
            with pytest.raises(KeyringError) as garbled:
                call(7, text)
            assert OLD.partition(":")[2][:8] not in "".join(traceback.format_exception(garbled.value))
        settings.KEYRING = OLD
        with pytest.raises(NeedsReentry) as other:
            decrypt(8, stored)
        assert "Invalid" not in "".join(traceback.format_exception(other.value))
        assert GOOD_KEY not in repr(keyring.parse(f"a:{GOOD_KEY}"))
        assert repr(bytes(range(32))) not in repr(keyring.parse(f"a:{GOOD_KEY}"))


class TestTheKeyring:
    def test_encrypts_with_the_first_and_reads_with_all(self) -> None:
        ring = keyring.parse(f" {NEW} , {OLD} ")
        assert ring.current == NEW.partition(":")[0]
        assert {len(key) for key in ring.keys.values()} == {32}
        assert len(ring.keys) == 2
        assert keyring.parse(f"a:{GOOD_KEY.replace('+', '-').replace('/', '_')}").keys["a"] == bytes(range(32))

    @pytest.mark.parametrize(
        ("text", "sentence"),
        [
            ("", "KEYRING is empty"),
            (GOOD_KEY, "Entry 1 of KEYRING is not id:key"),
            (f"a:{GOOD_KEY[4:]}", "Entry 1 of KEYRING is not id:key with a key of 32 bytes"),
            (f"a:{GOOD_KEY},", "Entry 2 of KEYRING"),
            (f"a:{GOOD_KEY},b:nonsense!", "Entry 2 of KEYRING"),
            (f"a b:{GOOD_KEY}", "Entry 1 of KEYRING"),
            (f"a:{GOOD_KEY},A:{GOOD_KEY}", "Entry 2 of KEYRING has an id that is there already"),
        ],
    )
    def test_that_is_wrong_is_refused_in_a_sentence_without_what_is_in_it(self, text: str, sentence: str) -> None:
        with pytest.raises(KeyringError, match=sentence) as refused:
            keyring.parse(text)
        assert GOOD_KEY[4:12] not in str(refused.value)

    def test_never_gives_the_same_key_or_name_twice(self) -> None:
        entries = [keyring.new_entry().partition(":") for _ in range(100)]
        assert len({name for name, _, _ in entries}) == len({key for _, _, key in entries}) == 100


class TestTheKeyringInItsFile:
    def test_is_read_again_when_it_has_changed(self, secrets_file: Path) -> None:
        stored = encrypt(7, CANARY)
        name = keyring.add_current(secrets_file)
        assert vault.keyring().current == name
        assert vault.key_id(encrypt(7, CANARY)) == name
        assert decrypt(7, stored) == CANARY

    def test_gets_a_new_key_in_front_and_keeps_everything_else(self, secrets_file: Path) -> None:
        secrets_file.chmod(0o640)
        name = keyring.add_current(secrets_file)
        first, ring, last = secrets_file.read_text().splitlines()
        assert (first, last) == ("SECRET_KEY=mine", "DEBUG=true")
        assert ring.startswith(f"KEYRING={name}:")
        assert ring.endswith(f",{OLD}")
        assert stat.S_IMODE(secrets_file.stat().st_mode) == 0o600
        assert os.listdir(secrets_file.parent) == ["secrets.env"]

    def test_stays_behind_a_symbolic_link(self, secrets_file: Path, tmp_path: Path) -> None:
        link = tmp_path / "elsewhere"
        link.symlink_to(secrets_file)
        name = keyring.add_current(link)
        assert link.is_symlink()
        assert keyring.parse(keyring.read(secrets_file)).current == name

    @pytest.mark.parametrize("line", ["", "KEYRING=\n", "KEYRING=garbled\n"])
    def test_is_left_as_it_is_when_it_is_wrong(self, secrets_file: Path, line: str) -> None:
        secrets_file.write_text(f"SECRET_KEY=mine\n{line}")
        with pytest.raises(KeyringError):
            keyring.add_current(secrets_file)
        assert secrets_file.read_text() == f"SECRET_KEY=mine\n{line}"

    @pytest.mark.parametrize("damage", [Path.unlink, lambda file: file.write_text("KEYRING=garbled\n")])
    def test_that_is_damaged_while_all_runs_is_said_in_a_sentence(
        self, secrets_file: Path, damage: Callable[[Path], object]
    ) -> None:
        stored = encrypt(7, CANARY)
        damage(secrets_file)
        with pytest.raises(KeyringError, match="backup"):
            decrypt(7, stored)
        assert not vault.knows(stored)

    @pytest.mark.parametrize(
        "line", ["KEYRING={}", "export KEYRING={}", "KEYRING='{}'", 'KEYRING="{}"', "KEYRING= {} "]
    )
    def test_is_understood_however_it_is_written(self, secrets_file: Path, line: str) -> None:
        secrets_file.write_text(f"# KEYRING=none\nKEYRING=older\n{line.format(OLD)}\n")
        assert keyring.read(secrets_file) == OLD
