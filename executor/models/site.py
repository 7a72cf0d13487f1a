"""Rows beside the tasks: accounts of a day, workers, questions to servers, and who read what."""

from __future__ import annotations

from decimal import Decimal

from django.conf import settings
from django.db import models
from django.db.models.functions import Now
from uuid_utils.compat import uuid7


class DayAccount(models.Model):
    """What the tasks of a person used on one day of the site's time zone, so that limits of a day hold.

    `reserved` is what questions that are being asked may cost at most, as far as a limit applies to the person; it is
    given back, or spent, with the answer.
    """

    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="day_accounts")
    day = models.DateField()
    tokens = models.PositiveBigIntegerField(default=0)
    cost = models.DecimalField(max_digits=14, decimal_places=8, default=Decimal(0))
    reserved = models.DecimalField(max_digits=14, decimal_places=8, default=Decimal(0))
    reserved_tokens = models.PositiveBigIntegerField(default=0)

    class Meta:
        constraints = [models.UniqueConstraint(fields=("user", "day"), name="one_account_per_day")]

    def __str__(self) -> str:
        return f"{self.user} on {self.day}"


class Worker(models.Model):
    """A worker process, as it last reported itself."""

    owner = models.CharField(max_length=120, primary_key=True)
    host = models.CharField(max_length=80)
    pid = models.PositiveIntegerField()
    started_at = models.DateTimeField(auto_now_add=True)
    beat_at = models.DateTimeField(help_text="Its heart last beat, by the database's clock.")
    running = models.PositiveIntegerField(default=0)
    sandbox = models.JSONField(
        null=True, blank=True, help_text="Whether it can run code: ok, mode, reason, hint. Empty: it is still trying."
    )

    class Meta:
        ordering = ("-beat_at",)

    def __str__(self) -> str:
        return f"{self.host}:{self.pid}"


class Probe(models.Model):
    """A question of a person to a provider or a server: which models it has or, with `model`, whether that one answers.

    A page asks and a worker answers (probes.py); they meet in this row, which lives for a day.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="+")
    provider = models.CharField(max_length=40)
    base_url = models.CharField(max_length=300, blank=True)
    model = models.CharField(max_length=200, blank=True)
    found = models.JSONField(default=list, help_text="The names of the models it has.")
    problem = models.TextField(blank=True, help_text="Why there is no answer, a sentence. Empty: there is one.")
    created_at = models.DateTimeField(db_default=Now(), db_index=True)
    started_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"{self.model or 'models'} at {self.base_url or self.provider}"


class ReviewLog(models.Model):
    """Somebody read what another person said to an agent, or what it answered. Names outlive the people."""

    reviewer = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+")
    reviewer_name = models.CharField("who", max_length=64)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+")
    owner_name = models.CharField("whose", max_length=64, blank=True, help_text="Empty for a list of several people's.")
    what = models.CharField(max_length=200)
    path = models.CharField(max_length=500, help_text="The page.")
    created_at = models.DateTimeField("when", db_default=Now(), db_index=True)

    class Meta:
        ordering = ("-id",)
        verbose_name = "review"
        verbose_name_plural = "review log"

    def __str__(self) -> str:
        return f"{self.reviewer_name}: {self.what}"


class UsageOverview(models.Model):
    """No table: a place in admin, with a permission of its own, for the page that adds up what everybody used."""

    class Meta:
        managed = False
        default_permissions = ("view",)
        verbose_name = "usage"
        verbose_name_plural = "usage"

    def __str__(self) -> str:
        return "Usage"
