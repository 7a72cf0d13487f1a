"""Cards: what a person is asked, live and after a reload, and what becomes of each button."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from bs4 import BeautifulSoup, Tag
from django.conf import settings as django_settings
from django.db.models import F
from django.test import Client
from django.urls import reverse

from conversations import actions
from conversations.models import Turn
from conversations.terminal import Cards
from executor import decisions
from executor.core.errors import LimitReached
from executor.core.events import Finished
from executor.core.limits import Spent
from executor.core.messages import ToolCall
from executor.models import Agent, ApprovalRule, Decision, Status, Step, Task
from tests.conversations.test_live import Scene, scene
from tests.conversations.test_pages import soup
from tests.conversations.worker import db, hold, message
from tools.registry import get_registry, reload_registry
from users.models import User

__all__ = ["scene"]

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("live")]

MAILING = '''
from typing import Literal

def send_mail(to: str, text: str, copies: int = 1, urgent: bool = False, tone: Literal["warm", "cold"] = "warm") -> str:
    """Send a mail.

    Args:
        to: Who gets it.
        text: What it says.
        copies: How many.
    """
    return "sent"
'''
MAIL = ToolCall("call-1", "send_mail", {"to": "bob@example.org", "text": "Dear Bob,\nhello."})
ASK = ToolCall("call-2", "ask_user", {"question": "Which colour?", "choices": ["red", "blue"]})
PLAN = ToolCall("call-3", "propose_plan", {"goal": "Tea", "steps": ["Boil water", "Wait"]})


@pytest.fixture(autouse=True)
def mailing() -> Iterator[None]:
    dropped = Path(django_settings.FUNCTIONS_DIR) / "mailing.py"
    dropped.parent.mkdir(parents=True, exist_ok=True)
    dropped.write_text(MAILING)
    reload_registry()
    yield
    dropped.unlink()
    reload_registry()


def waiting(alice: User, agent: Agent, call: ToolCall, kind: Decision.Kind) -> Decision:
    """Alice's task waits for her about `call`."""
    turn = actions.send(alice, agent, "Go.")
    journal = hold(turn.task)
    asked_for = Finished(message("", call), "tool_calls")
    journal.finish_model(journal.begin_model(), asked_for, Spent(1), dict(get_registry().functions), 1)
    if kind == Decision.Kind.UNKNOWN:
        journal.start_tools([call])
        journal.recover()
    else:
        journal.ask({call.id: kind})
    assert journal.wait()
    return Decision.objects.get(task=turn.task)


def at_limit(alice: User, agent: Agent) -> Decision:
    """Alice's task has asked its model as often as it may."""
    turn = actions.send(alice, agent, "Go.")
    reached = LimitReached("iterations", "It reached its limit of 5 rounds with the model.", used=5, allowed=5)
    assert hold(turn.task).wait_at_limit(reached) == (True, [])
    return Decision.objects.get(task=turn.task)


def decide(client: Client, decision: Decision, **data: str) -> Any:
    return client.post(reverse("decide", args=[decision.pk]), data)


def decide_live(client: Client, decision: Decision, **data: str) -> Any:
    return client.post(reverse("decide", args=[decision.pk]), data, headers={"hx-request": "true"})


def card(client: Client, decision: Decision) -> Tag:
    turn = Turn.objects.get(task=decision.task_id)
    page = BeautifulSoup(client.get(turn.conversation.get_absolute_url()).content, "html.parser")
    found = page.select_one(f"#decision-{decision.pk}")
    assert found is not None
    return found


def fields(card: Tag) -> dict[str, str]:
    """What the card's form would send without a change."""
    texts = {str(area["name"]): area.get_text().removeprefix("\n") for area in card.select("textarea")}
    lines = {str(line["name"]): str(line.get("value", "")) for line in card.select("input") if line.get("name")}
    chosen = {str(s["name"]): str(o["value"]) for s in card.select("select") if (o := s.select_one("[selected]"))}
    return {name: value for name, value in {**texts, **lines, **chosen}.items() if "csrf" not in name}


