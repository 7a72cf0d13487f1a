"""API keys: whose is used where, what people are told about them, and that nobody sees one."""

import base64
import io
import logging
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission
from django.core.management import call_command
from django.db import IntegrityError, connection, transaction
from django.db.models import F
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from django.views.debug import ExceptionReporter

from tests.users.conftest import PASSWORD
from users import api_keys, keyring, vault
from users.api_keys import add, find, live, reveal, revoke, touch
from users.models import ApiKey, KeyState, User
from users.vault import KeyringError, NeedsReentry

CANARY = "sk-canary-0123456789-abcdefghij"
OTHER = "sk-another-0123456789-abcdefwxyz"
LOCAL = "http://127.0.0.1:11434/v1"
RING, NEW = keyring.new_entry(), keyring.new_entry()

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def ring(settings: Any) -> None:
    settings.KEYRING = RING


@pytest.fixture
def bob(db: None) -> User:
    return User.objects.create_user("bob", password=PASSWORD)


@pytest.fixture
def team(alice: User) -> Group:
    """A group with Alice and without Bob."""
    group = Group.objects.create(name="team")
    group.user_set.add(alice)
    return group


def tells(text: str) -> bool:
    """Whether the canary, or what can be read as it, stands in `text`."""
    forms = [base64.b64encode(b"_" * shift + CANARY.encode()).decode()[4 if shift else 0 : -4] for shift in range(3)]
    return any(form in text for form in (CANARY[:16], CANARY[-12:], *forms))


