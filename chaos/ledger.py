"""What functions of the suite write outside the site: that they begin, and that they ended.

A line is one write at the end of a file, so it is whole, and stands there whatever becomes of the process.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any

_LEDGER = os.environ.get("CHAOS_LEDGER", "")


def note(phase: str, **who: Any) -> None:
    """`who`: the `name` of the function, its number `n`, the `task`, the `call` and its idempotency `key`."""
    line = {"at": time.time(), "phase": phase, "pid": os.getpid(), "note": "", **who}
    file = os.open(_LEDGER, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, f"{json.dumps(line)}\n".encode())
    finally:
        os.close(file)
