"""Tasks, their steps and checkpoints: the truth about everything an agent did.

A task's state is folded from its steps (executor/history.py); nothing is replayed. What may change a running task is in
executor/journal, and every one of those writes checks the fence.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import models
from django.db.models.functions import Now
from django.urls import NoReverseMatch, reverse
from uuid_utils.compat import uuid7

from executor.models.agents import AgentVersion
from executor.models.declared import DeclaredTaskVersion
from users.models import ApiKey


class Status(models.TextChoices):
    QUEUED = "queued", "Queued"
    RUNNING = "running", "Working"
    WAITING = "waiting", "Waiting for you"
    AWAITING = "awaiting", "Waiting for other tasks"
    RETRYING = "retrying", "Retrying"
    STOPPING = "stopping", "Stopping"
    DONE = "done", "Done"
    FAILED = "failed", "Failed"
    STOPPED = "stopped", "Stopped"
    NEEDS_ATTENTION = "needs_attention", "Needs attention"


HELD = (Status.RUNNING, Status.STOPPING)
ACTIVE = (Status.QUEUED, Status.RUNNING, Status.WAITING, Status.AWAITING, Status.RETRYING, Status.STOPPING)


class Task(models.Model):
    """One piece of work by one agent: this input, going on from that task (`previous`), for this person.

    A declared task (`declared`) works through its steps with `data`, what it asked for; `input` says that in words. A
    sub-task belongs to the task that gave it (`parent`), which awaits it with the call `parent_call`; `root` is the one
    at the top.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="tasks")
    agent_version = models.ForeignKey(AgentVersion, models.PROTECT, related_name="tasks")
    previous = models.ForeignKey("self", models.SET_NULL, null=True, blank=True, related_name="next_tasks")
    declared = models.ForeignKey(
        DeclaredTaskVersion, models.PROTECT, null=True, blank=True, related_name="tasks", verbose_name="declared task"
    )
    data = models.JSONField(null=True, blank=True)
    parent = models.ForeignKey("self", models.CASCADE, null=True, blank=True, related_name="sub_tasks")
    root = models.ForeignKey("self", models.CASCADE, null=True, blank=True, related_name="+")
    parent_call = models.CharField(max_length=120, blank=True)
    name = models.CharField(max_length=60, blank=True, help_text="What the tasks given by the same call call it.")
    awaits = models.ManyToManyField(
        "self", symmetrical=False, blank=True, related_name="awaited_by", help_text="Tasks that have to end before it."
    )
    base = models.ForeignKey(
        "self",
        models.SET_NULL,
        null=True,
        blank=True,
        related_name="forks",
        help_text="The task whose steps up to `base_seq` are this one's first steps too.",
    )
    base_seq = models.PositiveIntegerField(null=True, blank=True)
    thread = models.UUIDField(
        null=True,
        blank=True,
        db_index=True,
        help_text="What belongs together, as whoever made the task says. “Always here” holds within it.",
    )
    input = models.JSONField(help_text="The message that the task answers, as in executor/core/messages.py.")
    steers = models.BooleanField(
        default=False, help_text="While it is queued: its message goes into the task before it, as soon as that can."
    )
    allowed = models.JSONField(
        default=dict, blank=True, help_text="What a person allowed beyond the agent's limits: {limit: so much more}."
    )
    idempotency_key = models.CharField(max_length=64, null=True, blank=True, editable=False)

    status = models.CharField(max_length=20, choices=Status, default=Status.QUEUED)
    stop_reason = models.CharField(max_length=40, blank=True)
    error_kind = models.CharField(max_length=40, blank=True)
    error = models.TextField(blank=True)
    error_hint = models.TextField(blank=True)

    # Who works on it. `fence` goes up with every acquisition; a write under an older one is refused.
    fence = models.PositiveBigIntegerField(default=0)
    owner = models.CharField(max_length=120, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True)
    attempts = models.PositiveIntegerField(default=0)
    stalled_attempts = models.PositiveIntegerField(default=0, help_text="Acquisitions since a step was last finished.")
    not_before = models.DateTimeField(null=True, blank=True)
    postponements = models.PositiveIntegerField(
        default=0, help_text="Waits for the provider since a step was finished."
    )
    deadline_at = models.DateTimeField(null=True, blank=True)
    stop_requested_at = models.DateTimeField(null=True, blank=True)

    head_seq = models.PositiveIntegerField(default=0)
    model_calls = models.PositiveIntegerField(default=0)
    tool_calls = models.PositiveIntegerField(default=0)
    failed_calls = models.PositiveIntegerField(default=0)
    input_tokens = models.PositiveBigIntegerField(default=0)
    output_tokens = models.PositiveBigIntegerField(default=0)
    cost = models.DecimalField(
        max_digits=14, decimal_places=8, null=True, blank=True, help_text="US dollars, as far as prices are known."
    )
    unpriced_calls = models.PositiveIntegerField(default=0, help_text="Answers whose price nobody knows.")
    # What the question that is being asked may use at most; it stands in the account of that day (DayAccount) as well.
    reserved = models.DecimalField(max_digits=14, decimal_places=8, null=True, blank=True)
    reserved_tokens = models.PositiveBigIntegerField(default=0)
    reserved_on = models.DateField(null=True, blank=True)

    created_at = models.DateTimeField(auto_now_add=True)
    started_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)
    v = models.PositiveSmallIntegerField(default=1, editable=False)

    class Meta:
        ordering = ("-created_at",)
        indexes = [
            models.Index(fields=("status", "lease_until"), name="task_by_lease"),
            models.Index(fields=("user", "-created_at"), name="task_by_user"),
            models.Index(fields=("created_at",), name="task_by_time"),
        ]
        constraints = [
            models.UniqueConstraint(fields=("user", "idempotency_key"), name="one_task_per_idempotency_key"),
        ]

    def __str__(self) -> str:
        return f"{self.get_status_display()}: {self.text[:60]}"

    def get_absolute_url(self) -> str:
        try:
            return reverse("task", args=[self.pk])
        except NoReverseMatch:
            return ""

    @property
    def text(self) -> str:
        """The words of the input."""
        return "".join(part["text"] for part in self.input["parts"] if part["type"] == "text")

    @property
    def is_active(self) -> bool:
        return self.status in ACTIVE


