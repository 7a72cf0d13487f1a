"""Share work out among agents, and put together what they came up with."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from executor.core.llms.demo.planning import Past, Plan, Result, Want, ask, need
from executor.core.llms.demo.reading import Request
from executor.core.llms.demo.writing import count, plain

_SHARE = re.compile(r"^[^:\n]{0,80}\b(?:agents|share|delegate|verteile?)\b[^:\n]{0,80}:\s*(?P<parts>.+)$", re.I | re.S)
_TOGETHER = re.compile(r"^Put (?:it|them|the answers) together\b.*?:\s*$(?P<found>.+)", re.I | re.S | re.M)
_FOUND = re.compile(r"^part (?P<number>\d{1,2}): (?P<said>.*?)(?=\n\n|^part \d{1,2}: |\Z)", re.M | re.S)
#: Parts of one request. More are left out, and that is said.
MOST = 6
_BEGINNING = "This is what came of it:"
TOGETHER = "Put the answers together"


@dataclass(frozen=True, slots=True)
class Share:
    """`together` is whether another task puts together what the `parts` come up with."""

    parts: tuple[str, ...]
    together: bool = True
    left_out: int = 0

    def plan(self, past: Past) -> Plan:
        (agents,) = yield ask("I’ll look who could help.", Want("list_agents", {}))
        helper = _helper(need(agents))
        names = [f"part {number}" for number in range(1, len(self.parts) + 1)]
        tasks = [_task(name, helper, part) for name, part in zip(names, self.parts, strict=True)]
        then = ""
        if self.together:
            tasks.append(_task("together", helper, TOGETHER, after=names))
            then = " When all are done, one more puts the answers together."
        (done,) = yield ask(
            f"{count(len(self.parts), 'task')} for {plain(helper)}, all at the same time.{then}",
            Want("run_plan", {"tasks": tasks}),
        )
        found = _outcomes(need(done), [task["id"] for task in tasks])
        # Without one of the parts nothing is put together.
        is_together = found.get("together", "").startswith(_BEGINNING)
        parts = [
            found["together"].split("\n\n---\n")[0] if is_together else told({name: found[name] for name in names})
        ]
        if self.left_out:
            parts.append(f"I take {MOST} parts at most, so I left out {self.left_out}.")
        return "\n\n".join((*parts, "*Open “Run plan” above to see who did what, and each of its steps.*"))


@dataclass(frozen=True, slots=True)
class Together:
    found: Mapping[str, str]

    def plan(self, past: Past) -> Plan:
        if False:  # A plan is a generator, also one that asks for nothing.
            yield
        return told(self.found)


def told(found: Mapping[str, str]) -> str:
    """The beginning of what each part came up with, as a list."""
    lines = [said.strip().split("\n\n")[0].replace("\n", " ") or "Nothing came of it." for said in found.values()]
    return "\n".join([f"{_BEGINNING}\n", *(f"{at}. {line}" for at, line in enumerate(lines, start=1))])


def _task(name: str, agent: str, what: str, after: list[str] | None = None) -> dict[str, Any]:
    return {"id": name, "agent": agent, "task": what, "after": after or []}


def _helper(agents: Result) -> str:
    """The demonstration itself where it is among them: nobody knows whether the others have a key."""
    rows = agents.data if isinstance(agents.data, list) else []
    names = [str(row["name"]) for row in rows if isinstance(row, dict) and row.get("name")]
    return next((name for name in names if "demo" in name), names[0] if names else "demo")


def _outcomes(done: Result, names: list[str]) -> dict[str, str]:
    """What each task came up with. The outcome of a single one comes as it is."""
    rows = done.data if isinstance(done.data, dict) else {names[0]: done.data}
    return {name: str(rows.get(name) or "") for name in names}


def read(request: Request) -> Share | Together | None:
    if match := _TOGETHER.search(request.words):
        found = {one["number"]: one["said"] for one in _FOUND.finditer(match["found"])}
        return Together(found) if found else None
    match = _SHARE.match(request.words)
    if not match or request.url:
        return None
    parts = [part.strip(" \t.,-•") for part in re.split(r";|\n", match["parts"])]
    parts = [part[0].upper() + part[1:] for part in parts if len(part.split()) > 1]
    together = bool(parts) and bool(re.match(r"(?:and\s+)?then\b.*\btogether\b", parts[-1], re.I))
    parts = parts[:-1] if together else parts
    if len(parts) < 2:
        return None
    return Share(tuple(parts[:MOST]), together, max(0, len(parts) - MOST))
