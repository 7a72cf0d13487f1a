"""Declared tasks in a browser: found by a “/”, started by a form, followed by steps, tried again where they fail."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from playwright.sync_api import expect

from tests.browser.tab import Tab, difference
from tests.browser.test_accessibility import findings
from tests.fakes.model_server import ModelServer
from tests.fakes.script import Turn

pytestmark = pytest.mark.browser

PLAN = {
    "title": "Composting for beginners",
    "sections": [
        {"heading": "Why compost", "points": ["Less waste", "Soil for nothing"]},
        {"heading": "What goes in", "points": ["Green and brown", "To be filled in: amounts"]},
    ],
}
REMARKS = {
    "remarks": [
        {"about": "It is well known", "do": "Say what compost is for instead."},
        {"about": "Many things go in", "do": "Name three of each kind."},
    ]
}
DOCUMENT = (
    "# Composting for beginners\n\nA third of what we throw away could feed the garden.\n\n## Why compost\n\nIt pays."
)
PLANNED, DRAFTED = Turn(json.dumps(PLAN)), Turn("# Composting\n\nIt is well known that compost is good.")
#: Two attempts, each of which is corrected twice.
REFUSED = [Turn("I would rather not.")] * 6
READ, WRITTEN = Turn(json.dumps(REMARKS)), Turn(DOCUMENT)


def fill_in(tab: Tab) -> None:
    tab.go("/tasks/document/?agent=model")
    expect(tab.find("[name=in-outline]")).to_be_focused()
    tab.page.keyboard.insert_text("- why compost\n- what goes in")
    tab.find("[name=in-audience]").fill("people with a balcony")


def start(tab: Tab) -> None:
    fill_in(tab)
    tab.find("#start button[type=submit]").click()
    tab.page.wait_for_url("**/c/*/*")


def equals_itself_loaded_anew(tab: Tab) -> None:
    live = tab.outline()
    tab.reload()
    tab.page.wait_for_load_state()
    assert difference(live, tab.outline()) == ""


def test_a_slash_finds_a_task_and_the_keyboard_starts_it(tab: Tab, model_server: ModelServer) -> None:
    tab.go("/?agent=model")
    tab.page.wait_for_load_state()
    tab.composer.press("/")
    expect(tab.find("#task-list [role=option]:visible")).not_to_have_count(0)
    tab.photograph("tasks-offered")
    tab.page.keyboard.type("doc")
    expect(tab.find("#task-list [role=option]:visible")).to_have_count(1)
    expect(tab.composer).to_have_attribute("aria-activedescendant", "option-document")
    tab.composer.press("Escape")
    expect(tab.find("#task-list")).to_be_hidden()
    expect(tab.composer).to_have_value("/doc")
    tab.page.keyboard.type("u")
    tab.composer.press("Enter")
    tab.page.wait_for_url("**/tasks/document/*")
    expect(tab.find("[name=in-outline]")).to_be_focused()
    tab.page.keyboard.type("why compost")
    model_server.script([PLANNED, DRAFTED, READ, WRITTEN])
    tab.find("#start button[type=submit]").press("Enter")
    tab.wait_until_over()
    expect(tab.answer.locator("h1")).to_have_text("Composting for beginners")
    tab.go("/")
    expect(tab.composer).to_have_value("")


def test_a_task_is_chosen_from_the_list_by_touch(somebody: Callable[..., Tab], model_server: ModelServer) -> None:
    tab = somebody(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    options = tab.find("#task-list [role=option]:visible")
    tab.go("/?agent=model")
    tab.page.wait_for_load_state()
    tab.composer.tap()
    tab.page.keyboard.insert_text("/")
    expect(options).not_to_have_count(0)
    tab.find("h1").tap()  # Beside it.
    expect(tab.find("#task-list")).to_be_hidden()
    expect(tab.composer).to_have_value("/")
    tab.composer.tap()
    tab.page.keyboard.insert_text("document")
    expect(options).to_have_count(1)
    options.tap()
    tab.page.wait_for_url("**/tasks/document/*")
    tab.find("[name=in-outline]").fill("why compost")
    model_server.script([PLANNED, DRAFTED, READ, WRITTEN])
    tab.find("#start button[type=submit]").tap()
    tab.wait_until_over()

    # Below a conversation the list opens upwards, and a finger reaches all of it.
    tab.composer.tap()
    tab.page.keyboard.insert_text("/")
    expect(options).not_to_have_count(0)
    for option in options.all():
        expect(option).to_be_in_viewport(ratio=1)
        box = option.bounding_box()
        assert box is not None
        assert box["height"] >= 44
    options.filter(has_text="Document from an outline").tap()
    tab.page.wait_for_url("**/tasks/document/*conversation=*")
    tab.page.go_back()
    expect(tab.composer).to_have_value("")


def test_what_is_no_task_is_a_message(tab: Tab, model_server: ModelServer) -> None:
    tab.go("/?agent=model")
    model_server.script([Turn("Hello.")])
    tab.send("/etc is full")
    tab.wait_until_over()
    assert tab.find("#turns .bubble").text_content() == "/etc is full"


def test_each_step_shows_what_it_gave_and_looks_alike_when_loaded_anew(tab: Tab, model_server: ModelServer) -> None:
    held = Turn(" ".join(f"word{number}" for number in range(60)), rate=20)
    model_server.script([PLANNED, held, replace(READ, first_token=3), WRITTEN])
    fill_in(tab)
    tab.photograph("task-form")
    tab.find("#start button[type=submit]").click()
    expect(tab.find(".progress label")).to_have_text("1 of 4 · Write a draft")
    tab.find(".part[data-state=done] summary").click()
    expect(tab.find(".part .output dd").first).to_have_text("Composting for beginners")
    expect(tab.find(".drafted")).to_contain_text("word3")
    tab.photograph("task-progress")
    expect(tab.find(".part[data-state=done]")).to_have_count(2)
    expect(tab.find(".part-body").first).to_have_attribute("open", "")
    tab.wait_until_over()
    assert tab.check_never_took_back()
    equals_itself_loaded_anew(tab)
    tab.find(".work > summary").click()
    expect(tab.find(".work .part")).to_have_count(4)
    tab.find(".part-body > summary").nth(2).click()
    expect(tab.find(".part .output td").first).to_have_text("It is well known")
    tab.photograph("task-done")


def test_a_failed_step_is_tried_again_where_it_failed(tab: Tab, model_server: ModelServer) -> None:
    model_server.script([PLANNED, DRAFTED, *REFUSED])
    start(tab)
    tab.wait_until_over("failed")
    expect(tab.find(".part[data-state=failed] .part-name")).to_have_text("Read it critically")
    expect(tab.find(".failure .button")).to_have_text("Try again from “Read it critically”")
    tab.find(".part[data-state=done] summary").nth(1).click()
    tab.photograph("task-failed")
    model_server.script([READ, WRITTEN])
    tab.find(".failure .button").click()
    tab.wait_until_over()
    expect(tab.answer.locator("h1")).to_have_text("Composting for beginners")
    equals_itself_loaded_anew(tab)


def test_what_a_step_gave_is_changed_and_the_steps_after_it_go_on_from_that(
    tab: Tab, model_server: ModelServer
) -> None:
    tab.expects("422")
    model_server.script([PLANNED, DRAFTED, READ, WRITTEN])
    start(tab)
    tab.wait_until_over()
    tab.page.get_by_role("link", name="What it did, step by step").click()
    tab.page.wait_for_url("**/t/*/")
    first = tab.find(".line-step").first
    first.get_by_text("Change the result").click()
    expect(first.locator("[name=argument-title]")).to_have_value("Composting for beginners")
    first.locator("[name=argument-title]").fill("Composting in a flat")
    sections = first.locator("[name=argument-sections]").input_value()
    first.locator("[name=argument-sections]").fill("[")
    first.get_by_role("button", name="Go on with this").click()
    expect(tab.find(".decision-error")).to_contain_text("Sections: write JSON")
    expect(first.locator("[name=argument-title]")).to_have_value("Composting in a flat")
    expect(tab.find(".decision-error")).to_be_in_viewport()
    tab.photograph("task-fork")
    first.locator("[name=argument-sections]").fill(sections)
    flat = Turn("# Composting in a flat\n\nWorms do it under the sink.")
    model_server.script([DRAFTED, READ, replace(flat, rate=20)])
    first.get_by_role("button", name="Go on with this").click()
    tab.page.wait_for_url(re.compile("/c/.*#turn-"))
    tab.wait_until_over()
    expect(tab.find(".variants")).to_contain_text("2/2")
    expect(tab.answer.locator("h1")).to_have_text("Composting in a flat")
    equals_itself_loaded_anew(tab)
    tab.page.get_by_role("link", name="What it did, step by step").click()
    expect(tab.find(".line-step").first).to_contain_text("Result changed")


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_it_is_accessible_and_fits_a_phone(
    colours: str, somebody: Callable[..., Tab], model_server: ModelServer
) -> None:
    tab = somebody(viewport={"width": 390, "height": 844}, color_scheme=colours, has_touch=True)
    tab.go("/?agent=model")
    tab.page.wait_for_load_state()
    tab.composer.press("/")
    expect(tab.find("#task-list [role=option]:visible")).not_to_have_count(0)
    assert findings(tab) == []
    tab.go("/tasks/")
    assert findings(tab) == []
    model_server.script([PLANNED, DRAFTED, *REFUSED])
    fill_in(tab)
    assert findings(tab) == []
    tab.find("#start button[type=submit]").tap()
    tab.wait_until_over("failed")
    for at in range(2):
        tab.find(".part[data-state=done] summary").nth(at).tap()
    assert findings(tab) == []
    assert tab.run("document.documentElement.scrollWidth") <= 390
    if colours == "dark":
        tab.photograph("task-failed-phone")
    tab.go(f"/t/{tab.last_task()}/")
    tab.find(".line-step").first.get_by_text("Change the result").tap()
    expect(tab.find("[name=argument-title]")).to_be_visible()
    assert findings(tab) == []
    assert tab.run("document.documentElement.scrollWidth") <= 390
