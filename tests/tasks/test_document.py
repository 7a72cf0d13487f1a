"""The document, which is declared without code; and all that hold for every shipped task."""

from __future__ import annotations

import json

from executor.core.executor import ExecutionStatus
from executor.core.llms.base import Endpoint
from executor.core.llms.demo import Demo
from executor.tasks_file import get_declared
from tests.executor.conftest import MakeScript
from tests.executor.scripted import say
from tools.registry import get_registry

SHIPPED = ["code-kata", "data-analysis", "document", "research-brief"]
PLAN = {"title": "Tides", "sections": [{"heading": "Why", "points": ["The moon pulls."]}]}


async def test_an_outline_becomes_a_plan_a_draft_a_review_and_a_document(scripted: MakeScript) -> None:
    review = {"remarks": [{"about": "pulls", "do": "Say what."}]}
    script = scripted(say(json.dumps(PLAN)), say("# Tides"), say(json.dumps(review)), say("# Tides\n\nThe moon."))
    task = get_declared().tasks["document"].cls(script.llm())
    result = await task.execute({"outline": "- moon"})
    assert task.answer(result.output) == "# Tides\n\nThe moon."
    assert [bool(form) for form in script.demanded] == [True, False, True, False]
    assert '"tone": "plain"' in script.asked[0][-1].text
    assert '"review": {"remarks"' in script.asked[3][-1].text


async def test_it_works_with_the_demonstration() -> None:
    task = get_declared().tasks["document"].cls(Demo(Endpoint(""), pause=0))
    result = await task.execute(
        {"outline": "The moon pulls the water. It comes twice a day, and the sun has its part in it."}
    )
    assert result.status == ExecutionStatus.DONE, result.error
    assert result.output["plan"]["title"] == "The moon pulls the water."


def test_what_is_shipped_is_right_and_needs_only_functions_that_there_are() -> None:
    declared = get_declared()
    assert [name for name in declared.tasks if name in SHIPPED] == SHIPPED
    assert declared.problems == ()
    for name in SHIPPED:
        cls = declared.tasks[name].cls
        assert cls.description.endswith(".")
        assert len(cls.task_steps) >= 4
        assert get_registry().unknown([function for step in cls.task_steps for function in step.functions]) == []
