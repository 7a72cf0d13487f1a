"""The back end that comes along: bubblewrap, on the worker's own machine (docs/sandbox.md)."""

from __future__ import annotations

import os
import secrets
import shutil
import sys
import threading
from dataclasses import replace
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Literal

from tools.sandbox.arguments import Mode, Place
from tools.sandbox.base import Availability, Limits, Package, SandboxUnavailable
from tools.sandbox.process import start
from tools.sandbox.session import BwrapSession

PROGRAM = "/usr/bin/bwrap"
#: User ids for the code of a worker that is root. Nobody has them, and two sessions hardly ever the same.
FIRST_USER, USERS = 0x60000000, 0x10000000
_CAP_SYS_ADMIN = 21


class Backend:
    """Options: `bwrap`, the program; `site`, the folder with the packages for the code; `mode`, see arguments.py."""

    isolation: Literal["namespaces"] = "namespaces"

    def __init__(self, bwrap: str = "", site: str = "", mode: str = "") -> None:
        if mode not in ("", "root", "drop", "user"):
            raise ValueError(f"there is no mode {mode!r}")
        self._bwrap, self._site = bwrap, Path(site) if site else packages_folder()
        self._mode: Mode = mode or mode_of_this_process()  # type: ignore[assignment]
        self._lock = threading.Lock()
        self._available: Availability | None = None
        self._has_proc = True

    def check(self) -> Availability:
        from tools.sandbox.doctor import examine

        with self._lock:
            if self._available is None:
                self._available = examine(self)
            return self._available

    def open(self, key: str, limits: Limits) -> BwrapSession:
        availability = self.check()
        if not availability.ok:
            raise SandboxUnavailable(availability.reason, availability.hint)
        return self.open_untested(key, limits)

    def open_untested(self, key: str, limits: Limits, has_proc: bool | None = None) -> BwrapSession:
        """For the doctor, which finds out whether it holds."""
        place = replace(self.place, has_proc=self._has_proc if has_proc is None else has_proc)
        return BwrapSession(key, start(place, limits, FIRST_USER + secrets.randbelow(USERS)), limits)

    def packages(self) -> list[Package]:
        wanted = _wanted()
        found = [
            Package(name, distribution.version, distribution.metadata["Summary"] or "")
            for distribution in metadata.distributions(path=[str(self._site)])
            if (name := distribution.metadata["Name"]) and name.lower() in wanted
        ]
        return sorted(found, key=lambda package: package.name.lower())

    def missing(self) -> SandboxUnavailable | None:
        """What is not installed, without trying anything."""
        try:
            _ = self.place
        except SandboxUnavailable as error:
            return error
        return None

    @cached_property
    def place(self) -> Place:
        """Raises SandboxUnavailable where something is not installed."""
        program = self._bwrap or (PROGRAM if os.access(PROGRAM, os.X_OK) else shutil.which("bwrap") or "")
        if not program:
            raise SandboxUnavailable(
                "Running code needs bubblewrap, which is not installed.", "As root run: apt-get install bubblewrap"
            )
        if not (self._site / "IPython").is_dir():
            raise SandboxUnavailable(
                "The packages for running code are not installed.",
                f"Run scripts/setup run, which makes {self._site}, or name their folder: SANDBOX_OPTIONS=site=FOLDER.",
            )
        return Place.here(program, self._site, self._mode)

    def without_proc(self) -> None:
        """This machine does not let us mount /proc; so code does without."""
        self._has_proc = False


def packages_folder() -> Path:
    """Where scripts/setup puts the packages that code can import: in the virtual environment, apart from ours."""
    return Path(sys.prefix) / "sandbox"


def mode_of_this_process() -> Mode:
    if os.geteuid() != 0:
        return "user"
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:") and int(line.split()[1], 16) >> _CAP_SYS_ADMIN & 1:
            return "root"
    return "drop"


def _wanted() -> set[str]:
    """The names in requirements-sandbox.in: what was chosen, without what that needs."""
    file = Path(__file__).resolve().parents[2] / "requirements-sandbox.in"
    lines = (line.partition("#")[0].strip() for line in file.read_text().splitlines())
    names = {line.partition(">")[0].partition("=")[0].strip().lower() for line in lines if line}
    return names - {"ipython", "cloudpickle"}