class TestAPersonsKey:
    def test_is_found_and_read_for_its_owner_only(self, alice: User, bob: User) -> None:
        key = add(alice, "gpt", CANARY, label="mine")
        assert find(alice, "gpt") == key
        assert reveal(key) == CANARY
        assert key.state == KeyState.READY
        assert find(bob, "gpt") is None
        assert find(alice, "claude") is None

    def test_is_for_the_address_it_was_entered_for(self, alice: User) -> None:
        key = add(alice, "gpt", CANARY, "HTTP://127.0.0.1:11434/v1/")
        assert key.base_url == LOCAL
        assert find(alice, "gpt", f" {LOCAL}// ") == key
        for other in ("", "http://127.0.0.1:11435/v1", "https://127.0.0.1:11434/v1", f"{LOCAL}/x", "nonsense", "//["):
            assert find(alice, "gpt", other) is None

    @pytest.mark.parametrize(
        "change",
        [{"base_url": "https://evil.example"}, {"provider": "claude"}, {"owner": None}, {"secret": F("label")}],
    )
    def test_in_a_row_that_was_tampered_with_needs_re_entry(self, alice: User, change: dict[str, Any]) -> None:
        key = add(alice, "gpt", CANARY, label="v1:x:AAAA")
        ApiKey.objects.update(**change)
        key.refresh_from_db()
        with pytest.raises(NeedsReentry):
            reveal(key)
        key.refresh_from_db()
        assert key.state == KeyState.NEEDS_REENTRY

    def test_copied_to_another_person_needs_re_entry_and_harms_no_other(self, alice: User, bob: User) -> None:
        hers, his = add(alice, "gpt", CANARY), add(bob, "gpt", OTHER)
        ApiKey.objects.filter(pk=his.pk).update(secret=hers.secret)
        his.refresh_from_db()
        with pytest.raises(NeedsReentry):
            reveal(his)
        assert ApiKey.objects.get(pk=his.pk).state == KeyState.NEEDS_REENTRY
        assert reveal(ApiKey.objects.get(pk=hers.pk)) == CANARY
        assert ApiKey.objects.get(pk=hers.pk).state == KeyState.READY
        assert reveal(add(bob, "gpt", OTHER)) == OTHER

    def test_whose_ring_key_is_gone_is_ready_again_when_that_comes_back(self, alice: User, settings: Any) -> None:
        key = add(alice, "gpt", CANARY)
        settings.KEYRING = NEW
        assert key.state == KeyState.NEEDS_REENTRY
        with pytest.raises(NeedsReentry):
            reveal(key)
        settings.KEYRING = f"{NEW},{RING}"
        key = ApiKey.objects.get()
        assert key.state == KeyState.READY
        assert reveal(key) == CANARY

    def test_is_ready_again_once_it_could_be_read(self, alice: User) -> None:
        key = add(alice, "gpt", CANARY)
        ApiKey.objects.update(broken=True)
        found = ApiKey.objects.get(pk=key.pk)
        assert found.state == KeyState.NEEDS_REENTRY
        reveal(found)
        assert ApiKey.objects.get(pk=key.pk).state == KeyState.READY

    def test_is_replaced_by_the_next_one_for_the_same_place(self, alice: User) -> None:
        old, elsewhere, new = add(alice, "gpt", CANARY), add(alice, "gpt", CANARY, LOCAL), add(alice, "gpt", OTHER)
        old.refresh_from_db()
        assert (old.state, old.secret) == (KeyState.REVOKED, "")
        assert find(alice, "gpt") == new
        assert reveal(new) == OTHER
        assert find(alice, "gpt", LOCAL) == elsewhere

    def test_that_could_not_be_tested_is_used_until_the_next_one_has_passed(self, alice: User) -> None:
        """Only one that is known to fail gives way at once."""
        api_keys.record_check(old := add(alice, "gpt", CANARY), "Could not be tested: nobody answered.")
        assert add(alice, "gpt", OTHER, on_trial=True).on_trial
        api_keys.record_check(old, "The provider answered 401.")
        assert not add(alice, "gpt", OTHER, on_trial=True).on_trial
        assert reveal(live().get()) == OTHER

    def test_that_is_refused_leaves_the_old_one_as_it_is(self, alice: User, settings: Any) -> None:
        old = add(alice, "gpt", CANARY)
        with pytest.raises(ValueError, match="spaces"):
            add(alice, "gpt", "two words")
        settings.KEYRING = "garbled"
        with pytest.raises(KeyringError):
            add(alice, "gpt", OTHER)
        settings.KEYRING = RING
        assert find(alice, "gpt") == old
        assert reveal(old) == CANARY

    def test_that_is_revoked_is_wiped_and_stays_as_history(self, alice: User) -> None:
        key, stale = add(alice, "gpt", CANARY), find(alice, "gpt")
        assert stale
        assert revoke(key)
        assert not revoke(stale)
        row = ApiKey.objects.get(pk=key.pk)
        assert (row.secret, row.state, row.fingerprint) == ("", KeyState.REVOKED, "…ghij")
        assert find(alice, "gpt") is None
        with pytest.raises(NeedsReentry, match="revoked"):
            reveal(row)

    def test_goes_with_the_person(self, alice: User, bob: User) -> None:
        add(alice, "gpt", CANARY)
        kept = add(bob, "gpt", OTHER)
        alice.delete()
        assert list(ApiKey.objects.all()) == [kept]

    def test_is_of_no_use_to_who_is_suspended(self, alice: User) -> None:
        add(alice, "gpt", CANARY)
        add(None, "gpt", OTHER)
        assert find(alice, "gpt")
        alice.is_active = False
        assert find(alice, "gpt") is None


class TestTheSitesKey:
    def test_is_used_by_everybody_unless_it_has_groups(self, alice: User, bob: User, team: Group) -> None:
        everybodys, teams = add(None, "gpt", CANARY), add(None, "claude", CANARY, groups=[team])
        assert find(alice, "gpt") == find(bob, "gpt") == everybodys
        assert find(alice, "claude") == teams
        assert find(bob, "claude") is None
        assert reveal(teams) == CANARY

    def test_comes_after_the_persons_own_in_whatever_state_that_is(self, alice: User, settings: Any) -> None:
        sites, own = add(None, "gpt", CANARY), add(alice, "gpt", OTHER)
        assert find(alice, "gpt") == own
        ApiKey.objects.filter(pk=own.pk).update(broken=True)
        assert find(alice, "gpt") == own
        revoke(own)
        assert find(alice, "gpt") == sites

    def test_is_found_once_by_one_question_however_many_groups_share_it(
        self, alice: User, team: Group, django_assert_num_queries: Any
    ) -> None:
        second = Group.objects.create(name="second")
        second.user_set.add(alice)
        key = add(None, "gpt", CANARY, groups=[team, second])
        with django_assert_num_queries(1):
            assert find(alice, "gpt") == key

    def test_of_a_group_that_is_deleted_does_not_become_everybodys(self, alice: User, team: Group) -> None:
        key = add(None, "gpt", CANARY, groups=[team])
        team.delete()
        assert live().get() == key
        assert find(alice, "gpt") is None

    def test_and_only_that_is_shared(self, alice: User, team: Group) -> None:
        with pytest.raises(ValueError, match="Only the site's keys"):
            add(alice, "gpt", CANARY, groups=[team])
        assert not ApiKey.objects.exists()


