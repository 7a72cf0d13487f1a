"""What differs from allauth's defaults. Everything else about accounts is its settings (agentsite/settings.py)."""

import logging
from smtplib import SMTPException
from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from allauth.core.exceptions import ImmediateHttpResponse
from django.conf import settings
from django.contrib import messages
from django.core.exceptions import ImproperlyConfigured, PermissionDenied
from django.db import IntegrityError, transaction
from django.http import HttpRequest
from django.shortcuts import redirect
from django.urls import reverse

from users.models import User

logger = logging.getLogger(__name__)

# The page that follows shows it anyway.
NEEDLESS_MESSAGES = {"account/messages/logged_in.txt", "account/messages/logged_out.txt"}


def signup_open() -> bool:
    return bool(settings.SIGNUP_OPEN)


class AccountAdapter(DefaultAccountAdapter):  # type: ignore[misc]  # allauth carries no types
    error_messages = DefaultAccountAdapter.error_messages | {
        "too_many_login_attempts": "Too many failed attempts. Wait five minutes, or reset your password.",
        "username_password_mismatch": "This user name and password do not go together.",
        "email_password_mismatch": "This e-mail address and password do not go together.",
        "email_taken": "Somebody uses this e-mail address already. If it is you, log in or reset your password.",
        "username_taken": "This user name is taken.",
        "invalid_password_reset": "This link was used or is too old. Ask for a new one.",
    }

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        return signup_open()

    def get_password_change_redirect_url(self, request: HttpRequest) -> str:
        return reverse("account_settings")

    def add_message(
        self, request: HttpRequest, level: int, message_template: str | None = None, *args: Any, **kwargs: Any
    ) -> None:
        if message_template not in NEEDLESS_MESSAGES:
            super().add_message(request, level, message_template, *args, **kwargs)

    def save_user(self, request: HttpRequest, user: User, form: Any, commit: bool = True) -> User:
        try:
            with transaction.atomic():
                saved: User = super().save_user(request, user, form, commit)
                return saved
        except IntegrityError as error:
            # A double click, or two people who want one name: both forms were valid, the database lets one in.
            messages.error(request, "This user name or e-mail address was taken a moment ago. If it was you, log in.")
            raise ImmediateHttpResponse(redirect("account_login")) from error

    def send_mail(self, template_prefix: str, email: str, context: dict[str, Any]) -> None:
        try:
            super().send_mail(template_prefix, email, context)
        except (OSError, SMTPException) as error:
            # Unknown addresses get a mail as well, so that this page does not tell which addresses are known.
            logger.error("Sending mail failed (%s). Check EMAIL_URL.", type(error).__name__)
            messages.error(self.request, "The mail could not be sent. Try later, or ask your administrator for help.")
            raise ImmediateHttpResponse(redirect("account_reset_password")) from error

    def get_client_ip(self, request: HttpRequest) -> str:
        """The address that rate limits count by: the client's behind TRUSTED_PROXIES proxies, else the peer's.

        A header that does not fit the promised number of proxies did not come through them. Such requests share the
        count of the peer that sent them, so that nobody escapes a limit by what they write into a header.
        """
        try:
            return str(super().get_client_ip(request))
        except (ImproperlyConfigured, PermissionDenied):
            return str(request.META.get("REMOTE_ADDR") or "unknown")

    def _get_login_attempts_cache_key(self, request: HttpRequest, **credentials: Any) -> str:
        # allauth puts the Host header in front, whose port anybody may choose: each would have its own count.
        return str(credentials.get("email") or credentials.get("username") or "").lower()
