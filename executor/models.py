"""Agents, tasks, steps, checkpoints: the rows that are the truth about everything an agent did.

A task's state is folded from its steps (executor/history.py); nothing is replayed. What may change a running task is in
executor/journal.py, and every one of those writes checks the fence.
"""

from __future__ import annotations

from collections.abc import Collection
from decimal import Decimal
from typing import Any, Self

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator
from django.db import models, transaction
from django.db.models.functions import Now
from django.urls import NoReverseMatch, reverse
from uuid_utils.compat import uuid7

from executor.core.config import AgentConfig
from executor.core.limits import Limits
from executor.core.llms.factory import LLMS, llm_class
from executor.keys import key_variable
from users import api_keys
from users.models import ApiKey, User


def default_functions() -> list[str]:
    return ["*"]


def provider_choices() -> list[tuple[str, str]]:
    """Asked for when needed, so that a new model is not a new migration."""
    return [(name, llm_class(name).label or name) for name in LLMS]


class OnUnknown(models.TextChoices):
    """What becomes of a call that was interrupted, and that may have had its effect or not."""

    ASK = "ask", "Ask the person"
    TELL_MODEL = "tell_model", "Tell the model"
    FAIL = "fail", "End the task"


class AgentQuerySet(models.QuerySet["Agent"]):
    def usable_by(self, user: User | None) -> Self:
        """The enabled agents that `user` may choose: everybody's and their own. None: only everybody's."""
        everybodys = models.Q(owner=None)
        return self.filter(everybodys | models.Q(owner=user) if user else everybodys, enabled=True)


class Agent(models.Model):
    """Configuration that an administrator owns, or a person (`owner`). Each change makes a new `AgentVersion`."""

    name = models.SlugField(max_length=60, unique=True, help_text="How files and commands refer to it, e.g. “helper”.")
    title = models.CharField(max_length=80, help_text="What people see.")
    description = models.CharField(max_length=300, blank=True, help_text="One sentence in the agent picker.")
    provider = models.CharField(max_length=40, choices=provider_choices)
    model = models.CharField(max_length=120, blank=True, help_text="As the provider spells it.")
    # No URLField: it wants a domain, and "http://ollama:11434/v1" in a container network has none.
    base_url = models.CharField(max_length=300, blank=True, help_text="Of an OpenAI-compatible server, with its /v1.")
    api_key_variable = models.CharField(
        "key variable",
        max_length=80,
        blank=True,
        help_text="Name of the environment variable that holds the key. The key itself is never stored here.",
    )
    instructions = models.TextField(blank=True, help_text="What the model is told before everything else.")
    functions = models.JSONField(
        default=default_functions,
        blank=True,
        help_text='Names of functions it may call; "*" is all.',
    )
    approvals = models.JSONField(
        default=dict,
        blank=True,
        help_text='Which functions the person is asked about before they run: {"name": "always" or "never"}, "*" for '
        "all others. Empty: as each function says.",
    )
    on_unknown = models.CharField(
        "interrupted calls",
        max_length=12,
        choices=OnUnknown,
        default=OnUnknown.ASK,
        help_text="What becomes of a call that may have run, when its worker died or it took too long.",
    )
    max_iterations = models.PositiveIntegerField(
        default=5, validators=[MinValueValidator(1)], help_text="How often one task may ask the model."
    )
    max_seconds = models.PositiveIntegerField(
        default=1800, validators=[MinValueValidator(1)], help_text="How long one task may take."
    )
    max_tool_calls = models.PositiveIntegerField(
        "max function calls", default=200, help_text="How many functions one task may call."
    )
    max_tokens = models.PositiveBigIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text="How many tokens one task may use, read and written. Empty: as many as it takes.",
    )
    max_cost = models.DecimalField(
        max_digits=10,
        decimal_places=4,
        null=True,
        blank=True,
        validators=[MinValueValidator(0)],
        help_text="How many US dollars one task may cost. Empty: as much as it takes.",
    )
    parameters = models.JSONField(default=dict, blank=True, help_text="Passed to the model, e.g. temperature.")
    response_schema = models.JSONField(
        null=True, blank=True, help_text="JSON Schema that every answer must fit. Empty: answers are free."
    )
    fallback = models.ForeignKey(
        "self",
        models.SET_NULL,
        null=True,
        blank=True,
        related_name="+",
        help_text="The agent whose model takes over when this one's provider does not answer.",
    )
    input_price = models.DecimalField(
        max_digits=10,
        decimal_places=4,
        null=True,
        blank=True,
        validators=[MinValueValidator(0)],
        help_text="US dollars per million tokens read. Empty: as in the price list.",
    )
    output_price = models.DecimalField(
        max_digits=10,
        decimal_places=4,
        null=True,
        blank=True,
        validators=[MinValueValidator(0)],
        help_text="US dollars per million tokens written. Both prices or none.",
    )
    suggestions = models.JSONField(
        default=list, blank=True, help_text='Cards of an empty conversation: [{"title": …, "prompt": …}].'
    )
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.CASCADE,
        null=True,
        blank=True,
        related_name="agents",
        help_text="The person who made it for themselves. Empty: everybody's.",
    )
    enabled = models.BooleanField(default=True)
    position = models.PositiveIntegerField(default=0, help_text="Order in the picker; the first one is preselected.")
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    objects = AgentQuerySet.as_manager()

    class Meta:
        ordering = ("position", "title")

    def __str__(self) -> str:
        return self.title

    def save(self, *args: Any, **kwargs: Any) -> None:
        with transaction.atomic():
            super().save(*args, **kwargs)
            self._keep_version()

    def clean_fields(self, exclude: Collection[str] | None = None) -> None:
        super().clean_fields(exclude)
        if "api_key_variable" not in (exclude or ()):
            try:
                key_variable(self.api_key_variable)
            except ValueError as error:
                raise ValidationError({"api_key_variable": str(error)}) from error

    def config(self) -> AgentConfig:
        return AgentConfig(
            name=self.name,
            title=self.title,
            provider=self.provider,
            model=self.model,
            base_url=self.base_url,
            api_key_variable=self.api_key_variable,
            instructions=self.instructions,
            functions=tuple(self.functions),
            limits=Limits(
                self.max_iterations, self.max_seconds, self.max_tokens, self.max_tool_calls, _four_places(self.max_cost)
            ),
            parameters=self.parameters,
            response_schema=self.response_schema or None,
            fallback=self.fallback.name if self.fallback else "",
            fallback_id=self.fallback_id,
            price=self._price(),
            is_personal=self.owner_id is not None,
            approvals=self.approvals,
            on_unknown=self.on_unknown,
        )

    def _price(self) -> dict[str, str] | None:
        if self.input_price is None or self.output_price is None:
            return None
        # Plain numbers, however they were typed, so that saving them again is no new version.
        return {"input": f"{Decimal(self.input_price):.4f}", "output": f"{Decimal(self.output_price):.4f}"}

    @property
    def place(self) -> tuple[str, str]:
        """Provider and address, as keys have them."""
        try:
            return self.provider, api_keys.address(self.base_url)
        except ValueError:  # No key is for what is no address.
            return self.provider, self.base_url

    def current_version(self) -> AgentVersion:
        return self.versions.latest("number")

    def _keep_version(self) -> None:
        config = self.config().to_json()
        latest = self.versions.order_by("-number").first()
        if latest is None or latest.config != config:
            AgentVersion.objects.create(agent=self, number=latest.number + 1 if latest else 1, config=config)