class Step(models.Model):
    """One thing a task did. The record for review, and the ledger of what may have had an effect."""

    class Kind(models.TextChoices):
        MODEL = "model", "Model"
        TOOL = "tool", "Function"
        MESSAGE = "message", "Message"  # What the person said while the task was at work.
        STEP = "step", "Step"  # One of a declared task. What belongs to it has its `seq` as `parent_seq`.
        QUESTION = "question", "Question"  # What such a step asks its model, which answers under it.
        NOTE = "note", "Note"
        COMPACTION = "compaction", "Summary"  # Of what came before, which it stands for from there on.

    class Status(models.TextChoices):
        PENDING = "pending", "Pending"
        WAITING = "waiting", "Waiting for you"  # A decision says for what.
        STARTED = "started", "Running"
        DONE = "done", "Done"
        FAILED = "failed", "Failed"
        UNKNOWN = "unknown", "May have run"
        CANCELLED = "cancelled", "Cancelled"
        DENIED = "denied", "Denied"
        SKIPPED = "skipped", "Skipped"

    task = models.ForeignKey(Task, models.CASCADE, related_name="steps")
    seq = models.PositiveIntegerField()
    parent_seq = models.PositiveIntegerField(null=True, blank=True, help_text="The step that asked for it.")
    kind = models.CharField(max_length=12, choices=Kind)
    status = models.CharField(max_length=12, choices=Status)
    fence = models.PositiveBigIntegerField(help_text="The acquisition that wrote it.")
    attempt = models.PositiveIntegerField(default=1)

    # A model step: what it said. While it is running, as far as it got.
    text = models.TextField(blank=True)
    reasoning = models.TextField(blank=True)
    native = models.JSONField(null=True, blank=True, help_text="The provider's own form, replayed verbatim to it only.")
    provider = models.CharField(max_length=40, blank=True)
    model = models.CharField(max_length=120, blank=True)
    # … of a call whose result comes from the cache: when it was made (see `made_at`).
    response_id = models.CharField(max_length=120, blank=True)
    finish_reason = models.CharField(max_length=30, blank=True)
    input_tokens = models.PositiveIntegerField(default=0)
    output_tokens = models.PositiveIntegerField(default=0)
    cache_read_tokens = models.PositiveIntegerField(default=0)
    cache_write_tokens = models.PositiveIntegerField(default=0)
    reasoning_tokens = models.PositiveIntegerField(default=0)
    cost = models.DecimalField(
        max_digits=14, decimal_places=8, null=True, blank=True, help_text="US dollars; empty where nobody knows."
    )
    api_key = models.ForeignKey(ApiKey, models.SET_NULL, null=True, blank=True, related_name="+")
    first_token_ms = models.PositiveIntegerField(null=True, blank=True)

    asked_bytes = models.PositiveIntegerField(null=True, blank=True, help_text="The size of what the model was told.")

    # A compaction: in the context, its text stands for everything up to here. Empty where it came to nothing.
    covers_task = models.UUIDField(null=True, blank=True, help_text="A task before this one; empty: this one.")
    covers_seq = models.PositiveIntegerField(null=True, blank=True)

    # A function call; or, of a model that took over for the agent's own, the title of the agent that it belongs to.
    name = models.CharField(max_length=64, blank=True)
    call_id = models.CharField(max_length=120, null=True, blank=True)
    provider_call_id = models.CharField(max_length=120, blank=True)
    arguments = models.JSONField(null=True, blank=True)
    raw_arguments = models.TextField(blank=True, help_text="Only where it was not a JSON object.")
    arguments_digest = models.CharField(max_length=32, blank=True)
    effect = models.CharField(max_length=20, blank=True)
    result = models.TextField(blank=True)
    output = models.TextField(blank=True, help_text="What the function said while it ran, for the person.")
    notes = models.JSONField(default=list, blank=True, help_text="Sentences for the person beside the result.")

    error_kind = models.CharField(max_length=40, blank=True)
    error = models.TextField(blank=True)
    started_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)
    v = models.PositiveSmallIntegerField(default=1, editable=False)

    class Meta:
        ordering = ("seq",)
        constraints = [
            models.UniqueConstraint(fields=("task", "seq"), name="one_step_per_seq"),
            models.UniqueConstraint(fields=("task", "call_id"), name="one_step_per_call"),
        ]
        indexes = [
            # Everything that usage.py adds up, so that it need not read what was said to find out what that cost.
            models.Index(
                fields=(
                    *("task", "kind", "status", "provider", "model", "api_key", "cost"),
                    *("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens"),
                ),
                name="step_by_use",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.seq}. {self.name or self.get_kind_display()}: {self.get_status_display()}"

    @property
    def is_open(self) -> bool:
        return self.status in OPEN

    def replaced_in(self, fork: Task, **changes: Any) -> Step:
        """A row of `fork`, to be begun anew unless `changes` say otherwise, in place of this one, which it shares."""
        same = {name: getattr(self, name) for name in _OF_ITS_OWN}
        return Step.objects.create(
            **(same | {"task": fork, "fence": fork.fence, "status": self.Status.PENDING} | changes)
        )

    @property
    def made_at(self) -> datetime | None:
        """When an earlier call gave this result, which was kept since then; None if the call ran itself."""
        is_kept = self.kind == self.Kind.TOOL and self.response_id
        return datetime.fromisoformat(self.response_id) if is_kept else None


#: What a step is about, and not what became of it.
_OF_ITS_OWN = (
    *("seq", "parent_seq", "kind", "name", "text", "call_id", "provider_call_id"),
    *("arguments", "raw_arguments", "arguments_digest", "effect"),
)
#: Steps in which a model is asked, and paid for.
ASKS = (Step.Kind.MODEL, Step.Kind.COMPACTION)
#: What of a step no model reads.
FOR_PERSON = ("output", "notes")
#: Steps that are not over.
OPEN = (Step.Status.PENDING, Step.Status.WAITING, Step.Status.STARTED)


class Checkpoint(models.Model):
    """The mark after a finished step from which the task can go on. Constant size, append-only."""

    task = models.ForeignKey(Task, models.CASCADE, related_name="checkpoints")
    seq = models.PositiveIntegerField()
    counters = models.JSONField(help_text="What was used up by then: iterations, tokens, tool_calls.")
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ("seq",)
        constraints = [models.UniqueConstraint(fields=("task", "seq"), name="one_checkpoint_per_step")]

    def __str__(self) -> str:
        return f"after step {self.seq}"
