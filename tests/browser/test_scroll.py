"""Where the page stands: at the end while the person is there, and nowhere else than where they put it."""

from __future__ import annotations

import pytest
from playwright.sync_api import Route, expect

from tests.browser.tab import Tab, call, numbered
from tests.fakes.script import Turn

pytestmark = pytest.mark.browser

FROM_END = "document.scrollingElement.scrollHeight - innerHeight - document.scrollingElement.scrollTop"


def long(blocks: int) -> Turn:
    """An answer of so many blocks, ten in a second."""
    return Turn("\n\n".join(numbered(40) for _ in range(blocks)), rate=400)


# What many messages would leave behind, without the work.
MANY_TURNS = """
from datetime import timedelta
from django.utils import timezone
from conversations.models import Conversation, Turn
from executor.core.messages import message_to_json, user as said
from executor.models import Agent, Step, Task
from users.models import User
now = timezone.now() - timedelta(hours=1)
user, agent = User.objects.get(username={name!r}), Agent.objects.get(name="model")
conversation = Conversation.objects.create(user=user, agent=agent, title="Long", active_at=now, seen_at=now)
words = "And so on. " * 30
tasks = Task.objects.bulk_create(
    Task(
        user=user, agent_version=agent.current_version(), status="done", started_at=now, ended_at=now,
        input=message_to_json(said(f"Question {{number}}")),
    )
    for number in range({turns})
)
Step.objects.bulk_create(
    Step(
        task=task, seq=1, kind="model", name="queue", status="done", text=f"Answer {{number}}. {{words}}",
        finish_reason="stop", fence=1, started_at=now, ended_at=now,
    )
    for number, task in enumerate(tasks)
)
Turn.objects.bulk_create(
    Turn(conversation=conversation, task=task, position=number + 1, text=f"Question {{number}}")
    for number, task in enumerate(tasks)
)
print(conversation.get_absolute_url())
"""

# What comes through the socket from now on waits for `release()`, and then comes at once.
HOLD_MESSAGES = """() => {
    window.held = [];
    const name = "htmx:before:ws:message";
    const hold = (event) => {
        event.stopImmediatePropagation();
        event.preventDefault();
        held.push(event.detail.message);
    };
    addEventListener(name, hold, true);
    window.release = () => {
        removeEventListener(name, hold, true);
        for (const message of held) {
            const detail = { message };
            document.getElementById("live").dispatchEvent(
                new CustomEvent(name, { bubbles: true, cancelable: true, detail }));
        }
    };
}"""


def conversation_of(tab: Tab, turns: int) -> str:
    """The address of a conversation of so many turns."""
    return tab.site.python(MANY_TURNS.format(name=tab.name, turns=turns)).strip()


def from_end(tab: Tab) -> float:
    return float(tab.run(FROM_END))


def begin(tab: Tab, blocks: int = 40) -> None:
    tab.say("Write a lot", long(blocks))
    tab.page.wait_for_function("() => document.scrollingElement.scrollHeight > innerHeight + 600")


def test_the_page_follows_an_answer_that_grows(tab: Tab) -> None:
    begin(tab)
    # Between an update and the frame that shows it, a script sees what nobody sees.
    at_end = f"() => {FROM_END} < 40"
    tab.page.wait_for_function(at_end, timeout=1000)
    tab.wait_for_words(800)
    tab.page.wait_for_function(at_end, timeout=1000)
    tab.wait_until_over()
    assert from_end(tab) < 40


@pytest.mark.parametrize("how", ["wheel", "PageUp", "ArrowUp"])
def test_moving_up_lets_go_and_the_arrow_takes_hold_again(how: str, tab: Tab) -> None:
    begin(tab, 200)  # More than is written by the time that the test wants to stop it.
    tab.page.mouse.move(600, 300)
    if how == "wheel":
        tab.page.mouse.wheel(0, -400)
    else:
        tab.find("#main").focus()
        for _ in range(1 if how == "PageUp" else 8):
            tab.page.keyboard.press(how)
    tab.page.wait_for_function(f"() => {FROM_END} > 200")
    expect(tab.find("#to-bottom")).to_be_visible()
    top = tab.run("document.scrollingElement.scrollTop")
    tab.wait_for_words(1000)
    tab.page.wait_for_timeout(200)
    if how == "wheel":
        assert tab.run("document.scrollingElement.scrollTop") == pytest.approx(top, abs=60)
    assert from_end(tab) > 200
    tab.find("#to-bottom").click()
    tab.page.wait_for_function(f"() => {FROM_END} < 40")
    expect(tab.find("#to-bottom")).to_be_hidden()
    tab.find("#stop").click()
    tab.wait_until_over("stopped")


