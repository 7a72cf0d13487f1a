"""Rights end at once, and whoever holds something open for a person is told."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.sessions.models import Session
from django.db import connection
from django.test import Client
from django.urls import reverse

from tests.users.conftest import PASSWORD, is_logged_in
from users.models import User
from users.signals import rights_changed


@pytest.fixture
def told() -> Iterator[list[int]]:
    """The ids of people that were announced."""
    ids: list[int] = []

    def hear(user_id: int, **kwargs: Any) -> None:
        ids.append(user_id)

    rights_changed.connect(hear)
    yield ids
    rights_changed.disconnect(hear)


def suspend(user: User) -> None:
    user.is_active = False
    user.save(update_fields=["is_active"])


class TestASuspendedPerson:
    def test_is_out_with_the_next_request(self, client: Client, alice: User, log_in: Any) -> None:
        log_in(client, "alice")
        assert is_logged_in(client)
        suspend(alice)
        assert not is_logged_in(client)

    def test_is_told_so_when_the_password_is_right(self, client: Client, alice: User, log_in: Any) -> None:
        suspend(alice)
        assert log_in(client, "alice")["Location"] == reverse("account_inactive")
        assert not is_logged_in(client)
        assert client.get(reverse("account_inactive")).status_code == 200

    def test_is_not_betrayed_to_somebody_who_guesses(self, client: Client, alice: User, log_in: Any) -> None:
        suspend(alice)
        assert "do not go together" in log_in(client, "alice", "guess").content.decode()

    def test_is_back_with_the_old_session_when_readmitted(self, client: Client, alice: User, log_in: Any) -> None:
        log_in(client, "alice")
        suspend(alice)
        alice.is_active = True
        alice.save()
        assert is_logged_in(client)


class TestRightsChanged:
    @pytest.mark.parametrize("field", ["is_active", "is_staff", "is_superuser"])
    def test_is_sent_when_a_right_changes(
        self, alice: User, told: list[int], django_capture_on_commit_callbacks: Callable[..., Any], field: str
    ) -> None:
        with django_capture_on_commit_callbacks(execute=True):
            setattr(alice, field, not getattr(alice, field))
            alice.save()
            assert told == []  # not before the change is there to be seen
        assert told == [alice.pk]

    def test_is_sent_when_the_password_changes(
        self, client: Client, alice: User, told: list[int], django_capture_on_commit_callbacks: Callable[..., Any]
    ) -> None:
        client.force_login(alice)
        fields = {"oldpassword": PASSWORD, "password1": "another fine one", "password2": "another fine one"}
        with django_capture_on_commit_callbacks(execute=True):
            client.post(reverse("account_change_password"), fields)
        assert told == [alice.pk]

    def test_is_sent_on_log_out(
        self, client: Client, alice: User, told: list[int], django_capture_on_commit_callbacks: Callable[..., Any]
    ) -> None:
        client.force_login(alice)
        with django_capture_on_commit_callbacks(execute=True):
            client.post(reverse("account_logout"))
        assert told == [alice.pk]

    def test_is_sent_when_a_person_is_deleted(
        self, alice: User, told: list[int], django_capture_on_commit_callbacks: Callable[..., Any]
    ) -> None:
        user_id = alice.pk
        with django_capture_on_commit_callbacks(execute=True):
            alice.delete()
        assert told == [user_id]

    def test_is_not_sent_for_anything_else(
        self,
        client: Client,
        alice: User,
        log_in: Any,
        told: list[int],
        django_capture_on_commit_callbacks: Callable[..., Any],
    ) -> None:
        with django_capture_on_commit_callbacks(execute=True):
            User.objects.create_user("bob")
            alice.display_name = "Alice"
            alice.save()
            log_in(client, "alice")
        assert told == []

    def test_a_listener_that_fails_does_not_undo_a_log_out(
        self, client: Client, alice: User, django_capture_on_commit_callbacks: Callable[..., Any]
    ) -> None:
        def fail(**kwargs: Any) -> None:
            raise ConnectionError("Redis is away")

        rights_changed.connect(fail)
        try:
            client.force_login(alice)
            with django_capture_on_commit_callbacks(execute=True):
                assert client.post(reverse("account_logout")).status_code == 302
        finally:
            rights_changed.disconnect(fail)
        assert not is_logged_in(client)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("how", ["suspend", "log out", "delete"])
def test_whoever_hears_that_rights_have_changed_finds_them_changed(client: Client, alice: User, how: str) -> None:
    """Told any sooner, a socket that looks or comes again is let in, and nobody tells it a second time."""
    client.force_login(alice)
    seen: list[tuple[bool, bool]] = []

    def look(user_id: int, **kwargs: Any) -> None:
        assert not connection.in_atomic_block
        seen.append((User.objects.filter(pk=user_id, is_active=True).exists(), Session.objects.exists()))

    rights_changed.connect(look)
    try:
        match how:
            case "suspend":
                suspend(alice)
            case "log out":
                client.post(reverse("account_logout"))
            case "delete":
                alice.delete()
    finally:
        rights_changed.disconnect(look)
    assert seen == [(how == "log out", how != "log out")]
