"""Signing up, logging in and out, and passwords."""

import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from allauth.account.models import EmailAddress
from django.core import mail
from django.db import IntegrityError, connection
from django.test import Client
from django.urls import reverse

from tests.users.conftest import PASSWORD, is_logged_in
from users.models import User

NEW = "another fine password"


def sign_up(client: Client, username: str, email: str = "", password: str = PASSWORD) -> Any:
    fields = {"username": username, "email": email, "password1": password, "password2": password}
    return client.post(reverse("account_signup"), fields)


def error_of(response: Any) -> str:
    assert response.status_code == 200
    return str(response.context["form"].errors)


@pytest.mark.django_db
class TestSigningUp:
    def test_logs_the_new_person_in_at_once(self, client: Client) -> None:
        response = sign_up(client, "bob", "Bob@Example.com")
        assert response.status_code == 302
        assert response["Location"] == "/"
        assert is_logged_in(client)
        bob = User.objects.get(username="bob")
        assert bob.email == "bob@example.com"
        assert not bob.is_staff
        assert not bob.is_superuser

    def test_needs_no_email_address(self, client: Client) -> None:
        sign_up(client, "bob")
        sign_up(Client(), "charlie")
        assert User.objects.filter(email="").count() == 2

    def test_refuses_a_weak_password(self, client: Client) -> None:
        assert "too common" in error_of(sign_up(client, "bob", password="password1"))
        assert not User.objects.exists()

    @pytest.mark.parametrize(
        "username", ["bob@example.com", "b\u043eb", "-bob", "bob smith", "bob\nsmith", "b" * 65, "b\x00b", "<b>"]
    )
    def test_refuses_a_user_name_that_may_be_taken_for_something_else(self, client: Client, username: str) -> None:
        assert "username" in error_of(sign_up(client, username))
        assert not User.objects.exists()

    def test_refuses_a_name_that_differs_from_another_only_in_case(self, client: Client, alice: User) -> None:
        assert "This user name is taken." in error_of(sign_up(client, "Alice"))

    def test_refuses_an_address_that_somebody_uses(self, client: Client, alice: User) -> None:
        assert "Somebody uses this e-mail address already" in error_of(sign_up(client, "bob", "ALICE@example.com"))

    def test_is_closed_when_the_administrator_says_so(self, client: Client, settings: Any) -> None:
        settings.SIGNUP_OPEN = False
        page = client.get(reverse("account_signup"))
        assert "account/signup_closed.html" in [template.name for template in page.templates]
        sign_up(client, "bob")
        assert not User.objects.exists()

    def test_tells_the_login_page_whether_it_is_open(self, client: Client, settings: Any) -> None:
        assert client.get(reverse("account_login")).context["signup_open"]() is True
        settings.SIGNUP_OPEN = False
        assert client.get(reverse("account_login")).context["signup_open"]() is False


@pytest.mark.django_db(transaction=True)
def test_a_double_click_on_sign_up_makes_one_person_and_no_error(both_forms_valid: None) -> None:
    def click(client: Client) -> Any:
        try:
            return sign_up(client, "bob", "bob@example.com")
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as pool:
        responses = list(pool.map(click, [Client(), Client()]))
    assert User.objects.filter(username="bob").count() == 1
    assert sorted(response["Location"] for response in responses) == ["/", reverse("account_login")]


@pytest.mark.django_db
class TestThePersonInTheDatabase:
    @pytest.mark.parametrize(
        ("username", "email"),
        [("ALICE", "other@example.com"), ("other", "alice@example.com"), ("x", "Alice@Example.com")],
    )
    def test_shares_neither_name_nor_address(self, alice: User, username: str, email: str) -> None:
        with pytest.raises(IntegrityError):
            User.objects.create_user(username, email, PASSWORD)

    def test_is_shown_by_display_name_or_else_by_user_name(self, alice: User) -> None:
        assert alice.get_full_name() == "alice"
        alice.display_name = "Alice Liddell"
        assert alice.get_full_name() == "Alice Liddell"


class TestLoggingIn:
    @pytest.mark.parametrize("login", ["alice", "ALICE", "alice@example.com", " Alice@Example.com "])
    def test_works_with_user_name_and_email_address(self, client: Client, alice: User, log_in: Any, login: str) -> None:
        assert log_in(client, login)["Location"] == "/"
        assert is_logged_in(client)

    @pytest.mark.parametrize("login", ["alice", "alice@example.com", "nobody", "nobody@example.com"])
    def test_refuses_a_wrong_password_in_the_same_words_as_an_unknown_person(
        self, client: Client, alice: User, log_in: Any, login: str
    ) -> None:
        assert "do not go together" in error_of(log_in(client, login, "wrong"))
        assert not is_logged_in(client)

    @pytest.mark.parametrize("login", ["", "x\x00", "x" * 60_000, "%", "\u202e", "x" * 60_000 + "@example.com"])
    def test_answers_senseless_names_with_a_sentence(
        self, client: Client, alice: User, log_in: Any, login: str
    ) -> None:
        assert "errorlist" in error_of(log_in(client, login))

    def test_goes_on_to_the_page_that_was_asked_for(self, client: Client, alice: User) -> None:
        fields = {"login": "alice", "password": PASSWORD, "next": reverse("account_settings")}
        assert client.post(reverse("account_login"), fields)["Location"] == reverse("account_settings")

    @pytest.mark.parametrize(
        "target", ["https://evil.example/", "//evil.example", "javascript:alert(1)", "/\\evil.example"]
    )
    def test_never_goes_on_to_another_site(self, client: Client, alice: User, target: str) -> None:
        fields = {"login": "alice", "password": PASSWORD, "next": target}
        assert client.post(reverse("account_login"), fields)["Location"] == "/"

    def test_wants_the_csrf_token(self, alice: User, log_in: Any) -> None:
        client = Client(enforce_csrf_checks=True)
        assert log_in(client, "alice").status_code == 403

    def test_ends_with_log_out_which_wants_a_post(self, client: Client, alice: User, log_in: Any) -> None:
        log_in(client, "alice")
        assert client.get(reverse("account_logout")).status_code == 200
        assert is_logged_in(client)
        client.post(reverse("account_logout"))
        assert not is_logged_in(client)


