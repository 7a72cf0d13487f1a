"""Cards in the browser: an approval that outlives a restart of everything, questions, plans, and what may have run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, expect

from tests.browser.conftest import enter
from tests.browser.tab import PATIENCE, Tab, call, difference, scripted
from tests.browser.test_accessibility import findings
from tests.browser.test_reach import TOO_WIDE
from tests.chaos.site import Site
from tests.fakes.model_server import ModelServer
from tests.fakes.script import Turn

pytestmark = pytest.mark.browser

FUNCTIONS = '''
import time
from pathlib import Path
from tools.core.function import function

_LEDGER = Path(__file__).with_suffix(".ledger")

def send_mail(to: str, subject: str, text: str) -> str:
    """Send a mail to somebody outside.

    Args:
        to: Who gets it.
        subject: What it is about.
        text: What it says.
    """
    with _LEDGER.open("a") as ledger:
        ledger.write(f"{to}: {text}\\n")
    return "sent"

@function(approval=False)
def pay_slowly(amount: int) -> str:
    """Pay an invoice. The bank takes its time.

    Args:
        amount: In euros.
    """
    with _LEDGER.open("a") as ledger:
        ledger.write(f"pay {amount}\\n")
    time.sleep(20)
    return "paid"
'''
MAIL = call("send_mail", to="bob@example.org", subject="Friday", text="Dear Bob,\nshall we meet on Friday?")


def ledger(place: Path) -> list[str]:
    file = place / "functions" / "office.ledger"
    return file.read_text().splitlines() if file.exists() else []


def is_as_fresh(tab: Tab) -> None:
    live = tab.outline()
    tab.reload()
    assert not (found := difference(live, tab.outline())), found


def test_an_approval_outlives_a_restart_of_everything_and_runs_with_what_the_person_changed(
    office: Site,
    place: Path,
    model_server: ModelServer,
    open_browser: Callable[..., BrowserContext],
    stranger: Callable[..., Tab],
) -> None:
    context = open_browser()
    tab = enter(office, context, stranger)
    model_server.script([Turn("I will write to Bob.", calls=(MAIL,)), Turn("Bob is invited.")])
    tab.say("Invite Bob for Friday")
    card = tab.find(".decision")
    expect(card).to_contain_text("May “Send mail” run?", timeout=PATIENCE)
    expect(tab.find(".state")).to_have_text("Waiting for you")
    tab.photograph("approval")
    is_as_fresh(tab)
    path = tab.path
    tab.page.goto("about:blank")
    office.__exit__()
    with Site(place) as again:
        assert again.address
        tab = enter(again, context, stranger)
        tab.go(path)
        tab.page.get_by_text("Change the arguments").click()
        tab.page.get_by_label("text", exact=False).last.fill("Dear Bob,\nshall we meet on Thursday?")
        tab.photograph("approval-edit")
        assert ledger(place) == []
        tab.page.get_by_role("button", name="Allow once").click()
        expect(tab.answer).to_have_text("Bob is invited.", timeout=PATIENCE)
        tab.wait_until_over()
        expect(tab.find(".decision")).to_have_count(0)
        is_as_fresh(tab)
    assert ledger(place) == ["bob@example.org: Dear Bob,", "shall we meet on Thursday?"]


def test_what_is_typed_in_a_card_survives_everything_that_happens_around_it(
    office: Site, open_browser: Callable[..., BrowserContext], stranger: Callable[..., Tab]
) -> None:
    tab = enter(office, open_browser(), stranger)
    question = call("ask_user", question="Which day suits you best?", choices=["Thursday", "Friday"])
    tab.say("Invite Bob", Turn(calls=(MAIL, question)), Turn("Good."))
    expect(tab.find(".decision")).to_have_count(2, timeout=PATIENCE)
    expect(tab.find("#announcer")).to_have_text("Waiting for you: Which day suits you best?")
    answer = tab.page.get_by_label("Your answer")
    answer.fill("Saturday, if Bob")
    facts = tab.find(".decision-facts")
    expect(facts).to_be_visible()
    tab.page.get_by_text("Change the arguments").click()
    expect(facts).to_be_hidden()
    assert findings(tab) == []
    tab.page.get_by_label("A note for the agent").fill("No, because")
    tab.page.keyboard.press("Enter")  # Nobody agrees to anything by that.
    expect(tab.find(".decision")).to_have_count(2)
    deny = tab.page.get_by_role("button", name="Deny")
    deny.focus()
    tab.page.keyboard.press("Enter")
    expect(tab.find(".decision")).to_have_count(1)
    expect(answer).to_have_value("Saturday, if Bob")
    expect(answer).to_be_focused()
    answer.press("End")
    answer.press_sequentially(" can")
    tab.page.keyboard.press("Tab")
    tab.page.keyboard.press("Enter")
    expect(tab.composer).to_be_focused()
    expect(tab.answer).to_have_text("Good.", timeout=PATIENCE)
    tab.wait_until_over()
    is_as_fresh(tab)


def test_a_refused_plan_says_why_and_the_card_stays(
    office: Site,
    model_server: ModelServer,
    open_browser: Callable[..., BrowserContext],
    stranger: Callable[..., Tab],
) -> None:
    tab = enter(office, open_browser(viewport={"width": 390, "height": 844}, color_scheme="dark"), stranger)
    tab.expects("422")
    plan = call("propose_plan", goal="A party for Bob", steps=["Ask his friends", "Book the garden", "Bake a cake"])
    model_server.script([Turn(calls=(plan,)), Turn("Off we go.")])
    tab.say("Plan a party for Bob")
    expect(tab.find(".plan li")).to_have_count(3, timeout=PATIENCE)
    tab.photograph("plan")
    assert findings(tab) == []
    assert tab.run(TOO_WIDE) <= 0
    tab.page.get_by_text("Change the plan").click()
    steps = tab.page.get_by_label("Steps, one per line")
    steps.fill("  \n")
    tab.page.get_by_role("button", name="Go ahead").click()
    expect(tab.find(".decision-error")).to_have_text("A plan needs at least one step. Refuse it if you do not want it.")
    steps.fill("Ask his friends\nBake two cakes")
    tab.page.get_by_role("button", name="Go ahead").click()
    expect(tab.answer).to_have_text("Off we go.", timeout=PATIENCE)


def test_the_person_is_asked_what_became_of_a_call_whose_worker_died(
    office: Site,
    place: Path,
    model_server: ModelServer,
    open_browser: Callable[..., BrowserContext],
    stranger: Callable[..., Tab],
) -> None:
    tab = enter(office, open_browser(), stranger)
    model_server.script([Turn(calls=(call("pay_slowly", amount=120),)), Turn("It is paid.")])
    tab.say("Pay the invoice of the printer")
    expect(tab.find(".step[data-status=started]")).to_have_count(1, timeout=PATIENCE)
    tab.page.wait_for_timeout(100)
    office.kill("worker")
    card = tab.find(".decision")
    expect(card).to_contain_text("“Pay slowly” may have run", timeout=60_000)
    tab.photograph("may-have-run")
    is_as_fresh(tab)
    tab.page.get_by_placeholder("A note for the agent").fill("The bank has booked it.")
    tab.page.get_by_role("button", name="It did").click()
    expect(tab.answer).to_have_text("It is paid.", timeout=PATIENCE)
    tab.wait_until_over()
    assert ledger(place) == ["pay 120"]


def test_a_task_goes_on_past_its_limit_or_ends_with_a_summary(
    office: Site,
    model_server: ModelServer,
    open_browser: Callable[..., BrowserContext],
    stranger: Callable[..., Tab],
) -> None:
    office.python(
        "from executor.models import Agent; a = Agent.objects.get(name='model'); a.max_iterations = 1; a.save()"
    )
    tab = enter(office, open_browser(), stranger)
    tab.expects("422")
    look = call("current_time")
    model_server.script([Turn(calls=(look,)), Turn(calls=(look,)), Turn("I looked at the clock twice.")])
    tab.say("Look at the clock again and again")
    card = tab.find(".decision")
    expect(card).to_contain_text("It reached its limit of 1 round", timeout=PATIENCE)
    tab.photograph("limit")
    assert findings(tab) == []
    is_as_fresh(tab)
    more = tab.page.get_by_label("Continue with")
    more.fill("a lot")
    tab.page.get_by_role("button", name="Continue").click()
    expect(tab.find(".decision-error")).not_to_be_empty()
    more.fill("1")
    tab.page.get_by_role("button", name="Continue").click()
    expect(card).to_contain_text("It reached its limit of 2 rounds", timeout=PATIENCE)
    tab.page.get_by_role("button", name="Stop and summarise").click()
    tab.wait_until_over("stopped")
    expect(tab.answer).to_have_text("I looked at the clock twice.")
    is_as_fresh(tab)


def test_always_is_taken_back_where_the_conversation_tells_its_use(somebody: Callable[..., Tab]) -> None:
    tab = somebody(viewport={"width": 390, "height": 844}, color_scheme="dark")
    forget = call("forget", number=4711)
    tab.say("Forget it", Turn(calls=(forget,)), Turn("There was nothing."))
    expect(tab.find(".work > summary")).to_have_text("1 step so far")
    tab.page.get_by_role("button", name="Always in this conversation").click()
    tab.wait_until_over()
    expect(tab.find(".work > summary")).to_contain_text("1 failed")
    tab.say("Once more", Turn(calls=(forget,)), Turn("Still nothing."))
    tab.wait_until_over()
    tab.page.get_by_role("button", name="About this conversation").click()
    allowed = tab.find(".allowed")
    expect(allowed).to_contain_text("Forget")
    assert findings(tab) == []
    assert tab.run(TOO_WIDE) <= 0
    tab.page.get_by_role("button", name="Ask again before “Forget” runs").click()
    expect(allowed).to_have_count(0)
    expect(tab.find("#conversation-use")).to_contain_text("Answers")
    tab.page.keyboard.press("Escape")
    tab.say("And again", Turn(calls=(forget,)), Turn("As you like."))
    expect(tab.find(".decision")).to_contain_text("May “Forget” run?")
    is_as_fresh(tab)
    tab.page.get_by_role("button", name="Deny").click()
    tab.wait_until_over()
    expect(tab.find(".work > summary").last).to_contain_text("1 not allowed")


def test_a_card_works_without_javascript(
    office: Site, open_browser: Callable[..., BrowserContext], stranger: Callable[..., Tab], place: Path
) -> None:
    context = open_browser(java_script_enabled=False)
    tab = enter(office, context, stranger)
    tab.go("/?agent=model")
    tab.composer.fill(scripted("Invite Bob", Turn(calls=(MAIL,)), Turn("Bob is invited.")))
    tab.page.get_by_role("button", name="Send").click()
    expect(tab.find(".decision")).to_be_visible(timeout=PATIENCE)
    tab.page.get_by_role("button", name="Always in this conversation").click()
    expect(tab.find("#turns .answer")).to_have_text("Bob is invited.", timeout=PATIENCE)
    assert len(ledger(place)) == 2
