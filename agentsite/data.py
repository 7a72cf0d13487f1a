"""The data folder: where an installation keeps its database, files and secrets, and nothing else does."""

import hashlib
import os
import secrets
import tempfile
from pathlib import Path

from users import keyring

SOCKET_PATH_LIMIT = 100  # Linux refuses unix socket paths over 107 bytes; leave room for temporary names.


def chosen() -> Path:
    """The folder that AGENTSITE_DATA names, else `data` beside manage.py. It may not be there yet."""
    default = Path(__file__).resolve().parent.parent / "data"
    return Path(os.environ.get("AGENTSITE_DATA", default)).expanduser().resolve()


def has_database(folder: Path) -> bool:
    """Whether an installation was begun there: its database is in `folder`, or somewhere that DATABASE_URL says."""
    if "DATABASE_URL" in os.environ or (folder / "db.sqlite3").exists():
        return True
    secrets_file = folder / "secrets.env"
    return secrets_file.is_file() and "DATABASE_URL" in secrets_file.read_text()


def ensure(folder: Path) -> Path:
    """Create `folder` (0700) with its sub-folders and generated secrets (0600) where they are missing.

    Safe to call from several processes at once: the secrets are written beside and linked into place, so the
    first one wins and nobody reads half a file. Where the environment gives the keyring, the file needs none.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in ("run", "run/metrics", "resources", "functions", "tasks", "static"):
        (folder / name).mkdir(mode=0o700, exist_ok=True)
    target = folder / "secrets.env"
    if not target.exists():
        handle, draft = tempfile.mkstemp(dir=folder, prefix=".secrets-")  # mkstemp creates it 0600.
        with os.fdopen(handle, "w") as file:
            file.write("# Generated at first start. Keep it private and back it up together with the database.\n")
            file.write(f"SECRET_KEY={secrets.token_urlsafe(50)}\n")
        try:
            os.link(draft, target)
        except FileExistsError:
            pass
        finally:
            os.unlink(draft)
    if not os.environ.get("KEYRING"):
        keyring.ensure(target)
    return target


def redis_socket(folder: Path) -> Path:
    """The unix socket of the private Redis: in `folder`, or in a private place in /tmp where that path is too long."""
    path = folder / "run" / "redis.sock"
    if len(os.fsencode(path)) <= SOCKET_PATH_LIMIT:
        return path
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"agentsite-{os.getuid()}-{digest}" / "redis.sock"
