"""Settings → Servers and agents: connecting a server, its models, and agents of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.contrib.auth.models import Permission
from django.db.models.functions import Now
from django.test import Client
from django.urls import reverse

from conversations import actions
from conversations.servers import make_agent
from executor.checks import check_model_hosts
from executor.models import Agent, Probe
from tests.conversations.test_pages import HTMX, soup, words
from tools.registry import reload_registry
from users import api_keys
from users.models import ApiKey, User

KEY = "sk-canary-of-alice-0123456789-abcd"
ADDRESS = "https://models.example/v1"
LOCAL = "http://127.0.0.1:11434/v1"


def connect(client: Client, base_url: str = ADDRESS, **fields: str) -> Any:
    return client.post(reverse("connect_server"), {"base_url": base_url, **fields})


def answer(probe: Probe, *found: str, problem: str = "") -> Probe:
    """As a worker does."""
    Probe.objects.filter(pk=probe.pk).update(started_at=Now(), ended_at=Now(), found=list(found), problem=problem)
    return Probe.objects.get(pk=probe.pk)


def probed(user: User, *found: str, base_url: str = ADDRESS, provider: str = "openai_compatible") -> Probe:
    return answer(Probe.objects.create(user=user, provider=provider, base_url=base_url), *found)


def names(client: Client, probe: Probe, query: str = "") -> list[str]:
    found = soup(client.get(reverse("server", args=[probe.pk]) + query, **HTMX))
    return [name.get_text() for name in found.select(".model-name")]


def may_add_agents(user: User) -> User:
    user.user_permissions.add(Permission.objects.get(codename="add_agent"))
    return User.objects.get(pk=user.pk)


# --- connecting ------------------------------------------------------------------------------------------------------


def test_a_server_is_asked_for_its_models_with_its_key_kept_as_keys_are(as_alice: Client, alice: User) -> None:
    response = connect(as_alice, " models.example/v1/ ", secret=KEY)
    probe = Probe.objects.get()
    assert response.headers["Location"] == reverse("server", args=[probe.pk])
    assert (probe.user, probe.provider, probe.base_url) == (alice, "openai_compatible", ADDRESS)
    key = ApiKey.objects.get()
    assert (key.owner, key.base_url, api_keys.reveal(key), key.awaits_check) == (alice, ADDRESS, KEY, True)
    shown = as_alice.get(response.headers["Location"]).content.decode()
    assert KEY not in shown
    assert KEY not in str(Probe.objects.values())


def test_a_server_may_want_no_key_and_speak_another_format(as_alice: Client) -> None:
    assert connect(as_alice, provider="claude").status_code == 302
    assert Probe.objects.get().provider == "claude"
    assert not ApiKey.objects.exists()


def test_a_key_that_is_there_is_replaced_only_after_asking(as_alice: Client, alice: User) -> None:
    connect(as_alice, secret=KEY)
    response = connect(as_alice, secret="sk-mistyped-0123456789-0123-wxyz")
    assert response.status_code == 422
    assert "You have a key for this address already: …abcd." in words(response, ".errorlist")
    assert "Replace …abcd" in words(response, ".field.checkbox")
    assert soup(response).select_one("[name=base_url]")["value"] == ADDRESS  # type: ignore[index]
    assert "wxyz" not in response.content.decode()
    assert api_keys.reveal(ApiKey.objects.get()) == KEY
    assert connect(as_alice).status_code == 302, "the stored one is used"
    assert api_keys.reveal(ApiKey.objects.get()) == KEY
    assert connect(as_alice, secret="sk-the-new-one-0123456789-0-wxyz", replace="on").status_code == 302
    assert not soup(as_alice.get(reverse("servers"))).select("[name=replace]")


@pytest.mark.parametrize("problem", ["", "The provider answered 401: No such key."])
def test_a_key_that_is_there_is_used_until_the_new_one_has_passed_its_test(
    as_alice: Client, alice: User, problem: str
) -> None:
    connect(as_alice, secret=KEY)
    response = connect(as_alice, secret="sk-the-new-one-0123456789-0-wxyz", replace="on")
    assert (
        "is used until the new one has passed its test" in as_alice.get(response.headers["Location"]).content.decode()
    )
    assert api_keys.reveal(api_keys.live().get(owner=alice)) == KEY
    new = api_keys.trials().get(owner=alice)
    assert new.awaits_check
    api_keys.record_check(new, problem)
    api_keys.end_trial(new)
    assert api_keys.live().get(owner=alice).fingerprint == ("…abcd" if problem else "…wxyz")
    assert ApiKey.objects.exclude(secret="").count() == 1


PRIVATE = "is not on the public internet. An administrator can allow it in MODEL_HOSTS."
REFUSED = [
    ("", "Enter the address of the server."),
    ("ftp://models.example", "The address must look like https://host/v1"),
    ("https://me:secret@models.example", "The address must look like https://host/v1"),
    ("https://models.example/v1?key=1", "The address must look like https://host/v1"),
    ("https://models.example:99999", "The address must look like https://host/v1"),
    ("https://" + "x" * 400, "This address is too long."),
    ("http://models.example/v1", "Use an address with https://."),
    (LOCAL, PRIVATE),
    ("http://localhost:8080", PRIVATE),
    ("https://ollama/v1", PRIVATE),
    ("https://db.internal", PRIVATE),
    ("https://10.0.0.7", PRIVATE),
    ("http://169.254.169.254/latest", PRIVATE),
    ("https://[::1]:8000", PRIVATE),
    ("https://[::ffff:127.0.0.1]", PRIVATE),
]


@pytest.mark.parametrize(("base_url", "sentence"), REFUSED, ids=[address[:24] or "none" for address, _ in REFUSED])
def test_an_address_that_may_not_be_asked_is_refused_with_a_sentence(
    as_alice: Client, base_url: str, sentence: str
) -> None:
    response = connect(as_alice, base_url, secret=KEY)
    assert response.status_code == 422
    assert sentence in words(response, ".errorlist")
    assert soup(response).select("input[name=base_url]")[0].get("value", "") == base_url
    assert KEY not in response.content.decode()
    assert not Probe.objects.exists()
    assert not ApiKey.objects.exists()


@pytest.mark.parametrize(("field", "value"), [("secret", "two words"), ("provider", "demo"), ("provider", "nobody")])
def test_a_wrong_key_or_format_is_refused_too(as_alice: Client, field: str, value: str) -> None:
    response = connect(as_alice, **{field: value})
    assert response.status_code == 422
    assert soup(response).select(".errorlist")
    assert not Probe.objects.exists()


def test_what_the_administrator_allows_is_offered_and_can_be_connected(
    as_alice: Client, alice: User, settings: Any
) -> None:
    def offered(client: Client) -> list[tuple[str, str]]:
        buttons = soup(client.get(reverse("servers"))).select(".local button")
        return [(button.get_text(), str(button["value"])) for button in buttons]

    assert offered(as_alice) == []
    settings.MODEL_HOSTS = ["127.0.0.1:11434", "gpu:8000", "lm.local"]
    assert offered(as_alice) == [
        ("Ollama", LOCAL),
        ("vLLM", "http://gpu:8000/v1"),
        ("lm.local", "http://lm.local/v1"),
    ]
    assert connect(as_alice, LOCAL).status_code == 302
    assert connect(as_alice, "http://127.0.0.1:22").status_code == 422
    settings.MODEL_HOSTS = []
    may_add_agents(alice)
    assert [name for name, _ in offered(as_alice)] == ["Ollama", "LM Studio", "llama.cpp", "vLLM"]
    assert connect(as_alice, "http://127.0.0.1:22").status_code == 302


@pytest.mark.parametrize(
    ("entry", "address"),
    [
        ("[::1]:8080", "http://[::1]:8080/v1"),
        ("::1", "http://[::1]/v1"),
        ("Ollama:11434", "http://ollama:11434/v1"),
        *((entry, None) for entry in ("http://gpu:1", "gpu:99999", "gpu:x", "[::1", "")),
    ],
)
def test_an_odd_entry_of_what_is_allowed_is_told_in_a_check_and_left_out(
    as_alice: Client, settings: Any, entry: str, address: str | None
) -> None:
    settings.MODEL_HOSTS = [entry]
    page = soup(as_alice.get(reverse("servers")))
    assert [button["value"] for button in page.select(".local button")] == ([address] if address else [])
    if address:
        assert connect(as_alice, address).status_code == 302
        assert check_model_hosts() == []
    elif entry:
        [warning] = check_model_hosts()
        assert warning.msg.startswith(f"MODEL_HOSTS: “{entry}” is no host. Write ")


# --- models ----------------------------------------------------------------------------------------------------------


def test_the_page_asks_until_the_models_are_there(as_alice: Client) -> None:
    connect(as_alice)
    probe = Probe.objects.get()
    url = reverse("server", args=[probe.pk])
    assert soup(as_alice.get(url)).select_one("#models")["hx-get"] == url  # type: ignore[index]
    assert soup(as_alice.get(url)).select("noscript meta[http-equiv=refresh]")
    answer(probe, "b-model", "a-model")
    assert names(as_alice, probe) == ["a-model", "b-model"]
    assert not soup(as_alice.get(url)).select("#models[hx-get], noscript meta[http-equiv=refresh]")


def test_a_server_that_cannot_be_asked_says_why_and_can_be_asked_again(as_alice: Client) -> None:
    connect(as_alice)
    probe = answer(Probe.objects.get(), problem="http://x could not be reached: <b>Connection refused</b>.")
    response = as_alice.get(reverse("server", args=[probe.pk]))
    assert words(response, ".key-problem").startswith("http://x could not be reached: <b>Connection refused</b>.")
    fields = {field["name"]: field["value"] for field in soup(response).select("#models input[type=hidden]")}
    assert connect(as_alice, str(fields["base_url"]), provider=str(fields["provider"])).status_code == 302
    assert Probe.objects.count() == 2


def test_a_server_that_wants_a_key_is_given_one_right_there(as_alice: Client, alice: User) -> None:
    def ask_with(secret: str) -> None:
        probe = answer(Probe.objects.latest("created_at"), problem="https://models.example/v1 wants a key.")
        (form,) = soup(as_alice.get(reverse("server", args=[probe.pk]))).select("#models form:has([name=secret])")
        fields = {str(field["name"]): str(field.get("value", "")) for field in form.select("input")}
        assert (fields["base_url"], fields["provider"]) == (ADDRESS, "claude")
        assert as_alice.post(str(form["action"]), {**fields, "secret": secret}).status_code == 302

    connect(as_alice, provider="claude")
    ask_with("sk-the-wrong-one-0123456789-wxyz")
    api_keys.record_check(ApiKey.objects.get(), "The provider answered 401.")
    ask_with(KEY)  # What is known not to work need not be asked about.
    assert api_keys.reveal(api_keys.live().get()) == KEY
    assert Probe.objects.count() == 3


def test_servers_are_remembered_by_the_agents_and_keys_that_they_are_for(
    as_alice: Client, as_bob: Client, alice: User
) -> None:
    make_agent(alice, "openai_compatible", ADDRESS, "m")
    make_agent(alice, "openai_compatible", ADDRESS, "n")
    make_agent(alice, "gpt", "", "gpt-6.1-sol")
    api_keys.add(alice, "claude", KEY, "https://other.example")
    forms = soup(as_alice.get(reverse("servers"))).select("section:has(#connected) form")
    assert [form.select_one("[name=base_url]")["value"] for form in forms] == [ADDRESS, "https://other.example"]  # type: ignore[index]
    fields = {str(field["name"]): str(field["value"]) for field in forms[1].select("input")}
    assert as_alice.post(str(forms[1]["action"]), fields).status_code == 302
    assert (Probe.objects.get().provider, Probe.objects.get().base_url) == ("claude", "https://other.example")
    assert not soup(as_bob.get(reverse("servers"))).select("#connected")


def test_many_models_are_searched(as_alice: Client, alice: User) -> None:
    probe = probed(alice, *(f"family-{number:03}" for number in range(100)), "Qwen/qwen3:8b")
    assert len(names(as_alice, probe)) == 40
    assert "and 61 more" in words(as_alice.get(reverse("server", args=[probe.pk])), "#models")
    assert names(as_alice, probe, "?q=8b QWEN") == ["Qwen/qwen3:8b"]
    assert names(as_alice, probe, "?q=nothing") == []


def test_a_model_is_tried(as_alice: Client, alice: User) -> None:
    probe = probed(alice, "a", "b")
    url = reverse("try_model", args=[probe.pk])
    asked = soup(as_alice.post(url, {"model": "b"}, **HTMX)).select_one(".tried")
    tried = Probe.objects.exclude(pk=probe.pk).get()
    assert (tried.model, tried.base_url) == ("b", ADDRESS)
    assert asked
    assert asked["hx-get"] == reverse("server", args=[tried.pk])
    answer(tried)
    assert words(as_alice.get(asked["hx-get"], **HTMX), ".tried").startswith("It answered")
    answer(tried, problem="The provider answered 500.")
    assert words(as_alice.get(asked["hx-get"], **HTMX), ".tried.failed") == "The provider answered 500."


def test_without_scripts_a_tried_model_stands_in_front_and_tells(as_alice: Client, alice: User) -> None:
    probe = probed(alice, "a", "b")
    response = as_alice.post(reverse("try_model", args=[probe.pk]), {"model": "b"}, follow=True)
    assert words(response, ".models > li").startswith("b Try Use Asking…")
    assert soup(response).select("noscript meta[http-equiv=refresh]")


@pytest.mark.parametrize("action", ["try_model", "use_model"])
@pytest.mark.parametrize("model", ["", "c", "a\x00"])
def test_a_model_that_the_server_does_not_have_is_refused(
    as_alice: Client, alice: User, action: str, model: str
) -> None:
    probe = probed(alice, "a", "b")
    response = as_alice.post(reverse(action, args=[probe.pk]), {"model": model}, follow=True)
    assert words(response, ".notice") == "The server has no such model any more."
    assert (Probe.objects.count(), Agent.objects.count()) == (1, 0)


def test_a_server_is_asked_so_often_and_no_more(as_alice: Client) -> None:
    assert {connect(as_alice).status_code for _ in range(30)} == {302}
    assert connect(as_alice).status_code == 429


def test_the_models_of_a_key_are_listed_alike(as_alice: Client, alice: User) -> None:
    key = api_keys.add(alice, "claude", KEY)
    response = as_alice.post(reverse("key_models", args=[key.pk]))
    probe = answer(Probe.objects.get(), "claude-sonnet-5-5")
    assert response.headers["Location"] == reverse("server", args=[probe.pk])
    assert (probe.provider, probe.base_url) == ("claude", "")
    as_alice.post(reverse("use_model", args=[probe.pk]), {"model": "claude-sonnet-5-5"})
    agent = Agent.objects.get()
    assert (agent.owner, agent.provider, agent.model, agent.base_url) == (alice, "claude", "claude-sonnet-5-5", "")


# --- agents of one's own ---------------------------------------------------------------------------------------------


def test_a_model_becomes_an_agent_that_only_its_owner_sees(as_alice: Client, as_bob: Client, alice: User) -> None:
    probe = probed(alice, "Qwen/qwen3:8b")
    response = as_alice.post(reverse("use_model", args=[probe.pk]), {"model": "Qwen/qwen3:8b"})
    agent = Agent.objects.get()
    assert response.headers["Location"] == f"{reverse('home')}?agent={agent.name}"
    assert (agent.owner, agent.title, agent.model, agent.base_url) == (alice, "qwen3:8b", "Qwen/qwen3:8b", ADDRESS)
    assert (agent.functions, agent.max_iterations, agent.config().is_personal) == (["*"], 30, True)
    assert "qwen3:8b" in words(as_alice.get(reverse("home")), "main")
    assert "qwen3:8b" not in as_bob.get(reverse("home")).content.decode()
    as_alice.post(reverse("use_model", args=[probe.pk]), {"model": "Qwen/qwen3:8b"})
    assert Agent.objects.count() == 1, "it is there already"


def test_two_people_and_two_servers_get_names_of_their_own(alice: User, bob: User) -> None:
    made = [
        make_agent(user, "openai_compatible", address, model)
        for user in (alice, bob)
        for address in (ADDRESS, LOCAL)
        for model in ("m", "x/m", "🦄", "m" * 120)
    ]
    assert len({agent.name for agent in made}) == 16


def test_a_name_that_many_have_is_still_given(alice: User) -> None:
    taken = [f"alice-m{suffix}" for suffix in ("", *(f"-{number}" for number in range(2, 120)))]
    Agent.objects.bulk_create([Agent(name=name, title="Taken", provider="demo") for name in taken])
    first = make_agent(alice, "openai_compatible", ADDRESS, "m")
    second = make_agent(alice, "openai_compatible", LOCAL, "m")
    assert first.name != second.name
    assert first.name.startswith("alice-m-")
    assert first.name not in taken


@pytest.mark.parametrize(
    ("model", "title"),
    [
        ("Qwen/qwen3:8b", "qwen3:8b"),
        ("日本語", "日本語"),
        ("foo/", "foo/"),
        ("a\u202eb", "ab"),
        ("/", "models.example"),
        (" ", "models.example"),
        ("\u202e", "models.example"),
        ("🦄", "models.example"),
    ],
)
def test_every_agent_has_a_title_that_can_be_read(alice: User, model: str, title: str) -> None:
    assert make_agent(alice, "openai_compatible", ADDRESS, model).title == title


@pytest.mark.parametrize("may", [False, True])
def test_an_agent_for_everybody_is_for_those_who_may_make_one(as_alice: Client, alice: User, may: bool) -> None:
    if may:
        may_add_agents(alice)
    probe = probed(alice, "a")
    shown = soup(as_alice.get(reverse("server", args=[probe.pk])))
    assert bool(shown.select("[name=everybody]")) == may
    as_alice.post(reverse("use_model", args=[probe.pk]), {"model": "a", "everybody": "1"})
    assert (Agent.objects.get().owner is None) == may


def all_of(page: Any) -> str:
    return " ".join(notice.get_text() for notice in soup(page).select("#toasts, .notice"))


def test_an_agent_for_everybody_takes_the_key_along_only_if_its_owner_says_so(
    as_alice: Client, alice: User, bob: User
) -> None:
    own = api_keys.add(alice, "openai_compatible", KEY, ADDRESS)
    may_add_agents(alice)
    probe = probed(alice, "a")
    page, use = reverse("server", args=[probe.pk]), reverse("use_model", args=[probe.pk])
    fields = {"model": "a", "everybody": "1"}
    assert not soup(as_alice.get(page)).select("[name=share_key]"), "she may not give the site a key"
    refused = as_alice.post(use, {**fields, "share_key": "1"}, follow=True)
    assert "everybody else needs a key of their own for models.example" in all_of(refused)
    assert api_keys.find(bob, "openai_compatible", ADDRESS) is None
    User.objects.filter(pk=alice.pk).update(is_staff=True)
    alice.user_permissions.add(Permission.objects.get(codename="add_apikey"))
    assert soup(as_alice.get(page)).select("[name=share_key]:not([checked])")
    assert "needs a key of their own" in all_of(as_alice.post(use, fields, follow=True))
    assert api_keys.find(bob, "openai_compatible", ADDRESS) is None
    assert "with your key …abcd" in all_of(as_alice.post(use, {**fields, "share_key": "1"}, follow=True))
    shared = api_keys.find(bob, "openai_compatible", ADDRESS)
    assert shared
    assert (shared.owner, api_keys.reveal(shared), api_keys.reveal(own)) == (None, KEY, KEY)
    assert not soup(as_alice.get(page)).select("[name=share_key]"), "there is nothing left to ask"


def test_two_agents_of_one_model_are_told_apart_by_their_titles(alice: User) -> None:
    def title(address: str, *, for_everybody: bool = False) -> str:
        return make_agent(alice, "openai_compatible", address, "m", for_everybody=for_everybody).title

    assert [title(ADDRESS), title(ADDRESS, for_everybody=True)] == ["m", "m (for everybody)"]
    assert title("https://other.example/v1") == "m (other.example)"
    assert title("https://other.example/v2") == "m (2)"


def test_an_address_that_is_allowed_no_longer_makes_no_agent(as_alice: Client, alice: User, settings: Any) -> None:
    probe = probed(alice, "a", base_url=LOCAL)
    response = as_alice.post(reverse("use_model", args=[probe.pk]), {"model": "a"}, follow=True)
    assert PRIVATE in words(response, ".notice")
    assert not Agent.objects.exists()


def test_an_agent_of_ones_own_is_changed(as_alice: Client, alice: User) -> None:
    agent = make_agent(alice, "openai_compatible", ADDRESS, "m")
    url = reverse("edit_agent", args=[agent.pk])
    assert len(soup(as_alice.get(url)).select("[name=functions][checked]")) > 3
    fields = {
        "title": " My   model ",
        "instructions": "Be brief.",
        "functions": ["calculate"],
        "owner": "",
        "name": "x",
    }
    assert as_alice.post(url, fields).status_code == 302
    agent.refresh_from_db()
    assert (agent.title, agent.instructions, agent.functions) == ("My model", "Be brief.", ["calculate"])
    assert (agent.owner, agent.name) == (alice, "alice-m")
    assert agent.current_version().config["instructions"] == "Be brief."


@pytest.mark.parametrize("title", ["", "  ", "x" * 81, "a\x00b", "a\u202eb"])
def test_a_name_that_is_none_is_refused(as_alice: Client, alice: User, title: str) -> None:
    agent = make_agent(alice, "openai_compatible", ADDRESS, "m")
    response = as_alice.post(reverse("edit_agent", args=[agent.pk]), {"title": title})
    assert response.status_code == 422
    assert soup(response).select(".errorlist")
    agent.refresh_from_db()
    assert agent.title == "m"


def test_nobody_gives_an_agent_a_function_that_needs_an_administrators_agreement(as_alice: Client, alice: User) -> None:
    dropped = Path(django_settings.FUNCTIONS_DIR) / "wiping.py"
    dropped.parent.mkdir(parents=True, exist_ok=True)
    dropped.write_text('def wipe_disk(name: str) -> str:\n    """Wipe a disk."""\n    return name\n')
    try:
        assert "wipe_disk" in reload_registry().functions
        agent = make_agent(alice, "openai_compatible", ADDRESS, "m")
        url = reverse("edit_agent", args=[agent.pk])
        assert "wipe" not in as_alice.get(url).content.decode().lower()
        assert as_alice.post(url, {"title": "m", "functions": ["wipe_disk"]}).status_code == 422
    finally:
        dropped.unlink()
        reload_registry()


def test_a_deleted_agent_is_gone_and_what_it_said_stays(as_alice: Client, alice: User) -> None:
    used, unused = (make_agent(alice, "openai_compatible", ADDRESS, model) for model in ("used", "unused"))
    turn = actions.send(alice, used, "Hello")
    for agent in (used, unused):
        assert as_alice.post(reverse("delete_agent", args=[agent.pk])).status_code == 302
        assert as_alice.get(reverse("edit_agent", args=[agent.pk])).status_code == 404
    assert not Agent.objects.usable_by(alice).exists()
    assert not Agent.objects.filter(pk=unused.pk).exists()
    assert "Hello" in words(as_alice.get(turn.conversation.get_absolute_url()), "#turns")
