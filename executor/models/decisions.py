"""What people are asked while a task is at work, and what they agreed to for good."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models.functions import Now

from executor.models.tasks import Step, Task


class Decision(models.Model):
    """Something that a person is asked to decide before a task goes on. Waiting for it holds no worker.

    It is about one call (`step`), with exactly these arguments (`arguments_digest`), or about the task as a whole. What
    was agreed to is used once: `consumed_at` is written together with the beginning of the call.
    """

    class Kind(models.TextChoices):
        APPROVAL = "approval", "May it run?"
        QUESTION = "question", "Question"
        PLAN = "plan", "Plan"
        UNKNOWN = "unknown", "May have run"
        LIMIT = "limit", "Limit"

    class Status(models.TextChoices):
        PENDING = "pending", "Waiting for you"
        DECIDED = "decided", "Decided"
        EXPIRED = "expired", "Nobody answered in time"
        WITHDRAWN = "withdrawn", "The task was stopped before"

    class Choice(models.TextChoices):
        ALLOW = "allow", "Allowed"
        ALWAYS = "always", "Always allowed here"
        DENY = "deny", "Denied"
        ANSWER = "answer", "Answered"
        DID = "did", "It did run"
        AGAIN = "again", "Run again"
        SKIP = "skip", "Skipped"
        CONTINUE = "continue", "Continued"
        SUMMARISE = "summarise", "Stopped with a summary"

    task = models.ForeignKey(Task, models.CASCADE, related_name="decisions")
    step = models.ForeignKey(Step, models.CASCADE, null=True, blank=True, related_name="decisions")
    kind = models.CharField(max_length=12, choices=Kind)
    status = models.CharField(max_length=12, choices=Status, default=Status.PENDING)
    choice = models.CharField(max_length=12, choices=Choice, blank=True)
    #: What is asked: the options of a question, the limit that was reached …
    details = models.JSONField(default=dict, blank=True)
    arguments_digest = models.CharField(max_length=32, blank=True)
    #: What the person changed the arguments to, this time or when they agreed to the same call before; None if nothing.
    arguments = models.JSONField(null=True, blank=True)
    note = models.TextField(blank=True, help_text="What the person said about it.")
    decided_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+")
    created_at = models.DateTimeField(db_default=Now())
    expires_at = models.DateTimeField(null=True, blank=True)
    decided_at = models.DateTimeField(null=True, blank=True)
    consumed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("pk",)
        indexes = [models.Index(fields=("status", "expires_at"), name="decision_by_expiry")]
        constraints = [
            models.UniqueConstraint(
                fields=("task", "step"), condition=models.Q(status="pending"), name="one_open_decision_per_step"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} {self.get_choice_display() or self.get_status_display()}"


class ApprovalRule(models.Model):
    """A person said of a function: always allow this one here."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="approval_rules")
    thread = models.UUIDField(help_text="That of the tasks it holds for.")
    function = models.CharField(max_length=64)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=("user", "thread", "function"), name="one_rule_per_function_and_thread")
        ]

    def __str__(self) -> str:
        return f"{self.function}: always"
