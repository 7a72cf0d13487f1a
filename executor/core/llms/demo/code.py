"""Running code in a plan: what came back, as the demonstration reads it."""

from __future__ import annotations

import re
from collections.abc import Generator
from dataclasses import dataclass

from executor.core.llms.demo.planning import Result, Step, Want, ask, need
from executor.core.llms.demo.writing import plain

RUN = "run_python"
_TOLD = re.compile(r"^\[.*\]$")
_PICTURE = re.compile(r"^\[The person sees the picture (?P<name>.+)\.\]$", re.M)


@dataclass(frozen=True, slots=True)
class Ran:
    """`text` is what the model reads of a call."""

    text: str
    failed: bool

    @property
    def error(self) -> str:
        """The line that says what went wrong."""
        lines = [line for line in self.text.splitlines() if line.strip() and not _TOLD.match(line)]
        return (lines[-1] if lines else "").replace("`", "'")[:200]

    @property
    def shown(self) -> str:
        """What the code printed and showed, without what was said about it."""
        return "\n".join(line for line in self.text.splitlines() if not _TOLD.match(line)).strip("\n")

    @property
    def said(self) -> str:
        """The first line of that."""
        return self.shown.partition("\n")[0]

    @property
    def rest(self) -> str:
        return self.shown.partition("\n")[2].strip("\n")

    @property
    def picture(self) -> str:
        found = _PICTURE.search(self.text)
        return found["name"] if found else ""


def run(say: str, code: str, expected: str = "") -> Generator[Step, tuple[Result, ...], Ran]:
    """Run `code`. The plan ends with the reason if that fails, other than with the error that is `expected`."""
    (result,) = yield ask(say, Want(RUN, {"code": code}))
    # Text that happens to be JSON, such as a number, was read as such.
    text = result.data if isinstance(result.data, str) else str(result.data)
    if not result.ok and not (expected and expected in text):
        need(result)
    return Ran(text, not result.ok)


def finished(said: str, last: Ran, code: str) -> str:
    """The answer: what came out, the table and the chart, and the code that did it."""
    table = last.rest if last.said == said else last.shown
    parts = [f"**{plain(said, 300)}**"]
    if table:
        parts.append(fenced(table, "text"))
    if last.picture:
        parts.append(f"The chart is **{last.picture}**, above.")
    parts += ["This is the code as it ran in the end:", fenced(code, "python")]
    return "\n\n".join(parts)


def fenced(text: str, language: str) -> str:
    """`text` in a fence that nothing in it can close."""
    longest = max((len(run) for run in re.findall(r"`{3,}", text)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"
