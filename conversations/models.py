"""A conversation is a place for turns; a turn is a person's words and the task that answers them.

What the agent did is never copied here: pages read the task's steps.
"""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.urls import reverse
from uuid_utils.compat import uuid7

from executor.models import Agent, Task

TITLE_LENGTH = 120


class Conversation(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="conversations")
    agent = models.ForeignKey(
        Agent, models.SET_NULL, null=True, blank=True, related_name="+", help_text="Who answers the next message."
    )
    title = models.CharField(max_length=TITLE_LENGTH)
    pinned = models.BooleanField(default=False)
    created_at = models.DateTimeField(auto_now_add=True)
    active_at = models.DateTimeField(help_text="The last message was sent then.")
    seen_at = models.DateTimeField(null=True, blank=True, help_text="The person last looked at it.")
    deleted_at = models.DateTimeField(null=True, blank=True, help_text="In the bin since then; removed for good later.")

    class Meta:
        ordering = ("-active_at",)
        indexes = [models.Index(fields=("user", "-active_at"), name="conversation_by_user")]
        permissions = [("review_conversation", "Can read other people's conversations")]

    def __str__(self) -> str:
        return self.title

    def get_absolute_url(self) -> str:
        return reverse("conversation", args=[self.pk])


class Turn(models.Model):
    """`parent` is the turn before it; two turns with one parent are variants of each other."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    conversation = models.ForeignKey(Conversation, models.CASCADE, related_name="turns")
    parent = models.ForeignKey("self", models.SET_NULL, null=True, blank=True, related_name="children")
    task = models.OneToOneField(Task, models.RESTRICT, related_name="turn")
    position = models.PositiveIntegerField(help_text="Counts from 1 along the branch.")
    shown = models.BooleanField(default=True, help_text="It is part of the variant that the page shows.")
    text = models.TextField(help_text="The person's words, as sent.")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("position",)
        indexes = [models.Index(fields=("conversation", "-position"), name="turn_by_position")]

    def __str__(self) -> str:
        return f"{self.position}. {self.text[:60]}"


class Memory(models.Model):
    """A short fact about a person that an agent wrote down for later conversations. The verbs are in memory.py."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="memories")
    text = models.CharField(max_length=500)
    conversation = models.ForeignKey(
        Conversation, models.SET_NULL, null=True, blank=True, related_name="+", help_text="Where it was said."
    )
    remembered_at = models.DateTimeField(help_text="When it was last told.")

    class Meta:
        ordering = ("-remembered_at", "-pk")
        indexes = [models.Index(fields=("user", "-remembered_at"), name="memory_by_user")]

    def __str__(self) -> str:
        return self.text[:60]


class MemoryOff(models.Model):
    """A row means that nothing is to be remembered of this person."""

    user = models.OneToOneField(settings.AUTH_USER_MODEL, models.CASCADE, primary_key=True, related_name="+")

    def __str__(self) -> str:
        return f"Nothing is remembered of {self.user}"
