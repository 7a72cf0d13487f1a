"""The person who uses AgentSite, their API keys, and the ticket that makes the first administrator."""

import unicodedata
from enum import StrEnum
from typing import Any

from django.conf import settings
from django.contrib.auth.models import AbstractUser, Group
from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator
from django.db import models, transaction
from django.db.models.functions import Lower

from users import vault

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
    max_tokens_per_day = models.PositiveBigIntegerField(
        "tokens per day",
        null=True,
        blank=True,
        help_text="How many tokens their tasks may use on a day. Empty: as the site's settings say.",
    )
    max_cost_per_day = models.DecimalField(
        "dollars per day",
        max_digits=10,
        decimal_places=4,
        null=True,
        blank=True,
        help_text="What their tasks may cost on a day, in US dollars. Empty: as the site's settings say.",
    )

    max_files_mb = models.PositiveIntegerField(
        "megabytes of files",
        null=True,
        blank=True,
        help_text="How much their files may take together. Empty: as the site's settings say.",
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
        # What follows from a change (users/signals.py) is part of it, and "on commit" means after it.
        with transaction.atomic():
            super().save(*args, **kwargs)

    @property
    def bytes_of_files(self) -> int | None:
        """How much their files may take together; None: as much as they like."""
        megabytes = settings.FILES_MB if self.max_files_mb is None else self.max_files_mb
        return None if megabytes is None else megabytes * 1024**2

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


#: How the problem of a key begins of which nothing was learnt, as nobody answered.
UNTESTED = "Could not be tested: "


class KeyState(StrEnum):
    """What can be said of an API key."""

    READY = "ready"
    NEEDS_REENTRY = "needs re-entry"
    REVOKED = "revoked"
    FAILED = "failed its test"
    UNTESTED = "could not be tested"
    ON_TRIAL = "not in use before its test"


class ApiKey(models.Model):
    """A key for a provider of language models: a person's, or (`owner` None) the site's. The verbs are in api_keys.py.

    `secret` is a ciphertext of the vault. A key that is replaced or revoked loses it and stays for the history of what
    it was used for.
    """

    owner = models.ForeignKey(
        User, on_delete=models.CASCADE, null=True, blank=True, related_name="api_keys", help_text="None: the site's."
    )
    restricted = models.BooleanField(
        "only for these groups",
        default=False,
        help_text="A site's key that is restricted is for the members of the groups below and for nobody else, "
        "also when its last group is deleted. Otherwise it is for everybody.",
    )
    groups = models.ManyToManyField(Group, blank=True, related_name="api_keys")
    provider = models.SlugField(max_length=40, help_text="As agents name it.")
    base_url = models.CharField(
        "address",
        max_length=300,
        blank=True,
        help_text="The only address that the key is sent to. Empty: the provider's own.",
    )
    label = models.CharField(max_length=80, blank=True, validators=[validate_single_line])
    secret = models.TextField(editable=False)
    fingerprint = models.CharField(max_length=16, editable=False, help_text="Enough to recognise it, not to use it.")
    created_at = models.DateTimeField("added", auto_now_add=True)
    changed_at = models.DateTimeField("changed", auto_now_add=True)
    last_used_at = models.DateTimeField("last used", null=True, editable=False)
    checked_at = models.DateTimeField("tested", null=True, editable=False)
    check_problem = models.CharField(max_length=300, blank=True, editable=False, help_text="Empty: it worked.")
    check_note = models.CharField(max_length=300, blank=True, editable=False, help_text="What else the test found.")
    check_asked_at = models.DateTimeField(null=True, editable=False, help_text="The last test was asked for then.")
    broken = models.BooleanField(default=False, editable=False, help_text="Its secret was found not to decrypt.")
    on_trial = models.BooleanField(
        default=False, editable=False, help_text="It takes the place of the one in use when it has passed its test."
    )
    revoked_at = models.DateTimeField("revoked", null=True, editable=False)

    class Meta:
        verbose_name = "API key"
        verbose_name_plural = "API keys"
        default_permissions = ("add", "change", "view")  # They are revoked, not deleted.
        constraints = [
            # Two, because NULLs differ from each other in an index.
            models.UniqueConstraint(
                fields=["owner", "provider", "base_url"],
                condition=models.Q(revoked_at=None, on_trial=False),
                name="one_live_key_per_person_and_place",
            ),
            models.UniqueConstraint(
                fields=["provider", "base_url"],
                condition=models.Q(owner=None, revoked_at=None, on_trial=False),
                name="one_live_site_key_per_place",
            ),
            models.CheckConstraint(
                condition=models.Q(~models.Q(secret=""), revoked_at=None)
                | models.Q(secret="", revoked_at__isnull=False),
                name="only_live_keys_have_a_secret",
            ),
            models.CheckConstraint(
                condition=models.Q(owner=None) | models.Q(restricted=False), name="own_keys_are_not_shared"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.provider} {self.fingerprint}"

    @property
    def place(self) -> str:
        """What the secret is bound to besides its owner: in another place it does not decrypt."""
        return f"{self.provider} {self.base_url}"

    @property
    def awaits_check(self) -> bool:
        """A test was asked for, and has not been answered."""
        return bool(self.check_asked_at and (self.checked_at is None or self.checked_at < self.check_asked_at))

    @property
    def state(self) -> KeyState:
        """Told without decrypting anything."""
        if self.revoked_at:
            return KeyState.REVOKED
        if self.broken or not vault.knows(self.secret):
            return KeyState.NEEDS_REENTRY
        if self.on_trial:
            return KeyState.ON_TRIAL
        if self.check_problem.startswith(UNTESTED):
            return KeyState.UNTESTED
        return KeyState.FAILED if self.check_problem else KeyState.READY
