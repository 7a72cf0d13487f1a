"""`manage.py rotate_keys`: put every API key under the current key of the keyring, while the site runs."""

import argparse
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, transaction

from users import keyring, vault
from users.api_keys import live, reveal
from users.models import ApiKey

NEEDS_REENTRY = 3  # Exit code. 1 is a wrong keyring or database, 2 wrong arguments.


class Command(BaseCommand):
    help = (
        "Encrypt every API key that is not under the current key of KEYRING (the first one) anew. The site may run. "
        f"Exit code {NEEDS_REENTRY}: all others are done, but some cannot be decrypted."
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="decrypt every key, say what would happen, no more")
        parser.add_argument("--batch", type=_batch, default=500, help="keys in one transaction (default: %(default)s)")
        parser.add_argument("--new-key", action="store_true", help="only put a new key in front of KEYRING")
        parser.add_argument("--data", help="data folder (default: $AGENTSITE_DATA, else ./data); read by manage.py")

    def handle(self, *, dry_run: bool, batch: int, new_key: bool, **options: Any) -> None:
        try:
            if new_key:
                self._add_key(dry_run)
            else:
                self._rotate(dry_run, batch)
        except keyring.KeyringError as error:
            raise CommandError(f"{error}.") from error
        except DatabaseError as error:
            raise CommandError(
                f"The database does not answer, or is not up to date ({type(error).__name__}). "
                "What was encrypted anew until now stays so: see what `manage.py doctor` says, and run this again."
            ) from error

    def _add_key(self, dry_run: bool) -> None:
        if settings.KEYRING:
            raise CommandError(
                "KEYRING is set in the environment, which this command cannot change. Put id:key, in front of it "
                "there, with an id of your choice and what `openssl rand -base64 32` prints, and restart AgentSite."
            )
        file = settings.SECRETS_FILE
        if dry_run:
            keyring.parse(keyring.read(file))
            self.stdout.write(f"A new key would be put in front of KEYRING in {file}.")
            return
        try:
            name = keyring.add_current(file)
        except OSError as error:
            raise CommandError(f"{file} cannot be written ({error.strerror}). Nothing was changed.") from error
        self.stdout.write(
            f"Key {name} is now in front of KEYRING in {file}, and processes that read that file use it at once.\n"
            "Back the file up, and copy the line to other machines of this site. Then run `manage.py rotate_keys`."
        )

    def _rotate(self, dry_run: bool, batch: int) -> None:
        ring = vault.keyring()
        total, done = live().count(), Counter[str]()
        for keys in _batches(batch):
            done += look(keys) if dry_run else rotate(keys)
            self._progress(done.total(), max(total, done.total()))
        lost = done["needs re-entry"]
        self.stdout.write(
            f"{done['rotated']} {'would be ' if dry_run else ''}rotated, {done['current']} already current, "
            f"{lost} need{'s' if lost == 1 else ''} re-entry"
            f"{', ' + str(done['meanwhile']) + ' replaced or revoked meanwhile' if done['meanwhile'] else ''}. "
            f"The current key is {ring.current}."
        )
        if lost:
            raise CommandError(
                "What needs re-entry cannot be decrypted: put the older keys of KEYRING back if you have them; "
                "otherwise its owners enter it again.",
                returncode=NEEDS_REENTRY,
            )

    def _progress(self, done: int, total: int) -> None:
        on_screen = self.stdout.isatty()
        self.stdout.write(f"{done:,} of {total:,} keys", ending="\r" if on_screen and done < total else "\n")


def _batch(text: str) -> int:
    if text.isdigit() and 0 < int(text) <= 10_000:
        return int(text)
    raise argparse.ArgumentTypeError("give a number from 1 to 10000.")


def _batches(size: int) -> Iterator[list[ApiKey]]:
    """Every key that is not revoked, by ascending id; those that are added meanwhile come last."""
    after = 0
    while keys := list(ApiKey.objects.filter(revoked_at=None, pk__gt=after).order_by("pk")[:size]):
        yield keys
        after = keys[-1].pk


def look(keys: list[ApiKey]) -> Counter[str]:
    """What `rotate` would do. Nothing is written, not even that a key does not decrypt."""
    return Counter(_again(key, lambda key: vault.decrypt(key.owner_id, key.secret, key.place))[0] for key in keys)


def rotate(keys: list[ApiKey]) -> Counter[str]:
    """Encrypt anew what is not current, in one transaction. What somebody changed meanwhile stays as they left it."""
    found = [(key, *_again(key, reveal)) for key in keys]
    done: Counter[str] = Counter()
    with transaction.atomic():
        for key, outcome, secret in found:
            same = ApiKey.objects.filter(pk=key.pk, secret=key.secret)
            if outcome == "rotated" and not same.update(secret=secret, broken=False):
                outcome = "meanwhile"
            done[outcome] += 1
    return done


def _again(key: ApiKey, read: Callable[[ApiKey], str]) -> tuple[str, str]:
    """Outcome and new ciphertext: "rotated", or without one "current" or "needs re-entry"."""
    try:
        secret = read(key)
    except vault.NeedsReentry:
        return "needs re-entry", ""
    if vault.key_id(key.secret) == vault.keyring().current:
        return "current", ""
    return "rotated", vault.encrypt(key.owner_id, secret, key.place)
