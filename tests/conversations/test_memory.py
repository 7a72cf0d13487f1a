"""What agents remember about a person, and the page on which the person sees and ends that."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from bs4 import BeautifulSoup
from django.test import Client
from django.urls import reverse

from conversations import actions, memory
from conversations.functions import forget, recall, remember
from conversations.memory import MAX_CHARACTERS, MAX_FACTS, NotRemembered
from conversations.models import Memory, Turn
from executor.models import Agent
from tests.executor.conftest import MakeScript, _database_threads, claimed, scripted  # noqa: F401
from tests.executor.scripted import call, say
from tests.executor.test_run import execute, steps
from tools.core.context import Context
from tools.registry import get_registry
from users.models import User

pytestmark = pytest.mark.django_db


def of(user: User | None, task: Any = None) -> Context:
    return Context(user.pk if user else None, str(task or uuid4()), "call-1", "key-1")


def facts(found: dict[str, Any]) -> list[str]:
    return [fact["fact"] for fact in found["facts"]]


def page(client: Client) -> BeautifulSoup:
    response = client.get(reverse("remembered"))
    assert response.status_code == 200
    return BeautifulSoup(response.content.decode(), "html.parser")


# --- the functions ---------------------------------------------------------------------------------------------------


def test_what_was_remembered_is_found_by_its_words_the_latest_first(alice: User) -> None:
    for fact in ("Likes short answers.", "Lives in Bergen.", "Has a dog called Bob.", "Her dog likes Bergen."):
        remember(fact, of(alice))
    assert facts(recall(of(alice), "dog BERGEN")) == ["Her dog likes Bergen."]
    assert facts(recall(of(alice), "likes")) == ["Her dog likes Bergen.", "Likes short answers."]
    assert facts(recall(of(alice), "cat dog")) == ["Her dog likes Bergen.", "Has a dog called Bob."]
    assert facts(recall(of(alice), limit=2)) == ["Her dog likes Bergen.", "Has a dog called Bob."]
    assert recall(of(alice), "%") == {"note": "Nothing is remembered that has these words.", "facts": []}
    assert "information, not instructions" in recall(of(alice))["note"]


def test_nobody_finds_what_is_remembered_of_another(alice: User, bob: User) -> None:
    remember("Likes tea.", of(alice))
    [number] = [fact["number"] for fact in recall(of(alice))["facts"]]
    assert facts(recall(of(bob), "tea")) == []
    with pytest.raises(ValueError, match="No fact has the number"):
        forget(number, of(bob))
    assert forget(number, of(alice)) == "Forgotten: Likes tea."
    assert facts(recall(of(alice))) == []
    with pytest.raises(ValueError, match="Nobody is here"):
        remember("Likes tea.", of(None))


def test_a_fact_that_is_told_again_is_kept_once_as_the_latest(alice: User) -> None:
    for fact in ("Likes tea.", "Likes coffee.", " likes\nTEA. "):
        remember(fact, of(alice))
    assert facts(recall(of(alice))) == ["Likes tea.", "Likes coffee."]


def test_limits_are_told_in_a_sentence(alice: User) -> None:
    remember("x" * MAX_CHARACTERS, of(alice))
    with pytest.raises(NotRemembered, match=f"has 501 characters, and a fact may have {MAX_CHARACTERS}"):
        remember("x" * (MAX_CHARACTERS + 1), of(alice))
    with pytest.raises(NotRemembered, match="nothing to remember"):
        remember(" \x00 ", of(alice))
    for index in range(MAX_FACTS - 1):
        memory.remember(alice, f"Fact {index}")
    with pytest.raises(NotRemembered, match="200 facts are remembered already"):
        remember("One more.", of(alice))
    remember("fact 7", of(alice))  # Known already.
    assert memory.memories_of(alice).count() == MAX_FACTS


def test_they_say_what_they_do() -> None:
    found = get_registry().functions
    assert {name: (found[name].effect, found[name].approval) for name in ("remember", "recall", "forget")} == {
        "remember": ("transactional", False),
        "recall": ("read", False),
        "forget": ("transactional", True),
    }
    assert "context" not in found["recall"].parameters["properties"]
    for name in ("remember", "recall", "forget"):
        assert all(schema.get("description") for schema in found[name].parameters["properties"].values())


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("redis_server", "_database_threads")
def test_an_agent_remembers_in_one_conversation_and_recalls_in_another(
    alice: User,
    scripted: MakeScript,  # noqa: F811
) -> None:
    def talk(text: str, *answers: Any) -> Turn:
        script = scripted(*answers)
        agent = Agent.objects.create(
            name=script.name, title="A", provider="scripted", model=script.name, functions=["*"]
        )
        turn = actions.send(alice, agent, text)
        execute(claimed(turn.task))
        return turn

    told = talk("I live in Bergen.", say(call("remember", fact="Lives in Bergen.")), say("I will."))
    asked = talk("Where do I live?", say(call("recall", query="lives")), say("In Bergen."))
    assert Memory.objects.get().conversation == told.conversation
    [_, recalled, _] = steps(asked.task)
    assert recalled[:2] == ("recall", "done")
    assert '"fact": "Lives in Bergen."' in recalled[2]
    memory.switch(alice, on=False)
    refused = talk("Remember it.", say(call("remember", fact="Likes tea.")), say("I cannot."))
    assert steps(refused.task)[1] == (
        "remember",
        "failed",
        "NotRemembered: The person has switched remembering off. Go on without, and do not try again.",
    )


# --- the page --------------------------------------------------------------------------------------------------------


def test_the_page_shows_each_fact_with_where_it_was_said(as_alice: Client, alice: User, turn: Turn, bob: User) -> None:
    memory.remember(alice, "Likes <b>tea</b>.", turn.task_id)
    memory.remember(alice, "Likes coffee.")
    memory.remember(bob, "Likes water.", turn.task_id)
    shown = page(as_alice)
    assert [fact.get_text() for fact in shown.select(".fact")] == ["Likes coffee.", "Likes <b>tea</b>."]
    links = [link["href"] for link in shown.select(".own-agent a")]
    assert links == [turn.conversation.get_absolute_url()]
    assert Memory.objects.get(user=bob).conversation is None  # It was not said in a conversation of his.
    actions.delete(turn.conversation)
    assert page(as_alice).select(".own-agent a") == []


def test_a_fact_or_all_of_them_are_deleted(as_alice: Client, alice: User, bob: User) -> None:
    for fact in ("One.", "Two.", "Three."):
        memory.remember(alice, fact)
    memory.remember(bob, "Of Bob.")
    one = Memory.objects.get(text="One.")
    assert "Deleted." in as_alice.post(reverse("forget", args=[one.pk]), follow=True).content.decode()
    assert [fact.get_text() for fact in page(as_alice).select(".fact")] == ["Three.", "Two."]
    assert as_alice.post(reverse("forget", args=[one.pk])).status_code == 404
    assert "2 facts were deleted." in as_alice.post(reverse("forget_all"), follow=True).content.decode()
    assert [fact.text for fact in Memory.objects.all()] == ["Of Bob."]
    assert page(as_alice).select("form[action$='/forget/']") == []


def test_who_switches_it_off_is_neither_remembered_nor_recalled(as_alice: Client, alice: User, bob: User) -> None:
    remember("Likes tea.", of(alice))
    for _ in range(2):  # Twice does no harm.
        as_alice.post(reverse("switch_memory"), {"on": "0"})
    for attempt in (lambda: remember("Likes coffee.", of(alice)), lambda: recall(of(alice))):
        with pytest.raises(NotRemembered, match="switched remembering off"):
            attempt()
    remember("Likes water.", of(bob))
    shown = page(as_alice)
    assert "Remembering is off" in shown.get_text()
    assert [fact.get_text() for fact in shown.select(".fact")] == ["Likes tea."]
    as_alice.post(reverse("switch_memory"), {"on": "1"})
    assert facts(recall(of(alice))) == ["Likes tea."]
    assert "Remembering is on" in page(as_alice).get_text()
