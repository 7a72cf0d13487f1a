"""A person's own settings."""

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from tests.users.conftest import PASSWORD
from users.models import User


@pytest.fixture
def client(client: Client, alice: User) -> Client:
    client.force_login(alice)
    return client


def save(client: Client, **fields: str) -> Any:
    return client.post(reverse("account_settings"), {"display_name": "", "email": "alice@example.com"} | fields)


def test_saves_the_name_without_asking_for_the_password(client: Client, alice: User) -> None:
    assert save(client, display_name="Alice 🦄 李")["Location"] == reverse("account_settings")
    alice.refresh_from_db()
    assert alice.display_name == "Alice 🦄 李"
    assert [str(message) for message in client.get(reverse("account_settings")).context["messages"]] == ["Saved."]


@pytest.mark.parametrize("name", ["x" * 81, "a\nb", "a\x00b", "a\x1bb", "\u202egnp.exe"])
def test_refuses_a_name_that_breaks_or_turns_the_line(client: Client, alice: User, name: str) -> None:
    response = save(client, display_name=name)
    assert response.context["form"].errors.keys() == {"display_name"}
    assert response.context["user"].display_name == ""
    alice.refresh_from_db()
    assert alice.display_name == ""


def test_changes_the_address_with_the_password(client: Client, alice: User) -> None:
    assert save(client, email="Alice@New.example", current_password=PASSWORD).status_code == 302
    alice.refresh_from_db()
    assert alice.email == "alice@new.example"


@pytest.mark.parametrize("password", ["", "wrong"])
def test_keeps_the_address_without_the_password(client: Client, alice: User, password: str) -> None:
    response = save(client, email="mallory@example.com", current_password=password)
    assert response.context["form"].errors.keys() == {"current_password"}
    alice.refresh_from_db()
    assert alice.email == "alice@example.com"


def test_refuses_the_address_of_somebody_else(client: Client, alice: User) -> None:
    User.objects.create_user("bob", "bob@example.com")
    response = save(client, email="BOB@example.com", current_password=PASSWORD)
    assert "Somebody uses this e-mail address already" in str(response.context["form"].errors)
    alice.refresh_from_db()
    assert alice.email == "alice@example.com"


def test_cannot_be_used_to_gain_rights(client: Client, alice: User) -> None:
    save(client, is_staff="on", is_superuser="on", username="root", is_active="")
    alice.refresh_from_db()
    assert (alice.is_staff, alice.is_superuser, alice.username, alice.is_active) == (False, False, "alice", True)


def test_takes_no_other_method(client: Client) -> None:
    assert client.delete(reverse("account_settings")).status_code == 405
