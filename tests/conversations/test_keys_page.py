"""Settings → Keys, and what the chat says to people without a key."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from bs4 import BeautifulSoup
from django.contrib.auth.models import Group
from django.db.models.functions import Now
from django.test import Client
from django.urls import reverse
from pytest_django import DjangoAssertNumQueries

from conversations import actions
from conversations.models import Conversation, Turn
from executor.credentials import KeyMissing
from executor.models import Agent, Status, Step
from tests.conversations.test_pages import HTMX, soup, words
from tests.conversations.worker import hold
from users import api_keys
from users.models import ApiKey, KeyState, User

KEY, OTHER = "sk-canary-of-alice-0123456789-abcd", "sk-canary-of-alice-0123456789-wxyz"


def add(client: Client, secret: str = KEY, provider: str = "gpt", base_url: str = "") -> Any:
    return client.post(reverse("add_key"), {"provider": provider, "secret": secret, "base_url": base_url})


def page(client: Client, query: str = "") -> BeautifulSoup:
    return soup(client.get(reverse("keys") + query))


def key_of(user: User, provider: str = "gpt") -> ApiKey:
    return api_keys.live().get(owner=user, provider=provider)


@pytest.fixture
def gpt(db: None) -> Agent:
    return Agent.objects.create(name="gpt", title="GPT", provider="gpt", model="gpt-6.1-sol", position=3)


# --- adding, replacing, revoking -------------------------------------------------------------------------------------


def test_without_a_key_each_provider_has_a_card_that_says_so(as_alice: Client) -> None:
    found = page(as_alice)
    cards = {card["id"]: " ".join(card.get_text(" ").split()) for card in found.select(".key-card")}
    assert {"gpt", "claude", "gemini"} <= cards.keys()
    assert cards["claude"].startswith("Anthropic No key Add a key")
    (link,) = found.select("#claude a")
    assert (link["href"], link["rel"]) == ("https://platform.claude.com/settings/keys", ["noopener"])


def test_a_key_that_is_added_is_tested_by_itself_and_never_shown(as_alice: Client, alice: User) -> None:
    response = add(as_alice)
    assert (response.status_code, response.headers["Location"]) == (302, reverse("keys") + "#gpt")
    key = key_of(alice)
    assert api_keys.reveal(key) == KEY
    assert key.awaits_check
    shown = page(as_alice)
    assert words(shown, "#gpt .key-line") == "Testing… …abcd"
    assert KEY not in str(shown)
    assert KEY[:20] not in str(shown)


REFUSED = [
    ("", "Enter the key."),
    ("  ", "Enter the key."),
    ("two words", "A key has no spaces or line breaks within. Copy it again, and nothing else."),
    ("sk-…abcd", "This is a key as it is displayed, with a part left out. Copy the whole key, or make a new one."),
    ("x" * 4001, "This is too long for a key: it has more than 4,000 characters."),
    ("a\x00b", "Null characters are not allowed."),
    ("schlüssel", "A key has only plain letters, digits and signs. Copy it again, and nothing else."),
]


@pytest.mark.parametrize(("secret", "sentence"), REFUSED, ids=[sentence[:20] for _, sentence in REFUSED])
def test_what_cannot_be_a_key_is_refused_with_a_sentence_and_not_said_again(
    as_alice: Client, secret: str, sentence: str
) -> None:
    response = add(as_alice, secret, "claude")
    assert response.status_code == 422
    assert words(response, "#claude .errorlist") == sentence
    assert soup(response).select_one("#claude details")["open"] == ""  # type: ignore[index]
    assert [field.get("value") for field in soup(response).select("[type=password]")] == [None] * 3
    assert not ApiKey.objects.exists()


@pytest.mark.parametrize(
    ("provider", "secret", "other"),
    [
        ("gpt", "sk-ant-canary-0123456789-0123456789", "Anthropic"),
        ("claude", KEY, "OpenAI"),
        ("claude", "AIzacanary-0123456789-0123456789-01", "Google Gemini"),
    ],
)
def test_what_looks_like_another_providers_key_is_stored_only_if_it_is_meant(
    as_alice: Client, alice: User, provider: str, secret: str, other: str
) -> None:
    response = add(as_alice, secret, provider)
    assert response.status_code == 422
    assert f"This looks like a key of {other}." in words(response, f"#{provider} .errorlist")
    assert secret not in response.content.decode()
    assert not ApiKey.objects.exists()
    (box,) = soup(response).select("[type=checkbox]")
    fields = {"provider": provider, "secret": secret, str(box["name"]): "on"}
    assert as_alice.post(reverse("add_key"), fields).status_code == 302
    assert api_keys.reveal(key_of(alice, provider)) == secret


def test_what_comes_around_a_pasted_key_is_taken_off(as_alice: Client, alice: User) -> None:
    add(as_alice, f' "Bearer {KEY}"\n'.replace('"', ""))
    assert api_keys.reveal(key_of(alice)) == KEY


@pytest.mark.parametrize("provider", ["", "demo", "nobody", "openai_compatible", "x" * 5000])
def test_a_provider_that_takes_no_keys_is_refused(as_alice: Client, provider: str) -> None:
    assert add(as_alice, KEY, provider).status_code == 422
    assert not ApiKey.objects.exists()


def test_a_replaced_key_is_wiped_and_the_new_one_tested(as_alice: Client, alice: User) -> None:
    add(as_alice)
    old = key_of(alice)
    api_keys.record_check(old, "It was refused.")
    assert as_alice.post(reverse("replace_key", args=[old.pk]), {"secret": OTHER}).status_code == 302
    old.refresh_from_db()
    new = key_of(alice)
    assert (old.state, old.secret, api_keys.reveal(new), new.awaits_check) == (KeyState.REVOKED, "", OTHER, True)


def test_a_key_that_works_is_used_until_the_new_one_has_passed_its_test(as_alice: Client, alice: User) -> None:
    add(as_alice)
    old = key_of(alice)
    api_keys.record_check(old, "")
    as_alice.post(reverse("replace_key", args=[old.pk]), {"secret": OTHER})
    assert api_keys.reveal(key_of(alice)) == KEY
    new = api_keys.trials().get()
    url = reverse("key_state", args=[new.pk]) + "?trial"
    found = page(as_alice)
    assert found.select("#gpt .key-trial")[0]["hx-get"] == url
    assert words(found, "#gpt .key-trial code") == "…wxyz"
    assert "hx-get" in as_alice.get(url, **HTMX).content.decode()
    api_keys.record_check(new, "")
    api_keys.end_trial(new)
    assert as_alice.get(url, **HTMX).headers["HX-Refresh"] == "true"
    old.refresh_from_db()
    assert (old.state, old.secret, api_keys.reveal(key_of(alice))) == (KeyState.REVOKED, "", OTHER)
    assert words(page(as_alice), "#gpt .key-line") == "Works …wxyz"


def test_a_new_key_that_fails_its_test_is_wiped_and_the_old_one_says_so(as_alice: Client, alice: User) -> None:
    add(as_alice)
    old = key_of(alice)
    api_keys.record_check(old, "")
    as_alice.post(reverse("replace_key", args=[old.pk]), {"secret": OTHER})
    new = api_keys.trials().get()
    api_keys.record_check(new, "The provider answered 401: No such key.")
    api_keys.end_trial(new)
    assert (new.state, new.secret, api_keys.reveal(key_of(alice))) == (KeyState.REVOKED, "", KEY)
    found = page(as_alice)
    assert words(found, "#gpt .key-line") == "Works …abcd"
    said = "This key is still used. The new one, …wxyz, is not: The provider answered 401: No such key."
    assert words(found, "#gpt .key-state .key-hint") == said


def test_of_new_keys_the_last_counts_and_one_whose_elder_is_revoked_is_used(as_alice: Client, alice: User) -> None:
    add(as_alice)
    old = key_of(alice)
    for secret in (OTHER, KEY.replace("abcd", "efgh")):
        as_alice.post(reverse("replace_key", args=[old.pk]), {"secret": secret})
    new = api_keys.trials().get()
    assert new.fingerprint == "…efgh"
    as_alice.post(reverse("test_key", args=[old.pk]))
    as_alice.post(reverse("revoke_key", args=[old.pk]))
    assert key_of(alice) == new
    api_keys.record_check(new, "The provider answered 401: No such key.")
    api_keys.end_trial(new)  # Its test began before.
    assert key_of(alice).state == KeyState.FAILED
    assert not ApiKey.objects.exclude(pk=new.pk).exclude(secret="").exists()


def test_a_refused_replacement_leaves_the_key_as_it_was(as_alice: Client, alice: User) -> None:
    add(as_alice)
    response = as_alice.post(reverse("replace_key", args=[key_of(alice).pk]), {"secret": "no key"})
    assert response.status_code == 422
    assert "A key has no spaces" in words(response, "#gpt .errorlist")
    assert api_keys.reveal(key_of(alice)) == KEY


def test_a_key_is_revoked_after_asking(as_alice: Client, alice: User) -> None:
    add(as_alice)
    key = key_of(alice)
    (form,) = page(as_alice).select(f"details form[action='{reverse('revoke_key', args=[key.pk])}']")
    assert "cannot be had back" in form.get_text()
    response = as_alice.post(form["action"], follow=True)  # type: ignore[arg-type]
    assert "was revoked and wiped" in words(response, ".notice")
    assert words(response, "#gpt .tag") == "No key"
    assert as_alice.post(form["action"]).status_code == 404  # type: ignore[arg-type]


# --- states ----------------------------------------------------------------------------------------------------------


def test_a_key_tells_how_its_test_went(as_alice: Client, alice: User) -> None:
    key = api_keys.add(alice, "gpt", KEY)
    assert words(page(as_alice), "#gpt .tag") == "Not tested"
    api_keys.record_check(key, "The provider answered 401: Incorrect API key provided: •••.")
    found = page(as_alice)
    assert words(found, "#gpt .tag") == "Failed its test"
    assert words(found, "#gpt .key-problem") == "The provider answered 401: Incorrect API key provided: •••."
    api_keys.record_check(key, "Could not be tested: https://api.openai.com could not be reached.")
    assert words(page(as_alice), "#gpt .tag") == "Not tested"
    api_keys.record_check(key, "", "It is accepted, but the model …")
    found = page(as_alice)
    assert (words(found, "#gpt .tag"), words(found, "#gpt .key-problem")) == ("Works", "")
    assert "It is accepted, but the model …" in words(found, "#gpt")


def test_a_key_that_cannot_be_read_asks_to_be_entered_again(as_alice: Client, alice: User) -> None:
    key = api_keys.add(alice, "gpt", KEY)
    ApiKey.objects.filter(pk=key.pk).update(broken=True)
    found = page(as_alice)
    assert words(found, "#gpt .tag") == "Needs re-entry"
    assert "Replace it" in words(found, "#gpt .key-problem")


def test_a_key_of_the_site_is_told_of_but_not_shown(as_alice: Client, as_bob: Client, alice: User) -> None:
    team = Group.objects.create(name="Team")
    alice.groups.add(team)
    key = api_keys.add(None, "gpt", KEY, groups=[team])
    found = page(as_alice)
    assert words(found, "#gpt .tag") == "Provided by this site"
    assert key.fingerprint not in str(found)
    assert words(page(as_bob), "#gpt .tag") == "No key"


def test_the_page_asks_until_the_test_is_over(as_alice: Client, alice: User) -> None:
    add(as_alice)
    key = key_of(alice)
    url = reverse("key_state", args=[key.pk])
    assert soup(as_alice.get(url, **HTMX)).select_one(".key-state")["hx-get"] == url  # type: ignore[index]
    api_keys.record_check(key, "")
    over = as_alice.get(url, **HTMX)
    assert not soup(over).select("[hx-get]")
    assert words(over, ".tag") == "Works"


def test_without_scripts_the_page_looks_again_by_itself_until_then(as_alice: Client, alice: User) -> None:
    add(as_alice)
    assert page(as_alice).select("noscript meta[http-equiv=refresh]")
    api_keys.record_check(key_of(alice), "")
    assert not page(as_alice).select("noscript meta[http-equiv=refresh]")


def test_after_thirty_seconds_it_says_that_no_worker_answered(as_alice: Client, alice: User) -> None:
    add(as_alice)
    ApiKey.objects.update(check_asked_at=Now() - timedelta(seconds=31))
    found = page(as_alice)
    assert words(found, "#gpt .tag") == "Not tested"
    assert words(found, "#gpt .key-problem").startswith("No worker has answered.")
    assert not found.select("[hx-get]")
    as_alice.post(reverse("test_key", args=[key_of(alice).pk]))
    assert words(page(as_alice), "#gpt .tag") == "Testing…"


def test_tests_are_limited(as_alice: Client, alice: User) -> None:
    key = api_keys.add(alice, "gpt", KEY)
    url = reverse("test_key", args=[key.pk])
    assert [as_alice.post(url).status_code for _ in range(12)] == [302] * 12
    refused = as_alice.post(url)
    assert refused.status_code == 429
    assert "Wait a few minutes" in words(refused, "main")
    assert add(as_alice, OTHER).status_code == 429
    assert page(as_alice), "looking is not limited"


# --- spending --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("costs", "spent"),
    [
        ([], "Nothing"),
        (["1.25", "0.5"], "$1.75"),
        (["1.25", None], "$1.25 + unknown"),
        ([None], "price unknown"),
    ],
)
def test_a_key_tells_what_it_was_spent_on(
    as_alice: Client, alice: User, demo: Agent, costs: list[str | None], spent: str
) -> None:
    mine, old = api_keys.add(alice, "gpt", KEY), api_keys.add(alice, "claude", KEY)
    task = actions.send(alice, demo, "Hello").task
    for seq, (key, cost) in enumerate([(old, "100"), *((mine, cost) for cost in costs)], start=1):
        amount = None if cost is None else Decimal(cost)
        Step.objects.create(task=task, seq=seq, kind="model", status="done", fence=1, api_key=key, cost=amount)
    facts = page(as_alice).select("#gpt .facts dd")
    assert facts[-1].get_text() == spent


def test_many_keys_cost_no_more_queries_than_one(
    as_alice: Client, alice: User, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    api_keys.add(alice, "gpt", KEY)
    page(as_alice)
    for provider in ("claude", "gemini"):
        api_keys.add(alice, provider, KEY)
    # session, person, keys, places, agents, spending; and what the person may
    with django_assert_num_queries(8):
        as_alice.get(reverse("keys"))


# --- the chat --------------------------------------------------------------------------------------------------------


def test_the_empty_chat_says_what_an_agent_is_missing(as_alice: Client, alice: User, demo: Agent, gpt: Agent) -> None:
    found = soup(as_alice.get(reverse("home") + "?agent=gpt"))
    card = found.select_one("[data-agent=gpt] .no-key")
    assert card
    assert [(link.get_text(), link["href"]) for link in card.select("a")] == [
        ("Add a key", reverse("keys") + "?for=gpt#gpt"),
        ("Connect a server", reverse("servers")),
    ]
    assert not found.select("[data-agent=demo] .no-key")
    assert "To talk to GPT, add a key or connect a server" in words(found, "[data-agent=demo]")
    assert page(as_alice, "?for=gpt").select("#gpt details[open]")
    api_keys.add(alice, "gpt", KEY)
    assert not soup(as_alice.get(reverse("home") + "?agent=gpt")).select(".no-key")


@pytest.mark.parametrize("provider", ["claude", "openai_compatible"])
def test_a_key_for_another_place_is_no_key_here(as_alice: Client, alice: User, gpt: Agent, provider: str) -> None:
    api_keys.add(alice, provider, KEY, "" if provider == "claude" else "https://gateway.example/v1")
    api_keys.add(alice, "gpt", KEY, "https://gateway.example/v1")
    assert soup(as_alice.get(reverse("home"))).select("[data-agent=gpt] .no-key")


GATEWAY = "https://gateway.example/v1"


@pytest.mark.parametrize("provider", ["claude", "openai_compatible"])
def test_the_way_to_a_key_leads_to_the_address_that_the_agent_asks(
    as_alice: Client, alice: User, gpt: Agent, provider: str
) -> None:
    """A member of a site where an administrator made an agent for everybody, and nobody gave the site a key."""
    Agent.objects.filter(pk=gpt.pk).update(provider=provider, base_url=GATEWAY)
    gpt.refresh_from_db()
    gpt.save()
    found = soup(as_alice.get(reverse("home") + "?agent=gpt"))
    if provider == "claude":  # What speaks like Anthropic most likely wants a key, too.
        assert f"It asks {GATEWAY}." in words(found, "[data-agent=gpt] .no-key")
    turn = actions.send(alice, gpt, "Hello")
    hold(turn.task).end(Status.FAILED, error=KeyMissing("https://gateway.example/v1 wants a key.", hint="Add one."))
    link = soup(as_alice.get(turn.conversation.get_absolute_url())).select_one(".failure a")
    assert link
    path, anchor = str(link["href"]).split("#")
    (card,) = soup(as_alice.get(path)).select(f"#{anchor}")
    assert GATEWAY in card.get_text()
    assert card.select("details[open]")
    fields = {str(field["name"]): str(field.get("value", "")) for field in card.select("form input")}
    assert as_alice.post(reverse("add_key"), {**fields, "secret": KEY}).status_code == 302
    key = api_keys.find(alice, provider, GATEWAY)
    assert key
    assert (key.owner, key.awaits_check) == (alice, True)
    assert not soup(as_alice.get(reverse("home") + "?agent=gpt")).select("[data-agent=gpt] .no-key")


def test_a_key_is_added_only_where_an_agent_of_the_persons_asks(as_alice: Client, bob: User, gpt: Agent) -> None:
    for base_url, owner, variable in [(GATEWAY, bob, ""), ("https://keyed.example", None, "SOME_API_KEY")]:
        fields = {"provider": "gpt", "base_url": base_url, "owner": owner, "api_key_variable": variable}
        Agent.objects.create(name=f"a{len(base_url)}", title="A", **fields)
        assert add(as_alice, base_url=base_url).status_code == 422
        assert base_url not in page(as_alice, f"?for=gpt&at={base_url}").get_text()
    assert add(as_alice, base_url="https://elsewhere.example").status_code == 422
    assert not ApiKey.objects.exists()


def test_a_key_that_was_added_in_another_tab_is_not_replaced(as_alice: Client, alice: User) -> None:
    add(as_alice)
    assert "There is a key for this address already: …abcd." in add(as_alice, OTHER).content.decode()
    assert api_keys.reveal(key_of(alice)) == KEY


def test_local_servers_are_offered_to_who_may_connect_them(as_alice: Client, settings: Any) -> None:
    assert "Ollama" not in words(page(as_alice), "main")
    settings.MODEL_HOSTS = ["127.0.0.1:11434"]
    assert "Ollama" in words(page(as_alice), "main")


def test_an_agent_with_a_key_of_its_own_misses_none(as_alice: Client, gpt: Agent) -> None:
    gpt.api_key_variable = "SOME_API_KEY"
    gpt.save()
    assert not soup(as_alice.get(reverse("home"))).select(".no-key")


def test_an_agent_of_a_type_that_is_gone_does_no_harm(as_alice: Client, demo: Agent) -> None:
    Agent.objects.create(name="gone", title="Gone", provider="gone", position=4)
    assert as_alice.get(reverse("home")).status_code == 200


def test_a_task_without_a_key_shows_the_same_way_out_and_can_be_tried_again(
    as_alice: Client, alice: User, gpt: Agent
) -> None:
    turn = actions.send(alice, gpt, "Hello")
    hold(turn.task).end(Status.FAILED, error=KeyMissing("There is no key for OpenAI yet.", hint="Add one."))
    failure = soup(as_alice.get(turn.conversation.get_absolute_url())).select_one(".failure")
    assert failure
    assert [link.get_text() for link in failure.select("a")] == ["Add a key", "Connect a server"]
    api_keys.add(alice, "gpt", KEY)
    as_alice.post(failure.select_one("button")["formaction"])  # type: ignore[index,arg-type]
    turn.task.refresh_from_db()
    assert turn.task.status == Status.QUEUED


def test_other_failures_do_not_speak_of_keys(as_alice: Client, turn: Turn) -> None:
    assert not soup(as_alice.get(turn.conversation.get_absolute_url())).select("a[href*=keys]")


def test_who_has_a_key_goes_on_with_the_agent_of_last_time(
    as_alice: Client, alice: User, demo: Agent, gpt: Agent
) -> None:
    def chosen() -> str:
        return str(soup(as_alice.get(reverse("home"))).select_one("#agent [selected]")["value"])  # type: ignore[index]

    assert chosen() == "demo"
    actions.send(alice, gpt, "Hello")
    assert chosen() == "demo", "it could not answer"
    api_keys.add(alice, "gpt", KEY)
    assert chosen() == "gpt"
    actions.send(alice, demo, "Hello")
    assert chosen() == "demo"
    assert Conversation.objects.count() == 2
