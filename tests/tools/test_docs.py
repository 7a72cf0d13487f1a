"""docs/adding-a-function.md tells the truth: its example is taken from the page, dropped in and called."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest

from tools.core.context import Context
from tools.core.function import Effect
from tools.core.toolbox import Toolbox
from tools.registry import get_toolbox

PAGE = (Path(__file__).parents[2] / "docs" / "adding-a-function.md").read_text()
EXAMPLE, TEST = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def toolbox(dropped: Callable[..., Any]) -> Toolbox:
    assert dropped(trip=EXAMPLE).problems == ()
    return get_toolbox(["plan_trip"])


async def test_the_example_works_when_it_is_dropped_in(toolbox: Toolbox, call_context: Context) -> None:
    outcome = await toolbox.call("plan_trip", {"city": "Lisbon", "days": "3", "pace": "quick"}, "", call_context)
    assert outcome.content.startswith('{"city": "Lisbon", "days": 3, "plan": ["Day 1: 3 in Lisbon"')
    assert [file.name for file in outcome.files] == ["Lisbon.txt"]


async def test_the_failure_that_the_page_quotes_is_what_the_model_reads(
    toolbox: Toolbox, call_context: Context
) -> None:
    outcome = await toolbox.call("plan_trip", {"city": "Lisbon", "days": 99}, "", call_context)
    assert f"`{outcome.content}`" in PAGE


def test_the_test_on_the_page_passes() -> None:
    names: dict[str, Any] = {}
    exec(EXAMPLE + TEST, names)
    names["test_a_trip_is_planned"]()


def test_every_effect_is_explained() -> None:
    assert set(re.findall(r'^\| `effect="(\w+)"`', PAGE, re.MULTILINE)) == set(get_args(Effect))