def _four_places(amount: Decimal | None) -> Decimal | None:
    return None if amount is None else Decimal(f"{Decimal(amount):.4f}")


class AgentVersion(models.Model):
    """What an agent was at one time. A task keeps the version that it ran with, also when the agent is gone."""

    agent = models.ForeignKey(Agent, models.SET_NULL, null=True, related_name="versions")
    number = models.PositiveIntegerField()
    config = models.JSONField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("-number",)
        constraints = [models.UniqueConstraint(fields=("agent", "number"), name="one_number_per_version")]

    def __str__(self) -> str:
        return f"{self.config['title']} v{self.number}"

    def agent_config(self) -> AgentConfig:
        return AgentConfig.from_json(self.config)


class Status(models.TextChoices):
    QUEUED = "queued", "Queued"
    RUNNING = "running", "Working"
    WAITING = "waiting", "Waiting for you"
    RETRYING = "retrying", "Retrying"
    STOPPING = "stopping", "Stopping"
    DONE = "done", "Done"
    FAILED = "failed", "Failed"
    STOPPED = "stopped", "Stopped"
    NEEDS_ATTENTION = "needs_attention", "Needs attention"


HELD = (Status.RUNNING, Status.STOPPING)
ACTIVE = (Status.QUEUED, Status.RUNNING, Status.WAITING, Status.RETRYING, Status.STOPPING)


class Task(models.Model):
    """One piece of work by one agent: this input, going on from that task (`previous`), for this person."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="tasks")
    agent_version = models.ForeignKey(AgentVersion, models.PROTECT, related_name="tasks")
    previous = models.ForeignKey("self", models.SET_NULL, null=True, blank=True, related_name="next_tasks")
    parent = models.ForeignKey("self", models.CASCADE, null=True, blank=True, related_name="sub_tasks")
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
        NOTE = "note", "Note"

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
    parent_seq = models.PositiveIntegerField(null=True, blank=True, help_text="The model step that asked for it.")
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

    # A function call; or, of a model that took over for the agent's own, the title of the agent that it belongs to.
    name = models.CharField(max_length=64, blank=True)
    call_id = models.CharField(max_length=120, null=True, blank=True)
    provider_call_id = models.CharField(max_length=120, blank=True)
    arguments = models.JSONField(null=True, blank=True)
    raw_arguments = models.TextField(blank=True, help_text="Only where it was not a JSON object.")
    arguments_digest = models.CharField(max_length=32, blank=True)
    effect = models.CharField(max_length=20, blank=True)
    result = models.TextField(blank=True)

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
    #: What the person changed the arguments to; None if nothing.
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

    class Meta:
        ordering = ("-beat_at",)

    def __str__(self) -> str:
        return f"{self.host}:{self.pid}"


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
