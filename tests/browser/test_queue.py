"""Messages sent while an answer is being worked on: they wait, and until then a person can still change their mind."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Locator, Route, expect

from tests.browser.conftest import enter
from tests.browser.tab import PATIENCE, Tab, call, difference, numbered
from tests.chaos.site import Site
from tests.fakes.model_server import ModelServer
from tests.fakes.script import Turn

pytestmark = pytest.mark.browser

LONG = Turn(numbered(400), rate=10)


def button(tab: Tab, name: str, message: str) -> Locator:
    return tab.find(".turn").filter(has_text=message).last.get_by_role("button", name=name)


def texts(tab: Tab) -> list[str]:
    """What the person said, from the top."""
    return [words.splitlines()[0] for words in tab.find("#turns > .turn > .said .bubble").all_inner_texts()]


def wait(tab: Tab, *messages: str) -> None:
    """Let these wait behind an answer that takes its time."""
    tab.say("Tell me everything", LONG)
    tab.wait_for_words(5)
    for message in messages:
        tab.say(message, Turn(f"About {message}."))


def stop(tab: Tab) -> None:
    tab.find("#stop").click()


def check_equal(tab: Tab) -> None:
    live = tab.outline()
    tab.reload()
    expect(tab.find("#turns")).to_be_visible()
    assert not (found := difference(live, tab.outline())), found


def test_a_message_that_waits_says_where_it_stands_is_removed_and_survives_a_reload(
    tab: Tab, stranger: Callable[..., Tab]
) -> None:
    wait(tab, "First more", "Second more", "Third more")
    states = tab.find(".task[data-status=queued] .state")
    expect(states).to_have_text(["Queued · 1st in line", "Queued · 2nd in line", "Queued · 3rd in line"])
    other = stranger(tab.context).go(tab.path)
    expect(other.find(".task[data-status=queued]")).to_have_count(3)
    button(tab, "Remove", "Second more").click()
    for page in (tab, other):
        expect(page.find(".task[data-status=queued] .state")).to_have_text(
            ["Queued · 1st in line", "Queued · 2nd in line"]
        )
    tab.reload()
    expect(states).to_have_text(["Queued · 1st in line", "Queued · 2nd in line"])
    stop(tab)
    tab.wait_until_over()
    assert texts(tab) == ["Tell me everything", "First more", "Third more"]
    assert tab.words() == "About Third more."
    expect(other.find(".task[data-active]")).to_have_count(0)
    check_equal(tab)


def test_a_message_is_taken_back_into_the_composer_below_what_is_there(tab: Tab) -> None:
    wait(tab)
    tab.say("A question\nover two lines")
    tab.composer.fill("Half a thought")
    button(tab, "Edit", "A question").focus()
    tab.page.keyboard.press("Enter")
    expect(tab.find(".task[data-status=queued]")).to_have_count(0)
    expect(tab.composer).to_have_value("Half a thought\nA question\nover two lines")
    expect(tab.composer).to_be_focused()
    tab.reload()
    expect(tab.composer).to_have_value("Half a thought\nA question\nover two lines")
    expect(tab.tasks).to_have_count(1)
    stop(tab)
    tab.wait_until_over("stopped")


def test_who_edits_too_late_keeps_the_draft_as_it_was(tab: Tab) -> None:
    wait(tab, "More")
    tab.composer.fill("Half a thought")

    def too_late(route: Route) -> None:
        stop(tab)
        time.sleep(1.5)
        route.continue_()

    tab.page.route("**/take-back/", too_late)
    edit = button(tab, "Edit", "More")
    tab.expects("409", "status of 409")
    edit.click()
    expect(tab.find(".toast")).to_contain_text("It is being answered already.")
    expect(tab.composer).to_have_value("Half a thought")
    tab.wait_until_over()


def test_a_message_goes_into_the_answer_that_is_being_worked_on(
    tab: Tab, stranger: Callable[..., Tab], model_server: ModelServer
) -> None:
    model_server.script(
        [
            Turn(numbered(20), rate=5, calls=(call("calculate", expression="6 * 7"),)),
            Turn("42, in short.", rate=10),
            Turn("And that was that.", rate=40),
        ]
    )
    tab.say("Take your time")
    tab.wait_for_words(2)
    tab.say("And then?")
    tab.say("Keep it short")
    other = stranger(tab.context).go(tab.path)
    button(tab, "Send now", "Keep it short").click()
    expect(tab.find(".task[data-status=queued] .state")).to_have_text(
        ["Goes in at the next step", "Queued · 2nd in line"]
    )
    assert texts(tab) == ["Take your time", "Keep it short", "And then?"]
    for page in (tab, other):
        expect(page.find(".step > .bubble")).to_contain_text("Keep it short")
        expect(page.find("#turns > .turn")).to_have_count(2)
    tab.wait_until_over()
    assert texts(tab) == ["Take your time", "And then?"]
    expect(tab.find(".meanwhile .bubble")).to_be_visible()
    assert "Keep it short" in str(model_server.asked[-1].body)
    check_equal(tab)
    assert not model_server.left_over


def test_the_line_is_used_with_the_keyboard_and_on_a_phone(somebody: Callable[..., Tab]) -> None:
    tab = somebody(viewport={"width": 390, "height": 844})
    wait(tab, "More", "And more")
    for name in ("Send now", "Edit", "Remove"):
        box = button(tab, name, "And more").bounding_box()
        assert box is not None
        assert box["height"] >= 32
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 390
    button(tab, "Send now", "And more").focus()
    tab.page.keyboard.press("Tab")
    tab.page.keyboard.press("Tab")
    expect(button(tab, "Remove", "And more")).to_be_focused()
    tab.page.keyboard.press("Enter")
    expect(tab.find(".task[data-status=queued]")).to_have_count(1)
    expect(tab.composer).to_be_focused()
    stop(tab)
    tab.wait_until_over()


# --- functions that wait, or never end -------------------------------------------------------------------------------


FUNCTIONS = '''
import time
from tools.core.function import function

@function(approval=False, timeout=600)
def run_forever() -> str:
    """Do something that never ends."""
    while True:
        time.sleep(0.1)

def send_mail(to: str) -> str:
    """Send a mail.

    Args:
        to: Who gets it.
    """
    return "sent"
'''


def test_stop_ends_a_task_in_an_endless_function_within_two_seconds_and_the_line_goes_on(
    office: Site, open_browser: Callable[..., BrowserContext], stranger: Callable[..., Tab], tmp_path: Path
) -> None:
    tab = enter(office, open_browser(), stranger)
    tab.say("Run", Turn("I run now.", calls=(call("run_forever"),)))
    expect(tab.find(".task[data-active] .state")).to_have_text("Run forever", timeout=PATIENCE)
    tab.say("And then?", Turn("I am here."))
    began = time.monotonic()
    tab.composer.press("Escape")
    expect(tab.tasks.first).to_have_attribute("data-status", "stopped")
    assert time.monotonic() - began < 2
    expect(tab.tasks.first).to_contain_text("Stopped by you.")
    tab.wait_until_over()
    assert tab.words() == "I am here."
    tab.find(".work > summary").first.click()
    expect(tab.find(".step[data-status=unknown]")).to_contain_text("may have run")
    tab.photograph("stopped")
    # The thread goes on for ever; the site stops all the same.
    began = time.monotonic()
    office.__exit__()
    assert time.monotonic() - began < 15
    tab.expects("WebSocket", "ERR_CONNECTION_REFUSED", "failed")


def test_a_message_waits_for_the_answer_above_and_goes_in_with_it(
    office: Site, open_browser: Callable[..., BrowserContext], stranger: Callable[..., Tab]
) -> None:
    tab = enter(office, open_browser(), stranger)
    tab.say("Invite Bob", Turn("I will write to Bob.", calls=(call("send_mail", to="bob"),)))
    expect(tab.find(".decision")).to_be_visible(timeout=PATIENCE)
    tab.say("And Carol, too", Turn("Bob is invited; Carol comes next."))
    state = tab.find(".task[data-status=queued] .state")
    expect(state).to_have_text("Waits for your answer above")
    button(tab, "Send now", "And Carol").click()
    expect(state).to_have_text("Goes in when you have answered above")
    check_equal(tab)
    tab.page.get_by_role("button", name="Allow once").click()
    expect(tab.answer).to_have_text("Bob is invited; Carol comes next.", timeout=PATIENCE)
    tab.wait_until_over()
    assert texts(tab) == ["Invite Bob"]
    expect(tab.find(".meanwhile .bubble")).to_contain_text("And Carol, too")
