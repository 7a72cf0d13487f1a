"""The code kata: tests before code, reviews until nothing is found, and no word of having run anything."""

from __future__ import annotations

import json
from typing import Any

from executor.core.executor import ExecutionResult, ExecutionStatus
from executor.core.llms.base import Endpoint
from executor.core.llms.demo import Demo
from tasks.code_kata import MOST_ROUNDS, CodeKata, code_in
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


async def kata(script: Script) -> ExecutionResult:
    result = await CodeKata(script.llm()).execute({"task": "Add two numbers."})
    assert result.status == ExecutionStatus.DONE, result.error
    return result


async def test_tests_come_before_the_code_and_the_answer_says_that_nobody_ran_it(scripted: MakeScript) -> None:
    script = scripted(say(json.dumps(RULES)), fenced(TESTS), fenced(CODE), review())
    result = await kata(script)
    assert result.output["answer"] == (
        "A model traced every test through this code and found them passing.\n\n"
        "*Nobody has run it: this version of AgentSite has no sandbox. Run the tests before you use the code.*\n\n"
        f"```python\n{CODE}\n```\n\n## Tests\n\n```python\n{TESTS}\n```\n\n## Assumptions\n\n- Numbers are whole."
    )
    told = [json.loads(script.asked[n][-1].text.rpartition("\n\n{")[2].join(["{", ""])) for n in range(4)]
    assert [("tests" in one, "code" in one) for one in told] == [(False, False)] * 2 + [(True, False), (True, True)]


async def test_code_is_mended_until_the_review_finds_nothing(scripted: MakeScript) -> None:
    script = scripted(
        say(json.dumps(RULES)), fenced(TESTS), fenced("wrong"), review("It does not add."), fenced(CODE), review()
    )
    result = await kata(script)
    assert (result.output["code"], result.output["mended"], result.output["problems"]) == (CODE, 1, [])
    assert "It was mended once." in result.output["answer"]
    assert '"problems": ["It does not add."]' in script.asked[4][-1].text


async def test_it_gives_up_after_some_rounds_and_says_what_is_left(scripted: MakeScript) -> None:
    rounds: list[Any] = [answer for _ in range(MOST_ROUNDS) for answer in (review(passes=False), fenced("still wrong"))]
    result = await kata(
        scripted(say(json.dumps(RULES)), fenced(TESTS), fenced("wrong"), *rounds, review("Still wrong."))
    )
    assert result.output["answer"].startswith(
        "**Not done.** These problems were still found in the last review:\n\n- Still"
    )
    assert result.output["mended"] == MOST_ROUNDS


async def test_it_works_with_the_demonstration() -> None:
    result = await CodeKata(Demo(Endpoint(""), pause=0)).execute({"task": "Add two numbers. Then stop."})
    assert result.status == ExecutionStatus.DONE, result.error
    assert result.output["answer"].startswith("**Not done.**")  # It traced nothing, and does not say that it did.
    assert "Nobody has run it" in result.output["answer"]


def test_code_is_found_with_and_without_a_fence() -> None:
    assert code_in("```\na\n```") == code_in("Look:\n```py\na\n```\nb") == code_in(" a ") == "a"
