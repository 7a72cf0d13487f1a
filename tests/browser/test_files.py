"""Files in a browser: attached in every way, shown with their progress, sent once, kept as drafts, deleted."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Route, expect

from tests.browser.tab import Tab, difference, scripted
from tests.browser.test_accessibility import findings
from tests.executor.test_files import picture
from tests.fakes.model_server import ModelServer
from tests.fakes.script import Turn

pytestmark = pytest.mark.browser

HELLO = Turn("There are two cities.")
CSV = b"city,people\nVienna,2000000\nGraz,300000\n"
# What a person drops or pastes, as the page is told of it.
BRING = """([kind, name, type, text]) => {
  const data = new DataTransfer();
  data.items.add(new File([text], name, { type }));
  const target = document.getElementById("text");
  const options = { bubbles: true, cancelable: true };
  if (kind === "paste") target.dispatchEvent(new ClipboardEvent("paste", { ...options, clipboardData: data }));
  else for (const step of ["dragover", "drop"])
    target.dispatchEvent(new DragEvent(step, { ...options, dataTransfer: data }));
}"""


def choose(tab: Tab, *files: tuple[str, bytes]) -> None:
    brought: list[Any] = [{"name": name, "mimeType": "text/plain", "buffer": body} for name, body in files]
    tab.page.wait_for_load_state()
    tab.find("#attach").set_input_files(brought)


def chips(tab: Tab) -> list[str]:
    return tab.find("#chips .chip .ellipsis").all_text_contents()


def begin(tab: Tab) -> Tab:
    tab.say("First", Turn("Hello."))
    tab.wait_until_over()
    return tab


def test_what_is_attached_survives_a_reload_and_goes_with_the_message(tab: Tab, model_server: ModelServer) -> None:
    begin(tab)
    choose(tab, ("cities.csv", CSV), ("note.txt", b"Hello"))
    expect(tab.find("#chips input[name=file]")).to_have_count(2)
    tab.reload()
    assert chips(tab) == ["cities.csv", "note.txt"]
    tab.find("#chips .chip button").nth(1).focus()
    tab.page.keyboard.press("Enter")
    expect(tab.find("#chips .chip")).to_have_count(1)
    tab.send(scripted("How many cities?", HELLO))
    expect(tab.tasks).to_have_count(2)
    expect(tab.find("#chips .chip")).to_have_count(0)
    tab.wait_until_over()
    expect(tab.find("#turns .sent").last).to_contain_text("cities.csv")
    [question] = [request for request in model_server.asked if "How many cities?" in str(request.body)]
    told = question.body["messages"][-1]["content"]
    assert "[attached file: cities.csv (text/csv)]\n39 bytes. A table with 2 rows" in told
    live = tab.outline()
    tab.reload()
    assert live == tab.outline(), difference(live, tab.outline())
    assert chips(tab) == []


def test_the_first_message_brings_files_too(tab: Tab) -> None:
    tab.go("/?agent=model")
    choose(tab, ("cities.csv", CSV))
    expect(tab.find("#chips input[name=file]")).to_have_count(1)
    tab.send(scripted("How many cities?", HELLO))
    tab.page.wait_for_url("**/c/*/")
    tab.wait_until_over()
    expect(tab.find("#turns .sent")).to_contain_text("cities.csv")
    tab.go("/")
    assert chips(tab) == []


@pytest.mark.parametrize("way", ["paste", "drop"])
def test_files_are_pasted_and_dropped(tab: Tab, way: str) -> None:
    begin(tab)
    tab.run(BRING, [way, "cities.csv", "text/csv", CSV.decode()])
    expect(tab.find("#chips input[name=file]")).to_have_count(1)
    assert chips(tab) == ["cities.csv"]


def test_a_message_waits_for_its_files(tab: Tab) -> None:
    begin(tab)
    held: list[Route] = []
    tab.page.route(re.compile("/upload/"), lambda route: held.append(route))
    choose(tab, ("cities.csv", CSV))
    expect(tab.find("#chips progress")).to_have_count(1)
    tab.send(scripted("How many cities?", HELLO))
    expect(tab.find("#announcer")).to_have_text("It is sent when the files have arrived.")
    assert tab.tasks.count() == 1
    held[0].continue_()
    expect(tab.tasks).to_have_count(2)
    tab.wait_until_over()
    expect(tab.find("#turns .sent").last).to_contain_text("cities.csv")
    expect(tab.composer).to_have_value("")


def test_what_is_refused_is_told_and_leaves_nothing_behind(tab: Tab) -> None:
    begin(tab)
    tab.expects("status 422", "422")
    choose(tab, ("program", b"\x7fELF\0\0"), ("cities.csv", CSV))
    expect(tab.find("#composer-error")).to_contain_text("“program” is of a kind that cannot be used here.")
    expect(tab.find("#chips input[name=file]")).to_have_count(1)
    assert chips(tab) == ["cities.csv"]
    tab.reload()
    assert chips(tab) == ["cities.csv"]


def test_a_message_that_fails_comes_back_with_its_files(tab: Tab) -> None:
    begin(tab)
    choose(tab, ("cities.csv", CSV))
    expect(tab.find("#chips input[name=file]")).to_have_count(1)
    tab.expects("status 500", "500")
    tab.page.route("**/send/", lambda route: route.fulfill(status=500, body=""))
    tab.send("How many?")
    expect(tab.find("#composer-error")).to_contain_text("Your text is kept")
    expect(tab.composer).to_have_value("How many?")
    assert chips(tab) == ["cities.csv"]


@pytest.mark.parametrize("look", ["desktop", "phone", "dark"])
def test_files_fit_on_every_page(
    somebody: Callable[..., Tab], model_server: ModelServer, tmp_path: Path, look: str
) -> None:
    options: dict[str, dict[str, Any]] = {
        "desktop": {},
        "phone": {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True},
        "dark": {"color_scheme": "dark"},
    }
    tab = somebody(**options[look])
    tab.go("/?agent=model")
    choose(tab, ("a picture with a long name of its own.png", picture(300, 200)), ("cities.csv", CSV), ("n.txt", b"x"))
    expect(tab.find("#chips input[name=file]")).to_have_count(3)
    folder = Path(os.environ.get("LOOK", tmp_path))
    tab.page.screenshot(path=folder / f"chips-{look}.png")
    assert findings(tab) == []
    tab.composer.fill("How many cities?")
    model_server.script([HELLO])
    tab.find(".send").click()
    tab.page.wait_for_url("**/c/*/")
    tab.wait_until_over()
    tab.page.screenshot(path=folder / f"sent-{look}.png")
    assert findings(tab) == []
    assert tab.run("() => document.documentElement.scrollWidth <= innerWidth")
    tab.go(f"{tab.path}files/")
    expect(tab.find(".gallery-list > li")).to_have_count(3)
    assert tab.run("() => document.documentElement.scrollWidth <= innerWidth")
    tab.page.screenshot(path=folder / f"gallery-{look}.png", full_page=True)
    assert findings(tab) == []
    tab.find(".confirm summary").first.press("Enter")
    tab.find(".confirm[open] button").press("Enter")
    expect(tab.find(".gallery-list > li")).to_have_count(2)
