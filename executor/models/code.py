"""What code of a task left behind."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.db.models.functions import Now
from django.db.models.signals import post_delete
from django.dispatch import receiver
from uuid_utils.compat import uuid7

from executor.models.tasks import Task

FOLDER = "variables"  # They lie below this folder of the storage, and nothing else does.


def variables_path(kept: KeptVariables, filename: str) -> str:
    digits = uuid7().hex
    return f"{FOLDER}/{digits[-2:]}/{digits}"


class KeptVariables(models.Model):
    """The variables of the Python session of a task as its call `seq` left them: bytes that only a sandbox reads, of
    the same person. Each keeping is a file of its own."""

    task = models.ForeignKey(Task, models.CASCADE, related_name="kept_variables")
    seq = models.PositiveIntegerField()
    file = models.FileField(upload_to=variables_path, max_length=200)
    size = models.PositiveBigIntegerField(help_text="In bytes.")
    lost = models.JSONField(default=dict, blank=True, help_text="Names that could not be kept, with the reasons.")
    kept_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [models.UniqueConstraint(fields=("task", "seq"), name="one_keeping_per_step")]
        verbose_name = verbose_name_plural = "kept variables"

    def __str__(self) -> str:
        return f"after step {self.seq}"


@receiver(post_delete, sender=KeptVariables, dispatch_uid="delete kept variables")
def _delete_file(instance: KeptVariables, **_: Any) -> None:
    instance.file.delete(save=False)
