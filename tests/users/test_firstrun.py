"""The one-time link that makes the first administrator."""

import hashlib
import io
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import IntegrityError, connection
from django.test import Client
from django.utils import timezone

from tests.users.conftest import PASSWORD, is_logged_in
from users.firstrun import create_first_admin, first_admin_needed, link_path, make_link_token
from users.models import FirstAdminToken, User


def fill_in(client: Client, token: str, **changes: str) -> Any:
    fields = {"username": "root", "email": "", "password1": PASSWORD, "password2": PASSWORD} | changes
    return client.post(link_path(token), fields)


def assert_invalid(response: Any, *, needed: bool) -> None:
    assert response.status_code == 410
    assert response.context["first_admin_needed"] is needed


@pytest.mark.django_db
class TestTheLink:
    def test_makes_an_administrator_and_logs_them_in(self, client: Client) -> None:
        assert first_admin_needed()
        token = make_link_token()
        assert client.get(link_path(token)).status_code == 200
        assert fill_in(client, token, email="Root@Example.com")["Location"] == "/"
        assert is_logged_in(client)
        assert client.get("/admin/").status_code == 200
        root = User.objects.get()
        assert (root.username, root.email, root.is_superuser) == ("root", "root@example.com", True)
        assert not first_admin_needed()

    def test_works_once(self, client: Client) -> None:
        token = make_link_token()
        fill_in(client, token)
        assert_invalid(Client().get(link_path(token)), needed=False)
        assert_invalid(fill_in(Client(), token, username="mallory"), needed=False)
        assert User.objects.count() == 1

    def test_is_not_used_up_by_opening_it_or_by_a_mistake(self, client: Client) -> None:
        token = make_link_token()
        assert client.head(link_path(token)).status_code == 200
        for mistake in ({"password2": "other"}, {"password1": "123", "password2": "123"}, {"username": "a@b.c"}):
            response = fill_in(client, token, **mistake)
            assert response.status_code == 200
            assert response.context["form"].errors
        assert fill_in(client, token).status_code == 302

    def test_does_not_take_the_name_or_address_of_somebody_who_signed_up(self, client: Client, alice: User) -> None:
        token = make_link_token()
        assert fill_in(client, token, username="Alice").context["form"].errors
        assert fill_in(client, token, email="ALICE@example.com").context["form"].errors
        assert first_admin_needed()

    def test_stops_working_when_a_newer_one_is_made(self, client: Client) -> None:
        old, new = make_link_token(), make_link_token()
        assert_invalid(fill_in(client, old), needed=True)
        assert fill_in(client, new).status_code == 302

    def test_stops_working_after_a_day(self, client: Client) -> None:
        token = make_link_token()
        left = FirstAdminToken.objects.get().expires_at - timezone.now()
        assert timedelta(hours=23, minutes=59) < left <= timedelta(hours=24)
        FirstAdminToken.objects.update(expires_at=timezone.now())
        assert_invalid(client.get(link_path(token)), needed=True)
        assert_invalid(fill_in(client, token), needed=True)

    def test_stops_working_when_an_administrator_is_made_otherwise(self, client: Client) -> None:
        token = make_link_token()
        admin = User.objects.create_superuser("root", password=PASSWORD)
        assert_invalid(fill_in(client, token, username="mallory"), needed=False)
        admin.is_active = False
        admin.save()
        assert_invalid(fill_in(client, token, username="mallory"), needed=False)

    @pytest.mark.parametrize("token", ["x", "x" * 5000, "%00", "é", "..", "%ED%A0%80"])
    def test_cannot_be_guessed(self, client: Client, token: str) -> None:
        make_link_token()
        assert client.get(f"/accounts/first-admin/{token}/").status_code == 410

    def test_is_stored_as_a_digest_only(self) -> None:
        token = make_link_token()
        assert FirstAdminToken.objects.get().digest == hashlib.sha256(token.encode()).hexdigest()
        assert make_link_token() != token

    def test_is_kept_out_of_caches_and_referers(self, client: Client) -> None:
        token = make_link_token()
        for response in (client.get(link_path(token)), client.get(link_path("x"))):
            assert "no-store" in response["Cache-Control"]
            assert response["Referrer-Policy"] == "strict-origin"

    def test_wants_the_csrf_token(self) -> None:
        assert fill_in(Client(enforce_csrf_checks=True), make_link_token()).status_code == 403


@pytest.mark.django_db(transaction=True)
def test_of_two_people_with_one_link_one_becomes_administrator(both_forms_valid: None) -> None:
    token = make_link_token()

    def send(username: str) -> Any:
        try:
            return fill_in(Client(), token, username=username)
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as pool:
        responses = list(pool.map(send, ["alice", "mallory"]))
    assert sorted(response.status_code for response in responses) == [302, 410]
    assert User.objects.filter(is_superuser=True).count() == 1
    assert User.objects.count() == 1


@pytest.mark.django_db
def test_a_token_that_was_used_between_looking_and_saving_makes_nobody_administrator() -> None:
    make_link_token()
    assert create_first_admin("another", User(username="mallory")) is False
    assert not User.objects.exists()


@pytest.mark.django_db
def test_a_name_that_was_taken_between_looking_and_saving_leaves_the_link_valid(alice: User) -> None:
    token = make_link_token()
    with pytest.raises(IntegrityError):
        create_first_admin(token, User(username="alice"))
    assert create_first_admin(token, User(username="root")) is True


@pytest.mark.django_db
class TestTheCommand:
    def test_prints_a_link_that_works(self, client: Client) -> None:
        out = io.StringIO()
        call_command("first_admin_link", "--site", "https://chat.example/", stdout=out)
        link = out.getvalue().strip()
        assert link.startswith("https://chat.example/accounts/first-admin/")
        assert client.get(link.removeprefix("https://chat.example")).status_code == 200

    def test_says_what_to_do_when_there_is_an_administrator(self, admin: User) -> None:
        with pytest.raises(CommandError, match="changepassword"):
            call_command("first_admin_link")
        assert not FirstAdminToken.objects.exists()
