"""What tasks are to do: scripts for the model server, made from a seed."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

#: How often which function is called, in the place where something else does not fit better.
WEIGHTS = {"peek": 4, "keep": 4, "put": 3, "post": 3, "send": 5, "order": 2, "ask_user": 0.6, "propose_plan": 0.3}
#: Calls without a number among their arguments.
UNNUMBERED = ("ask_user", "propose_plan", "delegate", "run_plan")
#: How often a task gives work to others, and what a task is called that was given.
GIVES = 0.25
LABEL = re.compile(r"(Sub \d+-\d+), please\.")

Calls = tuple[tuple[tuple[str, int], ...], ...]


@dataclass(frozen=True)
class Plan:
    """One message of a person, and what its task is to do. `calls` has name and number of each, turn by turn. With
    `data` it is the declared task of dropped_task.py, which makes these calls in its third step. `gives` has the plans
    of the tasks that its calls give to other agents, call by call; the `key` of these is their label."""

    key: str
    agent: str
    text: str
    calls: Calls
    data: dict[str, Any] | None = None
    gives: tuple[tuple[Plan, ...], ...] = ()


def word(number: int, agent: str, key: str) -> Plan:
    """Something that a person says in between: it goes into the task at work, or is answered by one of its own."""
    return Plan(key, agent, f"Word {number}: hurry up.", ())


def chain(plan: Plan, number: int) -> Plan:
    """A declared task that does what `plan` says, between other things."""
    _, _, turns = plan.text.partition("@turns ")
    return replace(plan, text=f"Chain {number}", data={"n": number * 100, "turns": turns})


def make(random: Random, number: int, agent: str, others: Sequence[str] = ()) -> Plan:
    """Rounds of one to three calls side by side, then an answer. Every call has a number of its own. Now and then work
    is given to some of the `others`."""
    turns, calls = _rounds(random, number * 100, random.choice((1, 2, 3, 4, 5, 6)))
    gives: tuple[tuple[Plan, ...], ...] = ()
    if others and random.random() < GIVES:
        at = random.randrange(len(turns))
        call, given = _give(random, number, others)
        turns[at]["calls"].append(call)
        calls[at] = (*calls[at], (call["name"], 0))
        gives = (given,)
    long = random.random() < 0.06  # So long that it is written down while it is said.
    last = f"Plan {number} is done. " + "word " * (70 if long else random.randrange(12))
    turns.append({"text": last, "rate": 25 if long else random.choice((0, 60))})
    key = f"plan-{number}-{random.getrandbits(48):012x}"
    return Plan(key, agent, f"Plan {number}, please.\n@turns {json.dumps(turns)}", tuple(calls), gives=gives)


def label(text: str) -> str:
    """The key of the plan of a task that was given; "" if nobody planned it."""
    found = LABEL.match(text)
    return found[1] if found else ""


def _rounds(random: Random, n: int, count: int) -> tuple[list[dict[str, Any]], list[tuple[tuple[str, int], ...]]]:
    """Turns of the script with calls, numbered from `n` + 1, and these calls."""
    turns: list[dict[str, Any]] = []
    calls: list[tuple[tuple[str, int], ...]] = []
    for _ in range(count):
        together: list[tuple[str, int]] = []
        for _ in range(random.choice((1, 1, 1, 2, 3))):
            (name,) = random.choices(list(WEIGHTS), list(WEIGHTS.values()))
            together.append((name, n := n + 1))
        calls.append(tuple(together))
        words = f"Round {len(calls)}: " + "word " * random.choice((0, 2, 8))
        asked = [{"name": name, "arguments": _arguments(random, name, n)} for name, n in together]
        turns.append({"text": words, "calls": asked, "rate": random.choice((0, 50, 100))})
    return turns, calls


def _give(random: Random, number: int, others: Sequence[str]) -> tuple[dict[str, Any], tuple[Plan, ...]]:
    """A call that gives one task to another agent, or up to three, of which some need the results of others."""
    plans: list[Plan] = []
    for part in range(random.choice((1, 1, 2, 3))):
        turns, calls = _rounds(random, number * 100 + 40 + part * 10, random.choice((1, 2)))
        turns.append({"text": f"Sub {number}-{part} is done.", "rate": random.choice((0, 60))})
        key = f"Sub {number}-{part}"
        text = f"{key}, please.\n@turns {json.dumps(turns)}"
        plans.append(Plan(key, random.choice(others), text, tuple(calls)))
    if len(plans) == 1:
        return {"name": "delegate", "arguments": {"agent": plans[0].agent, "task": plans[0].text}}, tuple(plans)
    wanted: list[dict[str, Any]] = []
    for plan in plans:
        before = [entry["id"] for entry in wanted if random.random() < 0.5]
        wanted.append({"id": plan.key, "agent": plan.agent, "task": plan.text, "after": before})
    return {"name": "run_plan", "arguments": {"tasks": wanted}}, tuple(plans)


def _arguments(random: Random, name: str, n: int) -> dict[str, Any]:
    match name:
        case "ask_user":
            return {"question": f"Which one, for {n}?"}
        case "propose_plan":
            return {"goal": f"Goal {n}", "steps": ["One", "Two"]}
        case _:
            slow = (0, 0.1, 0.3) if name in ("send", "order", "post") else (0, 0, 0.02, 0.1)
            return {"n": n, "seconds": random.choice(slow)}