class TestTheDatabase:
    @pytest.mark.parametrize("of_the_site", [True, False])
    def test_has_one_live_key_of_an_owner_for_a_place(self, alice: User, of_the_site: bool) -> None:
        key = add(None if of_the_site else alice, "gpt", CANARY)
        key.pk = None
        with pytest.raises(IntegrityError), transaction.atomic():
            key.save(force_insert=True)
        revoke(live().get())
        key.save(force_insert=True)

    @pytest.mark.parametrize("change", [{"secret": ""}, {"revoked_at": timezone.now()}, {"restricted": True}])
    def test_holds_that_a_live_key_has_a_secret_and_a_revoked_one_none(
        self, alice: User, change: dict[str, Any]
    ) -> None:
        add(alice, "gpt", CANARY)
        with pytest.raises(IntegrityError), transaction.atomic():
            ApiKey.objects.update(**change)


@pytest.mark.django_db(transaction=True)
def test_of_keys_that_are_stored_at_once_one_stays_and_nobody_gets_an_error(alice: User) -> None:
    def store(number: int) -> None:
        try:
            add(alice, "gpt", f"{CANARY}{number}")
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(store, range(20)))
    assert ApiKey.objects.count() == 20
    assert reveal(live().get()).startswith(CANARY)


class TestUse:
    def test_is_written_down_once_a_minute(self, alice: User, django_assert_num_queries: Any) -> None:
        key = add(alice, "gpt", CANARY)
        assert key.last_used_at is None
        touch(key)
        with django_assert_num_queries(0):
            touch(key)
        stale, before = ApiKey.objects.get(pk=key.pk), ApiKey.objects.get(pk=key.pk).last_used_at
        assert before
        stale.last_used_at = None  # As another worker has it, which found the key before it was used.
        touch(stale)
        assert ApiKey.objects.get(pk=key.pk).last_used_at == before
        ApiKey.objects.update(last_used_at=before - timedelta(minutes=2))
        touch(ApiKey.objects.get(pk=key.pk))
        later = ApiKey.objects.get(pk=key.pk).last_used_at
        assert later
        assert later >= before

    def test_and_tests_tell_whether_it_works(self, alice: User) -> None:
        key = add(alice, "gpt", CANARY)
        api_keys.record_check(key, "The provider does not know this key." + "x" * 400)
        key = ApiKey.objects.get(pk=key.pk)
        assert (key.state, len(key.check_problem)) == (KeyState.FAILED, 300)
        assert key.checked_at
        api_keys.record_check(key, "")
        assert ApiKey.objects.get(pk=key.pk).state == KeyState.READY


