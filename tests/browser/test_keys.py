"""Keys and servers as people meet them: a key that fails, one that works, a server, an agent of one's own, a chat."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect

from tests.browser.tab import Tab
from tests.browser.test_accessibility import findings
from tests.browser.test_reach import SMALL, TOO_WIDE
from tests.chaos.site import Site
from tests.fakes.model_server import ModelServer
from tests.fakes.script import Turn

pytestmark = pytest.mark.browser

RIGHT, WRONG = "sk-canary-the-right-one-0123456789", "sk-canary-the-wrong-one-0123456789"

ALLOW = """
from django.contrib.auth.models import Permission
from users.models import User
User.objects.get(username={name!r}).user_permissions.add(Permission.objects.get(codename="add_agent"))
"""

#: What the first button “Try” sends, as arguments of fetch.
TRY = """((form) => [form.action, { method: "POST", body: new FormData(form) }])(
    document.querySelector("form[action$='/try/']"))"""


@pytest.fixture
def guarded(model_server: ModelServer) -> ModelServer:
    """The model server, which takes one key only."""
    model_server.api_key = RIGHT
    return model_server


@pytest.fixture
def keyless(site: Site, guarded: ModelServer) -> Iterator[str]:
    """An agent that needs a key of the person's own."""
    site.add_agent("needy", provider="claude", model="echo", base_url=guarded.address, parameters={})
    yield "needy"
    site.python("from executor.models import Agent; Agent.objects.filter(name='needy').update(enabled=False)")


def may_connect_anything(tab: Tab) -> Tab:
    tab.site.python(ALLOW.format(name=tab.name))
    return tab


def connect(tab: Tab, address: str, key: str) -> None:
    tab.go("/settings/servers/")
    tab.page.get_by_label("Address").fill(address)
    tab.page.get_by_label("Key", exact=True).fill(key)
    tab.page.get_by_label("Format").select_option("claude")
    tab.page.get_by_role("button", name="Connect", exact=True).click()


def test_from_a_wrong_key_to_a_chat_in_claudes_format(tab: Tab, guarded: ModelServer) -> None:
    may_connect_anything(tab)
    connect(tab, guarded.address, WRONG)
    expect(tab.find("#models .key-problem")).to_have_text("The provider answered 401: Incorrect API key provided: •••.")
    tab.page.get_by_role("link", name="To your keys").click()
    card = tab.find(".key-card").filter(has_text=guarded.address)
    expect(card.locator(".tag")).to_have_text("Failed its test")
    expect(card.locator(".key-problem")).to_contain_text("Incorrect API key provided: •••")

    card.get_by_text("Replace", exact=True).click()
    card.get_by_label("Key", exact=True).fill(RIGHT)
    card.get_by_role("button", name="Replace the key").click()
    expect(card.locator(".tag")).to_have_text("Works")
    expect(card.locator(".key-problem")).to_have_count(0)

    card.get_by_role("button", name="Models").click()
    tab.page.get_by_role("button", name="Try echo").click()
    expect(tab.find(".tried").first).to_contain_text("It answered after")
    tab.page.get_by_role("button", name="Use echo", exact=True).click()
    expect(tab.find("#toasts")).to_contain_text("The agent “echo” is ready.")
    expect(tab.find("#agent option:checked")).to_have_text("echo")
    tab.send("Good morning")
    tab.page.wait_for_url("**/c/*/")
    tab.wait_until_over()
    expect(tab.find(".answer")).to_have_text("You said: Good morning")
    assert guarded.asked[-1].path == "/v1/messages"
    assert WRONG not in tab.page.content()
    assert RIGHT not in tab.page.content()


def test_the_address_of_a_server_that_nobody_allows_is_refused(tab: Tab, guarded: ModelServer) -> None:
    tab.expects("422")
    connect(tab, guarded.address, RIGHT)
    expect(tab.find(".errorlist")).to_contain_text("127.0.0.1 is not on the public internet.")
    expect(tab.page.get_by_label("Key", exact=True)).to_have_value("")
    assert guarded.requests == []


def test_without_a_key_the_way_to_one_is_short_and_the_failed_task_goes_on(
    tab: Tab, model_server: ModelServer, keyless: str
) -> None:
    tab.go(f"/?agent={keyless}")
    card = tab.find("[data-agent=needy] .no-key")
    expect(card).to_contain_text(f"Needy probably needs a key of yours. It asks {model_server.address}.")
    tab.page.get_by_label("Agent", exact=True).select_option("demo")
    expect(card).to_be_hidden()
    tab.page.get_by_label("Agent", exact=True).select_option(keyless)
    expect(card).to_be_visible()
    tab.send("Hello")
    tab.page.wait_for_url("**/c/*/")
    tab.wait_until_over("failed")
    expect(tab.find(".failure").get_by_role("link", name="Add a key")).to_be_visible()
    expect(tab.find(".failure").get_by_role("link", name="Connect a server")).to_be_visible()
    tab.site.python(
        "from users import api_keys; from users.models import User\n"
        f"api_keys.add(User.objects.get(username={tab.name!r}), 'claude', {RIGHT!r}, {model_server.address!r})"
    )
    tab.page.get_by_role("button", name="Try again").click()
    expect(tab.find(".answer")).to_have_text("You said: Hello")


