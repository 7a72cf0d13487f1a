"""Work that an agent gives to others, on its page: a tree that keeps up, and cards that say who asks."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from tests.browser.tab import Tab, call, scripted
from tests.browser.test_accessibility import findings
from tests.browser.test_equality import check_equal
from tests.fakes.script import Turn

pytestmark = pytest.mark.browser


def test_a_plan_shows_its_tasks_and_what_one_of_them_asks(somebody: Callable[..., Tab]) -> None:
    tab = somebody(viewport={"width": 390, "height": 844}, color_scheme="dark")
    question = call("ask_user", question="Which sea?", choices=["Baltic", "North Sea"])
    plan = [
        {"id": "sun", "agent": "model", "task": scripted("Look at the sun.", Turn("It is a *star*.", rate=20))},
        {"id": "sea", "agent": "model", "task": scripted("Look at the sea.", Turn(calls=(question,)), Turn("Calm."))},
        {"id": "tides", "agent": "model", "task": scripted("Explain.", Turn("They pull.")), "after": ["sun", "sea"]},
    ]
    tab.say("Find out", Turn("I ask around.", calls=(call("run_plan", tasks=plan),)), Turn("So it is."))
    card = tab.find(".decision")
    expect(card.get_by_text("Asked by Model (sea)")).to_be_visible()
    expect(tab.find(".step[data-given] > .step-body .tag")).to_have_text("waiting for you")
    expect(tab.find(".sub-task[data-status=done]")).to_have_count(1)
    assert tab.run("document.documentElement.scrollWidth") == 390
    assert findings(tab) == []
    check_equal(tab)
    card.get_by_role("button", name="Baltic").click()
    tab.wait_until_over()
    assert tab.words() == "So it is."
    check_equal(tab)
    tab.find(".work > summary").click()
    expect(tab.find(".sub-task[data-status=done]")).to_have_count(3)
    first = tab.find(".sub-body > summary").first
    first.focus()
    first.press("Enter")
    expect(tab.find(".sub-body[open] .markdown em")).to_have_text("star")
    tab.find(".sub-body[open] .quiet-link").press("Enter")
    expect(tab.find(".said .bubble")).to_contain_text("Look at the sun.")


def test_the_suggestion_of_the_demonstration_shares_its_work_among_real_tasks(tab: Tab) -> None:
    tab.go("/?agent=demo")
    tab.page.get_by_role("button", name="Share the work").click()
    tab.page.wait_for_url("**/c/*/")
    expect(tab.find(".sub-task")).to_have_count(4)
    expect(tab.find(".sub-task").last).to_contain_text("after: part 1, part 2, part 3")
    tab.wait_until_over()
    assert "many hands make light work" in tab.words()
    check_equal(tab)
    tab.find(".work > summary").click()
    expect(tab.find(".sub-task[data-status=done]")).to_have_count(4)
    together = tab.find(".sub-body").last
    expect(together.locator("summary .sub-words")).to_have_text("Put the answers together")
    together.locator("summary").click()
    expect(together.locator("li")).to_have_count(3)
