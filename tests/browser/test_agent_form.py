"""The form of an agent in admin: the settings of the chosen provider, at once or, without a script, once it is sent."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from tests.browser.tab import Tab
from tests.chaos.site import Site

pytestmark = pytest.mark.browser

ADD = "/admin/executor/agent/add/"


@pytest.fixture
def administrator(somebody: Callable[..., Tab], site: Site) -> Callable[..., Tab]:
    def administrator(**options: object) -> Tab:
        tab = somebody(**options)
        site.python(
            "from users.models import User; "
            f"User.objects.filter(username={tab.name!r}).update(is_staff=True, is_superuser=True)"
        )
        return tab

    return administrator


def test_shows_the_settings_of_the_provider_that_is_chosen_at_once(administrator: Callable[..., Tab]) -> None:
    page = administrator().go(ADD).page
    effort = {provider: page.locator(f"#id_parameter-{provider}-effort") for provider in ("gpt", "claude")}
    expect(effort["gpt"]).to_be_hidden()
    page.select_option("#id_provider", "gpt")
    expect(effort["gpt"]).to_be_visible()
    expect(effort["claude"]).to_be_hidden()
    effort["gpt"].select_option("low")
    page.select_option("#id_provider", "claude")
    expect(effort["gpt"]).to_be_hidden()
    expect(effort["claude"]).to_be_visible()
    expect(page.locator("#id_model")).to_have_attribute("list", "models-claude")
    page.select_option("#id_provider", "gpt")
    expect(effort["gpt"]).to_have_value("low")


def test_without_javascript_shows_those_of_the_provider_that_was_sent(administrator: Callable[..., Tab]) -> None:
    tab = administrator(java_script_enabled=False).go(ADD)
    page = tab.page
    page.fill("#id_name", "without-script")
    page.fill("#id_title", "Without")
    page.select_option("#id_provider", "gemini")
    page.click("[name=_continue]")
    level = page.locator("#id_parameter-gemini-thinking_level")
    expect(page.get_by_text("Is missing: give the name of a model")).to_be_visible()
    expect(level).to_be_visible()
    expect(page.locator("#id_parameter-gpt-effort")).to_be_hidden()
    page.fill("#id_model", "gemini-3.8-flash")
    level.select_option("low")
    page.uncheck("#id_enabled")
    page.click("[name=_continue]")
    expect(page.locator("#id_parameter-gemini-thinking_level")).to_have_value("low")
