"""A sandbox ends with its worker, and with nothing else; where none can be had, no code is run."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.sandbox.attacks import is_usable
from tools import sandbox
from tools.checks import check_sandbox
from tools.sandbox import arguments
from tools.sandbox.arguments import Place
from tools.sandbox.base import Availability, Limits, SandboxUnavailable
from tools.sandbox.bwrap import Backend
from tools.sandbox.session import BwrapSession

ROOT = Path(__file__).resolve().parents[2]


def test_a_worker_that_is_killed_takes_its_sandboxes_along() -> None:
    code = (
        "from tools.sandbox.bwrap import Backend\nfrom tools.sandbox.base import Limits\n"
        "session = Backend().open_untested('test', Limits())\nprint(session._process.init, flush=True)\n"
        "session.execute('while True: pass')"
    )
    worker = subprocess.Popen([sys.executable, "-B", "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert worker.stdout is not None
    with worker.stdout:
        process = int(worker.stdout.readline())
    handle = os.pidfd_open(process)
    worker.kill()
    worker.wait()

    assert _ends(handle)
    os.close(handle)


def _ends(handle: int) -> bool:
    import select

    return bool(select.select([handle], [], [], 10)[0])


def test_a_session_outlives_the_thread_that_opened_it(backend: Backend) -> None:
    opened: list[BwrapSession] = []
    thread = threading.Thread(target=lambda: opened.append(backend.open("test", Limits())))
    thread.start()
    thread.join()
    time.sleep(0.2)  # The kernel would have ended it by now.

    assert is_usable(opened[0])
    opened[0].close()


def test_closing_leaves_nothing(backend: Backend) -> None:
    before = set(os.listdir("/proc/self/fd"))
    session = backend.open("test", Limits())
    init, folder = session._process.init, session._folder
    session.execute("open('x', 'w').close()")
    session.close()

    assert not Path(f"/proc/{init}").exists()
    assert not folder.exists()
    assert set(os.listdir("/proc/self/fd")) == before


def test_a_sandbox_that_does_not_hold_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    command = arguments.command
    monkeypatch.setattr(
        "tools.sandbox.process.arguments.command",
        lambda *given: [word for word in command(*given) if word != "--seccomp" and word != str(given[2].seccomp)],
    )
    backend = Backend()
    found = backend.check()

    assert (found.ok, found.reason) == (False, "The sandbox of this machine starts, but does not hold.")
    assert "open a socket to the kernel" in found.hint
    with pytest.raises(SandboxUnavailable, match="does not hold"):
        backend.open("test", Limits())


def test_where_proc_cannot_be_mounted_it_holds_without(monkeypatch: pytest.MonkeyPatch) -> None:
    command = arguments.command

    def refused(place: Place, *given: Any) -> list[str]:
        """What the kernel does in most containers, told by a program in the place of bwrap."""
        says = 'echo "bwrap: Can\'t mount proc on /newroot/proc: Operation not permitted" >&2; exit 1'
        return ["/bin/sh", "-c", says] if place.has_proc else command(place, *given)

    monkeypatch.setattr("tools.sandbox.process.arguments.command", refused)
    backend = Backend()
    found = backend.check()
    assert found.ok, found
    assert found.details["code runs"].endswith("without /proc")

    session = backend.open("test", Limits())
    assert session.execute("import os, numpy, pandas\nprint(os.listdir('/proc'))").stdout == "[]\n"
    assert session.execute("import matplotlib.pyplot as plt\nplt.plot([1])\nplt.show()").outputs
    session.close()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"bwrap": "/nowhere/bwrap"}, "bubblewrap cannot be started"),
        ({"site": "/nowhere"}, "The packages for running code are not installed"),
        ({"bwrap": "/usr/bin/true"}, "bubblewrap does not start"),
    ],
)
def test_what_is_missing_is_said(options: dict[str, str], reason: str) -> None:
    found = Backend(**options).check()

    assert not found.ok
    assert reason in found.reason


def test_without_a_back_end_no_code_is_run(settings: Any) -> None:
    settings.SANDBOX_BACKEND = ""
    with pytest.raises(SandboxUnavailable, match="switched off"):
        sandbox.get_backend()

    settings.SANDBOX_BACKEND = "nowhere.Backend"
    assert sandbox.availability() == Availability(
        ok=False,
        reason="The sandbox of this server is not set up.",
        hint="SANDBOX_BACKEND or SANDBOX_OPTIONS: No module named 'nowhere'.",
    )


def test_the_check_of_django_names_what_is_missing(settings: Any, tmp_path: Path) -> None:
    assert check_sandbox() == []
    settings.SANDBOX_OPTIONS = {"site": str(tmp_path)}
    (warning,) = check_sandbox()
    assert (warning.id, warning.msg) == ("tools.W006", "The packages for running code are not installed.")

    settings.SANDBOX_OPTIONS = {"colour": "red"}
    assert "SANDBOX_OPTIONS: Backend.__init__() got an unexpected keyword" in str(check_sandbox()[0].hint)
    settings.SANDBOX_BACKEND = ""
    assert check_sandbox() == []


def test_a_new_session_has_the_list_of_fonts(session: BwrapSession) -> None:
    told = session.execute(
        "import glob\nbefore = glob.glob('/tmp/home/mpl/fontlist*.json')\nimport matplotlib.font_manager\n"
        "print(len(before), before == glob.glob('/tmp/home/mpl/fontlist*.json'))"
    )

    assert told.stdout == "1 True\n"
    assert told.stderr == ""


def test_the_limits_come_from_the_settings(settings: Any) -> None:
    settings.SANDBOX_SECONDS, settings.SANDBOX_MEMORY_MB = 5, 100

    assert (sandbox.get_limits().wall, sandbox.get_limits().memory) == (5, 100 * 1024**2)


def test_nothing_is_imported_before_it_is_needed() -> None:
    code = "import sys, tools.sandbox; print([name for name in sys.modules if name.startswith('tools.sandbox.')])"
    told = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)

    assert told.stdout == "[]\n"


def test_the_packages_inside_are_named(backend: Backend) -> None:
    assert {"numpy", "pandas", "matplotlib", "scipy"} <= {package.name for package in backend.packages()}
