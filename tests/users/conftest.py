"""Alice, who has an account; and how tests log in the way a person does."""

from collections.abc import Callable
from threading import Barrier
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from users.models import User

PASSWORD = "correct horse battery"


@pytest.fixture
def alice(db: None) -> User:
    return User.objects.create_user("alice", "alice@example.com", PASSWORD)


@pytest.fixture
def admin(db: None) -> User:
    return User.objects.create_superuser("root", "root@example.com", PASSWORD)


class WaitForTheOther:
    """A password validator that lets two forms through together, after each has looked for names that are taken."""

    barrier = Barrier(2, timeout=10)

    def validate(self, password: str, user: User | None = None) -> None:
        self.barrier.wait()

    def get_help_text(self) -> str:
        return ""


@pytest.fixture
def both_forms_valid(settings: Any) -> None:
    """Of two requests in two threads, neither saves before both are validated."""
    settings.AUTH_PASSWORD_VALIDATORS = [{"NAME": f"{__name__}.WaitForTheOther"}]


@pytest.fixture
def log_in() -> Callable[..., Any]:
    """Send the log-in form and return the response."""

    def send(client: Client, login: str, password: str = PASSWORD, **headers: Any) -> Any:
        return client.post(reverse("account_login"), {"login": login, "password": password}, **headers)

    return send


def is_logged_in(client: Client) -> bool:
    """Whether a page that needs a person opens."""
    return client.get(reverse("account_settings")).status_code == 200
