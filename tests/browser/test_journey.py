"""From the first visit to the last: what a newcomer does, in order."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import BrowserContext, expect

from tests.browser.tab import Tab, call, numbered
from tests.chaos.site import PASSWORD, Site
from tests.fakes.script import Turn

pytestmark = pytest.mark.browser

OpenBrowser = Callable[..., BrowserContext]
TEXT = "Analyse the text 'the quick brown fox jumps over the lazy dog' and draw its statistics"


@pytest.fixture
def first_start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Site(tmp_path_factory.mktemp("new") / "data") as site:
        yield site


def test_a_newcomer_gets_from_the_first_start_to_logging_out(
    first_start: Site, open_browser: OpenBrowser, stranger: Callable[..., Tab]
) -> None:
    # Whoever started it becomes the administrator, through a link that works once.
    link = first_start.says(r"makes you the administrator, once: \S+?(/accounts/\S+)")[1]
    admin = stranger(at=first_start).go(link)
    for name, value in {"username": "dora", "email": "dora@example.org", "password1": PASSWORD}.items():
        admin.find(f"[name={name}]").fill(value)
    admin.find("[name=password2]").fill(PASSWORD)
    admin.find("button[type=submit]").click()
    expect(admin.find("h1")).to_contain_text("dora")
    admin.expects(r"status 4\d\d: \S+/first-admin/", r"console: Failed to load resource.* 4\d\d")
    admin.go(link)
    expect(admin.find("main")).to_contain_text("link")
    assert admin.find("[name=password1]").count() == 0

    # Somebody else signs up, and sees what there is to do.
    tab = stranger(at=first_start).go("/")
    expect(tab.find("h1")).to_have_text("Log in")
    tab.page.get_by_role("link", name="Create an account").click()
    for name, value in {"username": "alice", "email": "alice@example.org", "password1": PASSWORD}.items():
        tab.find(f"[name={name}]").fill(value)
    tab.find("[name=password2]").fill(PASSWORD)
    tab.page.get_by_role("button", name="Create account").click()
    expect(tab.find("h1")).to_have_text("What shall we work on, alice?")
    expect(tab.find(".demo-note:visible")).to_contain_text("Demonstration")
    expect(tab.find("#conversations")).to_contain_text("Your conversations will be listed here.")
    expect(tab.find(".suggestions button:visible")).to_have_count(7)

    # A card is worked on before her eyes: steps in an open list, a picture, an answer.
    tab.page.get_by_role("button", name="Analyse a text").click()
    tab.page.wait_for_url("**/c/*/")
    expect(tab.find(".bubble")).to_have_text(TEXT)
    expect(tab.find(".work[open] .step").first).to_be_visible()
    tab.wait_until_over()
    expect(tab.find(".work > summary")).to_have_text(re.compile(r"Worked .+ · \d+ steps"))
    expect(tab.find(".task > .files img")).to_be_visible()
    tab.page.wait_for_function("() => document.querySelector('.task > .files img').naturalWidth > 100")
    tab.find(".work > summary").click()
    expect(tab.find(".step-title").filter(has_text="Text statistics")).to_be_visible()
    expect(tab.find(".step-title").filter(has_text="Draw chart")).to_be_visible()

    # A follow-up goes on from there.
    tab.send("Make it more colourful and draw it as a pie chart")
    expect(tab.tasks).to_have_count(2)
    tab.wait_until_over()
    expect(tab.find(".task > .files img")).to_have_count(2)

    # It is found again: in the list, by its words, under another name.
    tab.page.get_by_role("link", name="New chat").first.click()
    expect(tab.find("h1")).to_have_text("What shall we work on, alice?")
    tab.page.keyboard.press("Control+k")
    tab.find("#search input").fill("brown fox")
    expect(tab.find("#search a.result")).to_have_count(1)
    tab.find("#search a.result").click()
    tab.page.wait_for_url("**/c/*/**")
    expect(tab.tasks).to_have_count(2)
    line = tab.find(".conversation")
    line.hover()
    line.get_by_role("button", name="Options of").click()
    tab.page.get_by_role("menuitem", name="Rename").click()
    tab.page.get_by_role("textbox", name="Title of the conversation").fill("The fox and the dog")
    tab.page.keyboard.press("Enter")
    expect(tab.find("#title")).to_have_text("The fox and the dog")
    expect(tab.page).to_have_title("The fox and the dog · AgentSite")
    line.get_by_role("button", name="Options of").click()
    tab.page.get_by_role("menuitem", name="Pin").click()
    expect(tab.find(".group-label")).to_have_text("Pinned")

    # All of it can be taken along.
    line.hover()
    line.get_by_role("button", name="Options of").click()
    with tab.page.expect_download() as download:
        tab.page.get_by_role("menuitem", name="Download as Markdown").click()
    assert download.value.suggested_filename == "the-fox-and-the-dog.md"
    assert download.value.path().read_text().count("draw it as a pie chart") >= 2
    expect(tab.find("#conversation-menu")).to_be_hidden()
    tab.page.get_by_role("button", name="About this conversation").click()
    with tab.page.expect_download() as download:
        tab.page.get_by_role("link", name="Download as JSON").click()
    found = json.loads(download.value.path().read_text())
    assert [turn["position"] for turn in found["turns"]] == [1, 2]
    tab.page.keyboard.press("Escape")

    # Deleting asks nothing and can be taken back.
    line.hover()
    line.get_by_role("button", name="Options of").click()
    tab.page.get_by_role("menuitem", name="Delete").click()
    tab.page.wait_for_url(first_start.address + "/")
    expect(tab.find(".conversation")).to_have_count(0)
    tab.find("#toasts").get_by_role("button", name="Undo").click()
    expect(tab.find(".conversation")).to_have_text(re.compile("The fox and the dog"))
    tab.find(".conversation a").click()
    expect(tab.find(".task > .files img")).to_have_count(2)

    tab.find(".person").click()
    tab.page.get_by_role("button", name="Log out").click()
    confirm = tab.find("main").get_by_role("button", name="Log out")
    if confirm.count():
        confirm.click()
    expect(tab.find("h1")).to_have_text("Log in")
    tab.go("/")
    expect(tab.find("h1")).to_have_text("Log in")


def test_every_card_of_the_empty_page_works(tab: Tab) -> None:
    for number in range(5):
        tab.go()
        tab.find(".suggestions button").nth(number).click()
        tab.page.wait_for_url("**/c/*/")
        tab.wait_until_over()
        assert len(tab.words()) > 40
        expect(tab.find(".work > summary")).to_have_text(re.compile(r"Worked .+ · \d+ steps?"))


def test_an_answer_grows_on_the_screen_and_never_takes_a_word_back(tab: Tab) -> None:
    tab.say("Tell me a lot", Turn(numbered(150), rate=50))
    tab.wait_until_over()
    assert tab.words() == numbered(150)
    # 150 words at 50 a second, each painted within a few frames: it streams.
    assert tab.check_never_took_back() > 20


def test_columns_of_a_table_stand_as_the_model_wants_them(tab: Tab) -> None:
    tab.say("A table", Turn("| a | b | c |\n|:--|:-:|--:|\n| 1 | 2 | 3 |"))
    tab.wait_until_over()
    stand = "cells => cells.map(cell => getComputedStyle(cell).textAlign)"
    assert tab.find("#turns td").evaluate_all(stand) == ["start", "center", "end"]


# How many steps the open work of a running task ever showed, each number as often as it changed.
COUNT_STEPS = """() => {
    window.counts = [];
    const look = () => {
        const count = document.querySelectorAll(".task[data-active] .work[open] .step").length;
        if (count && count !== counts.at(-1)) counts.push(count);
    };
    look();
    new MutationObserver(look).observe(document.getElementById("turns"), { childList: true, subtree: true });
}"""


def test_steps_come_live_and_one_that_was_opened_stays_open(tab: Tab) -> None:
    tab.say("First", Turn("Hello."))
    tab.wait_until_over()
    tab.run(COUNT_STEPS)
    calls = [Turn(calls=(call("calculate", expression=f"{n} + 1"),), first_token=0.8) for n in range(5)]
    tab.say("Count", *calls, Turn(numbered(5), first_token=30))
    tab.page.wait_for_function("() => counts.length")
    tab.find(".step summary").first.click()
    expect(tab.find(".step-detail").first).to_be_visible()
    tab.page.wait_for_function("() => counts.at(-1) >= 5")
    expect(tab.find(".step-detail").first).to_be_visible()
    # Each of them the moment that it was there, not several at once.
    assert tab.run("counts") == [1, 2, 3, 4, 5]
    tab.find("#stop").click()
    tab.wait_until_over("stopped")
    expect(tab.find(".work > summary")).to_have_text(re.compile(r"Worked .+ · 5 steps"))


def test_stopping_keeps_what_was_written_and_says_so(tab: Tab) -> None:
    tab.say("Write slowly", Turn(numbered(400), rate=40))
    tab.wait_for_words(20)
    tab.page.get_by_role("button", name="Stop").click()
    tab.wait_until_over("stopped")
    expect(tab.find(".stop-note")).to_have_text("Stopped by you.")
    kept = tab.words()
    assert f"{numbered(400)} ".startswith(f"{kept} ")
    assert len(kept.split()) > 20
    tab.check_never_took_back()
    tab.reload()
    assert tab.words() == kept
    tab.say("And now?", Turn("Here I am."))
    tab.wait_until_over()
    assert tab.words() == "Here I am."


def test_a_reload_in_the_middle_ends_in_the_same_text(tab: Tab) -> None:
    tab.say("Tell me a lot", Turn(numbered(150), rate=50))
    tab.wait_for_words(50)
    tab.reload()
    tab.wait_until_over()
    assert tab.words() == numbered(150)
    tab.check_never_took_back()


def test_a_wrong_password_is_refused_with_a_sentence(stranger: Callable[..., Tab], sessions: object) -> None:
    tab = stranger().go("/accounts/login/")
    tab.find("[name=login]").fill("nobody")
    tab.find("[name=password]").fill("not-this-one")
    tab.page.get_by_role("button", name="Log in").click()
    expect(tab.find("[role=alert]")).to_be_visible()
    expect(tab.find("[name=login]")).to_have_value("nobody")
