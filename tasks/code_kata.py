"""A small programming task, solved with tests first. The tests of Python are run where there is a sandbox; those of
other languages, and of Python where there is none, are read by the model, and the answer says so."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

from executor.core.errors import StepFailed
from executor.core.executor import TaskExecutor
from executor.core.steps import TaskInput, TaskStep
from executor.core.validation import parse_answer
from tools.core.context import Context
from tools.core.results import Failure
from tools.memory_shelf import MemoryShelf
from tools.sandbox import availability
from tools.workspace import CANNOT, Workspace

#: How often the solution is written anew after a review.
MOST_ROUNDS = 3

UNDERSTAND = """\
Say what a small programming task demands, before anybody solves it. The task is below, as JSON, and with it the
language.

Give the signature of the function (or the functions) in that language, the rules that follow from the task in words
that can be checked, and the edge cases that an implementation gets wrong easily, each with what is expected there.
Where the task leaves something open, decide on what is usual and note that as an assumption. Give no solution."""

UNDERSTAND_FORM = {
    "type": "object",
    "properties": {
        "signature": {"type": "string"},
        "rules": {"type": "array", "items": {"type": "string"}, "minItems": 1},
        "edge_cases": {"type": "array", "items": {"type": "string"}},
        "assumptions": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["signature", "rules", "edge_cases", "assumptions"],
    "additionalProperties": False,
}

TESTS = """\
Write the tests for the function that is described below, before there is a solution. Use what is usual for the
language: plain assert statements in functions that begin with test_ for Python, the standard test library
otherwise.

One test for each rule, one for each edge case, and one for each example of the task. Each has a name that says what
must hold, a literal input and a literal expected value that you worked out by hand from the rules. Test nothing
that the rules do not say. Answer with the code only, in one code block."""

SOLVE = """\
Write the function that is described below, so that it does what the rules say and passes the tests.

Prefer the simplest code that is right: clear names, the standard library only, no cleverness that needs a comment.
No input or output except through arguments and results. Answer with the code only, in one code block, without the
tests."""

CHECK = """\
You check whether code passes its tests, by reading: it is not run here. Below, as JSON, are the task, its rules, the
tests and the code.

Go through every test. Trace the code with the test's input, statement by statement, and write down in `trace` the
values on which it turns; only then decide whether the result is what the test expects. Also check that the code
compiles, that the names match those of the tests, and that the expected value of each test follows from the rules:
a test that is wrong is a problem too. Be sceptical; code that looks right is often off by one.

Then list the problems that are left, each with what has to be changed. No matters of taste. An empty list means
that you found every test passing."""

CHECK_FORM = {
    "type": "object",
    "properties": {
        "tests": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "name": {"type": "string"},
                    "trace": {"type": "string"},
                    "passes": {"type": "boolean"},
                },
                "required": ["name", "trace", "passes"],
                "additionalProperties": False,
            },
        },
        "problems": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["tests", "problems"],
    "additionalProperties": False,
}

REPAIR = """\
The code below was run or reviewed, and problems were found. Mend them, and change nothing else. If a problem says
that a test is wrong, leave the code as the rules demand. Answer with the whole code only, in one code block."""


#: Runs each test by itself, so that one report has all that fail.
HARNESS = """

import traceback as _traceback
_tests = [(name, test) for name, test in list(globals().items()) if name.startswith("test_") and callable(test)]
_failed = 0
for _name, _test in _tests:
    try:
        _test()
    except Exception:
        _failed += 1
        print(f"{_name} failed:")
        _traceback.print_exc(limit=-1, file=__import__("sys").stdout)