# --- live ------------------------------------------------------------------------------------------------------------


async def test_a_card_comes_and_goes_on_every_page_and_looks_as_after_a_reload(scene: Scene) -> None:
    turn = await scene.send("Write to Bob")
    before = await scene.watch(turn.conversation)
    work = await scene.work(turn.task)
    await work.ask()
    await work.finish(MAIL, ASK)
    await work.ask_person(Decision.Kind.APPROVAL, MAIL)
    await scene.is_quiet()
    assert "May “Send mail” run?" in before.page.text(".decision")
    await work.ask_person(Decision.Kind.QUESTION, ASK)
    await scene.is_quiet()
    assert len(before.page.soup.select(".decision")) == 2
    await work.wait()
    await scene.is_quiet()
    assert before.page.text(".state") == "Waiting for you"
    during = await scene.watch(turn.conversation)
    mail, question = [found async for found in Decision.objects.filter(task=turn.task).select_related("step")]
    await db(decisions.deny, mail, scene.alice)
    await scene.is_quiet()
    for viewer in (before, during):
        assert len(viewer.page.soup.select(".decision")) == 1
    await db(decisions.answer, question, scene.alice, "red")
    await scene.is_quiet()
    assert before.page.soup.select_one(".decision") is None
    again = await scene.work(turn.task)
    await scene.is_quiet()
    await again.ask()
    again.say("Red.")
    await again.finish()
    await again.end()
    await scene.is_quiet()


# --- buttons ---------------------------------------------------------------------------------------------------------


def test_the_page_of_a_task_that_waits_leads_to_its_card(as_alice: Client, alice: User, demo: Agent) -> None:
    decision = waiting(alice, demo, MAIL, Decision.Kind.APPROVAL)
    turn = Turn.objects.get(task=decision.task)
    page = soup(as_alice.get(reverse("task", args=[decision.task_id])))
    (link,) = page.select("main a.button")
    assert link["href"] == f"{turn.conversation.get_absolute_url()}#turn-{turn.pk}"
    assert [tag.text for tag in page.select(".line-head .tag")] == ["waiting for you"]
    decisions.deny(decision, alice)
    assert not soup(as_alice.get(reverse("task", args=[decision.task_id]))).select("main a.button")


def test_allowing_a_card_as_it_is_changes_no_argument(as_alice: Client, alice: User, demo: Agent) -> None:
    decision = waiting(alice, demo, MAIL, Decision.Kind.APPROVAL)
    found = card(as_alice, decision)
    assert "bob@example.org" in found.get_text()
    response = decide(as_alice, decision, choice="allow", **fields(found))
    assert response.status_code == 302
    decision.refresh_from_db()
    assert (decision.status, decision.choice, decision.arguments) == ("decided", "allow", None)
    assert Task.objects.get(pk=decision.task_id).status == Status.QUEUED


def test_arguments_are_changed_in_their_fields(as_alice: Client, alice: User, demo: Agent) -> None:
    decision = waiting(alice, demo, MAIL, Decision.Kind.APPROVAL)
    typed = fields(card(as_alice, decision)) | {
        "argument-text": "Dear Bob,\r\nbye.",
        "argument-copies": "3",
        "argument-urgent": "true",
        "argument-tone": "cold",
    }
    decide(as_alice, decision, choice="allow", **typed)
    decision.refresh_from_db()
    assert decision.arguments == {
        "to": "bob@example.org",
        "text": "Dear Bob,\nbye.",
        "copies": 3,
        "urgent": True,
        "tone": "cold",
    }


