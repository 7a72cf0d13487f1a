"""Whatever happens to a page, its socket or the processes behind it: the exact text, and no word is taken back."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from tests.browser.tab import Tab, call, difference, numbered
from tests.chaos.site import Site
from tests.fakes.script import Turn

pytestmark = pytest.mark.browser

WORDS = 200
SLOWLY = Turn(numbered(WORDS), rate=50)  # 4 s
#: What the browser itself says about a server that is away.
AWAY = r"WebSocket connection to|ERR_CONNECTION_(REFUSED|RESET)|ERR_EMPTY_RESPONSE"


def check_whole(tab: Tab, words: int = WORDS) -> None:
    tab.wait_until_over()
    assert tab.words() == numbered(words)
    tab.check_never_took_back()
    live = tab.outline()
    tab.reload()
    assert not (found := difference(live, tab.outline())), found


def test_a_page_opened_before_during_and_after_shows_the_same(tab: Tab, stranger: Callable[..., Tab]) -> None:
    tab.say("First", Turn("Hello."))
    tab.wait_until_over()
    before = stranger(tab.context).go(tab.path)
    tab.say("Now a lot", SLOWLY)
    tab.wait_for_words(60)
    during = stranger(tab.context).go(tab.path)
    for each in (tab, before, during):
        each.wait_until_over()
        assert each.words() == numbered(WORDS)
        each.check_never_took_back()
    after = stranger(tab.context).go(tab.path)
    for each in (tab, before, during):
        assert not (found := difference(each.outline(), after.outline())), found


def test_twelve_reloads_in_the_middle_of_an_answer_lose_nothing(tab: Tab) -> None:
    tab.say("Now a lot", Turn(numbered(300), rate=50))
    for number in range(1, 13):
        tab.wait_for_words(number * 12)
        seen = len(tab.words().split())
        tab.reload()
        tab.wait_for_words(seen - 1)
        tab.check_never_took_back()
    check_whole(tab, 300)


def test_a_socket_that_breaks_six_times_is_not_noticed(tab: Tab) -> None:
    tab.say("Now a lot", Turn(numbered(300), rate=50))
    for number in range(1, 7):
        tab.wait_for_words(number * 25)
        tab.run("__sockets.at(-1).close()")
        tab.page.wait_for_function("n => __sockets.length > n && __sockets.at(-1).readyState === 1", arg=number)
    expect(tab.find("#connection")).to_be_hidden()
    check_whole(tab, 300)


def test_a_tab_that_was_hidden_is_up_to_date_when_it_is_shown(tab: Tab) -> None:
    tab.say("Now a lot", SLOWLY)
    tab.wait_for_words(30)
    hide = """hidden => {
        Object.defineProperty(document, "hidden", { configurable: true, get: () => hidden });
        document.dispatchEvent(new Event("visibilitychange"));
    }"""
    tab.run(hide, True)
    tab.page.wait_for_function("() => __sockets.at(-1).readyState === 3")
    task = tab.find("#turns .task").last
    tab.site.wait_until_over(tab.last_task())
    expect(task).to_have_attribute("data-active", "")
    tab.run(hide, False)
    check_whole(tab)


def test_two_tabs_show_each_other_what_is_said_and_done(tab: Tab, stranger: Callable[..., Tab]) -> None:
    tab.say("First", Turn("Hello."))
    tab.wait_until_over()
    other = stranger(tab.context).go(tab.path)
    elsewhere = stranger(tab.context).go("/")
    tab.say("Second, and a lot", SLOWLY)
    expect(other.find(".bubble").last).to_contain_text("Second, and a lot")
    expect(elsewhere.find(".conversation .spinner")).to_be_visible()
    other.wait_for_words(20)
    other.find("#stop").click()
    tab.wait_until_over("stopped")
    other.wait_until_over("stopped")
    expect(elsewhere.find(".conversation .spinner")).to_have_count(0)
    assert not (found := difference(tab.outline(), other.outline())), found
    assert other.words() == tab.words()


def test_a_web_process_that_dies_in_the_middle_of_an_answer_is_not_missed(tab: Tab, site: Site) -> None:
    tab.expects(AWAY)
    tab.say("Now a lot", Turn(numbered(300), rate=50))
    tab.wait_for_words(30)
    site.kill("web")
    tab.page.wait_for_function("() => __sockets.length > 1 && __sockets.at(-1).readyState === 1")
    check_whole(tab, 300)


def test_a_redis_that_dies_in_the_middle_of_an_answer_is_not_missed(tab: Tab, site: Site) -> None:
    tab.expects(AWAY)
    tab.say("Now a lot", Turn(numbered(300), rate=50))
    tab.wait_for_words(30)
    dead = site.kill("redis")
    site.wait_for_another("redis", dead)
    check_whole(tab, 300)


def test_a_worker_that_dies_in_the_middle_of_an_answer_is_replaced(tab: Tab, site: Site) -> None:
    tab.say("Now a lot", Turn("I look first.", calls=(call("current_time"),)), Turn(numbered(120), rate=40))
    tab.wait_for_words(30)
    site.send("worker", signal.SIGKILL)
    expect(tab.tasks.last).to_have_attribute("data-status", "done", timeout=60_000)
    tab.wait_until_over()
    assert tab.words() == numbered(120)
    live = tab.outline()
    tab.reload()
    assert not (found := difference(live, tab.outline())), found
    tab.find(".work > summary").click()
    expect(tab.find(".step-title").filter(has_text="Current time")).to_have_count(1)
