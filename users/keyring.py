"""The keyring: what people's API keys are encrypted with, and the line in secrets.env that holds it.

`KEYRING=id:key,id:key,…`: each key is 32 random bytes in base64. The first one encrypts; the others still decrypt.
Plain Python, because the settings are read with it.
"""

import base64
import fcntl
import os
import re
import secrets
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

KEY_BYTES = 32
_LINE = re.compile(r"^(?:export )?KEYRING=(.*)$", re.MULTILINE)
_ENTRY = re.compile(r"([A-Za-z0-9_-]{1,32}):([A-Za-z0-9+/_-]+=*)")
_HEAD = "# Encrypts people's API keys: without it they are lost. Older keys may follow behind a comma.\n"


class KeyringError(ValueError):
    """The keyring cannot be used. The text says what to do, has no full stop, and nothing of a key."""


@dataclass(frozen=True)
class Keyring:
    """`keys` by id; `current` is the id of the one to encrypt with."""

    current: str
    keys: Mapping[str, bytes] = field(repr=False)


def parse(text: str) -> Keyring:
    """Read "id:base64,id:base64,…".

    Raises:
        KeyringError: It is empty or wrong. Entries are named by their number: what is garbled may be a key.
    """
    if not text.strip():
        raise KeyringError(
            "KEYRING is empty. Put the line KEYRING=… of your backup back into secrets.env in the data folder; "
            "if nobody has entered an API key yet, take the empty line out, and a new one is made"
        )
    keys: dict[str, bytes] = {}
    for number, entry in enumerate(text.split(","), 1):
        matched = _ENTRY.fullmatch(entry.strip())
        key = _decode(matched[2]) if matched else b""
        if not matched or len(key) != KEY_BYTES:
            raise KeyringError(
                f"Entry {number} of KEYRING is not id:key with a key of {KEY_BYTES} bytes in base64. "
                "Put the line KEYRING=… of your backup back into secrets.env in the data folder"
            )
        if matched[1].lower() in map(str.lower, keys):  # Some databases look them up without regard to case.
            raise KeyringError(f"Entry {number} of KEYRING has an id that is there already. Give it another id")
        keys[matched[1]] = key
    return Keyring(next(iter(keys)), keys)


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text.replace("-", "+").replace("_", "/"), validate=True)
    except ValueError:
        return b""


def new_entry() -> str:
    """A new random key as "id:base64". The id tells the day, and is never given twice."""
    key = base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()
    return f"{datetime.now(UTC):%Y%m%d}-{secrets.token_hex(4)}:{key}"


def read(file: Path) -> str:
    """The keyring in the settings file `file`; "" if it has none. Of several lines the last one counts."""
    found: list[str] = _LINE.findall(file.read_text())
    return found[-1].strip().strip("'\"") if found else ""


def ensure(file: Path) -> None:
    """Add a keyring to `file` if it has no line for one. However many do so at once, one keyring comes out."""
    if _LINE.search(file.read_text()):
        return
    with _alone(file):
        text = file.read_text()
        if not _LINE.search(text):
            _replace(file, f"{text.rstrip()}\n{_HEAD}KEYRING={new_entry()}\n".lstrip())


def add_current(file: Path) -> str:
    """Put a new key in front of the keyring in `file`, so that it is the current one; return its id.

    Raises:
        KeyringError: There is no keyring, or it is wrong. It is left as it is.
    """
    with _alone(file):
        ring, entry = read(file), new_entry()
        parse(ring)
        text = file.read_text()
        *_, last = _LINE.finditer(text)
        _replace(file, f"{text[: last.start(1)]}{entry},{ring}{text[last.end(1) :]}")
    return entry.partition(":")[0]


@contextmanager
def _alone(file: Path) -> Iterator[None]:
    """One writer at a time. The lock is on the folder: the file is another one after each change."""
    folder = os.open(file.resolve().parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _replace(file: Path, text: str) -> None:
    """Write `text` beside `file` and into its place: whoever reads, and whatever fails, there is one or the other."""
    file = file.resolve()  # Behind a symbolic link the file is replaced, not the link.
    handle, draft = tempfile.mkstemp(dir=file.parent, prefix=".secrets-")  # mkstemp creates it 0600.
    try:
        with os.fdopen(handle, "w") as writing:
            before = file.stat()
            if (before.st_uid, before.st_gid) != (os.geteuid(), os.getegid()):
                os.fchown(handle, before.st_uid, before.st_gid)  # root may run a command for the service's user.
            writing.write(text)
            writing.flush()
            os.fsync(handle)
        os.replace(draft, file)
    except BaseException:
        os.unlink(draft)
        raise
