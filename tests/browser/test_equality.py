"""What a page shows after live updates is what it shows when it is loaded anew: the same elements, the same words."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.browser.tab import Tab, call, difference, numbered
from tests.fakes.model_server import ModelServer
from tests.fakes.script import Turn

pytestmark = pytest.mark.browser

MARKDOWN = """\
# A heading

Some **strong** and *light* words, `code in line`, ~~struck~~ and [a link](https://example.org/a_b).

## Lists

- one
- two
  - deeper
  - deeper still
- three

1. first
2. second

   with a paragraph

> A quote
> over two lines
>
> > and one in it

| Left | Right | Middle |
|:-----|------:|:------:|
| a    |     1 |   x    |
| b    |    22 |   yy   |

```python
def fibonacci(n: int) -> int:
    # A comment, and a blank line below.

    return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)
```

    indented code

Inline math $a^2 + b^2 = c^2$ and a block:

$$\\sum_{i=1}^{n} i = \\frac{n(n+1)}{2}$$

---

<b>Not bold</b> &amp; ![a picture](https://example.org/x.png) · emoji 🦊 · tail"""

FILES = call("draw_chart", kind="bar", title="Fruit", labels=["apples", "pears"], values=[3, 5])

SCENARIOS: dict[str, tuple[str, list[Turn]]] = {
    "Markdown of every kind": ("done", [Turn(MARKDOWN, rate=120, chunk=4)]),
    "reasoning before the answer": ("done", [Turn("Therefore 42.", reasoning=numbered(30), rate=60)]),
    "calls side by side": (
        "done",
        [
            Turn("Both at once.", calls=(call("calculate", expression="6 * 7"), call("current_time")), rate=60),
            Turn("It is 42.", rate=40),
        ],
    ),
    "a call that fails": (
        "done",
        [Turn(calls=(call("calculate", expression="1 / 0"),)), Turn("One cannot divide by zero.", rate=40)],
    ),
    "a call that does not fit": (
        "done",
        [Turn(calls=(call("calculate", nonsense=1), call("no_such_function"))), Turn("I was wrong.", rate=40)],
    ),
    "code that fails, and then runs": (
        "done",
        [
            Turn(calls=(call("run_python", code="print('one')\nnothing + 1"),)),
            Turn("Again.", calls=(call("run_python", code="print('two')\n1 + 1"),)),
            Turn("It is 2.", rate=40),
        ],
    ),
    "a picture": ("done", [Turn("I draw.", calls=(FILES,), rate=40), Turn("Here it is.", rate=40)]),
    "an error after a step": ("failed", [Turn("First.", calls=(call("current_time"),)), Turn(fault="400")]),
    "an error in the middle of the answer": (
        "failed",
        [Turn(numbered(30), rate=40, fault="error_event", after=15)],
    ),
    "rate limited, then fine": ("done", [Turn(fault="429", retry_after="1"), Turn("Now it works.", rate=40)]),
    "a long answer, fast": ("done", [Turn("\n\n".join([numbered(100)] * 40), rate=2000)]),
    "an answer with nothing in it": ("done", [Turn("")]),
}


def check_equal(tab: Tab) -> None:
    """What is on the page now equals what a fresh look at it gives."""
    live = tab.outline()
    tab.reload()
    expect(tab.find("#turns")).to_be_visible()
    assert not (found := difference(live, tab.outline())), found


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_live_page_equals_a_fresh_one(scenario: str, tab: Tab, model_server: ModelServer) -> None:
    status, turns = SCENARIOS[scenario]
    model_server.script(turns)
    tab.say(scenario)
    tab.wait_until_over(status)
    check_equal(tab)
    assert not model_server.left_over


def test_a_live_page_equals_a_fresh_one_after_stopping(tab: Tab) -> None:
    tab.say("Stop me", Turn(MARKDOWN, rate=60, chunk=4))
    tab.wait_for_words(30)
    tab.find("#stop").click()
    tab.wait_until_over("stopped")
    check_equal(tab)


def test_a_live_page_equals_a_fresh_one_after_trying_again(tab: Tab, model_server: ModelServer) -> None:
    model_server.script([Turn(fault="400"), Turn("The second time it works.", rate=40)])
    tab.say("Try twice")
    tab.wait_until_over("failed")
    tab.page.get_by_role("button", name="Try again").click()
    tab.wait_until_over()
    assert tab.words() == "The second time it works."
    check_equal(tab)


def test_trying_again_asks_the_agent_that_is_chosen_now_and_says_so(tab: Tab, model_server: ModelServer) -> None:
    model_server.script([Turn(fault="400")])
    tab.say("What is 15 % of 80?")
    tab.wait_until_over("failed")
    again = tab.page.get_by_role("button", name="Try again")
    expect(again).to_have_text("Try again")
    picker = tab.page.get_by_label("Agent", exact=True)
    title = picker.locator("option[value=demo]").inner_text()
    picker.select_option("demo")
    expect(again).to_have_text(f"Try again with {title}")
    again.click()
    tab.wait_until_over()
    assert "12" in tab.words()
    check_equal(tab)


@pytest.mark.parametrize(("wait", "words"), [("90", r"Retrying in \d+ s\s+· "), ("600", r"Retrying at \d\d:\d\d\s+· ")])
def test_when_a_task_is_tried_again_is_counted_down_to_if_it_is_near(
    tab: Tab, model_server: ModelServer, wait: str, words: str
) -> None:
    model_server.script([Turn(fault="429", retry_after=wait)])
    tab.say("Wait")
    expect(tab.find(".task[data-active] .state")).to_have_text(re.compile(words))
    first = tab.find(".state time").inner_text()
    if wait == "90":
        expect(tab.find(".state time")).not_to_have_text(first)
    tab.find("#stop").click()
    tab.wait_until_over("stopped")
    check_equal(tab)


def test_a_live_page_equals_a_fresh_one_while_something_runs(tab: Tab) -> None:
    """The steps and the finished blocks of a task that hangs on its next question."""
    tab.say(
        "Hang",
        Turn("Look first.", calls=(call("current_time"),)),
        Turn("Some words. And more.", fault="stall", after=3),
    )
    expect(tab.answer).to_have_text("Some words.")
    live = tab.outline()
    tab.reload()
    expect(tab.answer).to_have_text("Some words.")
    assert not (found := difference(live, tab.outline())), found
    tab.find("#stop").click()
    tab.wait_until_over("stopped")


def test_a_live_page_of_several_turns_equals_a_fresh_one(tab: Tab) -> None:
    tab.say("One", Turn("First answer.", rate=40))
    tab.wait_until_over()
    tab.say("Two", Turn("Look.", calls=(FILES,)), Turn("Second answer.", rate=40))
    tab.wait_until_over()
    tab.say("Three", Turn(fault="401"))
    tab.wait_until_over("failed")
    check_equal(tab)


def test_the_steps_that_are_fetched_are_those_that_were_live(tab: Tab) -> None:
    tab.say("Step by step", *[Turn(calls=(call("calculate", expression=f"{n} + 1"),)) for n in range(3)], Turn("Done."))
    tab.wait_until_over()
    tab.find(".work > summary").click()
    expect(tab.find(".step")).to_have_count(3)
    live = tab.outline()
    tab.reload()
    tab.find(".work > summary").click()
    expect(tab.find(".step")).to_have_count(3)
    assert not (found := difference(live, tab.outline())), found
