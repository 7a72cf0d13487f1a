"""A small programming task, solved with tests first. Nobody runs the code: this version of AgentSite has no sandbox."""

from __future__ import annotations

from typing import Any

from executor.core.executor import TaskExecutor
from executor.core.steps import TaskInput, TaskStep
from executor.core.validation import parse_answer

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
You check whether code passes its tests, by reading: nobody can run it. Below, as JSON, are the task, its rules, the
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
The code below was reviewed, and problems were found. Mend them, and change nothing else. If a problem says that a
test is wrong, leave the code as the rules demand. Answer with the whole code only, in one code block."""


class CodeKata(TaskExecutor):
    """Solves a small programming task: rules, tests, code, and reviews until the tests pass on paper."""

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
        while problems := await self.problems({**step_input, "code": code}):
            if mended == MOST_ROUNDS:
                break
            context = {**_told(step_input, "tests"), "code": code, "problems": problems}
            code, mended = code_in(await self.llm_call(REPAIR, context)), mended + 1
        answer = "\n\n".join(_answer(step_input, code, mended, problems))
        return {"code": code, "mended": mended, "problems": problems, "answer": answer}

    async def problems(self, step_input: dict[str, Any]) -> list[str]:
        """What keeps the code from passing its tests. By reading; a sandbox would run them here instead."""
        checked = parse_answer(await self.llm_call(CHECK, _told(step_input, "tests", "code"), CHECK_FORM))
        failing = [test["name"] for test in checked["tests"] if not test["passes"]]
        return checked["problems"] or [f"The test {name} does not pass." for name in failing]


def code_in(text: str) -> str:
    """The code of an answer, without the fence around it and without what was said before or after."""
    before, fence, rest = text.partition("```")
    if not fence:
        return text.strip()
    return rest.partition("\n")[2].partition("```")[0].strip() or before.strip()


def _told(step_input: dict[str, Any], *more: str) -> dict[str, Any]:
    return {name: step_input[name] for name in ("task", "language", "rules", *more)}


def _answer(step_input: dict[str, Any], code: str, mended: int, problems: list[str]) -> list[str]:
    fence = step_input["language"].lower()
    times = {0: "", 1: " It was mended once."}.get(mended, f" It was mended {mended} times.")
    if problems:
        verdict = "**Not done.** These problems were still found in the last review:"
        parts = [verdict, "\n".join(f"- {problem}" for problem in problems)]
    else:
        parts = [f"A model traced every test through this code and found them passing.{times}"]
    parts.append(
        "*Nobody has run it: this version of AgentSite has no sandbox. Run the tests before you use the code.*"
    )
    parts += [f"```{fence}\n{code}\n```", "## Tests", f"```{fence}\n{step_input['tests']}\n```"]
    if assumed := step_input["rules"]["assumptions"]:
        parts += ["## Assumptions", "\n".join(f"- {one}" for one in assumed)]
    return parts
