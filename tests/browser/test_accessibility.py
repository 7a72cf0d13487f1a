"""axe-core finds nothing on any page, in the light and in the dark."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.browser.tab import Tab, call
from tests.fakes.model_server import ModelServer
from tests.fakes.script import Turn

pytestmark = pytest.mark.browser

AXE = files("axe_playwright_python").joinpath("axe.min.js").read_text()
TEXT = """# Heading

Some `code`, **bold**, a [link](https://example.org).

| a | b |
|---|---|
| 1 | 2 |

```python
print("hello")  # said
```

> quoted

$a^2$"""


def findings(tab: Tab) -> list[str]:
    """What axe-core objects to on the page as it stands, a line each."""
    tab.page.wait_for_timeout(300)  # Colours fade in.
    tab.run(AXE)
    found: dict[str, Any] = tab.run("async () => axe.run(document, { resultTypes: ['violations'] })")
    return [
        f"{violation['id']} ({violation['impact']}): {node['target']} {node['html'][:150]} {node.get('failureSummary')}"
        for violation in found["violations"]
        for node in violation["nodes"]
    ]


@pytest.fixture(params=["light", "dark"])
def colours(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_pages_of_strangers(colours: str, stranger: Callable[..., Tab]) -> None:
    tab = stranger(color_scheme=colours)
    for path in ("/accounts/login/", "/accounts/signup/", "/accounts/password/reset/"):
        tab.go(path)
        assert findings(tab) == [], path
    tab.find("h1").wait_for()
    tab.go("/accounts/login/")
    tab.find("[name=login]").fill("nobody")
    tab.find("[name=password]").fill("not-this-one")
    tab.page.get_by_role("button", name="Log in").click()
    expect(tab.find("[role=alert]")).to_be_visible()
    assert findings(tab) == []


def test_pages_of_a_person(colours: str, somebody: Callable[..., Tab], model_server: ModelServer) -> None:
    tab = somebody(color_scheme=colours)
    tab.go("/")
    assert findings(tab) == [], "home"
    chart = call("draw_chart", kind="bar", title="Fruit", labels=["apples", "pears"], values=[3, 5])
    model_server.script(
        [
            Turn("I count.", reasoning="Let me see.", calls=(chart, call("calculate", expression="1 / 0"))),
            Turn(TEXT),
            Turn(fault="401"),
            Turn("Some words. More words. And more.", fault="stall", after=4),
        ]
    )
    tab.say("Begin")
    tab.wait_until_over()
    tab.find(".work > summary").click()
    expect(tab.find(".step")).to_have_count(3)
    for summary in tab.find(".step summary").all():
        summary.click()
    assert findings(tab) == [], "steps"
    task = tab.last_task()
    tab.send("Fail")
    expect(tab.tasks).to_have_count(2)
    tab.wait_until_over("failed")
    tab.send("Hang")
    expect(tab.answer).to_contain_text("words")
    assert findings(tab) == [], "at work"
    tab.find("#stop").click()
    tab.wait_until_over("stopped")
    tab.find(".conversation").hover()
    tab.page.get_by_role("button", name="Options of").click()
    assert findings(tab) == [], "menu"
    tab.page.keyboard.press("Escape")
    tab.page.keyboard.press("Control+k")
    tab.page.keyboard.type("begin")
    expect(tab.find("#search a.result")).to_have_count(1)
    assert findings(tab) == [], "search dialog"
    for path in (
        f"/t/{task}/",
        "/search/?q=begin",
        "/accounts/settings/",
        "/settings/memory/",
        "/accounts/password/change/",
    ):
        tab.go(path)
        assert findings(tab) == [], path
    tab.expects("404")
    tab.go("/nowhere/")
    assert findings(tab) == [], "not found"
