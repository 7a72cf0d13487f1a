"""What a message costs in a long conversation: everything that the model is sent for it, as its server got it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from bench.rows import Row
from tests.agentsite.conftest import ROOT, environment
from tests.chaos.site import Site
from tests.fakes.model_server import ModelServer

TURNS = (10, 100, 1_000, 2_000)
#: So many messages before each of these are looked at, for the summaries that come now and then.
LAST = 100
#: About 300 characters each way.
SAID = "Tell me one more thing about the tides, please. " * 6
MODEL = "stream-50-0"
INSTRUCTIONS = "You are a patient teacher. " * 8
#: Somebody who says one thing after the other, without a page: drawing two thousand of these is not what is measured.
TALK = """
import time
from conversations import actions
from executor.models import ACTIVE, Agent, Status, Task
from users.models import User
alice, agent, conversation = User.objects.get(username="alice"), Agent.objects.get(name="long"), None
for number in range(1, {count} + 1):
    turn = actions.send(alice, agent, f"{{number}}. {said}", conversation)
    conversation = turn.conversation
    while (status := Task.objects.values_list("status", flat=True).get(pk=turn.task_id)) in ACTIVE:
        time.sleep(0.002)
    assert status == Status.DONE, f"Message {{number}}: {{status}}"
"""


@dataclass(frozen=True)
class Sent:
    """For one message: bytes of the question, and of that with the summary which it may have needed before."""

    question: int
    together: int
    tokens: int


def measure(turns: tuple[int, ...] = TURNS) -> list[Row]:
    with ModelServer() as server, tempfile.TemporaryDirectory() as folder, Site(Path(folder) / "data") as site:
        site.address  # noqa: B018  (waits until it is ready)
        fields = {"provider": "openai_compatible", "base_url": server.base_url, "parameters": {}, "functions": []}
        site.add_agent("long", model=MODEL, instructions=INSTRUCTIONS, **fields)
        site.add_user("alice")
        code = TALK.format(count=max(turns), said=SAID)
        command = [sys.executable, "manage.py", "shell", "--verbosity", "0", "--command", code]
        subprocess.run(command, cwd=ROOT, env=environment(site.data), check=True)
        sent = by_message([(len(request.raw), request.body["messages"]) for request in server.asked])
    return [row(number, sent) for number in turns]


def by_message(asked: list[tuple[int, list[dict[str, str]]]]) -> list[Sent]:
    """Questions that are about no message are for the summary that the next one needs."""
    sent: list[Sent] = []
    before = 0
    for size, messages in asked:
        if re.match(rf"{len(sent) + 1}\. ", messages[-1]["content"]):
            sent.append(Sent(size, before + size, tokens_of(messages)))
            before = 0
        else:
            before += size
    return sent


def tokens_of(messages: list[dict[str, str]]) -> int:
    """Four bytes each, as is usual in English."""
    return len(json.dumps(messages, ensure_ascii=False).encode()) // 4


def row(number: int, sent: list[Sent]) -> Row:
    this, before = sent[number - 1], sent[max(0, number - LAST) : number]
    mean = sum(one.together for one in before) / len(before)
    each = sent[1].question - sent[0].question
    everything = sent[0].question + each * (number - 1)
    return Row(
        f"Message {number:,}",
        f"{kilobytes(everything)}, {everything // 4:,} tokens",
        f"{kilobytes(this.question)}, {this.tokens:,} tokens; {kilobytes(mean)} with summaries",
        "bounded" if number >= 1_000 else "",
    )


def kilobytes(count: float) -> str:
    return f"{count / 1_000:,.1f} KB"
