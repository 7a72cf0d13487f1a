"""Guessing is slow: log-in, sign-up and reset are limited, and no header buys another try."""

from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser
from django.core.cache import cache
from django.test import Client, RequestFactory
from django.urls import reverse

from tests.users.conftest import PASSWORD, is_logged_in
from users.adapter import AccountAdapter
from users.models import User

TOO_MANY = "Too many failed attempts"


def guess(client: Client, log_in: Any, times: int, **headers: Any) -> None:
    for number in range(times):
        assert TOO_MANY not in log_in(client, "alice", f"guess {number}", **headers).content.decode()


class TestAnAccountThatIsTried:
    def test_refuses_even_the_right_password_after_five_failures(
        self, client: Client, alice: User, log_in: Any
    ) -> None:
        guess(client, log_in, 5)
        assert TOO_MANY in log_in(client, "alice").content.decode()
        assert not is_logged_in(client)

    def test_lets_its_owner_in_before_that(self, client: Client, alice: User, log_in: Any) -> None:
        guess(client, log_in, 4)
        log_in(client, "alice")
        assert is_logged_in(client)

    def test_counts_over_all_addresses_and_names_of_the_site(self, client: Client, alice: User, log_in: Any) -> None:
        for number in range(5):
            log_in(client, "ALICE", "guess", REMOTE_ADDR=f"192.0.2.{number}", HTTP_HOST=f"localhost:{8000 + number}")
        assert TOO_MANY in log_in(client, "alice", REMOTE_ADDR="192.0.2.99", HTTP_HOST="localhost:9").content.decode()

    def test_does_not_count_successes(self, alice: User, log_in: Any) -> None:
        for _ in range(8):
            client = Client()
            log_in(client, "alice")
            assert is_logged_in(client)

    def test_opens_again_once_the_password_was_reset(self, client: Client, alice: User, log_in: Any) -> None:
        guess(client, log_in, 5)
        adapter = AccountAdapter()
        adapter._delete_login_attempts_cached_email(RequestFactory().get("/"), username="alice")
        log_in(client, "alice")
        assert is_logged_in(client)


@pytest.mark.django_db
class TestAnAddressThatGuesses:
    def try_names(self, client: Client, log_in: Any, times: int, **headers: Any) -> str:
        content = ""
        for number in range(times):
            content = log_in(client, f"person{number}", "guess", **headers).content.decode()
        return content

    def test_has_ten_tries_a_minute_whoever_it_tries(self, client: Client, log_in: Any) -> None:
        assert TOO_MANY not in self.try_names(client, log_in, 10)
        assert TOO_MANY in self.try_names(client, log_in, 1)

    def test_leaves_others_alone(self, client: Client, log_in: Any) -> None:
        self.try_names(client, log_in, 11)
        assert TOO_MANY not in self.try_names(client, log_in, 1, REMOTE_ADDR="192.0.2.1")

    def test_gains_nothing_by_writing_headers(self, client: Client, log_in: Any) -> None:
        for number in range(10):
            log_in(client, f"person{number}", "guess", HTTP_X_FORWARDED_FOR=f"192.0.2.{number}")
        assert TOO_MANY in log_in(client, "person", "guess", HTTP_X_FORWARDED_FOR="192.0.2.200").content.decode()

    def test_gains_nothing_by_asking_for_many_names_until_the_counters_are_thrown_away(
        self, client: Client, log_in: Any
    ) -> None:
        self.try_names(client, log_in, 11)
        for number in range(400):
            cache.set(f"zzz:{number}", [1], 300)
        assert TOO_MANY in self.try_names(client, log_in, 1)

    def test_gets_the_page_for_too_many_requests_after_thirty_forms(self, client: Client, log_in: Any) -> None:
        for number in range(30):
            assert log_in(client, f"person{number}", "guess").status_code == 200
        assert log_in(client, "person", "guess").status_code == 429
        assert client.get(reverse("account_login")).status_code == 200

    def test_may_sign_up_thirty_times_in_ten_minutes(self, client: Client) -> None:
        statuses = {client.post(reverse("account_signup"), {}).status_code for _ in range(30)}
        assert statuses == {200}
        assert client.post(reverse("account_signup"), {}).status_code == 429

    def test_may_ask_thrice_to_reset_one_password_and_ten_times_in_all(self, client: Client) -> None:
        def ask(email: str) -> int:
            return client.post(reverse("account_reset_password"), {"email": email}).status_code

        assert [ask("alice@example.com") for _ in range(4)] == [302, 302, 302, 429]
        assert [ask(f"person{number}@example.com") for number in range(6)] == [302] * 6
        assert ask("bob@example.com") == 429


class TestTheAddressThatIsCounted:
    @pytest.mark.parametrize(
        ("proxies", "forwarded", "expected"),
        [
            (0, "203.0.113.9", "192.0.2.1"),
            (1, "203.0.113.9", "203.0.113.9"),
            (1, "10.0.0.1, 203.0.113.9", "203.0.113.9"),
            (2, "10.0.0.1, 203.0.113.9, 198.51.100.2", "203.0.113.9"),
            (2, "203.0.113.9", "192.0.2.1"),
            (1, "unknown", "192.0.2.1"),
            (1, None, "192.0.2.1"),
        ],
    )
    def test_is_the_one_that_the_trusted_proxies_saw(
        self, settings: Any, proxies: int, forwarded: str | None, expected: str
    ) -> None:
        settings.ALLAUTH_TRUSTED_PROXY_COUNT = proxies
        request = RequestFactory(REMOTE_ADDR="192.0.2.1").get("/")
        if forwarded is not None:
            request.META["HTTP_X_FORWARDED_FOR"] = forwarded
        assert AccountAdapter().get_client_ip(request) == expected

    def test_is_one_for_all_when_the_server_listens_on_a_unix_socket(self) -> None:
        request = RequestFactory().get("/", REMOTE_ADDR="")
        request.user = AnonymousUser()
        assert AccountAdapter().get_client_ip(request) == "unknown"


class TestAPersonWhoIsLoggedIn:
    def test_may_guess_the_old_password_five_times_a_minute(self, client: Client, alice: User) -> None:
        client.force_login(alice)
        fields = {"oldpassword": "guess", "password1": "x", "password2": "x"}
        statuses = [client.post(reverse("account_change_password"), fields).status_code for _ in range(6)]
        assert statuses == [200] * 5 + [429]

    def test_may_guess_the_password_in_the_settings_ten_times_a_minute(self, client: Client, alice: User) -> None:
        client.force_login(alice)
        fields = {"email": "mallory@example.com", "current_password": "guess"}
        statuses = [client.post(reverse("account_settings"), fields).status_code for _ in range(11)]
        assert statuses == [200] * 10 + [429]


def test_admin_has_no_log_in_of_its_own(client: Client, admin: User) -> None:
    page = client.get("/admin/", follow=True)
    assert page.redirect_chain[-1][0] == reverse("account_login") + "?next=/admin/"
    client.post("/admin/login/", {"username": "root", "password": PASSWORD, "next": "/admin/"})
    assert not is_logged_in(client)
