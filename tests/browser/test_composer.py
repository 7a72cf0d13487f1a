"""Writing and sending: nothing is sent by accident, nothing twice, and nothing written is lost."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from tests.browser.tab import Tab, call, numbered
from tests.fakes.model_server import ModelServer
from tests.fakes.script import Turn

pytestmark = pytest.mark.browser

HELLO = Turn("Hello.")
KEY = """init => document.getElementById("text").dispatchEvent(
    new KeyboardEvent("keydown", { bubbles: true, cancelable: true, ...init }))"""


def begin(tab: Tab) -> Tab:
    """A conversation with one answer, so that messages are sent within the page."""
    tab.say("First", HELLO)
    tab.wait_until_over()
    return tab


def bubbles(tab: Tab) -> list[str]:
    return [text.strip() for text in tab.find("#turns .bubble").all_text_contents()]


def test_enter_sends_and_shift_enter_breaks_the_line(tab: Tab, model_server: ModelServer) -> None:
    begin(tab)
    model_server.script([HELLO])
    tab.composer.fill("one")
    tab.composer.press("Shift+Enter")
    tab.page.keyboard.type("two")
    expect(tab.composer).to_have_value("one\ntwo")
    assert tab.tasks.count() == 1
    tab.composer.press("Enter")
    expect(tab.tasks).to_have_count(2)
    expect(tab.composer).to_have_value("")
    assert bubbles(tab)[-1] == "one\ntwo"


def test_nothing_is_sent_while_an_input_method_composes(tab: Tab, model_server: ModelServer) -> None:
    begin(tab)
    tab.composer.fill("にほ")
    for init in ({"key": "Enter", "isComposing": True}, {"key": "Enter", "keyCode": 229}, {"key": "Process"}):
        tab.run(KEY, init)
    expect(tab.find("#turns .turn")).to_have_count(1)
    expect(tab.composer).to_have_value("にほ")
    model_server.script([HELLO])
    tab.composer.press("Enter")
    expect(tab.tasks).to_have_count(2)


def test_an_empty_message_is_not_sent(tab: Tab) -> None:
    begin(tab)
    tab.composer.fill("  \n ")
    tab.composer.press("Enter")
    tab.page.get_by_role("button", name="Send").click()
    expect(tab.find("#turns .turn")).to_have_count(1)


def test_a_draft_survives_a_reload_and_stays_in_its_conversation(tab: Tab, model_server: ModelServer) -> None:
    begin(tab)
    first = tab.path
    tab.composer.fill("half a thought")
    tab.reload()
    expect(tab.composer).to_have_value("half a thought")
    tab.go("/")
    expect(tab.composer).to_have_value("")
    tab.composer.fill("another one")
    tab.go(first)
    expect(tab.composer).to_have_value("half a thought")
    model_server.script([HELLO])
    tab.composer.press("Enter")
    expect(tab.tasks).to_have_count(2)
    tab.reload()
    expect(tab.composer).to_have_value("")
    tab.go("/")
    expect(tab.composer).to_have_value("another one")


def test_a_suggestion_leaves_the_draft_alone(tab: Tab) -> None:
    tab.site.add_agent("fleeting", suggestions=[{"title": "Count", "prompt": "count to 3"}])
    for number in (1, 2):
        tab.go("/?agent=fleeting")
        if number == 1:
            tab.composer.fill("half a thought")
        tab.find(".suggestions button").and_(tab.find(":visible")).click()
        tab.page.wait_for_url("**/c/*/")
        assert bubbles(tab) == ["count to 3"]
        expect(tab.composer).to_have_value("")
    tab.go("/?agent=fleeting")
    expect(tab.composer).to_have_value("half a thought")
    # A suggestion that is refused comes back, as any message does; the draft is still there.
    tab.expects("422")
    tab.site.python("from executor.models import Agent; Agent.objects.filter(name='fleeting').update(enabled=False)")
    tab.find(".suggestions button").and_(tab.find(":visible")).click()
    expect(tab.find("#composer-error")).to_contain_text("not available")
    expect(tab.composer).to_have_value("count to 3\nhalf a thought")


@pytest.mark.parametrize("where", ["the first message", "a reply"])
def test_a_double_click_sends_once(where: str, tab: Tab, model_server: ModelServer) -> None:
    if where == "a reply":
        begin(tab)
    else:
        tab.go("/?agent=model")
    model_server.script([HELLO])
    tab.composer.fill("only once")
    tab.page.get_by_role("button", name="Send").dblclick()
    tab.page.wait_for_url("**/c/*/")
    expect(tab.find(".bubble").last).to_have_text("only once")
    tab.wait_until_over()
    tab.reload()
    assert bubbles(tab).count("only once") == 1


def test_the_message_is_echoed_at_once(tab: Tab, model_server: ModelServer) -> None:
    begin(tab)
    model_server.script([HELLO])
    tab.composer.fill("hear me")
    milliseconds = tab.run("""async () => {
        const before = performance.now();
        document.getElementById("composer").requestSubmit();
        while (!document.querySelector(".turn.pending")) await new Promise(requestAnimationFrame);
        return performance.now() - before;
    }""")
    assert milliseconds < 200
    expect(tab.find(".turn.pending")).to_have_count(0)
    tab.wait_until_over()
    assert bubbles(tab)[1:] == ["hear me"]


def test_a_refused_message_comes_back_with_the_reason(tab: Tab, model_server: ModelServer) -> None:
    begin(tab)
    tab.expects("422")
    text = "x" * 200_001
    tab.composer.fill(text)
    tab.composer.press("Enter")
    expect(tab.find("#composer-error")).to_have_text(re.compile("long|characters"))
    expect(tab.composer).to_have_value(text)
    model_server.script([HELLO])
    tab.send("shorter")
    expect(tab.tasks).to_have_count(2)
    expect(tab.find("#composer-error")).to_be_hidden()


def test_a_message_that_meets_a_dead_network_comes_back_and_is_sent_once(tab: Tab, model_server: ModelServer) -> None:
    begin(tab)
    tab.expects("ERR_INTERNET_DISCONNECTED|WebSocket|Failed to fetch")
    tab.context.set_offline(True)
    tab.send("into the void")
    expect(tab.find("#composer-error")).to_contain_text("no connection")
    expect(tab.composer).to_have_value("into the void")
    expect(tab.find("#turns .turn")).to_have_count(1)
    tab.context.set_offline(False)
    model_server.script([HELLO])
    tab.composer.press("Enter")
    expect(tab.tasks).to_have_count(2)
    tab.wait_until_over()
    tab.reload()
    assert bubbles(tab)[1:] == ["into the void"]


def test_a_message_of_somebody_who_logged_out_elsewhere_comes_back(tab: Tab, stranger: Callable[..., Tab]) -> None:
    begin(tab)
    other = stranger(tab.context).go("/")
    other.find(".person").click()
    other.page.get_by_role("button", name="Log out").click()
    expect(other.find("h1")).to_have_text(re.compile("Log (in|out)"))
    expect(tab.find("#connection")).to_contain_text("logged out")
    tab.send("do not lose this")
    expect(tab.find("#composer-error")).not_to_have_text("")
    expect(tab.composer).to_have_value("do not lose this")
    expect(tab.find("#turns .turn")).to_have_count(1)


def test_a_second_message_waits_for_the_first_to_be_answered(tab: Tab) -> None:
    begin(tab)
    tab.say("Take your time", Turn(numbered(60), rate=30))
    tab.wait_for_words(5)
    tab.say("And this after it", Turn("Second."))
    queued = tab.find("#turns .task").nth(2)
    expect(queued).to_have_attribute("data-status", "queued")
    expect(queued.locator(".state")).to_have_text("Queued · 1st in line")
    tab.wait_until_over()
    answers = [" ".join(text.split()) for text in tab.find("#turns .answer").all_text_contents()]
    assert answers == ["Hello.", numbered(60), "Second."]
    tab.check_never_took_back()


def test_escape_stops_what_is_running_and_nothing_else(tab: Tab) -> None:
    begin(tab)
    tab.composer.press("Escape")
    tab.say("Take your time", Turn(numbered(300), rate=30))
    tab.wait_for_words(5)
    tab.page.keyboard.press("Control+k")
    expect(tab.find("#search")).to_be_visible()
    tab.page.keyboard.press("Escape")
    expect(tab.find("#search")).to_be_hidden()
    expect(tab.tasks.last).to_have_attribute("data-status", "running")
    tab.page.keyboard.press("Escape")
    tab.wait_until_over("stopped")


def test_on_a_touch_screen_enter_breaks_the_line(somebody: Callable[..., Tab], model_server: ModelServer) -> None:
    tab = somebody(has_touch=True, is_mobile=True, viewport={"width": 390, "height": 844})
    model_server.script([HELLO, HELLO])
    tab.go("/?agent=model")
    for number in (1, 2):
        tab.composer.fill("one")
        tab.composer.press("Enter")
        expect(tab.composer).to_have_value("one\n")
        tab.page.get_by_role("button", name="Send").tap()
        expect(tab.tasks).to_have_count(number)
        tab.wait_until_over()


def test_an_agent_that_fails_says_why_and_the_next_message_works(tab: Tab) -> None:
    tab.say("Fail", Turn(calls=(call("current_time"),)), Turn(fault="401"))
    tab.wait_until_over("failed")
    expect(tab.find(".failure-reason")).to_be_visible()
    tab.say("Again", HELLO)
    tab.wait_until_over()
    assert tab.words() == "Hello."
