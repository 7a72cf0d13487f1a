"""Agents, and the versions of them that tasks keep."""

from __future__ import annotations

from collections.abc import Collection
from decimal import Decimal
from typing import Any, Self

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator
from django.db import models, transaction

from executor.core.config import AgentConfig
from executor.core.limits import Limits
from executor.core.llms.factory import LLMS, llm_class
from executor.keys import key_variable
from executor.prepared import Param, Select
from users import api_keys
from users.models import User


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
    def usable_by(self, user: User | Param | None) -> Self:
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
        """Raises AgentVersion.DoesNotExist for one that was never saved."""
        if (version := _CURRENT_VERSION.first(agent=self.pk)) is None:
            raise AgentVersion.DoesNotExist
        return version

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


_CURRENT_VERSION = Select(lambda: AgentVersion.objects.filter(agent=Param("agent")).order_by("-number")[:1])
