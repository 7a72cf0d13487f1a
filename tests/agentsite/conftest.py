"""A real `manage.py up` in a temporary data folder, and other commands of manage.py as an operator would run them."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 30.0  # Seconds after which a thing that should happen has not happened.
READY = re.compile(r"AgentSite is ready at (http://\S+?)/$")


def environment(data: Path, **more: str) -> dict[str, str]:
    """A clean environment: only what the system needs and `more`, so that nobody's own settings come in."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    return {**kept, "AGENTSITE_DATA": str(data), **more}


def manage(data: Path, *arguments: str, **more: str) -> "subprocess.CompletedProcess[str]":
    """Run `manage.py` with `arguments` to its end."""
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env=environment(data, **more),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def eventually(true: Callable[[], bool], what: str) -> None:
    """Return as soon as `true()` is; fail when it takes longer than PATIENCE."""
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, f"It did not happen: {what}"
        time.sleep(0.05)


def is_alive(pid: int) -> bool:
    """Whether the process still runs. One that ended and waits for its parent to notice does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


class Up:
    """A running `manage.py up`, with everything it has said so far."""

    def __init__(self, data: Path, *arguments: str, **more: str) -> None:
        self.data = data
        self.more = more
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, "manage.py", "up", "--port", "0", *arguments],
            cwd=ROOT,
            env=environment(data, **more),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    def says(self, pattern: str) -> "re.Match[str]":
        """Wait for a line in which `pattern` is found, and return the match."""
        found: list[re.Match[str]] = []

        def look() -> bool:
            found.extend(match for line in self.lines if (match := re.search(pattern, line)))
            return bool(found) or self.process.poll() is not None

        eventually(look, f"a line with {pattern!r}; it said {self.lines}")
        assert found, f"It ended with {self.process.returncode} and never said {pattern!r} but {self.lines}"
        return found[0]

    @property
    def address(self) -> str:
        """http://host:port, once it is ready."""
        return self.says(READY.pattern)[1]

    def children(self) -> dict[str, int]:
        """Process ids of what runs now, by name."""
        listed = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        kinds = {"redis-server": "redis", "celery": "worker", "daphne": "web"}
        names = {pid: Path(f"/proc/{pid}/cmdline").read_bytes().decode() for pid in listed}
        return {name: int(pid) for pid, command in names.items() for part, name in kinds.items() if part in command}

    def get(self, path: str, host: str = "") -> tuple[int, str]:
        """Status and text of a page, redirects followed."""
        request = urllib.request.Request(self.address + path, headers={"Host": host} if host else {})
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def is_healthy(self) -> bool:
        """Whether /healthz finds every part alive."""
        return '"status": "ok"' in self.get("/healthz")[1]

    def ends(self) -> int:
        """Wait for the end, and return the exit code."""
        code = self.process.wait(PATIENCE)
        self.reader.join(PATIENCE)
        return code

    def __enter__(self) -> "Up":
        return self

    def __exit__(self, *failure: object) -> None:
        """Stop it if it still runs."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.ends()
        assert self.process.stdout
        self.process.stdout.close()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def start_up(data: Path) -> Iterator[Callable[..., Up]]:
    """Start `manage.py up`; whatever still runs at the end of the test is stopped."""
    with ExitStack() as started:
        yield lambda *arguments, **more: started.enter_context(Up(data, *arguments, **more))
