"""Code cells in a real browser, with code that really runs: output as it comes, an edited cell, all cells again."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Locator, expect

from tests.agentsite.conftest import eventually
from tests.browser.tab import PATIENCE, Tab, call, difference
from tests.browser.test_accessibility import findings
from tests.fakes.script import Call, Turn

pytestmark = pytest.mark.browser

SLOWLY = r"""\
import time
for number in range(60):
    print(f"line {number}\n\n    indented", flush=True)
    time.sleep(0.1)
"""
DRAW = """\
import matplotlib.pyplot as plt
figure, axes = plt.subplots(figsize=(6, 3))
axes.bar(["Apples", "Pears", "Plums"], [base, 2 * base, base + 4])
axes.set_title("Fruit, and a rather long line of code that has to go somewhere on a phone: wrapped or scrolled")
plt.show()
base
"""


def code(text: str) -> Call:
    return call("run_python", code=text)


def is_true(tab: Tab) -> None:
    """The page is as one that is loaded anew."""
    live = tab.outline()
    tab.reload()
    assert not difference(live, tab.outline())


def at_end(output: Locator) -> bool:
    return bool(output.evaluate("pre => pre.scrollHeight - pre.scrollTop - pre.clientHeight < 24"))


def test_output_is_followed_to_its_end_until_the_person_scrolls_up(tab: Tab) -> None:
    tab.say("Count", Turn(calls=(code(SLOWLY),)), Turn("Counted.", rate=40))
    output = tab.find(".cell-output")
    expect(output).to_contain_text("line 20\n", timeout=PATIENCE)
    expect(output).to_be_visible()  # Nobody opened it.
    assert output.evaluate("pre => pre.scrollHeight > pre.clientHeight")
    assert at_end(output)
    output.hover()
    tab.page.mouse.wheel(0, -200)
    expect(output).to_contain_text("line 35\n")
    assert not at_end(output)
    everything = "".join(f"line {number}\n\n    indented\n" for number in range(60))
    assert everything.startswith(output.text_content() or "?")
    for _ in range(2):  # What came in between, if anything did, is below the end of the first time.
        output.evaluate("pre => { pre.scrollTop = pre.scrollHeight; return new Promise(requestAnimationFrame); }")
    expect(output).to_contain_text("line 50\n")
    eventually(lambda: at_end(output), "the end is followed again")
    tab.wait_until_over()
    expect(output).to_have_count(0)  # It folds with the other steps.
    is_true(tab)


def test_a_cell_is_edited_and_run_again_by_keyboard(tab: Tab) -> None:
    tab.say(
        "Draw",
        Turn(calls=(code("base = 3\nprint('base is', base)"),)),
        Turn(calls=(code("bace + 1"),)),
        Turn("I mistyped.", calls=(code(DRAW),)),
        Turn("Drawn.", rate=40),
    )
    tab.wait_until_over()
    expect(tab.find(".task > .files img")).to_have_count(1)
    tab.find(".work > summary").click()
    cells = tab.find(".cell")
    expect(cells).to_have_count(3)
    for line in tab.find(".step:has(.cell) > .step-body > summary").all():
        line.click()
    expect(cells.nth(0).locator(".cell-output")).to_have_text("base is 3\n")
    expect(cells.nth(1).locator(".cell-error")).to_contain_text("NameError")
    expect(cells.nth(2).locator("img")).to_have_count(1)
    expect(cells.nth(0).get_by_role("button", name="Copy this code")).to_be_visible()

    edit = cells.nth(0).get_by_text("Edit and run again")
    edit.focus()
    tab.page.keyboard.press("Enter")
    field = cells.nth(0).get_by_label("Code", exact=True)
    expect(field).to_be_focused()
    field.fill("")
    tab.page.keyboard.type("kept = 1")
    tab.page.keyboard.press("Escape")
    expect(field).not_to_be_visible()
    tab.page.keyboard.press("Enter")
    expect(field).to_have_value("kept = 1")
    field.fill(" ")
    tab.page.keyboard.press("Control+Enter")
    tab.expects("422", "status of 422")
    expect(cells.nth(0).get_by_role("alert")).to_have_text("There is no code to run.")
    expect(field).to_have_value(" ")
    field.fill("base = 5\nprint('base is', base)")
    tab.page.keyboard.press("Control+Enter")
    expect(tab.find(".variants")).to_contain_text("2/2", timeout=PATIENCE)
    tab.wait_until_over()
    is_true(tab)
    tab.find(".work > summary").click()
    tab.find(".step-body > summary").first.click()
    expect(tab.find(".cell").first.locator(".cell-output")).to_have_text("base is 5\n")


def test_all_cells_run_again_as_one(tab: Tab) -> None:
    tab.say(
        "Add",
        Turn(calls=(code("a = 20\nprint('twenty')"),)),
        Turn(calls=(code("a + 22"),)),
        Turn("42.", rate=40),
    )
    tab.wait_until_over()
    tab.find(".work > summary").click()
    tab.page.get_by_role("button", name="Run all again").click()
    expect(tab.find(".variants")).to_contain_text("2/2", timeout=PATIENCE)
    tab.wait_until_over()
    is_true(tab)
    tab.find(".foot").get_by_role("link", name="What it did, step by step").click()
    first = tab.find(".cell").first
    expect(first.locator("code")).to_contain_text("# cell 2\na + 22")
    expect(first.locator(".cell-output")).to_have_text("twenty\n42\n")
    expect(first.get_by_text("What the model read of it")).to_be_visible()


def test_a_cell_fits_a_phone_in_the_dark(somebody: Callable[..., Tab]) -> None:
    tab = somebody(viewport={"width": 390, "height": 844}, color_scheme="dark")
    tab.say(
        "Draw",
        Turn(
            calls=(
                code("base = 3\nprint('base is', base, 'and this is a line that is longer than the screen is wide')"),
            )
        ),
        Turn(calls=(code("bace + 1"),)),
        Turn(calls=(code(DRAW),)),
        Turn("Drawn.", rate=40),
    )
    tab.wait_until_over()
    tab.find(".work > summary").click()
    cells = tab.find(".cell")
    expect(cells).to_have_count(3)
    for line in tab.find(".step:has(.cell) > .step-body > summary").all():
        line.click()
    assert tab.run("document.scrollingElement.scrollWidth") <= 390
    for part in (cells.nth(0).locator(".cell-output"), cells.nth(2).locator("pre.highlight")):
        assert part.evaluate("pre => pre.scrollWidth <= pre.clientWidth")
    cells.nth(1).get_by_text("Edit and run again").click()
    assert tab.run("document.scrollingElement.scrollWidth") <= 390


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_axe_finds_nothing_in_cells(colours: str, somebody: Callable[..., Tab]) -> None:
    tab = somebody(color_scheme=colours)
    tab.say("Add", Turn(calls=(code("a = 20\nprint(a)"),)), Turn(calls=(code("b + 22"),)), Turn("42.", rate=40))
    tab.wait_until_over()
    tab.find(".work > summary").click()
    expect(tab.find(".cell")).to_have_count(2)
    for line in tab.find(".step:has(.cell) > .step-body > summary").all():
        line.click()
    tab.find(".cell-edit > summary").last.click()
    expect(tab.find(".cell-error")).to_be_visible()
    assert findings(tab) == []
    tab.find(".foot").get_by_role("link", name="What it did, step by step").click()
    tab.find(".cell-edit > summary").last.click()
    assert findings(tab) == []