class TestWhatIsEntered:
    @pytest.mark.parametrize(
        "text", [CANARY, f"  {CANARY}\n", f"Bearer {CANARY}", f"Authorization: bearer {CANARY}", f'"{CANARY}"']
    )
    def test_is_tidied(self, alice: User, text: str) -> None:
        assert api_keys.looks_like_a_key(text) == ""
        assert reveal(add(alice, "gpt", text)) == CANARY

    @pytest.mark.parametrize("text", ["x", "not-needed", "a" * 4000, "eyJhb.eyJzd.SflKx==", "AIza_-/+:@!"])
    def test_may_be_any_kind_of_key(self, text: str) -> None:
        assert api_keys.looks_like_a_key(text) == ""

    @pytest.mark.parametrize(
        ("text", "sentence"),
        [
            ("", "Enter the key."),
            (" \n\t", "Enter the key."),
            ("Bearer ", "Enter the key."),
            (f"{CANARY} {CANARY}", "spaces or line breaks"),
            (f"{CANARY}\n{CANARY}", "spaces or line breaks"),
            (f"{CANARY}\x00", "plain letters"),
            (f"{CANARY}\u200b", "plain letters"),
            (f"{CANARY}\ud800", "plain letters"),
            ("schlüssel", "plain letters"),
            (f"OPENAI_API_KEY={CANARY}", "without the name"),
            (f'"{CANARY}', "quotation marks"),
            ("sk-…abcd", "as it is displayed"),
            ("sk-...abcd", "as it is displayed"),
            ("sk-****abcd", "as it is displayed"),
            ("https://host/v1", "This is an address"),
            ("x" * 4001, "too long"),
            ("x" * 10_000_000, "too long"),
        ],
    )
    def test_that_is_no_key_is_refused_in_a_sentence_that_does_not_repeat_it(self, text: str, sentence: str) -> None:
        problem = api_keys.looks_like_a_key(text)
        assert sentence in problem
        assert not tells(problem)
        with pytest.raises(ValueError, match=r"\.$"):
            add(None, "gpt", text)
        assert not ApiKey.objects.exists()

    @pytest.mark.parametrize(
        "text",
        [
            *("ftp://host/v1", "host/v1", "https://", "https://user:pass@host/v1", "https://host/v1?key=x", "x" * 301),
            *("https://host/v1#x", "https://ho st/v1", "https://host\\@evil/", "http://[::1", "http://host:99999/v1"),
            *("http://host:0/v1", "https://host/\x00", "https://host/v1\nX: y", "javascript:alert(1)"),
        ],
    )
    def test_as_an_address_that_is_none_is_refused(self, text: str) -> None:
        with pytest.raises(ValueError, match="The address must look like"):
            add(None, "gpt", CANARY, text)

    @pytest.mark.parametrize(
        "wrong",
        [
            {"provider": ""},
            {"provider": "g p t"},
            {"label": "x" * 81},
            {"label": "a\nb"},
            {"base_url": f"http://{'h' * 300}"},
        ],
    )
    def test_besides_a_key_that_will_not_do_is_refused(self, wrong: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match=r"\.$"):
            add(None, **{"provider": "gpt", "secret": CANARY, **wrong})

    def test_is_recognised_by_its_end_but_a_short_key_by_a_hash(self, settings: Any) -> None:
        assert api_keys.fingerprint(CANARY) == "…ghij"
        short = api_keys.fingerprint("hunter2")
        assert "er2" not in short
        assert short == api_keys.fingerprint("hunter2") != api_keys.fingerprint("hunter3")
        settings.SECRET_KEY = "another site's" * 5
        assert short != api_keys.fingerprint("hunter2")


class TestASecret:
    def test_is_in_no_repr_log_dump_or_error_page(
        self, alice: User, caplog: pytest.LogCaptureFixture, settings: Any
    ) -> None:
        caplog.set_level(logging.DEBUG)
        key = add(alice, "gpt", CANARY, label="mine")
        out = io.StringIO()
        call_command("rotate_keys", stdout=out)
        call_command("dumpdata", "users", "auth", "admin", stdout=out)
        assert '"label": "mine"' in out.getvalue()
        for text in (repr(key), str(key), repr(ApiKey.objects.all()), repr(list(live().values())), out.getvalue()):
            assert not tells(text)
        settings.KEYRING = f"{RING},garbled"
        pages = [error_page(add, alice, "gpt", CANARY), error_page(reveal, key), error_page(vault.encrypt, 1, CANARY)]
        settings.KEYRING = NEW
        pages.append(error_page(reveal, key))
        for page in pages:
            assert "users/vault.py" in page
            assert not tells(page)
            assert RING[-20:] not in page
        assert not tells(caplog.text)


def error_page(call: Callable[..., Any], *arguments: Any) -> str:
    """What Django reports of the error, with the variables of every frame below this one."""
    try:
        call(*arguments)
    except (KeyringError, NeedsReentry):
        kind, error, trace = sys.exc_info()
        assert trace
        reporter = ExceptionReporter(None, kind, error, trace.tb_next)
        return reporter.get_traceback_html() + reporter.get_traceback_text()
    raise AssertionError("It did not fail.")


