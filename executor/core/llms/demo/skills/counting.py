"""Many small steps in a row: a task that takes a while, for trying out stop, crash and resume."""

from __future__ import annotations

import re
from dataclasses import dataclass

from executor.core.llms.demo.planning import Past, Plan, Want, ask, need_number
from executor.core.llms.demo.reading import Request, to_number
from executor.core.llms.demo.writing import count, exact, number

MOST = 200
_COUNT = re.compile(
    r"(?:please )?(?:count (?:up )?(?:from (?:1|one) )?to|zähle? (?:von 1 )?bis|work through|take|do) "
    r"(\d{1,9}|\w{3,12})\s*(?:steps?|schritten?)?[.! ]*"
)


@dataclass(frozen=True, slots=True)
class Counting:
    steps: int

    def plan(self, past: Past) -> Plan:
        if not 1 <= self.steps <= MOST:
            return f"I count to at least 1 and at most {MOST}, one function call each. Give me a number in between."
        value: float = 0
        for step in range(1, self.steps + 1):
            (result,) = yield ask(
                f"Step {step} of {self.steps}.", Want("calculate", {"expression": f"{exact(value)} + 1"})
            )
            value = need_number(result)
        return f"Done: **{count(self.steps, 'step')}**, one function call each. The last result is **{number(value)}**."


def read(request: Request) -> Counting | None:
    match = _COUNT.fullmatch(request.plain)
    steps = to_number(match[1]) if match else None
    return Counting(int(steps)) if steps is not None else None