class TestChangingThePassword:
    def change(self, client: Client, old: str) -> Any:
        fields = {"oldpassword": old, "password1": NEW, "password2": NEW}
        return client.post(reverse("account_change_password"), fields)

    def test_keeps_this_session_and_ends_the_others(self, client: Client, alice: User, log_in: Any) -> None:
        elsewhere = Client()
        log_in(client, "alice")
        log_in(elsewhere, "alice")
        assert self.change(client, PASSWORD)["Location"] == reverse("account_settings")
        assert is_logged_in(client)
        assert not is_logged_in(elsewhere)
        alice.refresh_from_db()
        assert alice.check_password(NEW)

    def test_wants_the_old_one(self, client: Client, alice: User, log_in: Any) -> None:
        log_in(client, "alice")
        assert "current password" in error_of(self.change(client, "wrong"))

    def test_is_setting_one_for_a_person_without(self, client: Client, db: None) -> None:
        client.force_login(User.objects.create_user("bob"))
        assert client.get(reverse("account_change_password"))["Location"] == reverse("account_set_password")
        assert client.get(reverse("account_set_password")).status_code == 200


class TestResettingThePassword:
    def ask(self, client: Client, email: str) -> Any:
        return client.post(reverse("account_reset_password"), {"email": email})

    def link(self) -> str:
        (message,) = mail.outbox
        assert message.subject.startswith("[AgentSite] ")
        found = re.search(r"https?://[^/]+(/\S+)", str(message.body))
        assert found
        return found[1]

    def test_works_through_the_mailed_link_and_only_once(self, client: Client, alice: User, log_in: Any) -> None:
        assert self.ask(client, "Alice@example.com")["Location"] == reverse("account_reset_password_done")
        assert mail.outbox[0].to == ["alice@example.com"]
        form = client.get(self.link(), follow=True)
        assert "key" not in form.redirect_chain[-1][0].split("-")[-1]
        done = client.post(form.redirect_chain[-1][0], {"password1": NEW, "password2": NEW})
        assert done["Location"] == reverse("account_reset_password_from_key_done")
        assert client.get(done["Location"]).status_code == 200
        log_in(client, "alice", NEW)
        assert is_logged_in(client)
        assert Client().get(self.link()).context["token_fail"]

    def test_answers_unknown_addresses_like_known_ones(self, client: Client, alice: User) -> None:
        known, unknown = self.ask(client, "alice@example.com"), self.ask(client, "nobody@example.com")
        assert (known.status_code, known["Location"]) == (unknown.status_code, unknown["Location"])

    def test_sends_no_link_to_a_suspended_person(self, client: Client, alice: User) -> None:
        alice.is_active = False
        alice.save()
        self.ask(client, "alice@example.com")
        assert "/password/reset/key/" not in "".join(str(message.body) for message in mail.outbox)

    @pytest.mark.parametrize("key", ["1-abc", "zzzzzzzzzzzzz-abc", "0-set-password", "1-" + "x" * 90])
    def test_refuses_a_made_up_link(self, client: Client, alice: User, key: str) -> None:
        assert client.get(f"/accounts/password/reset/key/{key}/").context["token_fail"]

    def test_says_so_when_mail_cannot_be_sent(self, client: Client, alice: User, settings: Any) -> None:
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 1
        response = client.post(reverse("account_reset_password"), {"email": "alice@example.com"}, follow=True)
        assert "The mail could not be sent" in next(str(message) for message in response.context["messages"])

    def test_never_uses_an_address_that_was_given_up(self, client: Client, alice: User) -> None:
        self.ask(client, "alice@example.com")
        assert EmailAddress.objects.filter(user=alice).exists()
        alice.email = "alice@new.example"
        alice.save()
        mail.outbox.clear()
        self.ask(client, "alice@example.com")
        assert "/password/reset/key/" not in str(mail.outbox[0].body)


@pytest.mark.django_db
@pytest.mark.parametrize(
    "address", ["/accounts/email/", "/accounts/confirm-email/", "/accounts/login/code/", "/accounts/reauthenticate/"]
)
def test_what_this_site_does_not_use_of_allauth_is_not_there(client: Client, address: str) -> None:
    assert client.get(address).status_code == 404


@pytest.mark.django_db
@pytest.mark.parametrize("name", ["account_login", "account_signup", "account_reset_password", "account_inactive"])
def test_pages_for_visitors_open(client: Client, name: str) -> None:
    assert client.get(reverse(name)).status_code == 200


@pytest.mark.django_db
@pytest.mark.parametrize("name", ["account_settings", "account_change_password", "account_set_password"])
def test_pages_for_people_send_visitors_to_log_in(client: Client, name: str) -> None:
    assert client.get(reverse(name))["Location"].startswith(reverse("account_login"))