def test_who_reads_above_is_not_moved_when_the_answer_ends(tab: Tab) -> None:
    tab.say("Write a lot", Turn("\n\n".join(numbered(40) for _ in range(20)), rate=250))
    tab.page.wait_for_function("() => document.scrollingElement.scrollHeight > innerHeight + 600")
    tab.page.mouse.move(600, 300)
    tab.page.mouse.wheel(0, -500)
    tab.page.wait_for_function(f"() => {FROM_END} > 300")
    tab.page.wait_for_timeout(300)
    where = "document.querySelector('#turns .answer').getBoundingClientRect().top"
    top = tab.run(where)
    tab.wait_until_over()
    tab.page.wait_for_timeout(300)
    assert tab.run(where) == pytest.approx(top, abs=2)


def test_a_message_sent_goes_near_the_top_of_the_view(tab: Tab) -> None:
    begin(tab)
    tab.find("#stop").click()
    tab.wait_until_over("stopped")
    tab.say("A short one", Turn("Short."))
    tab.wait_until_over()
    expect(tab.answer).to_have_text("Short.")
    top = tab.run("[...document.querySelectorAll('.turn')].at(-1).getBoundingClientRect().top")
    assert 0 < top < 200


def test_the_page_follows_what_waited_when_what_ran_is_stopped(tab: Tab) -> None:
    """The stopped task folds its steps, the next one writes: all that may come within one frame, and is no wish."""
    counts = tuple(call("calculate", expression=f"{number} + 1") for number in range(12))
    tab.say("First", Turn("I count.", calls=counts), Turn("\n\n".join(numbered(40) for _ in range(30)), rate=60))
    tab.wait_for_words(60)
    tab.say("Second", Turn("\n\n".join(numbered(40) for _ in range(20))))
    tab.run(HOLD_MESSAGES)
    tab.find("#stop").click()
    over = f'id="task-{tab.last_task()}" data-status="done"'
    tab.page.wait_for_function("over => held.some(({ text }) => text.includes(over))", arg=over)
    tab.run("release()")
    tab.wait_until_over()
    tab.page.wait_for_timeout(200)
    assert from_end(tab) < 40
    expect(tab.find("#to-bottom")).to_be_hidden()


def test_older_turns_come_in_above_and_nothing_moves(tab: Tab) -> None:
    tab.go(conversation_of(tab, 60))
    expect(tab.find(".turn")).to_have_count(20)
    expect(tab.find(".turn").last).to_be_in_viewport()
    expect(tab.find(".bubble").last).to_have_text("Question 59")
    shown = 20
    while shown < 60:
        first = tab.find(".turn").first.get_attribute("id")
        tab.page.mouse.move(600, 400)
        place = "id => document.getElementById(id).getBoundingClientRect().top + scrollY"
        tab.page.wait_for_timeout(100)
        tab.run("window.scrollTo({ top: 20, behavior: 'instant' })")
        before = tab.run("id => document.getElementById(id).getBoundingClientRect().top", first)
        expect(tab.find(".turn")).to_have_count(shown + 20)
        tab.page.wait_for_timeout(100)
        assert tab.run("id => document.getElementById(id).getBoundingClientRect().top", first) == pytest.approx(
            before, abs=3
        )
        assert tab.run(place, first) > 1000
        shown += 20
    expect(tab.find("#older")).to_have_count(0)
    questions = [text.strip() for text in tab.find(".bubble").all_text_contents()]
    assert questions == [f"Question {number}" for number in range(60)]


def test_older_turns_are_not_fetched_by_a_page_that_is_still_being_opened(tab: Tab) -> None:
    path = conversation_of(tab, 60)
    held: list[Route] = []
    asked: list[str] = []
    tab.page.route("**/js/scroll*.js", lambda route: held.append(route))
    tab.page.on("request", lambda request: asked.append(request.url))
    tab.page.goto(tab.site.address + path, wait_until="commit")
    expect(tab.find(".turn").first).to_be_in_viewport()
    tab.page.wait_for_timeout(500)  # The beginning is on the screen, as on a slow line.
    held[0].continue_()
    expect(tab.find(".turn").last).to_be_in_viewport()
    tab.page.wait_for_timeout(500)
    assert not [url for url in asked if "/older/" in url]
    tab.find("#older").scroll_into_view_if_needed()
    expect(tab.find(".turn")).to_have_count(40)
