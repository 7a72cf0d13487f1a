"""`python -m tools.sandbox.fonts`: makes the list of fonts, for which matplotlib would take a second in every session.

scripts/setup calls it after it has installed the packages. It is made in a sandbox, since the paths are those inside.
"""

from __future__ import annotations

import os
import sys

from tools.sandbox.base import Limits, SandboxUnavailable
from tools.sandbox.bwrap import Backend, packages_folder

_CODE = """
import glob, shutil
import matplotlib.font_manager
for path in glob.glob('/tmp/home/mpl/fontlist*.json'):
    shutil.copy(path, '/workspace')
"""


def make(backend: Backend) -> list[str]:
    """The names of what was made. Raises SandboxUnavailable."""
    folder = packages_folder() / "share" / "mpl-cache"
    session = backend.open("fonts", Limits())
    try:
        made = session.execute(_CODE).files
        folder.mkdir(parents=True, exist_ok=True)
        for file in made:
            partial = folder.parent / f"{os.getpid()}.partial"
            partial.write_bytes(file.path.read_bytes())
            partial.chmod(0o644)
            partial.replace(folder / file.name)
    finally:
        session.close()
    return [file.name for file in made]


if __name__ == "__main__":
    try:
        make(Backend())
    except SandboxUnavailable as error:
        sys.exit(f"{error.reason} {error.hint}")
