"""For everybody: with a keyboard alone, on a phone, without JavaScript."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from tests.browser.tab import Tab, call
from tests.chaos.site import PASSWORD
from tests.fakes.model_server import ModelServer
from tests.fakes.script import Turn

pytestmark = pytest.mark.browser

PHONE = {"has_touch": True, "is_mobile": True, "viewport": {"width": 390, "height": 844}}
HELLO = Turn("Hello.")

# Names the element that has the focus, and whether it looks different without: itself, or the frame it stands in.
FOCUS = """async () => {
  const element = document.activeElement;
  const name = element.getAttribute("aria-label") || element.textContent.trim() || element.name || element.id;
  const places = [element, element.closest(".composer, .search-field")].filter(Boolean);
  const look = () => places.map((place) => {
    const { outlineStyle, outlineWidth, borderColor, boxShadow } = getComputedStyle(place);
    return [outlineStyle, outlineWidth, borderColor, boxShadow].join();
  }).join();
  const focused = look();
  element.blur();
  let seen = look() !== focused;
  if (!seen) {
    await new Promise((done) => setTimeout(done, 300)); // Colours fade.
    seen = look() !== focused;
  }
  element.focus({ preventScroll: true });
  return { name, tag: element.localName, seen };
}"""

# Everything a finger may want to hit that is smaller than it. Links within a sentence are read, not hit.
SMALL = """() => [...document.querySelectorAll("a, button, select, summary, input:not([type=hidden]), textarea")]
  .filter((element) => element.checkVisibility({ visibilityProperty: true }) && !element.closest(".sr-only, .skip"))
  .filter((element) => !element.matches(".skip, p a, .markdown a, [type=checkbox]"))
  .map((element) => ({ element, box: element.getBoundingClientRect() }))
  .filter(({ box }) => box.width && (box.height < 43.5 || box.width < 43.5))
  .map(({ element, box }) => {
    const name = element.getAttribute("aria-label") || element.textContent.trim() || element.name;
    return `${element.localName} “${name.slice(0, 40)}” ${Math.round(box.width)}×${Math.round(box.height)}`;
  })"""
TOO_WIDE = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


def tab_to(tab: Tab, name: str, most: int = 40) -> None:
    """Press Tab until the element called `name` has the focus; each stop on the way must be visible."""
    for _ in range(most):
        tab.page.keyboard.press("Tab")
        focus = tab.run(FOCUS)
        assert focus["seen"] or focus["tag"] in ("body", "html"), focus
        if name in focus["name"]:
            return
    raise AssertionError(f"{name} is not reached by Tab")


# --- keyboard --------------------------------------------------------------------------------------------------------


def test_the_whole_journey_goes_with_the_keyboard_alone(tab: Tab) -> None:
    keyboard = tab.page.keyboard
    tab.go("/?agent=demo")
    expect(tab.composer).to_be_focused()
    tab_to(tab, "Analyse a text")
    keyboard.press("Enter")
    tab.page.wait_for_url("**/c/*/")
    tab.wait_until_over()
    keyboard.press("Shift+Escape")
    expect(tab.composer).to_be_focused()
    keyboard.type("Make it a pie chart")
    keyboard.press("Enter")
    expect(tab.tasks).to_have_count(2)
    tab.wait_until_over()
    # Steps open and close.
    tab.find("#main").focus()
    tab_to(tab, "Worked")
    keyboard.press("Enter")
    expect(tab.find(".step").first).to_be_visible()
    tab_to(tab, "Text statistics")
    keyboard.press("Enter")
    expect(tab.find(".step-detail").first).to_be_visible()
    # Shortcuts: the list of them, search, new chat, the sidebar.
    keyboard.press("Control+/")
    expect(tab.find("#shortcuts")).to_be_visible()
    keyboard.press("Escape")
    expect(tab.find("#shortcuts")).to_be_hidden()
    keyboard.press("Control+Shift+s")
    expect(tab.find("#sidebar")).to_be_hidden()
    keyboard.press("Control+Shift+s")
    expect(tab.find("#sidebar")).to_be_visible()
    keyboard.press("Control+k")
    keyboard.type("statistics")
    expect(tab.find("#search a.result")).to_have_count(1)
    keyboard.press("ArrowDown")
    with tab.page.expect_navigation():
        keyboard.press("Enter")
    with tab.page.expect_navigation(url=tab.site.address + "/"):
        keyboard.press("Control+Shift+o")
    # Rename by the menu.
    tab_to(tab, "Options of")
    keyboard.press("Enter")
    expect(tab.page.get_by_role("menuitem", name="Rename")).to_be_focused()
    keyboard.press("Enter")
    keyboard.type("Foxes")
    keyboard.press("Enter")
    expect(tab.find(".conversation a")).to_have_text("Foxes")
    expect(tab.find(".conversation a")).to_be_focused()


def test_the_first_tab_stop_skips_to_the_content(tab: Tab) -> None:
    tab.say("Hello", HELLO)
    tab.wait_until_over()
    tab.reload()
    tab.page.keyboard.press("Tab")
    skip = tab.find(".skip")
    expect(skip).to_be_focused()
    expect(skip).to_be_in_viewport()
    tab.page.keyboard.press("Enter")
    expect(tab.find("#main")).to_be_focused()


# --- phone -----------------------------------------------------------------------------------------------------------


def test_on_a_phone_nothing_is_too_wide_or_too_small(somebody: Callable[..., Tab], model_server: ModelServer) -> None:
    tab = somebody(**PHONE)
    table = "| " + " | ".join("A long heading" for _ in range(12)) + " |\n|" + "---|" * 12 + "\n" + "| cell " * 12 + "|"
    code = "```python\nprint('" + "x" * 300 + "')\n```"
    model_server.script(
        [
            Turn(
                "First I count.", calls=(call("text_statistics", text="a fox"), call("calculate", expression="1 / 0"))
            ),
            Turn(f"{'Donaudampfschiff' * 20}\n\n{table}\n\n{code}\n\n$$\\sum_{{i=1}}^{{n}} i = {'x + ' * 40} y$$"),
        ]
    )
    tab.go("/?agent=model")
    tab.composer.fill("A message with Donaudampfschifffahrtsgesellschaft " + "x" * 100)
    tab.page.get_by_role("button", name="Send").tap()
    tab.page.wait_for_url("**/c/*/")
    tab.wait_until_over()
    tab.find(".work > summary").tap()
    tab.find(".step summary").first.tap()
    expect(tab.find(".step-detail").first).to_be_visible()
    assert tab.run(TOO_WIDE) <= 0
    assert tab.run(SMALL) == []
    for path in ("/", "/search/?q=first", "/accounts/settings/", f"/t/{tab.last_task()}/"):
        tab.go(path)
        assert tab.run(TOO_WIDE) <= 0, path
        assert tab.run(SMALL) == [], path


def test_on_a_phone_the_conversations_are_in_a_drawer(somebody: Callable[..., Tab], model_server: ModelServer) -> None:
    tab = somebody(**PHONE)
    model_server.script([HELLO])
    tab.go("/?agent=model")
    tab.composer.fill("Hello")
    tab.page.get_by_role("button", name="Send").tap()
    tab.page.wait_for_url("**/c/*/")
    expect(tab.find("#sidebar")).to_be_hidden()
    tab.page.get_by_role("button", name="Conversations").tap()
    expect(tab.find("#sidebar")).to_be_visible()
    assert tab.run(SMALL) == []
    tab.page.touchscreen.tap(380, 400)
    expect(tab.find("#sidebar")).to_be_hidden()
    tab.page.get_by_role("button", name="Conversations").tap()
    tab.find("#sidebar").get_by_role("link", name="New chat").tap()
    tab.page.wait_for_url(tab.site.address + "/")


# --- administration --------------------------------------------------------------------------------------------------


def test_the_lists_of_administration_fit_a_desk_and_their_page_a_phone(tab: Tab) -> None:
    tab.site.python(f"""
