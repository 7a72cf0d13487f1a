"""What others must hear about people, and what must follow when a person changes.

`rights_changed(sender=User, user_id=int)` is sent once the change is committed: a person was suspended or deleted,
changed their password (which ends their other sessions), gained or lost staff rights, or logged out of a session.
Whoever holds something open for that person closes it; what may still be open connects again by itself.

A change through `QuerySet.update` is not seen. Save the person instead.
"""

from typing import Any

from allauth.account.models import EmailAddress
from django.contrib.auth.signals import user_logged_out
from django.db import transaction
from django.db.models.signals import post_delete, post_save, pre_save
from django.dispatch import Signal, receiver
from django.http import HttpRequest

from users.models import User

rights_changed = Signal()

RIGHTS = ("is_active", "password", "is_staff", "is_superuser")


def announce(user_id: int) -> None:
    """Send `rights_changed` on commit. A receiver that fails (say, Redis is away) must not undo a log-out."""
    transaction.on_commit(lambda: rights_changed.send_robust(sender=User, user_id=user_id))


@receiver(pre_save, sender=User)
def notice_changed_rights(instance: User, update_fields: frozenset[str] | None, **kwargs: Any) -> None:
    watched = [field for field in RIGHTS if update_fields is None or field in update_fields]
    if instance.pk is None or not watched:
        return
    before = User.objects.filter(pk=instance.pk).values(*watched).first()
    if before and any(before[field] != getattr(instance, field) for field in watched):
        announce(instance.pk)


@receiver(post_save, sender=User)
def forget_old_addresses(instance: User, update_fields: frozenset[str] | None, **kwargs: Any) -> None:
    """An address that a person gave up must neither log them in nor receive a link to reset their password."""
    if update_fields is None or "email" in update_fields:
        EmailAddress.objects.filter(user=instance).exclude(email=instance.email).delete()


@receiver(post_delete, sender=User)
def notice_deletion(instance: User, **kwargs: Any) -> None:
    announce(instance.pk)


@receiver(user_logged_out)
def notice_logout(request: HttpRequest, user: User | None, **kwargs: Any) -> None:
    if user is not None:
        # Django ends the session after this signal: whoever heard of it before would find it as it was.
        request.session.flush()
        announce(user.pk)