@pytest.mark.parametrize(("copies", "sentence"), [("three", "Copies: write a number"), ("1.5", "copies")])
def test_arguments_that_the_function_cannot_take_are_refused_and_stay_typed(
    as_alice: Client, alice: User, demo: Agent, copies: str, sentence: str
) -> None:
    decision = waiting(alice, demo, MAIL, Decision.Kind.APPROVAL)
    typed = fields(card(as_alice, decision)) | {"argument-copies": copies, "note": "Hurry"}
    live = decide_live(as_alice, decision, choice="allow", **typed)
    assert live.status_code == 422
    assert f"#decision-error-{decision.pk}" in live.content.decode()
    plain = decide(as_alice, decision, choice="allow", **typed)
    assert plain.status_code == 422
    page = BeautifulSoup(plain.content, "html.parser")
    assert sentence in page.select_one(".decision-error").get_text()  # type: ignore[union-attr]
    kept = fields(page.select_one(".decision"))  # type: ignore[arg-type]
    assert (kept["argument-copies"], kept["note"]) == (copies, "Hurry")
    decision.refresh_from_db()
    assert decision.status == "pending"


def test_always_here_is_remembered_for_the_conversation(as_alice: Client, alice: User, demo: Agent) -> None:
    decision = waiting(alice, demo, MAIL, Decision.Kind.APPROVAL)
    decide(as_alice, decision, choice="always")
    rule = ApprovalRule.objects.get()
    turn = Turn.objects.get(task=decision.task_id)
    assert (rule.user, rule.thread, rule.function) == (alice, turn.conversation_id, "send_mail")


def test_what_is_always_allowed_is_listed_with_the_conversation_and_can_be_taken_back(
    as_alice: Client, alice: User, bob: User, demo: Agent
) -> None:
    decide(as_alice, waiting(alice, demo, MAIL, Decision.Kind.APPROVAL), choice="always")
    here = Turn.objects.get().conversation_id
    others = [(alice, uuid4()), (bob, here)]
    for user, thread in others:
        ApprovalRule.objects.create(user=user, thread=thread, function="send_mail")
    about = reverse("conversation_usage", args=[here])
    assert soup(as_alice.get(about)).select_one(".allowed [name=function]")["value"] == "send_mail"  # type: ignore[index]
    left = as_alice.post(reverse("ask_again", args=[here]), {"function": "send_mail"}, follow=True)
    assert left.redirect_chain == [(about, 302)]
    assert soup(left).select_one(".allowed") is None
    assert list(ApprovalRule.objects.values_list("user", "thread").order_by("user")) == [
        (user.pk, thread) for user, thread in others
    ]
    decision = waiting(alice, demo, MAIL, Decision.Kind.APPROVAL)
    assert decision.status == "pending"