class TestInAdmin:
    LIST, ADD = "admin:users_apikey_changelist", "admin:users_apikey_add"

    @pytest.fixture
    def client(self, client: Client, admin: User) -> Client:
        client.force_login(admin)
        return client

    def page(self, key: ApiKey) -> str:
        return reverse("admin:users_apikey_change", args=[key.pk])

    def everything(self, client: Client, key: ApiKey) -> str:
        """All pages on which a key could show, as text."""
        history = reverse("admin:users_apikey_history", args=[key.pk])
        addresses = (reverse(self.LIST), reverse(self.ADD), self.page(key), history, reverse("admin:index"))
        return "".join(client.get(address).content.decode() for address in addresses)

    def test_a_key_of_the_site_is_added_for_groups_and_not_shown_again(
        self, client: Client, alice: User, bob: User, team: Group
    ) -> None:
        fields = {"provider": "gpt", "base_url": LOCAL + "/", "key": f" {CANARY} ", "label": "ours"}
        added = client.post(reverse(self.ADD), {**fields, "restricted": "on", "groups": [team.pk]}, follow=True)
        assert "was added successfully" in added.content.decode()
        assert not tells(added.content.decode())
        key = live().get()
        assert (key.owner, key.base_url, key.restricted) == (None, LOCAL, True)
        assert reveal(key) == CANARY
        assert find(alice, "gpt", LOCAL) == key
        assert find(bob, "gpt", LOCAL) is None
        assert "…ghij" in (pages := self.everything(client, key))
        assert not tells(pages)
        assert key.secret not in pages

    @pytest.mark.parametrize(
        ("change", "sentence"),
        [
            ({"key": f"{CANARY} {CANARY}"}, "A key has no spaces"),
            ({"key": CANARY * 200}, "has at most 4000 characters"),
            ({"key": ""}, "This field is required"),
            ({"base_url": "host"}, "The address must look like"),
            ({"provider": "no_such"}, "Select a valid choice. no_such is not one of the available choices"),
            ({"provider": "demo"}, "Select a valid choice."),
            ({"label": "a\u202eb"}, "Use one line"),
            ({"groups": "team"}, "Tick this as well"),
            ({"restricted": "on"}, "Choose a group"),
        ],
    )
    def test_what_will_not_do_is_refused_without_showing_the_key(
        self, client: Client, team: Group, change: dict[str, str], sentence: str
    ) -> None:
        change = {name: str(team.pk) if value == "team" else value for name, value in change.items()}
        refused = client.post(reverse(self.ADD), {"provider": "gpt", "key": CANARY, **change})
        assert refused.status_code == 200
        assert sentence in refused.content.decode()
        assert not tells(refused.content.decode())
        assert not ApiKey.objects.exists()

    def test_a_key_that_works_is_used_until_the_new_one_has_passed_its_test(self, client: Client) -> None:
        old = add(None, "gpt", CANARY)
        added = client.post(reverse(self.ADD), {"provider": "gpt", "key": OTHER}, follow=True).content.decode()
        assert "is used until the new one has passed its test" in added
        assert reveal(live().get()) == CANARY
        new = api_keys.trials().get()
        assert (new.awaits_check, new.state) == (True, KeyState.ON_TRIAL)
        api_keys.record_check(new, "Could not be tested: nobody answered.")
        api_keys.end_trial(new)
        assert reveal(live().get()) == CANARY
        assert "This key is still used. The new one, …wxyz, is not" in client.get(self.page(old)).content.decode()
        client.post(reverse(self.ADD), {"provider": "gpt", "key": OTHER})
        new = api_keys.trials().get()
        api_keys.record_check(new, "")
        api_keys.end_trial(new)
        assert reveal(live().get()) == OTHER
        assert not ApiKey.objects.get(pk=old.pk).secret

    def test_keys_are_tested_again_but_not_those_that_are_revoked(self, client: Client) -> None:
        gone, used = add(None, "gpt", CANARY), add(None, "claude", CANARY)
        trial = add(None, "claude", OTHER, on_trial=True)
        revoke(gone)
        chosen = {"action": "test", "_selected_action": [gone.pk, used.pk, trial.pk]}
        assert "2 are being tested" in client.post(reverse(self.LIST), chosen, follow=True).content.decode()
        assert [ApiKey.objects.get(pk=key.pk).awaits_check for key in (gone, used, trial)] == [False, True, True]

    def test_providers_that_take_keys_are_offered_by_name(self, client: Client) -> None:
        page = client.get(reverse(self.ADD)).content.decode()
        for name in ("gpt", "claude", "gemini", "openai_compatible"):
            assert f'<option value="{name}">' in page
        assert '<option value="demo">' not in page

    def test_a_keyring_that_is_wrong_is_said(self, client: Client, settings: Any, alice: User) -> None:
        key = add(alice, "gpt", CANARY)
        settings.KEYRING = "garbled"
        refused = client.post(reverse(self.ADD), {"provider": "gpt", "key": CANARY})
        assert "No key can be stored now. Entry 1 of KEYRING" in refused.content.decode()
        assert "needs re-entry" in self.everything(client, key)

    def test_who_may_use_a_key_of_the_site_can_be_changed_and_nothing_else(
        self, client: Client, bob: User, team: Group
    ) -> None:
        key = add(None, "gpt", CANARY, groups=[team])
        assert (
            client.post(self.page(key), {"restricted": "on", "provider": "evil", "base_url": LOCAL}).status_code == 302
        )
        assert find(bob, "gpt") is None
        assert client.post(self.page(key), {"label": "all", "secret": "x"}).status_code == 302
        assert find(bob, "gpt") == key
        assert reveal(ApiKey.objects.get()) == CANARY

    def test_a_persons_key_can_be_looked_at_and_revoked_but_neither_changed_nor_deleted(
        self, client: Client, alice: User
    ) -> None:
        key = add(alice, "gpt", CANARY, label="mine")
        shown = client.get(self.page(key)).content.decode()
        assert "alice" in shown
        assert "…ghij" in shown
        assert client.post(self.page(key), {"label": "yours"}).status_code == 403
        assert client.post(reverse("admin:users_apikey_delete", args=[key.pk]), {"post": "yes"}).status_code == 403
        act = {"action": "revoke", "_selected_action": [key.pk]}
        assert "1 revoked." in client.post(reverse(self.LIST), act, follow=True).content.decode()
        assert "0 revoked." in client.post(reverse(self.LIST), act, follow=True).content.decode()
        assert find(alice, "gpt") is None
        pages = self.everything(client, key)
        assert "Revoked." in pages
        assert not tells(pages)

    def test_a_person_is_deleted_with_their_keys(self, client: Client, alice: User) -> None:
        add(alice, "gpt", CANARY)
        address = reverse("admin:users_user_delete", args=[alice.pk])
        assert "API keys: 1" in client.get(address).content.decode()
        assert client.post(address, {"post": "yes"}).status_code == 302
        assert not ApiKey.objects.exists()

    @pytest.mark.parametrize("query", ["secret__startswith=v", "secret=v1", "owner__password__startswith=m"])
    def test_no_address_asks_for_what_is_not_shown(self, client: Client, alice: User, query: str) -> None:
        add(alice, "gpt", CANARY)
        assert client.get(f"{reverse(self.LIST)}?provider=gpt").status_code == 200
        assert client.get(f"{reverse(self.LIST)}?{query}").status_code == 400

    @pytest.mark.parametrize("right", ["", "view", "change", "add"])
    def test_staff_see_and_do_what_they_have_the_right_to(self, alice: User, right: str) -> None:
        key = add(alice, "gpt", CANARY)
        helper = User.objects.create_user("helper", password=PASSWORD, is_staff=True)
        helper.user_permissions.set(Permission.objects.filter(codename=f"{right}_apikey"))
        client = Client()
        client.force_login(helper)
        assert (client.get(reverse(self.LIST)).status_code == 200) == (right in ("view", "change"))
        assert (client.get(reverse(self.ADD)).status_code == 200) == (right == "add")
        client.post(reverse(self.LIST), {"action": "revoke", "_selected_action": [key.pk]})
        assert (ApiKey.objects.get().state == KeyState.REVOKED) == (right == "change")
