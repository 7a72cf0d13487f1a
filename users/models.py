"""The person who uses AgentSite."""

from typing import ClassVar

from django.contrib.auth.models import AbstractUser, UserManager
from django.db import models


class User(AbstractUser):
    """A person. Suspending one is unticking `is_active`."""

    # Where a person meets us matters more than how they are filed: one field, shown as written.
    display_name = models.CharField("name", max_length=80, blank=True, help_text="How agents and pages address you.")
    first_name = None  # type: ignore[assignment]
    last_name = None  # type: ignore[assignment]

    objects: ClassVar[UserManager["User"]] = UserManager()

    def get_full_name(self) -> str:
        return self.display_name or self.username

    def get_short_name(self) -> str:
        return self.get_full_name()
