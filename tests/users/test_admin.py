"""People in Django admin."""

from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse

from executor import accounts
from executor.accounts import DayLimits, Reservation
from tests.users.conftest import PASSWORD, is_logged_in
from users.models import User

LIST = "admin:users_user_changelist"


@pytest.fixture
def helper(db: None) -> User:
    """Staff who may edit people and nothing else."""
    user = User.objects.create_user("helper", password=PASSWORD, is_staff=True)
    user.user_permissions.set(Permission.objects.filter(content_type__app_label="users"))
    return user


def act(client: Client, action: str, *people: User) -> Any:
    fields = {"action": action, "_selected_action": [person.pk for person in people]}
    return client.post(reverse(LIST), fields, follow=True)


def change(client: Client, person: User, **fields: str) -> Any:
    values = {
        "username": person.username,
        "display_name": person.display_name,
        "email": person.email,
        "is_active": "on",
    }
    return client.post(reverse("admin:users_user_change", args=[person.pk]), values | fields)


class TestAnAdministrator:
    @pytest.fixture
    def client(self, client: Client, admin: User) -> Client:
        client.force_login(admin)
        return client

    def test_finds_people_by_name_and_address(self, client: Client, alice: User) -> None:
        alice.display_name = "Wonderland"
        alice.save()
        for query in ("alice", "wonder", "alice@example"):
            assert list(client.get(reverse(LIST), {"q": query}).context["cl"].result_list) == [alice]

    def test_adds_a_person_who_can_log_in(self, client: Client, log_in: Any) -> None:
        fields = {
            "username": "bob",
            "email": "bob@example.com",
            "usable_password": "true",
            "password1": PASSWORD,
            "password2": PASSWORD,
        }
        assert client.post(reverse("admin:users_user_add"), fields).status_code == 302
        bob = Client()
        log_in(bob, "bob@example.com")
        assert is_logged_in(bob)

    def test_suspends_people_and_lets_them_back_in(self, client: Client, alice: User, admin: User) -> None:
        elsewhere = Client()
        elsewhere.force_login(alice)
        assert "1 suspended." in act(client, "suspend", alice, admin).content.decode()
        assert not is_logged_in(elsewhere)
        admin.refresh_from_db()
        assert admin.is_active
        act(client, "readmit", alice)
        alice.refresh_from_db()
        assert alice.is_active

    def test_limits_what_a_person_may_use_on_a_day_and_sees_what_they_used(
        self, client: Client, alice: User, settings: Any
    ) -> None:
        settings.DAY_LIMIT_COST = Decimal("2.5")
        page = reverse("admin:users_user_change", args=[alice.pk])
        shown = client.get(page).content.decode()
        assert "$2.50" in shown
        assert "Nothing." in shown
        for wrong in ({"max_tokens_per_day": "0.5"}, {"max_cost_per_day": "-1"}):
            assert change(client, alice, **wrong).status_code == 200
        assert change(client, alice, max_tokens_per_day="50000", max_cost_per_day="0").status_code == 302
        alice.refresh_from_db()
        assert (alice.max_tokens_per_day, alice.max_cost_per_day) == (50_000, Decimal(0))
        accounts.book(alice.pk, accounts.today(), 1_200, Decimal("0.03"))
        assert accounts.reserve(alice.pk, Reservation(accounts.today(), 300), DayLimits(50_000))
        shown = client.get(page).content.decode()
        assert "50,000 tokens · $0.00" in shown
        assert "1.2k tokens · $0.03 Held back for what is being asked: 300 tokens" in shown
        assert "0\xa0bytes of 1.0\xa0GB." in shown
        assert change(client, alice, max_files_mb="3").status_code == 302
        alice.refresh_from_db()
        assert alice.bytes_of_files == 3 * 1024**2

    def test_edits_a_person(self, client: Client, alice: User) -> None:
        assert client.get(reverse("admin:users_user_change", args=[alice.pk])).status_code == 200
        assert change(client, alice, display_name="Alice L.", is_staff="on").status_code == 302
        alice.refresh_from_db()
        assert (alice.display_name, alice.is_staff) == ("Alice L.", True)

    def test_is_told_when_an_address_is_taken(self, client: Client, alice: User) -> None:
        bob = User.objects.create_user("bob", "bob@example.com")
        assert "Somebody uses this e-mail address already" in change(client, bob, email=alice.email).content.decode()

    def test_sees_one_table_of_people_and_no_second_table_of_addresses(self, client: Client) -> None:
        assert "emailaddress" not in client.get("/admin/").content.decode()


class TestAHelper:
    @pytest.fixture
    def client(self, client: Client, helper: User) -> Client:
        client.force_login(helper)
        return client

    def test_may_suspend_people(self, client: Client, alice: User) -> None:
        act(client, "suspend", alice)
        alice.refresh_from_db()
        assert not alice.is_active

    def test_cannot_make_anybody_an_administrator(self, client: Client, alice: User, helper: User) -> None:
        for person in (alice, helper):
            change(client, person, is_staff="on", is_superuser="on", user_permissions="1")
            person.refresh_from_db()
            assert not person.is_superuser
        assert not alice.is_staff
        assert not alice.user_permissions.exists()

    def test_cannot_touch_an_administrator(self, client: Client, admin: User) -> None:
        assert change(client, admin, email="mallory@example.com").status_code == 403
        password = reverse("admin:auth_user_password_change", args=[admin.pk])
        assert client.post(password, {"password1": "x", "password2": "x"}).status_code == 403
        assert client.post(reverse("admin:users_user_delete", args=[admin.pk]), {"post": "yes"}).status_code == 403
        act(client, "suspend", admin)
        client.post(reverse(LIST), {"action": "delete_selected", "_selected_action": [admin.pk], "post": "yes"})
        admin.refresh_from_db()
        assert admin.is_active

    def test_cannot_touch_others_of_the_staff_who_may_have_more_rights(self, client: Client, alice: User) -> None:
        reviewer = User.objects.create_user("reviewer", password=PASSWORD, is_staff=True)
        new = {"password1": "Korrekt-Pferd-9", "password2": "Korrekt-Pferd-9", "usable_password": "true"}
        for person, status in ((reviewer, 403), (alice, 302)):
            password = reverse("admin:auth_user_password_change", args=[person.pk])
            assert client.post(password, new).status_code == status
            assert change(client, person, email=f"{person}@mallory.example").status_code == status
            person.refresh_from_db()
            assert person.check_password("Korrekt-Pferd-9") is (person == alice)
            assert person.email.endswith("@mallory.example") is (person == alice)


class TestAnOutsider:
    def test_is_refused(self, client: Client, alice: User) -> None:
        client.force_login(alice)
        assert client.get(reverse(LIST), follow=True).status_code == 403
