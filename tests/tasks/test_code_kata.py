"""The code kata: tests before code, which run in the real sandbox, or are read where there is none, without a word of
having run anything."""

from __future__ import annotations

import json
from typing import Any

import pytest

from executor.core.errors import StepFailed
from executor.core.executor import ExecutionResult, ExecutionStatus
from executor.core.llms.base import Endpoint
from executor.core.llms.demo import Demo
from tasks.code_kata import MOST_ROUNDS, CodeKata, code_in, run_tests
from tests.executor.conftest import MakeScript
from tests.executor.scripted import Answer, Script, say

RULES = {"signature": "add(a, b)", "rules": ["It adds."], "edge_cases": [], "assumptions": ["Numbers are whole."]}
TESTS = "def test_two_and_two_are_four():\n    assert add(2, 2) == 4"
CODE = "def add(a, b):\n    return a + b"


def fenced(code: str) -> Answer:
    return say(f"Here it is:\n\n```python\n{code}\n```\n\nDone.")


def review(*problems: str, passes: bool = True) -> Answer:
    tests = [{"name": "test_two_and_two_are_four", "trace": "2 + 2", "passes": passes}]
    return say(json.dumps({"tests": tests, "problems": problems}))


@pytest.fixture
def no_sandbox(settings: Any) -> None:
    settings.SANDBOX_BACKEND = ""


reading = pytest.mark.usefixtures("no_sandbox")


async def kata(script: Script) -> ExecutionResult:
    result = await CodeKata(script.llm()).execute({"task": "Add two numbers."})
    assert result.status == ExecutionStatus.DONE, result.error
    return result


@reading
async def test_tests_come_before_the_code_and_the_answer_says_that_nobody_ran_it(scripted: MakeScript) -> None:
    script = scripted(say(json.dumps(RULES)), fenced(TESTS), fenced(CODE), review())
    result = await kata(script)
    assert result.output["answer"] == (
        "A model traced every test through this code and found them passing.\n\n"
        "*Nobody has run it: this server has no sandbox. Run the tests before you use the code.*\n\n"
        f"```python\n{CODE}\n```\n\n## Tests\n\n```python\n{TESTS}\n```\n\n## Assumptions\n\n- Numbers are whole."
    )
    told = [json.loads(script.asked[n][-1].text.rpartition("\n\n{")[2].join(["{", ""])) for n in range(4)]
    assert [("tests" in one, "code" in one) for one in told] == [(False, False)] * 2 + [(True, False), (True, True)]


@reading
async def test_code_is_mended_until_the_review_finds_nothing(scripted: MakeScript) -> None:
    script = scripted(
        say(json.dumps(RULES)), fenced(TESTS), fenced("wrong"), review("It does not add."), fenced(CODE), review()
    )
    result = await kata(script)
    assert (result.output["code"], result.output["mended"], result.output["problems"]) == (CODE, 1, [])
    assert "It was mended once." in result.output["answer"]
    assert '"problems": ["It does not add."]' in script.asked[4][-1].text


@reading
async def test_it_gives_up_after_some_rounds_and_says_what_is_left(scripted: MakeScript) -> None:
    rounds: list[Any] = [answer for _ in range(MOST_ROUNDS) for answer in (review(passes=False), fenced("still wrong"))]
    result = await kata(
        scripted(say(json.dumps(RULES)), fenced(TESTS), fenced("wrong"), *rounds, review("Still wrong."))
    )
    assert result.output["answer"].startswith(
        "**Not done.** These problems were still found in the last review:\n\n- Still"
    )
    assert result.output["mended"] == MOST_ROUNDS


@reading
async def test_it_works_with_the_demonstration() -> None:
    result = await CodeKata(Demo(Endpoint(""), pause=0)).execute({"task": "Add two numbers. Then stop."})
    assert result.status == ExecutionStatus.DONE, result.error
    assert result.output["answer"].startswith("**Not done.**")  # It traced nothing, and does not say that it did.
    assert "Nobody has run it" in result.output["answer"]


def test_code_is_found_with_and_without_a_fence() -> None:
    assert code_in("```\na\n```") == code_in("Look:\n```py\na\n```\nb") == code_in(" a ") == "a"


# --- run -------------------------------------------------------------------------------------------------------------


@pytest.mark.sandbox
async def test_what_the_tests_said_comes_back_until_they_pass(scripted: MakeScript) -> None:
    wrong = "def add(a, b):\n    return a - b"
    script = scripted(say(json.dumps(RULES)), fenced(TESTS), fenced(wrong), fenced(CODE))
    result = await kata(script)
    assert (result.output["code"], result.output["mended"], result.output["problems"]) == (CODE, 1, [])
    assert result.output["answer"].startswith("The tests were run, and all of them pass. It was mended once.")
    assert "Nobody has run it" not in result.output["answer"]
    assert "test_two_and_two_are_four failed:" in script.asked[3][-1].text
    assert "1 of 1 tests failed." in script.asked[3][-1].text


@pytest.mark.sandbox
async def test_code_whose_tests_fail_to_the_end_is_not_called_done(scripted: MakeScript) -> None:
    wrong = [fenced(f"def add(a, b):\n    return {n}") for n in range(MOST_ROUNDS + 1)]
    result = await kata(scripted(say(json.dumps(RULES)), fenced(TESTS), *wrong))
    assert result.output["answer"].startswith("**Not done.** This is what the tests said last:\n\n```text")


@pytest.mark.sandbox
@pytest.mark.parametrize(
    ("code", "tests", "said"),
    [
        ("def add(a, b) return a", TESTS, "SyntaxError"),
        (CODE, "assert add(2, 2) == 4", "There is no function whose name begins with test_."),
        (f"{CODE}\nimport sys; sys.exit(0)", TESTS, ""),
        (CODE, f"{TESTS}\ndef test_other():\n    assert add(1, 1) == 3", "1 of 2 tests failed."),
    ],
)
async def test_a_run_says_why_it_is_no_success(code: str, tests: str, said: str) -> None:
    report = await run_tests(code, tests)
    assert report
    assert said in report


@pytest.mark.sandbox
async def test_a_run_that_passes_says_nothing() -> None:
    assert await run_tests(CODE, TESTS) == ""


@reading
async def test_a_sandbox_that_is_gone_is_no_fault_of_the_code() -> None:
    with pytest.raises(StepFailed, match="Code cannot be run here now"):
        await run_tests(CODE, TESTS)


async def test_other_languages_are_read(scripted: MakeScript) -> None:
    script = scripted(say(json.dumps(RULES)), fenced(TESTS), fenced(CODE), review())
    result = await CodeKata(script.llm()).execute({"task": "Add two numbers.", "language": "Go"})
    assert "Nobody has run it: the sandbox runs Python, not Go." in result.output["answer"]
