"""What tasks are to do: scripts for the model server, made from a seed."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from random import Random
from typing import Any

#: How often which function is called, in the place where something else does not fit better.
WEIGHTS = {"peek": 4, "keep": 4, "put": 3, "post": 3, "send": 5, "order": 2, "ask_user": 0.6, "propose_plan": 0.3}


@dataclass(frozen=True)
class Plan:
    """One message of a person, and what its task is to do. `calls` has name and number of each, turn by turn. With
    `data` it is the declared task of dropped_task.py, which makes these calls in its third step."""

    key: str
    agent: str
    text: str
    calls: tuple[tuple[tuple[str, int], ...], ...]
    data: dict[str, Any] | None = None


def word(number: int, agent: str, key: str) -> Plan:
    """Something that a person says in between: it goes into the task at work, or is answered by one of its own."""
    return Plan(key, agent, f"Word {number}: hurry up.", ())


def chain(plan: Plan, number: int) -> Plan:
    """A declared task that does what `plan` says, between other things."""
    _, _, turns = plan.text.partition("@turns ")
    return replace(plan, text=f"Chain {number}", data={"n": number * 100, "turns": turns})


def make(random: Random, number: int, agent: str) -> Plan:
    """Rounds of one to three calls side by side, then an answer. Every call has a number of its own."""
    turns: list[dict[str, Any]] = []
    calls: list[tuple[tuple[str, int], ...]] = []
    n = number * 100
    for _ in range(random.choice((1, 2, 3, 4, 5, 6))):
        together: list[tuple[str, int]] = []
        for _ in range(random.choice((1, 1, 1, 2, 3))):
            (name,) = random.choices(list(WEIGHTS), list(WEIGHTS.values()))
            together.append((name, n := n + 1))
        calls.append(tuple(together))
        words = f"Round {len(calls)}: " + "word " * random.choice((0, 2, 8))
        asked = [{"name": name, "arguments": _arguments(random, name, n)} for name, n in together]
        turns.append({"text": words, "calls": asked, "rate": random.choice((0, 50, 100))})
    long = random.random() < 0.06  # So long that it is written down while it is said.
    last = f"Plan {number} is done. " + "word " * (70 if long else random.randrange(12))
    turns.append({"text": last, "rate": 25 if long else random.choice((0, 60))})
    key = f"plan-{number}-{random.getrandbits(48):012x}"
    return Plan(key, agent, f"Plan {number}, please.\n@turns {json.dumps(turns)}", tuple(calls))


def _arguments(random: Random, name: str, n: int) -> dict[str, Any]:
    match name:
        case "ask_user":
            return {"question": f"Which one, for {n}?"}
        case "propose_plan":
            return {"goal": f"Goal {n}", "steps": ["One", "Two"]}
        case _:
            slow = (0, 0.1, 0.3) if name in ("send", "order", "post") else (0, 0, 0.02, 0.1)
            return {"n": n, "seconds": random.choice(slow)}
