"""The person who uses AgentSite, and the ticket that makes the first administrator."""

import unicodedata
from typing import Any

from django.contrib.auth.models import AbstractUser
from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator
from django.db import models
from django.db.models.functions import Lower

# No "@", so that a user name is never somebody's e-mail address; no look-alike letters, so that it names one person.
validate_username = RegexValidator(
    r"\A[A-Za-z0-9][A-Za-z0-9._-]*\Z",
    "Use letters a to z, digits, dots, dashes and underscores, and begin with a letter or a digit.",
)

# They turn the text around them: a name that holds one can make a whole line read as something else.
BIDI_CONTROLS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def validate_single_line(value: str) -> None:
    """Refuse line breaks, control characters and marks that reverse the reading direction."""
    if any(unicodedata.category(char) == "Cc" or char in BIDI_CONTROLS for char in value):
        raise ValidationError("Use one line of ordinary characters.")


class User(AbstractUser):
    """A person. Suspending one is unticking `is_active`.

    `email` is the one address of a person. allauth's own table of addresses follows it (signals.py).
    """

    username = models.CharField(
        "user name",
        max_length=64,
        unique=True,
        validators=[validate_username],
        error_messages={"unique": "This user name is taken."},
        help_text="Letters a to z, digits, dots, dashes and underscores.",
    )
    # Where a person meets us matters more than how they are filed: one field, shown as written.
    display_name = models.CharField(
        "name",
        max_length=80,
        blank=True,
        validators=[validate_single_line],
        help_text="How agents and pages address you.",
    )
    first_name = None  # type: ignore[assignment]
    last_name = None  # type: ignore[assignment]
    is_active = models.BooleanField(
        "active",
        default=True,
        help_text="Untick to suspend: every session ends at once and log-in is refused. Nothing is deleted.",
    )

    class Meta:
        verbose_name = "person"
        verbose_name_plural = "people"
        constraints = [
            models.UniqueConstraint(
                Lower("username"), name="one_person_per_username", violation_error_message="This user name is taken."
            ),
            models.UniqueConstraint(
                Lower("email"),
                condition=~models.Q(email=""),
                name="one_person_per_email",
                violation_error_message="Somebody uses this e-mail address already.",
            ),
        ]

    def save(self, *args: Any, **kwargs: Any) -> None:
        # allauth looks addresses up in lower case.
        self.email = self.email.lower()
        super().save(*args, **kwargs)

    def get_full_name(self) -> str:
        return self.display_name or self.username

    def get_short_name(self) -> str:
        return self.get_full_name()


class FirstAdminToken(models.Model):
    """The one link that makes the first administrator. One row at most; a newer link replaces the older.

    `digest` is the SHA-256 of the token in hexadecimal: who reads the database cannot use the link.
    """

    digest = models.CharField(max_length=64, unique=True)
    expires_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"valid until {self.expires_at:%Y-%m-%d %H:%M} UTC"
