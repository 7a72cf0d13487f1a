"""A conversation longer than its model can read: a line says that earlier messages were summarised, and unfolds."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.browser.tab import Tab, difference
from tests.chaos.site import Site

pytestmark = pytest.mark.browser

#: The demonstration for one person alone, as if it read little.
AGENT = """
from executor.models import Agent
from users.models import User
Agent.objects.create(
    name="short-{name}", title="Short", provider="demo", owner=User.objects.get(username="{name}"),
    parameters={{"context_window": 1000, "pause": 0}}, functions=[],
)
"""
STORY = "Hello number {number}. " + "The tide comes and goes twice a day. " * 40


def test_a_line_says_that_earlier_messages_were_summarised_and_unfolds(tab: Tab, site: Site) -> None:
    site.python(AGENT.format(name=tab.name))
    for number in range(4):
        tab.say(STORY.format(number=number), agent=f"short-{tab.name}")
        tab.wait_until_over()
    line = tab.find(".summarised details").last
    expect(line).to_have_count(1)
    expect(line.locator("summary")).to_have_text("Earlier messages were summarised")
    assert not (found := difference(live := tab.outline(), _reloaded(tab, live))), found
    words = line.get_by_text("The person asked, among other things")
    expect(words).to_be_hidden()
    line.locator("summary").focus()
    tab.page.keyboard.press("Enter")
    expect(words).to_be_visible()
    expect(line).to_contain_text("Nothing was deleted.")
    expect(tab.find(".said .bubble").first).to_contain_text("Hello number 0.")
    tab.page.set_viewport_size({"width": 390, "height": 800})
    assert tab.run("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


def _reloaded(tab: Tab, live: list[str]) -> list[str]:
    assert live
    tab.reload()
    expect(tab.find("#turns")).to_be_visible()
    return tab.outline()
