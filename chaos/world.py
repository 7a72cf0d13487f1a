"""The site that is tried, its workers, its model server, and the ledger of what its functions did."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

from executor.core.compaction import ASKED
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
FUNCTIONS = ["peek", "keep", "put", "post", "send", "order", "ask_user", "propose_plan", "delegate", "run_plan"]
#: Models that read so little that what was said first has to be summarised, in tasks of some rounds and in the next.
SMALL = {"gpt": "gpt-6.1-small", "openai_compatible": "qwen3:0.6b"}
SMALL_WINDOW = 4_500
#: How often such a model says nothing instead of a summary, and what it says beside each answer.
NO_SUMMARY = 0.15
TALK = " and so on" * 80


def agent_name(provider: str, *, small: bool = False) -> str:
    return f"chaos-small-{provider}" if small else f"chaos-{provider}"


#: Agents that work is given to, and that give work; those with a small window have no room for what they give.
GIVERS = tuple(map(agent_name, AGENTS))
EVERYBODY = (*GIVERS, *(agent_name(provider, small=True) for provider in SMALL))


class Flaky(ModelServer):
    """A model server that breaks off now and then, and counts what it refuses because it was asked wrongly."""

    def __init__(self, random: Random, rate: float = 0.01) -> None:
        super().__init__(keep_requests=False)
        self.rate = rate
        self._random = random

    def _turn(self, model: str, messages: Any) -> Turn:
        said = Said.of(messages)
        if said.sums_up:
            turn = Turn(text="" if self._random.random() < NO_SUMMARY else f"Answers so far: {said.answers}.", rate=20)
        else:
            # As if all had been told that was said since the plan.
            turn = super()._turn(model, [said.plan, *[{"role": "assistant", "content": ""}] * said.answers])
        if model in SMALL.values():
            words = "" if said.sums_up else f"{turn.text}{TALK}"
            turn = replace(turn, text=words or turn.text, quirks=frozenset({"no_usage"}))
        if self._random.random() < self.rate:
            return replace(turn, fault=self._random.choice(("drop", "500", "half_frame")), after=1)
        return turn


_ANSWERS = re.compile(r"Answers so far: (\d+)")
_WORKED_ON = re.compile(r"word for word:\n\n[^\n]*\n$")


@dataclass(frozen=True)
class Said:
    """What is to be made of a question: the message with the last plan, how many answers were given since, and whether
    a summary is wanted. Of what was summarised, or left out, the model knows no more than it is told."""

    plan: Any
    answers: int
    sums_up: bool

    @classmethod
    def of(cls, messages: Sequence[Mapping[str, Any]]) -> Said:
        sums_up = ASKED in messages[-1]["content"]
        plans = [at for at, said in enumerate(messages) if said["role"] == "user" and "@turns" in said["content"]]
        at = plans[-1] if plans else 0  # What was only said in between is no plan.
        since = [said["content"] for said in messages[at:] if said["role"] == "assistant"]
        asked = "\n".join(said["content"] for said in messages[at:] if said["role"] == "user")
        before, _, after = asked.rpartition("@turns")
        # Beside the plan, or before it where the plan is what the summary says is worked on.
        known = _ANSWERS.search(before if _WORKED_ON.search(before) else after)
        rounds = [int(found[1]) for words in since if (found := re.match(r"Round (\d+):", words))]
        answers = rounds[-1] if rounds else (int(known[1]) if known else 0) + len(since)
        return cls(messages[at], answers, sums_up)


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
    everybody: list[tuple[str, str, str, dict[str, Any]]]
    everybody = [(agent_name(provider), provider, model, {}) for provider, model in MODELS.items()]
    small = {"context_window": SMALL_WINDOW}
    everybody += [(agent_name(provider, small=True), provider, model, small) for provider, model in SMALL.items()]
    for position, (name, provider, model, parameters) in enumerate(everybody):
        Agent.objects.create(
            name=name,
            title=name.removeprefix("chaos-").capitalize(),
            provider=provider,
            model=model,
            base_url=base.base_url if provider in ("gpt", "openai_compatible") else base.address,
            api_key_variable="CHAOS_KEY",
            functions=FUNCTIONS,
            on_unknown=AGENTS[provider],
            max_iterations=60,
            parameters=parameters | ({"keep_response": True} if provider == "gpt" else {}),
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
