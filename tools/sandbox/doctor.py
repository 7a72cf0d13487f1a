"""Whether the sandbox of this machine holds: a live one is started, and tries what must not work."""

from __future__ import annotations

import os
import secrets
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from tools.sandbox.base import Availability, Limits, Result, SandboxUnavailable

if TYPE_CHECKING:
    from tools.sandbox.bwrap import Backend

ATTEMPTS = 14
SECONDS = 20.0
_MODES = {
    "root": "as a user of its own, without a user namespace",
    "drop": "as a user of its own, in a user namespace",
    "user": "in a user namespace",
}


def examine(backend: Backend) -> Availability:
    """Try it. Where a fresh /proc may not be mounted, as in most containers, it is tried once more without."""
    try:
        try:
            return _tried(backend, has_proc=True)
        except SandboxUnavailable as error:
            if "proc" not in error.hint:
                raise
            found = _tried(backend, has_proc=False)
            backend.without_proc()
            return found
    except SandboxUnavailable as error:
        return Availability(ok=False, reason=error.reason, hint=error.hint)


def _tried(backend: Backend, has_proc: bool) -> Availability:
    session = backend.open_untested("doctor", Limits(), has_proc)
    try:
        result = session.execute(self_test(), wall=SECONDS)
    finally:
        session.close()
    if works := _what_works(result):
        raise SandboxUnavailable(
            "The sandbox of this machine starts, but does not hold.", f"Code in it can: {'; '.join(works)}."
        )
    place = backend.place
    return Availability(
        ok=True,
        mode=place.mode,
        details={
            "bubblewrap": _version(place.bwrap),
            "code runs": _MODES[place.mode] + ("" if has_proc else ", without /proc"),
            "forbidden things tried": str(ATTEMPTS),
        },
    )


def self_test() -> str:
    """The code that tries. `secret` is what bwrap would have inherited: the start of our own environment."""
    environment = Path("/proc/self/environ").read_bytes()[:200] or secrets.token_bytes(32)
    given = f"secret = {environment!r}\nworker = {os.getpid()}\n"
    return given + (Path(__file__).with_name("inside") / "forbidden.py").read_text()


def _what_works(result: Result) -> list[str]:
    lines = result.stdout.splitlines()
    if result.ended != "done" or f"tried {ATTEMPTS}" not in lines:
        said = result.error.value if result.error else " ".join(result.notes)
        raise SandboxUnavailable("The self-test of the sandbox did not finish.", (said or result.stderr)[-300:])
    return [line.removeprefix("works: ") for line in lines if line.startswith("works: ")]


def _version(program: str) -> str:
    try:
        told = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=5, check=False).stdout
    except OSError:
        return "unknown"
    return told.split()[-1] if told.split() else "unknown"
