"""The first administrator is made by whoever can read the server's output, through a link that works once."""

import hashlib
import secrets
from datetime import timedelta

from django.db import transaction
from django.urls import reverse
from django.utils import timezone

from users.models import FirstAdminToken, User

LIFETIME = timedelta(hours=24)


def first_admin_needed() -> bool:
    """Whether nobody administers this site yet. A suspended administrator counts: no stranger may take their place."""
    return not User.objects.filter(is_superuser=True).exists()


def make_link_token() -> str:
    """Return a new token of 43 URL-safe characters, valid for 24 hours. Older ones stop working.

    Only its digest is stored, so it cannot be shown again.
    """
    token = secrets.token_urlsafe(32)
    FirstAdminToken.objects.update_or_create(
        pk=1, defaults={"digest": digest(token), "expires_at": timezone.now() + LIFETIME}
    )
    return token


def link_path(token: str) -> str:
    """The address of the form, without scheme and host."""
    return reverse("first_admin", args=[token])


def is_valid(token: str) -> bool:
    return (
        FirstAdminToken.objects.filter(digest=digest(token), expires_at__gt=timezone.now()).exists()
        and first_admin_needed()
    )


def create_first_admin(token: str, user: User) -> bool:
    """Save `user` as the first administrator and use the token up, or change nothing and return False.

    Raises IntegrityError when the name or address was taken meanwhile; the token stays valid then.
    """
    with transaction.atomic():
        # Of two people with one link, one deletes the row and the other finds none.
        used, _ = FirstAdminToken.objects.filter(digest=digest(token), expires_at__gt=timezone.now()).delete()
        if not used or not first_admin_needed():
            return False
        user.is_staff = user.is_superuser = True
        user.save()
    return True


def digest(token: str) -> str:
    # The token has 256 random bits, so nothing slower than one hash is needed.
    return hashlib.sha256(token.encode()).hexdigest()