@pytest.mark.parametrize("typed", ["abort", "y to Carol instead", "yikes", "always not", ""])
def test_in_a_terminal_nothing_is_allowed_by_words_that_only_begin_like_it(
    alice: User, demo: Agent, typed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    decision = waiting(alice, demo, MAIL, Decision.Kind.APPROVAL)
    told = at_terminal(decision, monkeypatch, typed, "n too early")
    assert told.count("Type one of these letters, or the word.") == 1
    decision.refresh_from_db()
    assert (decision.choice, decision.note) == ("deny", "too early")
    assert "    text: Dear Bob,\n        hello." in told


def test_in_a_terminal_a_limit_is_raised_by_an_amount_and_what_was_found_out_is_told(
    alice: User, demo: Agent, limited: Decision, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = at_terminal(limited, monkeypatch, "c a lot", "continue 7")
    assert told[-1] == "Give a whole number of rounds."
    limited.task.refresh_from_db()
    assert limited.task.allowed == {"iterations": 7}
    unknown = waiting(alice, demo, MAIL, Decision.Kind.UNKNOWN)
    at_terminal(unknown, monkeypatch, "Did, Bob has it")
    unknown.refresh_from_db()
    assert (unknown.choice, unknown.note) == ("did", "Bob has it")


def at_terminal(decision: Decision, monkeypatch: pytest.MonkeyPatch, *lines: str) -> list[str]:
    """What somebody is told who types these lines when the card is shown."""
    keyboard = io.StringIO("".join(f"{line}\n" for line in lines))
    monkeypatch.setattr(keyboard, "isatty", lambda: True)
    monkeypatch.setattr("sys.stdin", keyboard)
    told: list[str] = []
    Cards(decision.task.user, told.append).look(decision.task)
    assert not keyboard.read(), "Not all of it was read."
    return told


def test_an_agent_that_must_always_ask_offers_no_always(as_alice: Client, alice: User, demo: Agent) -> None:
    demo.approvals = {"send_mail": "always"}
    demo.save()
    decision = waiting(alice, demo, MAIL, Decision.Kind.APPROVAL)
    assert card(as_alice, decision).select_one("[value=allow]") is not None
    assert card(as_alice, decision).select_one("[value=always]") is None


def test_a_denial_tells_the_model_why(as_alice: Client, alice: User, demo: Agent) -> None:
    decision = waiting(alice, demo, MAIL, Decision.Kind.APPROVAL)
    decide(as_alice, decision, choice="deny", note="Not on a Sunday.")
    step = Step.objects.get(call_id=MAIL.id)
    assert step.status == Step.Status.DENIED
    assert step.error.endswith("They said: Not on a Sunday.")


def test_the_time_in_which_a_person_was_asked_is_no_time_at_work(as_alice: Client, alice: User, demo: Agent) -> None:
    decision = waiting(alice, demo, MAIL, Decision.Kind.APPROVAL)
    earlier = timedelta(hours=1)
    Task.objects.update(started_at=F("started_at") - earlier)
    Step.objects.update(started_at=F("started_at") - earlier, ended_at=F("ended_at") - earlier)
    decide(as_alice, decision, choice="deny")
    journal = hold(decision.task)
    journal.finish_model(journal.begin_model(), Finished(message("Then not."), "stop"), Spent(1), {}, 1)
    journal.end(Status.DONE)
    page = soup(as_alice.get(Turn.objects.get().conversation.get_absolute_url()))
    summary = page.select_one(".work > summary")
    assert summary is not None
    assert re.fullmatch(r"Worked [\d.]+ m?s · 1 step · 1 not allowed", summary.get_text(strip=True))


def test_a_question_is_answered_by_a_button_or_in_words(as_alice: Client, alice: User, demo: Agent) -> None:
    first = waiting(alice, demo, ASK, Decision.Kind.QUESTION)
    assert [button["value"] for button in card(as_alice, first).select("[name=option]")] == ["red", "blue"]
    assert decide(as_alice, first, choice="answer", text=" ").status_code == 422
    decide(as_alice, first, option="blue", text="")
    second = waiting(alice, demo, ASK, Decision.Kind.QUESTION)
    decide(as_alice, second, choice="answer", text="Green <3")
    assert list(Step.objects.filter(name="ask_user").order_by("pk").values_list("result", flat=True)) == [
        "blue",
        "Green <3",
    ]


def test_a_plan_is_changed_line_by_line(as_alice: Client, alice: User, demo: Agent) -> None:
    decision = waiting(alice, demo, PLAN, Decision.Kind.PLAN)
    found = card(as_alice, decision)
    assert [line.get_text() for line in found.select(".plan li")] == ["Boil water", "Wait"]
    assert decide(as_alice, decision, choice="allow", steps=" \n").status_code == 422
    decide(as_alice, decision, choice="allow", steps="Boil water\r\n\r\nDrink")
    assert '["Boil water", "Drink"]' in Step.objects.get(call_id=PLAN.id).result


@pytest.mark.parametrize(("choice", "status"), [("did", "done"), ("again", "pending"), ("skip", "skipped")])
def test_the_person_says_what_became_of_a_call(
    as_alice: Client, alice: User, demo: Agent, choice: str, status: str
) -> None:
    decision = waiting(alice, demo, MAIL, Decision.Kind.UNKNOWN)
    assert "“Send mail” may have run" in card(as_alice, decision).get_text()
    decide(as_alice, decision, choice=choice)
    assert Step.objects.get(call_id=MAIL.id).status == status


def test_what_may_have_run_is_shown_as_the_person_had_changed_it(as_alice: Client, alice: User, demo: Agent) -> None:
    decision = waiting(alice, demo, MAIL, Decision.Kind.UNKNOWN)
    Decision.objects.filter(pk=decision.pk).update(arguments={"to": "carol@example.com"})
    assert [fact.get_text() for fact in card(as_alice, decision).select("dd")] == ["carol@example.com"]


@pytest.fixture
def limited(alice: User, demo: Agent) -> Decision:
    return at_limit(alice, demo)


def test_a_task_goes_on_past_its_limit_with_as_much_as_the_person_says(as_alice: Client, limited: Decision) -> None:
    found = card(as_alice, limited)
    assert "It reached its limit of 5 rounds with the model." in found.get_text()
    assert [fact.get_text() for fact in found.select("dt")] == ["Function calls", "Tokens"]
    assert decide(as_alice, limited, choice="continue", more="many").status_code == 422
    assert decide(as_alice, limited, choice="continue", more="1e9").status_code == 422
    assert decide(as_alice, limited, choice="continue", more="3").status_code == 302
    task = Task.objects.get(pk=limited.task_id)
    assert (task.status, task.allowed) == (Status.QUEUED, {"iterations": 3})


def test_a_task_ends_at_its_limit_with_a_summary(as_alice: Client, limited: Decision) -> None:
    assert decide(as_alice, limited, choice="summarise").status_code == 302
    task = Task.objects.get(pk=limited.task_id)
    assert task.status == Status.QUEUED
    assert task.allowed["summarise"]["limit"] == "iterations"


def test_a_limit_of_the_day_says_when_it_ends_and_takes_no_amount(as_alice: Client, limited: Decision) -> None:
    limited.details |= {"limit": "day_cost", "more": None, "renews_at": "2030-01-01T00:00:00+00:00"}
    limited.save()
    found = card(as_alice, limited)
    assert found.select_one("[name=more]") is None
    assert found.select_one("time[datetime='2030-01-01T00:00:00+00:00']") is not None
    assert decide(as_alice, limited, choice="continue").status_code == 302


def test_a_late_answer_is_refused_kindly(as_alice: Client, alice: User, demo: Agent) -> None:
    decision = waiting(alice, demo, MAIL, Decision.Kind.APPROVAL)
    decide(as_alice, decision, choice="deny")
    late = decide_live(as_alice, decision, choice="allow")
    assert late.status_code == 409
    assert "This was decided already: denied" in late.content.decode()
    plain = as_alice.post(reverse("decide", args=[decision.pk]), {"choice": "allow"}, follow=True)
    assert "This was decided already" in plain.content.decode()


@pytest.mark.parametrize("choice", ["", "did", "nonsense"])
def test_a_choice_that_the_card_does_not_offer_is_refused(
    as_alice: Client, alice: User, demo: Agent, choice: str
) -> None:
    decision = waiting(alice, demo, MAIL, Decision.Kind.APPROVAL)
    assert decide_live(as_alice, decision, choice=choice).status_code == 422
    decision.refresh_from_db()
    assert decision.status == "pending"


def test_arguments_of_any_shape_can_be_shown(as_alice: Client, alice: User, demo: Agent) -> None:
    odd = {"to": ["a", {"b": None}], "text": "<script>\x01", "copies": 1.5, "surprise": [1]}
    decision = waiting(alice, demo, ToolCall("odd", "send_mail", odd, json.dumps(odd)), Decision.Kind.APPROVAL)
    assert "<script>" in card(as_alice, decision).get_text()
    assert card(as_alice, decision).select_one("script") is None
