"""Variants in a real browser: a fork from the time line, an answer given once more, a message edited, and stepping
between all of them, with reloads in between."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from playwright.sync_api import expect

from tests.browser.tab import PATIENCE, Tab, call, difference, numbered, scripted
from tests.fakes.model_server import ModelServer
from tests.fakes.script import Turn

pytestmark = pytest.mark.browser

EIGHT = [
    Turn("I begin.", calls=(call("calculate", expression="1 + 1"), call("calculate", expression="2 + 2"))),
    Turn(calls=(call("calculate", expression="3 + 3"),)),
    Turn(calls=(call("calculate", expression="4 + 4"),)),
    Turn("All four sums are done.", rate=40),
]
SLOWLY = numbered(100)


def is_true(tab: Tab) -> None:
    """The page is as one that is loaded anew."""
    live = tab.outline()
    tab.reload()
    assert not difference(live, tab.outline())


def test_a_step_is_forked_with_other_arguments_and_both_ways_stay(tab: Tab) -> None:
    tab.say("Calculate", *EIGHT)
    tab.wait_until_over()
    tab.page.get_by_role("link", name="What it did, step by step").click()
    tab.page.wait_for_url("**/t/*/")
    steps = tab.find(".line-step")
    expect(steps).to_have_count(8)
    third = steps.nth(2)
    third.get_by_text("Change and run").click()
    field = third.locator("[name=argument-expression]")
    expect(field).to_have_value("2 + 2")
    field.fill("20 + 22")
    third.get_by_role("button", name="Run with these").click()
    tab.page.wait_for_url(re.compile("/c/.*#turn-"))
    tab.wait_until_over()
    expect(tab.find(".variants")).to_contain_text("2/2")
    expect(tab.find(".work > summary")).to_contain_text("4 steps")
    is_true(tab)
    tab.page.get_by_role("link", name="What it did, step by step").click()
    steps = tab.find(".line-step")
    expect(steps).to_have_count(8)
    expect(steps.nth(2)).to_contain_text("Arguments changed")
    expect(steps.nth(2).locator("pre").last).to_contain_text("42")
    expect(tab.find(".line-step[data-shared]")).to_have_count(2)
    with tab.page.expect_download() as download:
        tab.page.get_by_role("link", name="Download as JSON").click()
    assert '"v": 1' in Path(download.value.path()).read_text()
    steps.first.get_by_role("link", name="from the earlier variant").click()
    expect(tab.find(".line-step")).to_have_count(8)
    expect(tab.find(".line-step").nth(2).locator("pre").last).to_contain_text("4")


def test_the_page_of_a_task_follows_it_to_its_end_and_one_can_go_on_from_there(tab: Tab) -> None:
    tab.say("Calculate", Turn("I begin.", calls=(call("calculate", expression="1 + 1"),)), Turn(SLOWLY, rate=20))
    tab.go(f"/t/{tab.last_task()}/")
    expect(tab.find(".facts .tag")).not_to_have_text("Done")
    expect(tab.find(".again")).to_have_count(0)
    expect(tab.find(".facts .tag")).to_have_text("Done", timeout=PATIENCE)
    expect(tab.find(".line-step h2")).to_have_text(["Said", "Calculate", "Answered"])
    # The socket brought these forms, and no token with them.
    expect(tab.find(".again form:not(:has([name=csrfmiddlewaretoken]))")).to_have_count(5)
    live = tab.find("main").inner_text()
    tab.page.get_by_text("Change the result").click()
    tab.page.locator("[name=result]").fill("3")
    tab.page.get_by_role("button", name="Go on with this").click()
    tab.page.wait_for_url("**/c/*/**")
    expect(tab.find(".variants")).to_contain_text("2/2")
    tab.wait_until_over()
    tab.page.go_back()
    tab.reload()
    assert tab.find("main").inner_text() == live


def test_times_on_the_page_of_a_task_are_the_readers(somebody: Callable[..., Tab]) -> None:
    zone = "Asia/Kathmandu"
    tab = somebody(timezone_id=zone)
    tab.say("Calculate", Turn(calls=(call("calculate", expression="1 + 1"),)), Turn(SLOWLY, rate=40))
    tab.go(f"/t/{tab.last_task()}/")
    expect(tab.find(".facts .tag")).to_have_text("Done", timeout=PATIENCE)
    times = tab.find(".line-step time")
    expect(times).to_have_count(3)
    for time in times.all():
        here = datetime.fromisoformat(time.get_attribute("datetime") or "").astimezone(ZoneInfo(zone))
        expect(time).to_have_text(re.compile(f"(^|, ){here:%H:%M:%S}$"))
    live = tab.find("main").inner_text()
    tab.reload()
    assert tab.find("main").inner_text() == live


def test_an_answer_is_given_once_more_and_one_steps_between_the_two(tab: Tab) -> None:
    tab.say("First", Turn("One and only."))
    tab.wait_until_over()
    tab.send(scripted("Then", Turn("Two.", rate=60)))
    expect(tab.tasks).to_have_count(2)
    tab.wait_until_over()
    tab.find(".turn").last.hover()
    tab.tasks.last.get_by_role("button", name="Try again").click()
    variants = tab.find(".variants")
    expect(variants).to_contain_text("2/2")
    tab.wait_until_over()
    expect(tab.tasks).to_have_count(2)
    is_true(tab)
    newest = tab.last_task()

    # By keyboard: the focus stays where one steps.
    earlier = tab.page.get_by_role("button", name="Earlier variant")
    earlier.focus()
    tab.page.keyboard.press("Enter")
    expect(variants).to_contain_text("1/2")
    assert tab.last_task() != newest
    expect(tab.page.get_by_role("button", name="Earlier variant")).to_be_focused()
    is_true(tab)
    tab.page.get_by_role("button", name="Later variant").click()
    expect(variants).to_contain_text("2/2")
    assert tab.last_task() == newest
    tab.check_never_took_back()


def test_a_message_is_edited_and_what_was_said_before_stays(tab: Tab, model_server: ModelServer) -> None:
    tab.say("First", Turn("One."))
    tab.wait_until_over()
    tab.say("Second", Turn("Two."))
    tab.wait_until_over()
    other = Tab(tab.context, tab.site, tab.name).go(tab.path)
    expect(other.tasks).to_have_count(2)
    first = tab.find(".turn").first

    # It opens with the words in it, and closes with Escape, back where it was.
    first.hover()
    first.get_by_role("link", name="Edit this message").click()
    field = tab.page.get_by_role("textbox", name="Your message")
    expect(field).to_be_focused()
    expect(field).to_have_value(re.compile("^First"))
    tab.page.keyboard.press("Escape")
    expect(first.get_by_role("link", name="Edit this message")).to_be_focused()
    is_true(tab)

    # An empty one is not taken, and what is written stays.
    first.get_by_role("link", name="Edit this message").press("Enter")
    field.fill("   ")
    tab.expects("status 422", "console: Failed to load resource.*422")
    tab.page.get_by_role("button", name="Save").click()
    expect(tab.find(".editing [role=alert]")).to_have_text("Write something first.")
    field.fill(scripted("Something else", Turn("Quite another answer.", rate=40)))
    tab.page.keyboard.press("Control+Enter")
    expect(tab.tasks).to_have_count(1)
    expect(tab.find(".bubble")).to_contain_text("Something else")
    tab.wait_until_over()
    expect(tab.answer).to_have_text("Quite another answer.")
    is_true(tab)
    expect(other.tasks).to_have_count(1)
    expect(other.answer).to_have_text("Quite another answer.")
    assert not difference(other.outline(), tab.outline())

    # And back, with all that followed.
    other.page.get_by_role("button", name="Earlier variant").click()
    for page in (other, tab):
        expect(page.tasks).to_have_count(2)
        expect(page.answer).to_have_text("Two.")
    assert not difference(tab.outline(), other.outline())
    tab.send(scripted("Third", Turn("Three.")))
    expect(tab.tasks).to_have_count(3)
    tab.wait_until_over()
    is_true(tab)
    other.check()