def test_a_key_is_added_and_revoked_with_the_keyboard_alone(tab: Tab) -> None:
    tab.go("/settings/keys/?for=gemini#gemini")
    tab.find("#gemini summary").focus()
    tab.page.keyboard.press("Tab")
    tab.page.keyboard.type("not a key")
    tab.expects("422")
    tab.page.keyboard.press("Enter")
    expect(tab.find("#gemini .errorlist")).to_contain_text("A key has no spaces")
    tab.site.python(
        "from users import api_keys; from users.models import User\n"
        f"api_keys.add(User.objects.get(username={tab.name!r}), 'gemini', {RIGHT!r})"
    )
    tab.go("/settings/keys/")
    tab.find(
        "#gemini summary",
    ).filter(has_text="Revoke").focus()
    tab.page.keyboard.press("Space")
    tab.page.keyboard.press("Tab")
    expect(tab.page.get_by_role("button", name="Revoke the key")).to_be_focused()
    tab.page.keyboard.press("Enter")
    expect(tab.find("#gemini .tag")).to_have_text("No key")


def test_the_keyboard_stays_at_the_card_and_escape_folds_it(tab: Tab) -> None:
    tab.site.python(
        "from users import api_keys; from users.models import User\n"
        f"api_keys.add(User.objects.get(username={tab.name!r}), 'gemini', {RIGHT!r})"
    )
    tab.go("/settings/keys/")
    revoke = tab.find("#gemini summary").filter(has_text="Revoke")
    revoke.focus()
    tab.page.keyboard.press("Space")
    tab.page.keyboard.press("Tab")
    expect(tab.page.get_by_role("button", name="Revoke the key")).to_be_focused()
    tab.page.keyboard.press("Escape")
    expect(tab.page.get_by_role("button", name="Revoke the key")).to_be_hidden()
    expect(revoke).to_be_focused()
    tab.find("#gemini").get_by_role("button", name="Test", exact=True).focus()
    tab.page.keyboard.press("Enter")
    tab.page.wait_for_url("**/settings/keys/#gemini")
    expect(tab.find("#gemini")).to_be_focused()


def test_a_page_that_looks_again_after_the_log_out_becomes_the_log_in_page(tab: Tab, guarded: ModelServer) -> None:
    may_connect_anything(tab)
    guarded.script([Turn(fault="hang")])
    connect(tab, guarded.address, RIGHT)
    tab.page.get_by_role("button", name="Try echo").click()
    expect(tab.find(".tried .mark")).to_be_visible()
    tab.page.context.clear_cookies()
    tab.page.wait_for_url("**/accounts/login/**")
    expect(tab.find(".tried")).to_have_count(0)


def test_a_model_that_is_tried_too_often_is_told_in_its_place(tab: Tab, model_server: ModelServer) -> None:
    may_connect_anything(tab)
    tab.expects("429")
    connect(tab, model_server.address, RIGHT)
    button = tab.page.get_by_role("button", name="Try echo")
    told = tab.find(".tried").first
    expect(button).to_be_visible()
    tab.run(f"async () => {{ for (let n = 0; n < 29; n++) await fetch(...{TRY}); }}")
    button.click()
    expect(told).to_have_text("That was tried too often. Wait a few minutes, then try again.")
    expect(button).to_be_focused()


def test_without_scripts_all_of_it_works_too(somebody: Callable[..., Tab], guarded: ModelServer) -> None:
    tab = may_connect_anything(somebody(java_script_enabled=False))
    connect(tab, guarded.address, RIGHT)
    expect(tab.find(".model-name").first).to_have_text("echo")
    tab.page.get_by_role("button", name="Try echo").click()
    expect(tab.find(".tried").first).to_contain_text("It answered")
    tab.go("/settings/keys/")
    card = tab.find(".key-card").filter(has_text=guarded.address)
    expect(card.locator(".tag")).to_have_text("Works")
    card.get_by_role("button", name="Test").click()
    expect(card.locator(".tag")).to_have_text("Works")


@pytest.mark.parametrize("colours", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 390])
def test_the_pages_are_for_everybody(
    somebody: Callable[..., Tab], guarded: ModelServer, colours: str, width: int
) -> None:
    phone = {"has_touch": True, "is_mobile": True} if width < 400 else {}
    tab = may_connect_anything(somebody(color_scheme=colours, viewport={"width": width, "height": 900}, **phone))
    tab.expects("422")
    guarded.script([Turn(fault="quota")])
    connect(tab, guarded.address, RIGHT)
    expect(tab.find(".model-name")).to_have_count(3)
    tab.page.get_by_role("button", name="Try stream-200-50").click()
    tab.find(".tried:not(:empty):not([hx-get])").wait_for()

    def is_fine(page: str) -> None:
        assert findings(tab) == [], page
        assert tab.run(TOO_WIDE) <= 0, page
        assert not phone or tab.run(SMALL) == [], page

    is_fine("models")
    tab.page.get_by_role("button", name="Use echo", exact=True).click()
    tab.page.wait_for_url("**/?agent=*")
    tab.go("/settings/keys/?for=gpt")
    is_fine("keys")
    tab.page.get_by_text("Revoke", exact=True).click()
    is_fine("revoking")
    tab.find("#gpt [type=password]").fill("no key")
    tab.page.get_by_role("button", name="Add and test").click()
    is_fine("refused")
    tab.go("/settings/servers/")
    is_fine("servers")
    tab.page.get_by_role("link", name="Edit").click()
    is_fine("agent")
    assert urlsplit(tab.page.url).path.startswith("/settings/agents/")
