"""Encryption of people's API keys at rest: AES-256-GCM under a key that HKDF derives for each owner from the keyring.

A ciphertext is the text `v1:<id of the ring's key>:<base64url of nonce, ciphertext and tag>`. Version, id, owner and
place are authenticated: a row that is copied to another person, or whose address is changed, does not decrypt.

    https://www.rfc-editor.org/rfc/rfc5869 (HKDF), https://doi.org/10.6028/NIST.SP.800-38D (GCM)
"""

import base64
import json
import os
from functools import lru_cache
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings
from django.views.decorators.debug import sensitive_variables

from users.keyring import Keyring, KeyringError, parse, read

__all__ = ["KeyringError", "NeedsReentry", "decrypt", "encrypt", "key_id", "keyring", "knows", "prefix"]

VERSION = "v1"
NONCE_BYTES = 12


class NeedsReentry(Exception):
    """This ciphertext cannot be decrypted: its ring key is gone, it was tampered with, or it is somebody else's."""


def keyring() -> Keyring:
    """The keyring of now: from the environment, else from secrets.env.

    The file is read again when it has changed, so `rotate_keys --new-key` needs no restart, and no process is left that
    cannot read what another one writes.

    Raises:
        KeyringError: It is missing or wrong.
    """
    if settings.KEYRING:
        return _parsed(settings.KEYRING)
    try:
        stat = settings.SECRETS_FILE.stat()
        return _from_file(settings.SECRETS_FILE, stat.st_mtime_ns, stat.st_ino)
    except OSError as error:
        raise KeyringError(
            f"{settings.SECRETS_FILE} cannot be read ({error.strerror}). Put it back from your backup"
        ) from error


@lru_cache(maxsize=1)
def _from_file(file: Path, changed_at: int, inode: int) -> Keyring:
    return _parsed(read(file))


@sensitive_variables()  # For what is called from here, too.
def _parsed(text: str) -> Keyring:
    return parse(text)


@sensitive_variables("plaintext")
def encrypt(owner: int | None, plaintext: str, place: str = "") -> str:
    """Encrypt for the person with the id `owner` (None: the site). `place` must be given again to decrypt.

    Raises:
        KeyringError: The keyring is missing or wrong.
    """
    ring = keyring()
    nonce = os.urandom(NONCE_BYTES)
    sealed = _cipher(ring, ring.current, owner).encrypt(
        nonce, plaintext.encode(errors="surrogatepass"), _sealed_with(ring.current, owner, place)
    )
    return f"{prefix(ring.current)}{base64.urlsafe_b64encode(nonce + sealed).decode()}"


@sensitive_variables()
def decrypt(owner: int | None, ciphertext: str, place: str = "") -> str:
    """What was encrypted for this owner and place.

    Raises:
        NeedsReentry: It was not, or not unchanged, or under a key that is not in the keyring any more.
        KeyringError: The keyring is missing or wrong.
    """
    ring, name = keyring(), key_id(ciphertext)
    if name not in ring.keys:
        raise NeedsReentry("The key was encrypted under a ring key that KEYRING does not have. Enter it again.")
    try:
        sealed = base64.b64decode(ciphertext.rpartition(":")[2], altchars=b"-_", validate=True)
        plaintext = _cipher(ring, name, owner).decrypt(
            sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], _sealed_with(name, owner, place)
        )
    except (InvalidTag, ValueError):
        raise NeedsReentry("The stored key was changed or belongs elsewhere. Enter it again.") from None
    return plaintext.decode(errors="surrogatepass")


def key_id(ciphertext: str) -> str:
    """The id of the ring key that `ciphertext` is encrypted under; "" if it is no ciphertext."""
    version, _, rest = ciphertext.partition(":")
    return rest.partition(":")[0] if version == VERSION else ""


def prefix(name: str) -> str:
    """What every ciphertext under the ring key with this id begins with."""
    return f"{VERSION}:{name}:"


def knows(ciphertext: str) -> bool:
    """Whether the keyring has the key for it. Nothing is decrypted, so it is for pages."""
    try:
        return key_id(ciphertext) in keyring().keys
    except KeyringError:
        return False


def _cipher(ring: Keyring, name: str, owner: int | None) -> AESGCM:
    # Deriving takes 3 µs: not worth a cache, which would keep everybody's keys in memory.
    info = b"agentsite api keys, " + _owner(owner).encode()
    return AESGCM(HKDF(SHA256(), length=32, salt=None, info=info).derive(ring.keys[name]))


def _sealed_with(name: str, owner: int | None, place: str) -> bytes:
    return json.dumps([VERSION, name, _owner(owner), place]).encode()


def _owner(owner: int | None) -> str:
    return "site" if owner is None else f"person {owner}"
