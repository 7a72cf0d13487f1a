"""The demonstration writes code: it fails in the real sandbox as people's code does, reads the error, and mends it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from executor.core.events import Finished, ToolFinished
from executor.core.executor import TaskSolver
from executor.core.limits import Limits
from executor.core.llms.base import Endpoint
from executor.core.llms.demo import Demo
from executor.core.messages import File, Message, Text, tool, user
from executor.sandbox_tools import SandboxTools

pytestmark = pytest.mark.sandbox


@dataclass
class Talk:
    """A conversation, with one sandbox."""

    tools: SandboxTools = field(default_factory=SandboxTools)
    transcript: list[Message] = field(default_factory=list)

    async def say(self, words: str, *files: File) -> str:
        self.tools.cells.clear()
        self.transcript.append(Message("user", (Text(words), *files)) if files else user(words))
        solver = TaskSolver(Demo(Endpoint(""), pause=0), self.tools, limits=Limits(iterations=9))
        async for event in solver.run(list(self.transcript)):
            if isinstance(event, Finished):
                self.transcript.append(event.message)
            elif isinstance(event, ToolFinished):
                self.transcript.append(tool(event.result))
        return self.transcript[-1].text

    @property
    def ok(self) -> list[bool]:
        return [cell.ok for cell in self.tools.cells]

    @property
    def said(self) -> list[str]:
        """What stands before the calls of the last message, and its answer."""
        last = max(at for at, message in enumerate(self.transcript) if message.role == "user")
        return [message.text for message in self.transcript[last:] if message.role == "assistant"]


@pytest.fixture
def talk() -> Iterator[Talk]:
    found = Talk()
    with found.tools:
        yield found


async def test_its_own_test_finds_an_off_by_one_which_it_mends(talk: Talk) -> None:
    answer = await talk.say("Write Python that counts the primes below 1,000, and test it")
    assert talk.ok == [False, True, True]
    assert "AssertionError: [2, 3, 5, 7, 9]" in talk.said[1]
    assert "**There are 168 primes below 1,000; the largest is 997.**" in answer
    assert f"```python\n{talk.tools.cells[1].code}\n```" in answer
    assert "Demonstration: fixed rules" in answer
    assert talk.tools.files["figure-1.png"].startswith(b"\x89PNG")
    assert "figure-1.png" in answer


async def test_it_counts_as_far_as_it_is_told(talk: Talk) -> None:
    assert "There are 25 primes below 100;" in await talk.say("How many primes are there under 100? Use Python")


async def test_a_column_of_another_name_is_read_from_the_error(talk: Talk) -> None:
    answer = await talk.say("Write Python that makes up a year of sales in a CSV file, and chart the revenue by month")
    assert talk.ok == [True, False, True]
    assert "KeyError: 'price'" in talk.said[2]
    rows = [line.split(",") for line in talk.tools.files["sales.csv"].decode().splitlines()[1:]]
    assert len(rows) == 730
    total = sum(int(units) * float(price) for _, _, units, price in rows)
    assert f"**Revenue of the year: {total:,.2f}." in answer
    assert answer.count("\n2025-") == 12
    assert talk.tools.files["figure-1.png"].startswith(b"\x89PNG")


async def test_without_a_sandbox_it_says_why(talk: Talk, settings: Any) -> None:
    settings.SANDBOX_BACKEND = ""
    answer = await talk.say("Write Python that counts the primes below 1,000, and test it")
    assert talk.ok == [False]
    assert "Running code is switched off on this server" in answer
    assert "168" not in answer


ROWS = "date,region,units,revenue\n" + "".join(
    f"2026-{month:02}-{day:02},{region},{day},{month * day}.5\n"
    for month in (1, 2, 3)
    for day in range(1, 21)
    for region in ("north", "south")
)


@pytest.fixture
def with_table(talk: Talk) -> File:
    talk.tools.files["shop.csv"] = ROWS.encode()
    return File("text/csv", "resource:1", "shop.csv", "")


async def test_an_attached_table_is_analysed_and_the_next_message_uses_its_variables(
    talk: Talk, with_table: File
) -> None:
    answer = await talk.say("Analyse shop.csv", with_table)
    assert talk.ok == [True, True]
    half = sum(month * day + 0.5 for month in (1, 2, 3) for day in range(1, 21))
    assert f"{2 * half:,.2f} in 2 groups" in answer
    assert f"north      60  {half}" in answer
    assert "cannot read" not in answer
    assert "figure-1.png" in answer

    answer = await talk.say("now by month")
    (cell,) = talk.tools.cells
    assert "read_csv" not in cell.code
    assert [f"2026-0{n}" in answer for n in (1, 2, 3)] == [True] * 3
    assert f"{2 * half:,.2f} in 3 groups" in answer


async def test_a_column_that_is_not_there_is_not_made_up(talk: Talk, with_table: File) -> None:
    answer = await talk.say("Analyse shop.csv by colour", with_table)
    assert "I did not find a column “colour” in this table. Its columns: date, region, units, revenue." in answer
