"""What functions keep, in the browser: results that come from the cache, and facts about the person."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, expect

from tests.browser.conftest import enter
from tests.browser.tab import Tab, call, difference
from tests.browser.test_accessibility import findings
from tests.browser.test_reach import TOO_WIDE
from tests.chaos.site import Site
from tests.fakes.script import Turn

pytestmark = pytest.mark.browser

FUNCTIONS = '''
from pathlib import Path
from tools.core.function import function

@function(effect="read", cache=600)
def forecast(place: str) -> str:
    """Tell the weather.

    Args:
        place: Where.
    """
    with Path(__file__).with_suffix(".ledger").open("a") as ledger:
        ledger.write(f"{place}\\n")
    return f"Rain in {place}."
'''


def test_a_result_from_the_cache_says_so_and_a_fact_is_seen_and_deleted(
    office: Site, place: Path, open_browser: Callable[..., BrowserContext], stranger: Callable[..., Tab]
) -> None:
    context = open_browser(color_scheme="dark", viewport={"width": 390, "height": 844})
    tab = enter(office, context, stranger)
    oslo = call("forecast", place="Oslo")
    tab.say("Weather?", Turn(calls=(oslo,)), Turn("Rain."))
    tab.wait_until_over()
    tab.say("And now?", Turn(calls=(oslo, call("remember", fact="Lives in Oslo, " * 8))), Turn("Rain still."))
    tab.wait_until_over()
    assert (place / "functions" / "office.ledger").read_text() == "Oslo\n"
    live = tab.outline()
    tab.reload()
    assert not (found := difference(live, tab.outline())), found
    tab.find(".work > summary").last.click()
    kept = tab.find(".step[data-kind=tool]").first
    expect(kept.locator(".step-time")).to_have_text("from cache")
    kept.locator("summary").click()
    expect(kept).to_contain_text("an earlier call with the same arguments gave this result at")

    conversation = tab.path
    tab.go("/settings/memory/")
    expect(tab.find(".fact")).to_have_count(1)
    assert tab.run(TOO_WIDE) <= 0
    assert findings(tab) == []
    tab.find(".own-agent a").click()
    assert tab.path == conversation
    tab.page.go_back()
    tab.page.get_by_role("button", name="Switch it off").click()
    expect(tab.find("#remembering")).to_have_text("Remembering is off")
    tab.page.get_by_role("button", name="Delete “Lives in Oslo").click()
    expect(tab.find(".fact")).to_have_count(0)
    expect(tab.page.get_by_text("Deleted. No agent will find it any more.")).to_be_visible()