from executor.models import Agent
from users.models import User
User.objects.filter(username={tab.name!r}).update(is_staff=True, is_superuser=True, username="a-name-of-20-letters")
Agent.objects.get_or_create(name="long", title="Somebody with a rather long title", provider="openai_compatible",
    model="qwen3-coder:30b-a3b-q4_K_M", base_url="http://127.0.0.1:1/v1", enabled=False)
""")
    tab.say("Which of these orders came late, and why?", Turn(calls=(call("current_time"),)), HELLO)
    tab.wait_until_over()
    tab.site.python("""
from executor.models import Agent, Task
task = Task.objects.latest("created_at")
task.status, task.input_tokens, task.cost, task.unpriced_calls = "needs_attention", 12_345_678, "1234.56", 3
task.agent_version = Agent.objects.get(name="long").current_version()
task.save()
""")
    tab.site.python("""
from executor.models import Agent, DeclaredTask
DeclaredTask.objects.filter(name="document").update(agent=Agent.objects.get(name="long"))
""")
    executor = ("executor/agent", "executor/declaredtask", "executor/task", "executor/step")
    lists = (*executor, "conversations/conversation", "users/user")
    for path in lists:
        tab.go(f"/admin/{path}/")
        hidden = tab.find("#changelist .results").evaluate("list => list.scrollWidth - list.clientWidth")
        assert hidden <= 0, path
    tab.page.set_viewport_size({"width": 390, "height": 844})
    for path in lists:
        tab.go(f"/admin/{path}/")
        assert tab.run(TOO_WIDE) <= 0, path
        assert tab.find("#header").evaluate("header => header.scrollHeight - header.clientHeight") <= 0, path
    tab.site.python("from executor.models import Agent; Agent.objects.filter(name='long').delete()")


# --- without JavaScript ----------------------------------------------------------------------------------------------


def test_without_javascript_one_can_log_in_send_and_read(
    stranger: Callable[..., Tab], tab: Tab, model_server: ModelServer
) -> None:
    plain = stranger(java_script_enabled=False).go("/")
    plain.find("[name=login]").fill(tab.name)
    plain.find("[name=password]").fill(PASSWORD)
    plain.find("main button[type=submit]").click()
    expect(plain.find("h1")).to_contain_text("What shall we work on")
    model_server.script([Turn("One **bold** answer.", calls=()), Turn("Two.", rate=10)])
    plain.find("#agent").select_option("model")
    plain.composer.fill("First")
    plain.page.get_by_role("button", name="Send").click()
    plain.page.wait_for_url("**/c/*/")
    # The page looks again by itself while something is at work.
    expect(plain.find("#turns .answer strong")).to_have_text("bold")
    expect(plain.find(".task[data-active]")).to_have_count(0)
    plain.composer.fill("Second")
    plain.page.get_by_role("button", name="Send").click()
    expect(plain.find("#turns .answer").nth(1)).to_contain_text("Two.")
    plain.find(".foot-actions > a").last.click()
    expect(plain.find("h1")).to_have_text("What it did")
