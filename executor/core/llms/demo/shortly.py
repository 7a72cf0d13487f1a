"""A summary by fixed rules: what the person asked for last, and what was called for it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from executor.core.compaction import TOLD
from executor.core.llms.demo.writing import plain
from executor.core.messages import Message

#: A result, as who is asked for a summary reads it.
DONE = re.compile(r"^\[(\w+) (?:gave|failed with): ", re.MULTILINE)
_REQUEST = re.compile(r"^- (?!Functions called: )(.+)$", re.MULTILINE)
_CALLS = re.compile(r"`(\w+)` \((\d+)\)")
_LINE = "- Functions called: "

#: So many requests are named, each so long.
REQUESTS, LENGTH = 10, 80


def in_short(messages: Sequence[Message]) -> str:
    """Of messages as who is asked for a summary reads them, an earlier summary of the same kind among them."""
    requests: list[str] = []
    calls: Counter[str] = Counter()
    for message in messages:
        if message.role != "user":
            continue
        if message.text.startswith(TOLD):
            requests += _REQUEST.findall(message.text)
            calls.update({name: int(count) for name, count in _CALLS.findall(message.text)})
        elif done := DONE.findall(message.text):
            calls.update(done)
        else:
            requests.append(plain(message.text, LENGTH))
    named = [f"- {request}" for request in requests[-REQUESTS:]]
    called = ", ".join(f"`{name}` ({count})" for name, count in sorted(calls.items()))
    return "\n".join(["The person asked, among other things:", "", *named, *([_LINE + called] if called else [])])
