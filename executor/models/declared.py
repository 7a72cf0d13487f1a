"""Declared tasks, as files and classes declare them, and the versions of them that tasks keep."""

from __future__ import annotations

from typing import Any

from django.db import models, transaction

from executor.models.agents import Agent


class DeclaredTask(models.Model):
    """A task with declared steps that people and agents may start. Its declaration is a file or a class; an
    administrator decides whether it is offered, and which agent works on it."""

    name = models.SlugField(max_length=60, unique=True, help_text="What people type behind the “/”.")
    title = models.CharField(max_length=120)
    description = models.TextField(blank=True)
    source = models.CharField(max_length=300, blank=True, help_text="The file that declares it.")
    declaration = models.JSONField(help_text="What it asks for, and its steps.")
    agent = models.ForeignKey(
        Agent,
        models.SET_NULL,
        null=True,
        blank=True,
        related_name="+",
        help_text="Who works on it. Empty: the agent that the person talks to.",
    )
    enabled = models.BooleanField(default=True)
    is_missing = models.BooleanField(default=False, editable=False, help_text="Nothing declares it any more.")
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ("title",)

    def __str__(self) -> str:
        return self.title

    def save(self, *args: Any, **kwargs: Any) -> None:
        with transaction.atomic():
            super().save(*args, **kwargs)
            latest = self.versions.order_by("-number").first()
            if latest is None or latest.declaration != self.declaration:
                number = latest.number + 1 if latest else 1
                DeclaredTaskVersion.objects.create(task=self, number=number, declaration=self.declaration)

    def current_version(self) -> DeclaredTaskVersion:
        return self.versions.latest("number")


class DeclaredTaskVersion(models.Model):
    """What a declared task was at one time. A task keeps the version that it began with."""

    task = models.ForeignKey(DeclaredTask, models.SET_NULL, null=True, related_name="versions")
    number = models.PositiveIntegerField()
    declaration = models.JSONField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("-number",)
        constraints = [models.UniqueConstraint(fields=("task", "number"), name="one_number_per_declaration")]

    def __str__(self) -> str:
        return f"{self.declaration.get('title', '')} v{self.number}"