assert _tests, "There is no function whose name begins with test_."
assert not _failed, f"{_failed} of {len(_tests)} tests failed."
print(f"All {len(_tests)} tests passed.")
"""
PASSED = "tests passed."
#: Characters of what a run said that the model reads.
REPORT = 4_000


class CodeKata(TaskExecutor):
    """Solves a small programming task: rules, tests, code, and corrections until the tests pass."""

    name = "code-kata"
    title = "Code kata"
    inputs = (
        TaskInput("task", "What should the code do?", "long_text", help="Examples of input and result help a lot."),
        TaskInput(
            "language",
            kind="choice",
            choices=("Python", "JavaScript", "TypeScript", "Go", "Rust", "Java", "C"),
            default="Python",
        ),
    )
    task_steps = (
        TaskStep("understand", "Understand the task", required_info=("task", "language")),
        TaskStep("tests", "Write the tests", required_info=("rules",)),
        TaskStep("solve", "Write the code", required_info=("tests",)),
        TaskStep("refine", "Check and refine", required_info=("code",)),
    )

    async def handle_understand(self, step_input: dict[str, Any]) -> dict[str, Any]:
        context = {name: step_input[name] for name in ("task", "language")}
        return {"rules": parse_answer(await self.llm_call(UNDERSTAND, context, UNDERSTAND_FORM))}

    async def handle_tests(self, step_input: dict[str, Any]) -> dict[str, Any]:
        return {"tests": code_in(await self.llm_call(TESTS, _told(step_input)))}

    async def handle_solve(self, step_input: dict[str, Any]) -> dict[str, Any]:
        return {"code": code_in(await self.llm_call(SOLVE, _told(step_input, "tests")))}

    async def handle_refine(self, step_input: dict[str, Any]) -> dict[str, Any]:
        """Check, mend, check again, until nothing is found or it was mended often enough."""
        code, mended = step_input["code"], 0
        runs = step_input["language"] == "Python" and await self.once("look for a sandbox", has_sandbox, effect="read")
        while problems := await self.problems({**step_input, "code": code}, runs=runs):
            if mended == MOST_ROUNDS:
                break
            context = {**_told(step_input, "tests"), "code": code, "problems": problems}
            code, mended = code_in(await self.llm_call(REPAIR, context)), mended + 1
        answer = "\n\n".join(_answer(step_input, code, mended, problems, was_run=runs))
        return {"code": code, "mended": mended, "problems": problems, "was_run": runs, "answer": answer}

    async def problems(self, step_input: dict[str, Any], *, runs: bool) -> list[str]:
        """What keeps the code from passing its tests: by running them, or else by reading."""
        if runs:
            code, tests = step_input["code"], step_input["tests"]
            said = await self.once("run the tests", run_tests, code, tests, effect="idempotent")
            return [said] if said else []
        checked = parse_answer(await self.llm_call(CHECK, _told(step_input, "tests", "code"), CHECK_FORM))
        failing = [test["name"] for test in checked["tests"] if not test["passes"]]
        return checked["problems"] or [f"The test {name} does not pass." for name in failing]


def has_sandbox() -> bool:
    return availability().ok


async def run_tests(code: str, tests: str) -> str:
    """What the tests of `code` say in a sandbox of their own; "" if all of them pass."""
    key = f"kata {uuid4()}"
    workspace = Workspace(key, MemoryShelf())
    context = Context(None, key, key, key)
    try:
        said = await asyncio.to_thread(workspace.run, f"{code}\n\n\n{tests}\n{HARNESS}", context)
    finally:
        await asyncio.to_thread(workspace.close)
    if not isinstance(said, Failure):
        return "" if said.rstrip().endswith(PASSED) else f"{said[-REPORT:]}\nThe code ended before its tests were run."
    if said.content.startswith(CANNOT):
        raise StepFailed(said.content, hint="Try again in a minute.")
    return str(said.content)[-REPORT:]


def code_in(text: str) -> str:
    """The code of an answer, without the fence around it and without what was said before or after."""
    before, fence, rest = text.partition("```")
    if not fence:
        return text.strip()
    return rest.partition("\n")[2].partition("```")[0].strip() or before.strip()


def _told(step_input: dict[str, Any], *more: str) -> dict[str, Any]:
    return {name: step_input[name] for name in ("task", "language", "rules", *more)}


def _answer(step_input: dict[str, Any], code: str, mended: int, problems: list[str], *, was_run: bool) -> list[str]:
    fence = step_input["language"].lower()
    times = {0: "", 1: " It was mended once."}.get(mended, f" It was mended {mended} times.")
    if problems and was_run:
        parts = ["**Not done.** This is what the tests said last:", f"```text\n{problems[0]}\n```"]
    elif problems:
        verdict = "**Not done.** These problems were still found in the last review:"
        parts = [verdict, "\n".join(f"- {problem}" for problem in problems)]
    elif was_run:
        parts = [f"The tests were run, and all of them pass.{times}"]
    else:
        parts = [f"A model traced every test through this code and found them passing.{times}"]
    if not was_run:
        parts.append(f"*Nobody has run it: {_why(step_input['language'])}. Run the tests before you use the code.*")
    parts += [f"```{fence}\n{code}\n```", "## Tests", f"```{fence}\n{step_input['tests']}\n```"]
    if assumed := step_input["rules"]["assumptions"]:
        parts += ["## Assumptions", "\n".join(f"- {one}" for one in assumed)]
    return parts


def _why(language: str) -> str:
    return "this server has no sandbox" if language == "Python" else f"the sandbox runs Python, not {language}"
