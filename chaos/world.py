"""The site that is tried, its workers, its model server, and the ledger of what its functions did."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

from tests.agentsite.conftest import ROOT, environment
from tests.chaos.site import Site
from tests.fakes.model_server import ModelServer
from tests.fakes.script import Turn

#: What each agent does with a call that may have run.
AGENTS = {"openai_compatible": "ask", "gpt": "ask", "claude": "tell_model", "gemini": "fail"}
MODELS = {
    "gpt": "gpt-6.1-sol",
    "claude": "claude-sonnet-5-5",
    "gemini": "gemini-3.8-flash",
    "openai_compatible": "qwen3:8b",
}
FUNCTIONS = ["peek", "keep", "put", "post", "send", "order", "ask_user", "propose_plan"]


def agent_name(provider: str) -> str:
    return f"chaos-{provider}"


class Flaky(ModelServer):
    """A model server that breaks off now and then, and counts what it refuses because it was asked wrongly."""

    def __init__(self, random: Random, rate: float = 0.01) -> None:
        super().__init__(keep_requests=False)
        self.rate = rate
        self._random = random

    def _turn(self, model: str, messages: Any) -> Turn:
        # What was only said in between is no plan.
        plan = max((i for i, said in enumerate(messages) if said["role"] == "user" and "@turns" in said["content"]))
        said = [one for i, one in enumerate(messages) if i <= plan or one["role"] != "user"]
        turn = super()._turn(model, said)
        if self._random.random() < self.rate:
            return replace(turn, fault=self._random.choice(("drop", "500", "half_frame")), after=1)
        return turn


class Nursery:
    """Forks workers, and knows which of them live. See nursery.py."""

    def __init__(self, site: Site, folder: Path, **more: str) -> None:
        self.folder = folder
        self.alive: set[int] = set()
        self.deaths: Counter[int] = Counter()  # By signal.
        self._born: list[int] = []
        self._names = 0
        self._changed = threading.Condition()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "chaos.nursery"],
            cwd=ROOT,
            env={**environment(site.data), **more},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout
        assert b"ready" in self._process.stdout.readline(), "The nursery did not start."
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            said = json.loads(line)
            with self._changed:
                if "born" in said:
                    self.alive.add(said["born"])
                    self._born.append(said["born"])
                else:
                    self.alive.discard(said["died"])
                    self.deaths[said["signal"]] += 1
                self._changed.notify_all()

    def fork(self, fault: tuple[str, str, int, str] | None = None) -> int:
        assert self._process.stdin
        self._names += 1
        files = {"log": str(self.folder / "workers.log"), "releases": str(self.folder / "releases")}
        order = {"name": f"w{self._names}", **files}
        with self._changed:
            self._process.stdin.write(
                f"{json.dumps(order | {'fault': [*fault, str(self.folder / 'faults')] if fault else None})}\n".encode()
            )
            self._process.stdin.flush()
            assert self._changed.wait_for(lambda: bool(self._born), 20), "No worker was forked."
            return self._born.pop()

    def close(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(20)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def ledger_key(step: Any) -> str:
    """How the ledger calls a call: by its id, or by the number of a part of a declared task."""
    numbers = step.arguments or {}
    return f"part {numbers['1']}" if "1" in numbers else step.call_id or ""


def set_up_django(data: Path, **more: str) -> None:
    """This process is one of the site's from now on."""
    kept = environment(data, **more)
    for name in [name for name in os.environ if name not in kept and name != "VIRTUAL_ENV"]:
        del os.environ[name]
    os.environ.update(kept, LOG_LEVEL="CRITICAL", DJANGO_SETTINGS_MODULE="agentsite.settings")
    import django

    django.setup()


def add_people_and_agents(base: ModelServer) -> None:
    from executor.models import Agent
    from tests.chaos.site import PASSWORD
    from users.models import User

    User.objects.create_user("alice", "alice@example.org", PASSWORD)
    for position, (provider, on_unknown) in enumerate(AGENTS.items()):
        Agent.objects.create(
            name=agent_name(provider),
            title=provider.capitalize(),
            provider=provider,
            model=MODELS[provider],
            base_url=base.base_url if provider in ("gpt", "openai_compatible") else base.address,
            api_key_variable="CHAOS_KEY",
            functions=FUNCTIONS,
            on_unknown=on_unknown,
            max_iterations=60,
            parameters={"keep_response": True} if provider == "gpt" else {},
            position=position,
        )


@contextmanager
def data_folder(keep: list[str]) -> Iterator[Path]:
    """A folder of its own, which is left behind if `keep` says something in the end."""
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix="agentsite-chaos-"))
    for place, name in (("functions", "dropped.py"), ("tasks", "dropped_task.py")):
        (folder / place).mkdir()
        shutil.copy(Path(__file__).with_name(name), folder / place / name)
    failed = True
    try:
        yield folder
        failed = bool(keep)
    finally:
        if not failed:
            shutil.rmtree(folder, ignore_errors=True)
